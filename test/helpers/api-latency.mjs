// node api-latency.mjs SOCKET: asks the daemon's API for its version every 50 ms, whether the question before is answered or not
// (but for 100 that are not), until its input ends; then prints {"count", "medianMs", "p99Ms", "mostMs"} of the answers. A process of its own, so that what
// else the tests do delays no clock.
import { request } from 'node:http'

const everyMs = 50
const socketPath = process.argv[2]
const mostOpen = 100
const delaysMs = []
const asked = []

const ask = () =>
  new Promise((resolve, reject) => {
    const begunMs = performance.now()
    const question = request({ socketPath, path: '/v1/version', agent: false }, answer =>
      answer.resume().on('end', () => {
        delaysMs.push(performance.now() - begunMs)
        resolve()
      }),
    )
    question.on('error', reject).end()
  })

const timer = setInterval(() => {
  if (asked.length - delaysMs.length < mostOpen) asked.push(ask())
}, everyMs)
process.stdin.resume().on('end', async () => {
  clearInterval(timer)
  await Promise.all(asked)
  delaysMs.sort((a, b) => a - b)
  const at = part => delaysMs[Math.ceil(part * delaysMs.length) - 1]
  console.log(JSON.stringify({ count: delaysMs.length, medianMs: at(0.5), p99Ms: at(0.99), mostMs: at(1) }))
})
console.log('ready')
