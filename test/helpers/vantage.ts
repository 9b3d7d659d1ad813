import type { SpawnSyncReturns } from 'node:child_process'
import { join } from 'node:path'
import { type Machine, repo, until } from './machine.js'

/** A place from which to try the network: a machine, a sandbox, a container. All have socat and busybox. */
export interface Vantage {
  tryRun(...command: string[]): SpawnSyncReturns<string>
}

/** One ping is answered, within so many seconds: with patience for a busy machine, unless none is expected or it is asked again. */
export const pings = (from: Vantage, address: string, seconds = 5): boolean =>
  from.tryRun('busybox', 'ping', '-c', '1', '-W', String(seconds), address).status === 0

export interface Answer {
  /** of the server that answered */
  name: string
  /** the client's address as the server saw it */
  peer: string
}

/** Ask a `serve` once, with patience for a busy machine: what it answers, or undefined. */
export const ask = (from: Vantage, protocol: Transport, address: string, port: number): Answer | undefined =>
  askWithin(5, from, protocol, address, port)

/** Nobody answers there within a second. */
export const isClosed = (from: Vantage, protocol: Transport, address: string, port: number): boolean =>
  askWithin(1, from, protocol, address, port) === undefined

/**
 * Ask many at once, each written `tcp 192.0.2.1 80`: what answers within so many seconds, with the client's address as it sees
 * it (`web 192.0.2.9`), or `nothing`.
 */
export function askAll(from: Vantage, targets: readonly string[], seconds = 0.7): Record<string, string> {
  const got: Record<string, string> = {}
  const script = targets
    .map((target, i) => {
      const [protocol = '', address = '', port = ''] = target.split(' ')
      const to = `${protocol.toUpperCase()}:${address.includes(':') ? `[${address}]` : address}:${port}`
      const patience = protocol === 'tcp' ? `,connect-timeout=${seconds}` : ''
      return `socat -t0.1 -T${seconds} ${to}${patience} SYSTEM:'echo hello; head -n 1 >&3' 3>&1 2>/dev/null | sed 's/^/${i} /' &`
    })
    .join('\n')
  for (const line of from.tryRun('sh', '-c', `${script}\nwait`).stdout.split('\n')) {
    const [, i = '', text = ''] = /^(\d+) (.*)$/.exec(line) ?? []
    const answer = parseAnswer(text)
    if (answer !== undefined) got[targets[Number(i)] ?? ''] = `${answer.name} ${answer.peer}`
  }
  return Object.fromEntries(targets.map(target => [target, got[target] ?? 'nothing']))
}

type Transport = 'tcp' | 'udp'

function askWithin(
  seconds: number,
  from: Vantage,
  protocol: Transport,
  address: string,
  port: number,
): Answer | undefined {
  const to = `${protocol.toUpperCase()}:${address.includes(':') ? `[${address}]` : address}:${port}`
  const patience = protocol === 'tcp' ? `,connect-timeout=${seconds}` : ''
  // the inner shell ends with the first line of an answer, and the exchange with it: UDP knows no other end
  const script = `socat -t0.1 -T${seconds} ${to}${patience} SYSTEM:'echo hello; head -n 1 >&3' 3>&1`
  return parseAnswer(from.tryRun('sh', '-c', script).stdout)
}

/** Start `serve` on a machine, or in one of its sandboxes under the sandbox's name, and wait until it answers. End it by the name. */
export async function startServe(
  machine: Machine,
  name: string,
  ports: string[],
  sandbox?: Vantage & { argv: string[] },
): Promise<void> {
  await machine.serve(`serve-${name}`, ...(sandbox?.argv ?? []), join(repo, 'test/helpers/serve'), name, ...ports)
  await untilServed(sandbox ?? machine, name, ports)
}

export const endServe = (machine: Machine, name: string): Promise<unknown> => machine.end(`serve-${name}`)

/** Wait until each of the ports, such as `80/tcp`, answers under that name at the place itself. */
export async function untilServed(at: Vantage, name: string, ports: string[]): Promise<void> {
  for (const port of ports) {
    const [number, protocol] = port.split('/') as [string, Transport]
    await until(
      `${name} to serve ${port}`,
      () => askWithin(1, at, protocol, '127.0.0.1', Number(number))?.name === name,
    )
  }
}

/** `web [0000:0000:0000:0000:0000:ffff:c633:6402]` is what a socket for both families prints of 198.51.100.2. */
export function parseAnswer(line: string): Answer | undefined {
  const [, name, peer] = /^(\S+) \[?([0-9a-f:.]+)\]?$/.exec(line.trim()) ?? []
  if (!name || !peer) return undefined
  const mapped = /^0000:0000:0000:0000:0000:ffff:(..)(..):(..)(..)$/.exec(peer)
  if (mapped)
    return {
      name,
      peer: mapped
        .slice(1)
        .map(hex => Number.parseInt(hex, 16))
        .join('.'),
    }
  return { name, peer: peer.includes(':') ? new URL(`http://[${peer}]`).hostname.slice(1, -1) : peer }
}
