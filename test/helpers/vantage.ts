import type { SpawnSyncReturns } from 'node:child_process'

/** A place from which to try the network: a machine, a sandbox, a container. All have socat and busybox. */
export interface Vantage {
  tryRun(...command: string[]): SpawnSyncReturns<string>
}

export const pings = (from: Vantage, address: string): boolean =>
  from.tryRun('busybox', 'ping', '-c', '1', '-W', '1', address).status === 0

export interface Answer {
  /** of the server that answered */
  name: string
  /** the client's address as the server saw it */
  peer: string
}

/** Ask a `serve` (see the script beside this file): what it answers, or undefined when nothing does within a second. */
export function ask(from: Vantage, protocol: 'tcp' | 'udp', address: string, port: number): Answer | undefined {
  const to = `${protocol.toUpperCase()}:${address.includes(':') ? `[${address}]` : address}:${port}`
  const patience = protocol === 'tcp' ? ',connect-timeout=1' : ''
  return parseAnswer(from.tryRun('sh', '-c', `echo hello | socat -t1 -T1 - ${to}${patience}`).stdout)
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
