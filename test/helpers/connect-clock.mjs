// How long a new connection takes. In a namespace: `node connect-clock.mjs serve PORT` takes connections and ends them;
// `node connect-clock.mjs ask HOST COUNT PORT...` connects so many times to each port in turns, and prints the times in ms as JSON,
// a list for each port.
import { once } from 'node:events'
import { connect, createServer } from 'node:net'

const [, , role, ...words] = process.argv

if (role === 'serve') {
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.end()
  })
  server.listen(Number(words[0]), '0.0.0.0', 1024, () => console.log('ready'))
} else {
  const [host, count, ...ports] = words
  const times = ports.map(() => [])
  // the first ones warm up
  for (let i = -20; i < Number(count); i++) {
    // neither always goes first
    const order = i % 2 === 0 ? [...ports.keys()] : [...ports.keys()].reverse()
    for (const which of order) {
      const begin = process.hrtime.bigint()
      const socket = connect({ host, port: Number(ports[which]) })
      await once(socket, 'connect')
      const took = Number(process.hrtime.bigint() - begin) / 1e6
      if (i >= 0) times[which].push(took)
      socket.resume().end()
      await once(socket, 'close')
    }
  }
  console.log(JSON.stringify(times))
}
