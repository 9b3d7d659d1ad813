// Stands between dockerd and the daemon's plugin socket, where dockerd looks: `node plugin-proxy.mjs PATH DAEMON-PATH FATES CALLS`.
// FATES is a file with `[pattern of methods and bodies, fate]...` as JSON, read at each call; the method of each goes to CALLS.
import { appendFileSync, readFileSync, rmSync } from 'node:fs'
import { Agent, createServer, request } from 'node:http'
import { text } from 'node:stream/consumers'

const [path, daemonPath, fatesFile, callsFile] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true })

const ask = (method, body) =>
  new Promise((resolve, reject) => {
    const headers = { 'Content-Length': Buffer.byteLength(body) }
    const options = { socketPath: daemonPath, path: method, method: 'POST', agent, headers }
    const outgoing = request(options, reply => {
      text(reply).then(got => resolve({ status: reply.statusCode, body: got }), reject)
    })
    outgoing.on('error', reject).end(body)
  })

const failure = { status: 200, body: JSON.stringify({ Err: 'the test says no', Error: 'the test says no' }) }
const never = new Promise(() => {})

/** What becomes of a call; nothing: dockerd is hung up on. */
const fates = {
  honest: ask,
  twice: async (method, body) => {
    await ask(method, body)
    return await ask(method, body)
  },
  /** not done */
  refused: async () => failure,
  /** done, and said not to be */
  denied: async (method, body) => {
    await ask(method, body)
    return failure
  },
  /** done, and dockerd does not like what it is told */
  odd: async (method, body) => {
    await ask(method, body)
    return {
      status: 200,
      body: JSON.stringify({ Interface: { Address: '192.0.2.1/24', MacAddress: '02:00:00:00:00:01' } }),
    }
  },
  /** done, and nobody says so */
  lost: (method, body) => ask(method, body).then(() => undefined),
  /** done, and dockerd waits */
  stuck: (method, body) => ask(method, body).then(() => never),
  /** not done, and dockerd waits */
  swallowed: () => never,
}

function fateOf(call) {
  const [, fate = 'honest'] =
    JSON.parse(readFileSync(fatesFile, 'utf8')).find(([what]) => new RegExp(what).test(call)) ?? []
  return fates[fate]
}

const server = createServer(async (incoming, response) => {
  const body = await text(incoming)
  appendFileSync(callsFile, `${incoming.url.slice(1)}\n`)
  const reply = await fateOf(`${incoming.url} ${body}`)(incoming.url, body).catch(() => undefined)
  if (reply === undefined) incoming.socket.destroy()
  else response.writeHead(reply.status, { 'Content-Type': 'application/json' }).end(reply.body)
})
server.keepAliveTimeout = 60_000
rmSync(path, { force: true })
server.listen(path)
