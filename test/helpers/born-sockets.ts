import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createServer, type Server, Socket } from 'node:net'
import { openInetSocket } from '../../src/netlink/inet-socket.js'
import type { Netns } from '../../src/netlink/netns.js'
import { familyOf } from '../../src/ports/address.js'

// Servers and clients of this process in any number of namespaces: a socket belongs to the one that it was made in.

export type Transport = 'tcp' | 'udp'
export interface Closable {
  close(): unknown
}

const plain = (address = ''): string => address.replace(/^::ffff:/, '')

/** Answer whoever asks on a port, by either family, with `NAME SOURCE`, where it is asked from. */
export async function answer(netns: Netns, protocol: Transport, port: number, name: string): Promise<Closable> {
  const fd = openInetSocket({ protocol, family: 6, at: { address: '::', port } }, netns)
  return protocol === 'tcp' ? await answerTcp(fd, name) : await answerUdp(fd, name)
}

function answerTcp(fd: number, name: string): Promise<Server> {
  const server = createServer(socket => {
    socket.on('error', () => socket.destroy())
    socket.end(`${name} ${plain(socket.remoteAddress)}`)
  })
  return new Promise((resolve, reject) => server.on('error', reject).listen({ fd }, () => resolve(server)))
}

function answerUdp(fd: number, name: string): Promise<UdpSocket> {
  const socket = createSocket('udp6')
  socket.on('message', (_, from) => socket.send(`${name} ${plain(from.address)}`, from.port, from.address))
  return new Promise((resolve, reject) => socket.on('error', reject).bind({ fd }, () => resolve(socket)))
}

/** What the server says; `refused`; or `nothing`, which an error message of the network is too. */
export function ask(
  netns: Netns,
  protocol: Transport,
  address: string,
  port: number,
  timeoutMs: number,
): Promise<string> {
  const fd = openInetSocket({ protocol, family: familyOf(address) }, netns)
  return protocol === 'tcp' ? askTcp(fd, address, port, timeoutMs) : askUdp(fd, address, port, timeoutMs)
}

/** A datagram may be lost. */
const againMs = 400
const failure = (error: NodeJS.ErrnoException): string => (error.code === 'ECONNREFUSED' ? 'refused' : 'nothing')

function askTcp(fd: number, host: string, port: number, timeoutMs: number): Promise<string> {
  // else it reads at once, before there is anybody to read from
  const unconnected = { fd, manualStart: true }
  const socket = new Socket(unconnected)
  return new Promise(resolve => {
    let text = ''
    const end = (reply: string): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(reply)
    }
    const timer = setTimeout(() => end('nothing'), timeoutMs)
    socket
      .on('data', data => {
        text += data
      })
      .on('end', () => end(text || 'nothing'))
      .on('error', error => end(failure(error)))
      .connect({ host, port })
  })
}

function askUdp(fd: number, host: string, port: number, timeoutMs: number): Promise<string> {
  const socket = createSocket(familyOf(host) === 4 ? 'udp4' : 'udp6')
  return new Promise(resolve => {
    let again: NodeJS.Timeout | undefined
    const end = (reply: string): void => {
      clearTimeout(timer)
      clearInterval(again)
      socket.close()
      resolve(reply)
    }
    const timer = setTimeout(() => end('nothing'), timeoutMs)
    // connected, so that only an answer from the address asked counts
    socket
      .on('error', error => end(failure(error)))
      .on('message', data => end(String(data)))
      .bind({ fd }, () =>
        socket.connect(port, host, (error?: Error) => {
          if (error !== undefined && error !== null) return end('nothing')
          socket.send('?')
          again = setInterval(() => socket.send('?'), againMs)
        }),
      )
  })
}
