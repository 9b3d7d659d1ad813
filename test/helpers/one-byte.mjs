// One byte there and one back over TCP, as often as possible:
//   node one-byte.mjs serve PORT                prints "ready", answers everybody
//   node one-byte.mjs ask ADDRESS PORT SECONDS  prints how many a second
import { connect, createServer } from 'node:net'

const [verb, ...args] = process.argv.slice(2)
if (verb === 'serve') {
  const server = createServer(socket => {
    socket.setNoDelay(true).on('data', bytes => socket.write(bytes))
    socket.on('error', () => {})
  })
  server.listen({ host: '0.0.0.0', port: Number(args[0]) }, () => console.log('ready'))
} else {
  const [address, port, seconds] = args
  const socket = connect({ host: address, port: Number(port) }, () => {
    socket.setNoDelay(true)
    const begin = performance.now()
    let count = 0
    socket.on('data', () => {
      count++
      const elapsedMs = performance.now() - begin
      if (elapsedMs < Number(seconds) * 1000) socket.write('x')
      else {
        console.log((count / elapsedMs) * 1000)
        socket.destroy()
      }
    })
    socket.write('x')
  })
}
