// A name server of the outside world, for tests: `node dns-upstream.mjs LABEL PORT ADDRESS...` answers by UDP and TCP, says
// "ready" once it does, and then a line for each question that it gets: "LABEL udp plain.example A".
//   plain.example A, AAAA   192.0.2.10, 2001:db8::10     NUMBER.many.example A  that many addresses, cut to what the client takes by UDP
//   who.example TXT         LABEL                         size.example TXT       what the client takes by UDP
//   fail, refuse, silent    SERVFAIL, REFUSED, no reply   cut.example A          truncated by UDP, and TCP is closed without a reply
//   wrong.example A         replies with a wrong id, a wrong question, no question and from another port; then the right one
//   strange.example         a record of type 65280, which nobody knows
import { createSocket } from 'node:dgram'
import { createServer, isIPv6 } from 'node:net'
import packet from 'dns-packet'

const [label, port, ...addresses] = process.argv.slice(2)
const say = line => process.stdout.write(`${line}\n`)

/** The whole reply, or undefined for none. */
function reply(query) {
  const [{ name, type }] = query.questions
  const key = name.toLowerCase()
  const many = /^(\d+)\.many\.example$/.exec(key)
  const base = {
    type: 'response',
    id: query.id,
    flags: packet.RECURSION_DESIRED | packet.RECURSION_AVAILABLE,
    questions: query.questions,
  }
  const answer = (...data) => ({ ...base, answers: data.map(each => ({ name, type, ttl: 60, data: each })) })
  const size = query.additionals.find(record => record.type === 'OPT')?.udpPayloadSize
  if (many && type === 'A') return answer(...Array.from({ length: Number(many[1]) }, (_, i) => `192.0.2.${i + 1}`))
  if (key === 'plain.example' && type === 'A') return answer('192.0.2.10')
  if (key === 'plain.example' && type === 'AAAA') return answer('2001:db8::10')
  if (key === 'wrong.example' || key === 'cut.example') return answer('192.0.2.11')
  if (key === 'who.example') return answer(label)
  if (key === 'size.example') return answer(`${size}`)
  if (key === 'strange.example') return answer(Buffer.from('peculiar'))
  if (key === 'fail.example') return { ...base, flags: base.flags | 2 }
  if (key === 'refuse.example') return { ...base, flags: base.flags | 5 }
  if (key === 'silent.example') return undefined
  return { ...base, flags: base.flags | 3 }
}

function udpReply(query) {
  const whole = reply(query)
  if (!whole) return undefined
  const limit = query.additionals.find(record => record.type === 'OPT')?.udpPayloadSize ?? 512
  const bytes = packet.encode(whole)
  if (query.questions[0].name !== 'cut.example' && bytes.length <= limit) return bytes
  return packet.encode({ ...whole, flags: whole.flags | packet.TRUNCATED_RESPONSE, answers: whole.answers.slice(0, 2) })
}

function serveUdp(address) {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
  socket.on('message', (bytes, from) => {
    const query = packet.decode(bytes)
    const [{ name, type }] = query.questions
    say(`${label} udp ${name} ${type}`)
    const bytesOut = udpReply(query)
    if (!bytesOut) return
    const send = (each, by = socket) => by.send(each, from.port, from.address)
    if (name !== 'wrong.example') return send(bytesOut)
    const bad = { ...reply(query), answers: [{ name, type: 'A', ttl: 60, data: '192.0.2.66' }] }
    send(packet.encode({ ...bad, id: (query.id + 1) & 0xffff }))
    send(packet.encode({ ...bad, questions: [{ name: 'right.example', type: 'A' }] }))
    send(packet.encode({ ...bad, questions: [] }))
    send(packet.encode({ ...bad, type: 'query' }))
    send(Buffer.from('garbage'))
    const other = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
    other.bind(0, address, () => {
      send(packet.encode(bad), other)
      setTimeout(() => send(bytesOut), 50)
    })
  })
  return new Promise(resolve => socket.bind(Number(port), address, resolve))
}

function serveTcp(address) {
  const server = createServer(socket => {
    let rest = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', chunk => {
      rest = Buffer.concat([rest, chunk])
      const query = rest.length > 2 && packet.streamDecode(rest)
      if (!query) return
      rest = rest.subarray(2 + rest.readUInt16BE(0))
      const [{ name, type }] = query.questions
      say(`${label} tcp ${name} ${type}`)
      const whole = reply(query)
      if (name === 'cut.example' || !whole) return socket.end()
      // in pieces, as a network may deliver it
      const bytes = packet.streamEncode(whole)
      socket.write(bytes.subarray(0, 1))
      setTimeout(() => socket.write(bytes.subarray(1)), 5)
    })
  })
  return new Promise(resolve => server.listen(Number(port), address, resolve))
}

await Promise.all(addresses.flatMap(address => [serveUdp(address), serveTcp(address)]))
say('ready')
