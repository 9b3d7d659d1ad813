import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Store } from '../../src/store/store.js'

// All that an operation could leave behind, as those say who know nothing of us.

export const insideOf = (netns: string): string => `ip -n ${netns} -j -d -batch - <<'END'\n${batch}\nEND`
const batch = ['addr', 'route show table all', 'neigh show nud permanent'].join('\n')
export const judges = [
  `ip -j -d -batch - <<'END'\n${batch}\nEND`,
  "bridge -j -d -batch - <<'END'\nfdb\nlink\nEND",
  'nft -j list ruleset',
]

/** One shell for all that is asked: to start a process from this one takes longer than the judges themselves. */
export class Judges {
  readonly #shell: ChildProcessWithoutNullStreams = spawn('sh', [], { stdio: 'pipe' })
  #said = ''
  #heard = (): void => undefined

  constructor() {
    const hear = (text: Buffer): void => {
      this.#said += text
      this.#heard()
    }
    this.#shell.stdout.on('data', hear)
    this.#shell.stderr.on('data', hear)
  }

  /** What each of them prints, a list a line. */
  async ask(commands: readonly string[]): Promise<Record<string, unknown>> {
    this.#said = ''
    const ended = new Promise<void>(resolve => {
      this.#heard = () => this.#said.endsWith('\n== end\n') && resolve()
    })
    const script = commands.map(command => `echo; echo '== ${command.split(' <<')[0]}'; ${command}`).join('\n')
    this.#shell.stdin.write(`${script}\necho; echo '== end'\n`)
    await ended
    const parts = this.#said.split(/^== /m).slice(1, -1)
    const lists = parts.map(part => part.split('\n').filter(line => line.trim() !== ''))
    return Object.fromEntries(lists.map(([command = '', ...printed]) => [command, printed.map(plain)]))
  }

  close(): void {
    this.#shell.stdin.end()
  }
}

/** Addresses and ports of /proc/net, in hexadecimal, that are listened on, or bound without a peer. */
export function boundPorts(): string[] {
  return ['tcp', 'tcp6', 'udp', 'udp6'].flatMap(protocol =>
    readFileSync(`/proc/thread-self/net/${protocol}`, 'utf8')
      .split('\n')
      .slice(1)
      .map(line => line.trim().split(/\s+/))
      .filter(([, , , state]) => state === '0A' || state === '07')
      .map(([, address]) => `${protocol} ${address}`)
      .sort(),
  )
}

const perLink = {
  4: ['route_localnet', 'arp_ignore', 'rp_filter'],
  6: ['disable_ipv6', 'accept_ra'],
}

export function settings(): string[] {
  return ([4, 6] as const).flatMap(family =>
    readdirSync(`/proc/sys/net/ipv${family}/conf`).flatMap(link =>
      perLink[family].map(name => {
        const path = `/proc/sys/net/ipv${family}/conf/${link}/${name}`
        return `${path} ${readFileSync(path, 'utf8').trim()}`
      }),
    ),
  )
}

/** Less what is another number each time, what moves by itself, and what the kernel adds in its own time. */
function plain(text: string): unknown {
  const value: unknown = JSON.parse(text)
  const passing =
    /^(handle|packets|bytes|stats64|.*_timer|[gt][sr]o_.*|ifindex|link_index|link_netnsid|.*_life_time|txqlen|promiscuity|allmulti|root_id|bridge_id|designated_.*|.*_cost|metainfo|operstate|linkmode|state|port|no|id)$/
  return JSON.parse(JSON.stringify(value), (key, inner) => {
    if (key === 'flags') return Array.isArray(inner) && inner.includes('UP')
    if (passing.test(key)) return undefined
    if (!Array.isArray(inner)) return inner
    const kept = inner.filter(item => item !== undefined && !isPassing(item))
    return kept.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
  })
}

/** Link-local addresses, routes that the kernel makes of IPv6 addresses, and multicast groups come and go when it finds time for them. */
function isPassing(item: unknown): boolean {
  const text = JSON.stringify(item) ?? ''
  return (
    /^\{("[a-z]+":"[a-z0-9]*",)*"(local|dst|mac)":"(fe80|ff|33:33|01:00)/.test(text) ||
    /^\{"type":"(local|anycast)","dst":"[^"]*:.*"protocol":"kernel"/.test(text) ||
    (/"mac":"(33:33|01:00)/.test(text) && !text.includes('"ifname"'))
  )
}

/** Which addresses were given last, and which host's pool came last, is memory and no object. */
const isMemory = (key: string): boolean => /^ipam\/(name\/|pools$)|alive|^host\/here$/.test(key)

export async function stored(store: Store): Promise<unknown> {
  const { entries } = await store.list<unknown>('')
  return entries.filter(({ key }) => !isMemory(key)).map(({ key, value }) => [key, value])
}

/** What is open, by kind: numbers of sockets are others each time. */
export function descriptors(): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const fd of readdirSync('/proc/self/fd')) {
    let target: string
    try {
      target = readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      continue // the one by which the list was read
    }
    const kind = target.replace(/[\d[\]]+$/, '')
    counts[kind] = (counts[kind] ?? 0) + 1
  }
  return counts
}

export function filesOf(directory: string): Record<string, string> {
  let names: string[] = []
  try {
    names = readdirSync(directory, { recursive: true, encoding: 'utf8' })
  } catch {
    return {}
  }
  return Object.fromEntries(
    names.map(name => {
      try {
        return [name, readFileSync(join(directory, name), 'utf8')]
      } catch {
        return [name, 'a directory']
      }
    }),
  )
}
