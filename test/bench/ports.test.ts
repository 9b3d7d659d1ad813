import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { callApi } from '../helpers/api-client.js'
import { median, report } from '../helpers/bench.js'
import { addresses, Host, socketPath } from '../helpers/host.js'
import { image } from '../helpers/image.js'
import { repo, until } from '../helpers/machine.js'

// Whether the 10,000th published port costs what the first did: to publish it, and to connect through it. Beside it Docker's own
// bridge, whose rules are tried one after the other.

const endpointCount = 100
const each = 100
const portCount = endpointCount * each
const first = 20_000
const last = first + portCount - 1
const samples = 200
const connections = 1000

/** The same networks and sandboxes on both; ten thousand ports on one. */
let few: Host
let many: Host
let dockers: Host

const say = (what: string, value: number, unit: string, target = {}): void => report('ports', what, value, unit, target)
const clock = join(repo, 'test/helpers/connect-clock.mjs')
const nameOf = (i: number): string => `s${i}`

beforeAll(async () => {
  few = await begin()
  many = await begin()
}, 300_000)
afterAll(async () => {
  for (const host of [few, many, dockers]) await host?.stop()
})

async function begin(): Promise<Host> {
  const host = await Host.start()
  await host.startTsnet('--log-level', 'warn')
  host.tsnet('network', 'create', 'wide', '--subnet', '10.30.0.0/16')
  for (let i = 0; i < endpointCount; i++) {
    await post(host, '/sandboxes', { name: nameOf(i) })
    await post(host, '/networks/wide/connect', { sandbox: nameOf(i) })
  }
  return host
}

async function post(host: Host, path: string, body: object): Promise<number> {
  const begin = performance.now()
  const { status, body: got } = await callApi(host.path(socketPath), 'POST', `/v1${path}`, body)
  expect(status, JSON.stringify(got)).toBeLessThan(300)
  return performance.now() - begin
}

/** Returns how long it took, in ms. */
const publish = (host: Host, endpoint: string, hostPort: number, containerPort: number, size = 1): Promise<number> =>
  post(host, `/endpoints/${endpoint}/publish`, { port: portSpec(hostPort, containerPort, size) })
const unpublish = (host: Host, endpoint: string, hostPort: number, containerPort: number): Promise<number> =>
  post(host, `/endpoints/${endpoint}/unpublish`, { port: portSpec(hostPort, containerPort, 1) })
const portSpec = (hostPort: number, containerPort: number, size: number): object => ({
  protocol: 'tcp',
  hostPort: { first: hostPort, last: hostPort + size - 1 },
  containerPort: { first: containerPort, last: containerPort + size - 1 },
})

test(`${portCount} ports on ${endpointCount} endpoints: the last costs what the first did`, async () => {
  // onto other numbers, so that every port is an element of its own
  const times: number[] = []
  for (let i = 0; i < endpointCount; i++) times.push(await publish(many, nameOf(i), first + i * each, 8000, each))
  say(`to publish ${each} ports of an endpoint, the first`, times[0]!, 'ms')
  say(`to publish ${each} ports of an endpoint, the last`, times.at(-1)!, 'ms')
  const costs: { few: number[]; many: number[] } = { few: [], many: [] }
  for (let i = 0; i < samples; i++) {
    const turn = [
      async () => void costs.few.push(await publish(few, nameOf(i % endpointCount), 40_000 + i, 80)),
      async () => void costs.many.push(await publish(many, nameOf(i % endpointCount), 40_000 + i, 80)),
    ]
    for (const measure of i % 2 === 0 ? turn : turn.reverse()) await measure()
    for (const host of [few, many]) await unpublish(host, nameOf(i % endpointCount), 40_000 + i, 80)
  }
  say('to publish the first port, median of 200', median(costs.few), 'ms')
  say(`to publish the ${portCount + 1}th port, median of 200`, median(costs.many), 'ms')
  say(`to publish the ${portCount + 1}th port against the first`, median(costs.many) / median(costs.few), '', {
    atMost: 1.5,
  })
})

test('a new connection through the last port takes as long as one through the first', async () => {
  const ends = [
    { sandbox: nameOf(0), port: 8000 },
    { sandbox: nameOf(endpointCount - 1), port: 8000 + each - 1 },
  ]
  for (const { sandbox, port } of ends) {
    const command = [...many.sandbox(sandbox).argv, process.execPath, clock, 'serve', String(port)]
    await many.serve(`clock-${sandbox}`, ...command)
    const isUp = ['sh', '-c', `ss -Htln 'sport = :${port}' | grep -q :`]
    await until(`port ${port}`, () => many.tryRun(...many.sandbox(sandbox).argv, ...isUp).status === 0)
  }
  connect(many, 'tsnet', { atMost: 1.05 })
})

function connect(host: Host, whose: string, target = {}): void {
  const asked = [addresses.host4, String(connections), String(first), String(last)]
  const said = host.outside.run(process.execPath, clock, 'ask', ...asked)
  const [byFirst, byLast] = (JSON.parse(said) as [number[], number[]]).map(median) as [number, number]
  say(`${whose}: a new connection through the first of ${portCount} ports, median of ${connections}`, byFirst, 'ms')
  say(`${whose}: a new connection through the last of ${portCount} ports, median of ${connections}`, byLast, 'ms')
  say(`${whose}: a new connection through the last against the first`, byLast / byFirst, '', target)
}

test('a range of 10,000 ports onto itself against one port', async () => {
  const one: number[] = []
  const range: number[] = []
  for (let i = 0; i < 5; i++) {
    one.push(await publish(few, nameOf(i), 50_000, 50_000))
    range.push(await publish(few, nameOf(i), first, first, portCount))
    await unpublish(few, nameOf(i), 50_000, 50_000)
    await post(few, `/endpoints/${nameOf(i)}/unpublish`, { port: portSpec(first, first, portCount) })
  }
  say('to publish one port, median of 5', median(one), 'ms')
  say(`to publish a range of ${portCount} ports onto itself, median of 5`, median(range), 'ms')
})

// dockerd needs minutes for that many. So it publishes the first port itself, the rules of the others are copies of what it wrote
// for that one, loaded at once, and then it publishes the last one itself again.
test("Docker's own bridge with rules for as many ports", async () => {
  dockers = await Host.start()
  await dockers.startDocker('--userland-proxy=false')
  const start = (name: string, ...options: string[]): number => {
    const begin = performance.now()
    dockers.docker('run', '-d', '--name', name, ...options, image, 'serve', name, '8000/tcp')
    return performance.now() - begin
  }
  const timeOf = (...options: string[]): number => {
    const took = start('probe', ...options)
    dockers.docker('rm', '-f', 'probe')
    return took
  }
  const perPort = (): number => (timeOf('-p', '50000-50009:50000-50009') - timeOf()) / 10
  timeOf()
  start('first', '-p', `${first}:8000`)
  say(
    "Docker's bridge: to publish one of the first ports, median of 3",
    median([perPort(), perPort(), perPort()]),
    'ms',
  )
  writeFileSync(dockers.path('/run/rules'), copies(dockers.run('iptables-save')))
  dockers.run('sh', '-c', 'iptables-restore --noflush </run/rules')
  start('last', '-p', `${last}:8000`)
  connect(dockers, "Docker's bridge, rules copied")
  say(`Docker's bridge, rules copied: to publish one more than ${portCount} ports`, perPort(), 'ms')
})

/** What dockerd wrote for the first port, for all others but the last, on as many containers as ours have. */
function copies(saved: string): string {
  const tables = saved.split(/^(?=\*)/m).flatMap(table => {
    const like = table.split('\n').filter(line => / --dport (8000|20000) /.test(line))
    if (like.length === 0) return []
    const lines: string[] = []
    for (let i = 1; i < portCount - 1; i++) {
      const address = `172.17.1.${1 + Math.floor(i / each)}`
      const text = like.map(line =>
        line
          .replace('--dport 20000', `--dport ${first + i}`)
          .replace(/172\.17\.0\.\d+/g, address)
          .replace(/(--dport |:)8000\b/g, `$1${8000 + (i % each)}`),
      )
      lines.push(...text)
    }
    return [`${/^\*\w+/.exec(table)?.[0]}\n${lines.join('\n')}\nCOMMIT\n`]
  })
  expect(tables.join('').split('\n').length).toBeGreaterThan(3 * (portCount - 2))
  return tables.join('')
}
