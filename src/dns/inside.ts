import { type Ports, Redirection } from '../firewall/redirect.js'
import { hasCode } from '../netlink/libc.js'
import type { Netns } from '../netlink/netns.js'
import { type Answerer, Listener } from './listener.js'

/** Where every sandbox finds its resolver, as containers of Docker do. */
export const insideAddress = '127.0.0.11'
export const port = 53
/** What programs in sandboxes ask; it is answered at other ports. */
const asked = { address: insideAddress, port }

/**
 * At the ports to which port 53 is redirected already, by a daemon before this one: then there is nothing to change, which
 * would take the kernel longer than all the rest. Somebody else in there may have taken them meanwhile.
 */
export function listenInside(netns: Netns, answer: Answerer): Listener {
  const listen = (ports: Ports | 0): Listener => new Listener({ address: insideAddress, port: ports }, answer, netns)
  const redirection = Redirection.open(netns, asked)
  try {
    const there = redirection.target()
    const again = there && unlessTaken(() => listen(there))
    if (again !== undefined) return again
    const listener = listen(0)
    try {
      redirection.lead(listener.ports)
      return listener
    } catch (error) {
      listener.close()
      throw error
    }
  } finally {
    redirection.close()
  }
}

/** Undo the redirection in a namespace that stays. Absent is fine. */
export function leaveInside(netns: Netns): void {
  const redirection = Redirection.open(netns, asked)
  try {
    redirection.delete()
  } finally {
    redirection.close()
  }
}

function unlessTaken<T>(bind: () => T): T | undefined {
  try {
    return bind()
  } catch (error) {
    if (hasCode(error, 'EADDRINUSE')) return undefined
    throw error
  }
}
