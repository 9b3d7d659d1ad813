import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import type { Protocol } from '../cnm/types.js'
import { familyOf, isUnspecified } from '../ports/address.js'

/**
 * Which program has a port of this host: `nginx (pid 4242)`; undefined when /proc does not tell (a socket of the kernel, or a process
 * that we may not see). Only for messages: it reads every process's descriptors. Reads are synchronous, so that they see the
 * main thread's network namespace.
 */
export function programHolding(protocol: Protocol, hostIp: string, port: number): string | undefined {
  const inodes = new Set(
    (['', '6'] as const)
      .flatMap(suffix => parseSockets(readText(`/proc/net/${protocol}${suffix}`)))
      .filter(
        socket => socket.port === port && (protocol !== 'tcp' || socket.listening) && clash(socket.address, hostIp),
      )
      .map(socket => `socket:[${socket.inode}]`),
  )
  if (inodes.size === 0) return undefined
  for (const pid of readNames('/proc')) {
    if (!/^\d+$/.test(pid) || !readNames(`/proc/${pid}/fd`).some(fd => inodes.has(readLink(`/proc/${pid}/fd/${fd}`))))
      continue
    return `${readText(`/proc/${pid}/comm`).trim() || 'a program'} (pid ${pid})`
  }
  return undefined
}

/** An unspecified address clashes with every other; `::` may hold IPv4 as well. */
const clash = (a: string, b: string): boolean =>
  a === b || a === '::' || (familyOf(a) === familyOf(b) && (isUnspecified(a) || isUnspecified(b)))

interface SocketRow {
  address: string
  port: number
  listening: boolean
  inode: string
}

/** A row of /proc/net/tcp and the like (man 5 proc): `sl local_address rem_address st ... inode`, addresses in hexadecimal. */
function parseSockets(text: string): SocketRow[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap(line => {
      const fields = line.trim().split(/\s+/)
      const [address = '', port = ''] = (fields[1] ?? '').split(':')
      if (port === '') return []
      return [
        {
          address: parseHexAddress(address),
          port: Number.parseInt(port, 16),
          // TCP_LISTEN of <netinet/tcp.h>
          listening: fields[3] === '0A',
          inode: fields[9] ?? '',
        },
      ]
    })
}

/** Words of four bytes, each in the machine's order (little endian on every machine that Node runs on but s390x). */
function parseHexAddress(hex: string): string {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap(word => (word.match(/../g) ?? []).reverse())
  if (bytes.length === 4) return bytes.map(byte => Number.parseInt(byte, 16)).join('.')
  if (bytes.every(byte => byte === '00')) return '::'
  const groups = Array.from({ length: 8 }, (_, i) => `${bytes[2 * i]}${bytes[2 * i + 1]}`)
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

// A process may end while it is looked at: whatever cannot be read holds nothing.
function attempt<T>(work: () => T, otherwise: T): T {
  try {
    return work()
  } catch {
    return otherwise
  }
}
const readText = (path: string): string => attempt(() => readFileSync(path, 'utf8'), '')
const readNames = (path: string): string[] => attempt(() => readdirSync(path), [])
const readLink = (path: string): string => attempt(() => readlinkSync(path), '')
