import { isIPv6 } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afInet, afInet6, sockaddrOf, sockCloexec, sockNonblock } from './inet-socket.js'
import { bind, close, connect, hasCode, recv, send, socket } from './libc.js'
import { inNetns, type Netns } from './netns.js'

const sockStream = 1
const sockDgram = 2

/**
 * answered: somebody took the connection, or sent a datagram back. refused: somebody said that nobody listens there, or a firewall
 * did. silent: nothing came back. unsent: it could not even leave, and the kernel's word for why.
 */
export type ProbeResult = { result: 'answered' | 'refused' | 'silent' } | { result: 'unsent'; because: string }

export interface ConnectProbe {
  protocol: 'tcp' | 'udp'
  to: { address: string; port: number }
  /** by which rules can know the probe */
  sourcePort: number
  timeoutMs: number
}

const lookEveryMs = 10
/** What one tries with: a service that minds gets no less than this. */
const datagram = Buffer.from('\n')

/** One TCP connection, given up at once, or one UDP datagram, from inside a namespace. `nc -z -p PORT ADDRESS PORT` */
export async function connectProbe(
  netns: Netns,
  { protocol, to, sourcePort, timeoutMs }: ConnectProbe,
): Promise<ProbeResult> {
  const six = isIPv6(to.address)
  const type = (protocol === 'tcp' ? sockStream : sockDgram) | sockNonblock | sockCloexec
  const fd = inNetns(netns, () => socket(six ? afInet6 : afInet, type, 0))
  try {
    const own = sockaddrOf({ address: six ? '::' : '0.0.0.0', port: sourcePort })
    bind(fd, own, own.length)
    const target = sockaddrOf(to)
    const attempt = protocol === 'tcp' ? () => connect(fd, target, target.length) : receiver(fd, target)
    return await tryUntil(attempt, timeoutMs)
  } finally {
    close(fd)
  }
}

/** Send the datagram, and then look for an answer as often as it is called. */
function receiver(fd: number, target: Buffer): () => void {
  let sent = false
  const bytes = Buffer.alloc(16)
  return () => {
    if (!sent) {
      connect(fd, target, target.length)
      send(fd, datagram, datagram.length, 0)
      sent = true
    }
    recv(fd, bytes, bytes.length, 0)
  }
}

async function tryUntil(attempt: () => void, timeoutMs: number): Promise<ProbeResult> {
  const end = performance.now() + timeoutMs
  for (let first = true; ; first = false) {
    try {
      attempt()
      return { result: 'answered' }
    } catch (error) {
      if (hasCode(error, 'ECONNREFUSED')) return { result: 'refused' }
      if (!hasCode(error, 'EINPROGRESS', 'EALREADY', 'EAGAIN')) {
        // an error that came back from somewhere is an answer of the way, not of the other end
        if (!first && hasCode(error, 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'EACCES')) return { result: 'silent' }
        return { result: 'unsent', because: (error as Error).message }
      }
    }
    if (performance.now() > end) return { result: 'silent' }
    await sleep(lookEveryMs)
  }
}
