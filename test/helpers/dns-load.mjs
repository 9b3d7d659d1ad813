// Asks a resolver at 127.0.0.11, for measuring: `node dns-load.mjs latency COUNT NAMES` asks one question after the other,
// `node dns-load.mjs rate PER-SECOND SECONDS NAMES` asks at that pace, while as many answers come as sockets can hold questions.
// Prints one JSON object.
import { createSocket } from 'node:dgram'
import packet from 'dns-packet'

const [mode, ...numbers] = process.argv.slice(2)
const socket = createSocket('udp4')
await new Promise(resolve => socket.bind(0, resolve))
socket.setRecvBufferSize(1 << 22)
await new Promise(resolve => socket.connect(53, '127.0.0.11', resolve))
const queryOf = (id, name) =>
  packet.encode({ type: 'query', id, flags: packet.RECURSION_DESIRED, questions: [{ name, type: 'A' }] })

async function latency(count, names) {
  const times = []
  let wrong = 0
  for (let i = 0; i < count; i++) {
    const n = Math.floor(Math.random() * names)
    const query = queryOf(i & 0xffff, `n${n}`)
    const reply = new Promise(resolve => socket.once('message', resolve))
    const before = performance.now()
    socket.send(query)
    const bytes = await reply
    times.push(performance.now() - before)
    if (packet.decode(bytes).answers[0]?.data !== `10.0.${(n >> 8) & 255}.${n & 255}`) wrong++
  }
  times.sort((a, b) => a - b)
  return { median: times[count >> 1], p99: times[Math.floor(count * 0.99)], wrong }
}

/** A socket holds some 270 small datagrams (net.core.rmem_default); what is more is lost, whoever is to blame. */
const mostWaiting = 200

async function rate(perSecond, seconds, names) {
  const total = perSecond * seconds
  const queries = Array.from({ length: 0x10000 }, (_, id) => queryOf(id, `n${id % names}`))
  let received = 0
  let wrong = 0
  socket.on('message', bytes => {
    received++
    // id and the count of answers; the address is at the end
    const n = ((bytes[0] << 8) | bytes[1]) % names
    if (bytes[7] !== 1 || bytes.at(-1) !== (n & 255) || bytes.at(-2) !== ((n >> 8) & 255)) wrong++
  })
  const begin = performance.now()
  let sent = 0
  while (sent < total) {
    const due = Math.min(total, Math.floor(((performance.now() - begin) * perSecond) / 1000))
    while (sent < due && sent - received < mostWaiting) socket.send(queries[sent++ & 0xffff])
    await new Promise(resolve => setImmediate(resolve))
  }
  const seconds_ = (performance.now() - begin) / 1000
  for (let i = 0; i < 200 && received < total; i++) await new Promise(resolve => setTimeout(resolve, 10))
  return { sent, received, wrong, perSecond: Math.round(sent / seconds_) }
}

const got = await (mode === 'latency' ? latency : rate)(...numbers.map(Number))
console.log(JSON.stringify(got))
process.exit(0)
