// When does an address answer? In a namespace: `node reply-clock.mjs answer PORT` answers every datagram;
// `node reply-clock.mjs ask PORT` reads addresses, one on each line, asks each every millisecond until it answers, and prints
// "ADDRESS TIME", the time in ns of CLOCK_MONOTONIC, which is the same for all processes of a machine.
import { createSocket } from 'node:dgram'
import { createInterface } from 'node:readline'

const [, , role, port] = process.argv
const socket = createSocket('udp4')

if (role === 'answer') {
  socket.on('message', (_, from) => socket.send('!', from.port, from.address))
  socket.bind(Number(port), () => console.log('ready'))
} else {
  let awaited
  const ask = () => {
    if (awaited) socket.send('?', Number(port), awaited, () => {})
  }
  socket.on('error', () => {})
  socket.on('message', (_, from) => {
    if (from.address !== awaited) return
    console.log(`${awaited} ${process.hrtime.bigint()}`)
    awaited = undefined
  })
  socket.bind(0, () => console.log('ready'))
  setInterval(ask, 1)
  for await (const line of createInterface({ input: process.stdin })) {
    awaited = line
    ask()
  }
  process.exit(0)
}
