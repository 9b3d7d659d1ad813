import { createSocket, type Socket } from 'node:dgram'
import { receiveDatagram, sendDatagram } from '../netlink/held-socket.js'
import { familyOf } from '../ports/address.js'
import type { Carrier, ProxyTarget } from './connections.js'

/** How long nothing may come either way before a client is forgotten; the kernel's own flows of datagrams end after 30 to 120 s. */
const idleMs = 90_000
/** Clients of one port at once: for one more, whoever has been silent longest is forgotten. */
const mostClients = 512
/** Datagrams handled before the event loop gets its turn again. */
const datagramsAtOnce = 64

interface Client {
  socket: Socket
  idle: NodeJS.Timeout
}

/** Datagrams that the kernel cannot redirect, those to ::1 above all. Every client has a socket of its own towards the container. */
export class DatagramCarrier implements Carrier {
  #target: ProxyTarget | undefined
  #fd: number | undefined
  /** by address, as the kernel writes it; the longest silent first */
  readonly #clients = new Map<string, Client>()

  hear(fd: number | undefined): void {
    this.#fd = fd
  }

  leadTo(target: ProxyTarget): void {
    this.#target = target
    // as with the kernel's flows: whoever is under way goes where the port leads now
    this.#forgetAll()
  }

  close(): void {
    this.#forgetAll()
  }

  take(): void {
    for (let i = 0; i < datagramsAtOnce; i++) {
      const datagram = this.#fd === undefined ? undefined : receiveDatagram(this.#fd)
      const target = this.#target
      if (datagram === undefined || target === undefined) return
      const { socket } = this.#clientOf(datagram.from, target)
      // what cannot be sent is lost, as datagrams are
      socket.send(datagram.bytes, target.containerPort, target.containerIp, () => {})
    }
  }

  #clientOf(from: Buffer, { containerIp, containerPort }: ProxyTarget): Client {
    const key = from.toString('latin1')
    const known = this.#clients.get(key)
    if (known !== undefined) {
      this.#heard(key, known)
      return known
    }
    const [silent] = this.#clients.keys()
    if (this.#clients.size >= mostClients && silent !== undefined) this.#forget(silent)
    const socket = createSocket(familyOf(containerIp) === 4 ? 'udp4' : 'udp6')
    const client = { socket, idle: setTimeout(() => this.#forget(key), idleMs).unref() }
    socket.unref()
    socket.on('error', () => this.#forget(key))
    socket.on('message', (bytes, { address, port }) => {
      if (address !== containerIp || port !== containerPort) return
      this.#heard(key, client)
      if (this.#fd !== undefined) sendDatagram(this.#fd, { bytes, from })
    })
    this.#clients.set(key, client)
    return client
  }

  #heard(key: string, client: Client): void {
    client.idle.refresh()
    this.#clients.delete(key)
    this.#clients.set(key, client)
  }

  #forgetAll(): void {
    for (const key of [...this.#clients.keys()]) this.#forget(key)
  }

  #forget(key: string): void {
    const client = this.#clients.get(key)
    if (client === undefined) return
    this.#clients.delete(key)
    clearTimeout(client.idle)
    client.socket.close()
  }
}
