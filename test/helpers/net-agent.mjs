// A machine in a network namespace, for tests: `node net-agent.mjs`, commands as JSON lines on stdin, answers on stdout.
//   {"id":1,"op":"listen","protocol":"tcp","port":80,"name":"a1"}   answers whoever asks with "a1 SOURCE", the source address that it sees
//   {"id":3,"op":"seen"}   {"id":3,"reply":"10.0.0.1 10.0.0.9"}: every source that asked here, answered or not
//   {"id":2,"op":"ask","protocol":"tcp","host":"10.0.0.2","port":80,"timeoutMs":500}   {"id":2,"reply":"a1 10.0.0.1"}, or "reply":"nothing"
import { createSocket } from 'node:dgram'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'

const seen = new Set()
const plain = address => address.replace(/^::ffff:/, '')

const listen = {
  tcp: ({ port, name }) =>
    new Promise((resolve, reject) => {
      const server = createServer(socket => {
        socket.on('error', () => {})
        seen.add(plain(socket.remoteAddress))
        socket.end(`${name} ${plain(socket.remoteAddress)}`)
      })
      server.on('error', reject)
      server.listen(port, '::', () => resolve('listening'))
    }),
  udp: ({ port, name }) =>
    new Promise((resolve, reject) => {
      const socket = createSocket('udp6')
      socket.on('error', reject)
      socket.on('message', (_, from) => {
        seen.add(plain(from.address))
        socket.send(`${name} ${plain(from.address)}`, from.port, from.address)
      })
      socket.bind(port, '::', () => resolve('listening'))
    }),
}

const ask = {
  tcp: ({ host, port, timeoutMs }) =>
    new Promise(resolve => {
      let text = ''
      const socket = connect({ host, port })
      const end = reply => {
        clearTimeout(timer)
        socket.destroy()
        resolve(reply)
      }
      const timer = setTimeout(() => end('nothing'), timeoutMs)
      socket.on('data', data => {
        text += data
      })
      socket.on('end', () => end(text || 'nothing'))
      socket.on('error', error => end(error.code === 'ECONNREFUSED' ? 'refused' : 'nothing'))
    }),
  udp: ({ host, port, timeoutMs, from }) =>
    new Promise(resolve => {
      const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
      const end = reply => {
        clearTimeout(timer)
        socket.close()
        resolve(reply)
      }
      const timer = setTimeout(() => end('nothing'), timeoutMs)
      // Connected, so that only an answer from the address asked counts.
      socket.on('error', error => end(error.code === 'ECONNREFUSED' ? 'refused' : 'nothing'))
      socket.on('message', data => end(String(data)))
      const ready = () => socket.connect(port, host, error => (error ? end('nothing') : socket.send('?')))
      if (from) socket.bind({ address: from }, ready)
      else ready()
    }),
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  if (command.op === 'seen') {
    console.log(JSON.stringify({ id: command.id, reply: [...seen].sort().join(' ') }))
    continue
  }
  const work = command.op === 'listen' ? listen[command.protocol] : ask[command.protocol]
  work(command).then(
    reply => console.log(JSON.stringify({ id: command.id, reply })),
    error => console.log(JSON.stringify({ id: command.id, reply: `error: ${error.message}` })),
  )
}
process.exit(0)
