// Many clients that take their time, at one door: `node slow-clients.mjs COUNT PATH` or `node slow-clients.mjs COUNT ADDRESS:PORT CERT KEY`.
// Prints `ready` when all are connected, and stays. Over TCP most do not get as far as a certificate.
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'

const [count, door, certFile, keyFile] = process.argv.slice(2)
const isTcp = !door.startsWith('/')
const said = [
  '',
  'GET /v1/networks HTTP/1.1\r\nHost: x\r\nX-',
  'POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"name":',
  'POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"NetworkID":',
  // answers that nobody reads
  'GET /v1/networks HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(50),
]

function open(n) {
  const [host, port] = door.split(':')
  if (!isTcp) return connect(door)
  if (n % 10 !== 0) return connect(Number(port), host)
  return connectTls({ host, port, rejectUnauthorized: false, cert: readFileSync(certFile), key: readFileSync(keyFile) })
}

let begun = 0
for (let n = 0; n < Number(count); n++) {
  const socket = open(n)
  // who is too much is hung up on
  socket.on('error', () => undefined)
  const event = socket.encrypted ? 'secureConnect' : 'connect'
  let counted = false
  const began = () => {
    if (!counted && ++begun === Number(count)) process.stdout.write('ready\n')
    counted = true
  }
  socket.once(event, () => {
    socket.pause()
    socket.write(said[n % said.length])
    began()
  })
  socket.once('close', began)
}
setInterval(() => undefined, 60_000)
