import { connect, Socket } from 'node:net'
import { acceptConnection } from '../netlink/held-socket.js'

/** Where connections go that the kernel cannot send there. */
export interface ProxyTarget {
  containerIp: string
  containerPort: number
}

/** Carries what the kernel cannot redirect. */
export interface Carrier {
  leadTo(target: ProxyTarget): void
  /** The socket to which it comes now, which is the caller's; undefined: none for a moment. What is under way goes on. */
  hear(fd: number | undefined): void
  /** Something waits there. */
  take(): void
  close(): void
}

/** Connections; the container sees those come from its gateway. */
export class ConnectionCarrier implements Carrier {
  #target: ProxyTarget | undefined
  #fd: number | undefined
  readonly #open = new Set<Socket>()

  leadTo(target: ProxyTarget): void {
    this.#target = target
  }

  hear(fd: number | undefined): void {
    this.#fd = fd
  }

  take(): void {
    for (let client = this.#accept(); client !== undefined; client = this.#accept()) this.#carry(client)
  }

  close(): void {
    for (const socket of this.#open) socket.destroy()
  }

  #accept(): number | undefined {
    return this.#fd === undefined ? undefined : acceptConnection(this.#fd)
  }

  #carry(fd: number): void {
    const client = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true })
    if (this.#target === undefined) return void client.destroy()
    const { containerIp: host, containerPort: port } = this.#target
    const container = connect({ host, port, allowHalfOpen: true, noDelay: true })
    client.setNoDelay(true)
    join(client, container, this.#open)
    join(container, client, this.#open)
  }
}

/** Carry one direction of a proxied connection; whatever ends one socket badly ends the other. */
function join(from: Socket, to: Socket, open: Set<Socket>): void {
  open.add(from)
  from.pipe(to)
  from.on('error', () => to.destroy())
  from.on('close', () => {
    open.delete(from)
    if (from.errored) to.destroy()
  })
}
