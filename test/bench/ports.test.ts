import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Measured, medianOf, ratioOf, report, reportCurve, timed } from '../helpers/bench.js'
import { BenchApi } from '../helpers/bench-api.js'
import { addresses, Host } from '../helpers/host.js'
import { image } from '../helpers/image.js'
import { repo, until } from '../helpers/machine.js'

// Whether the 10,000th published port costs what the first did: to publish it, and to connect through it. Beside it Docker's own
// bridge, whose rules are tried one after the other.

const endpointCount = 100
const each = 100
const portCount = endpointCount * each
const first = 20_000
const last = first + portCount - 1
const samples = 100
const connections = 1000

/** The same networks and sandboxes on both; ten thousand ports on one. */
interface Site {
  host: Host
  api: BenchApi
}
let few: Site
let many: Site
let dockers: Host

const say = (what: string, value: number | Measured, unit: string, target = {}): void =>
  report('ports', what, value, unit, target)
const clock = join(repo, 'test/helpers/connect-clock.mjs')
const nameOf = (i: number): string => `s${i}`

beforeAll(async () => {
  few = await begin()
  many = await begin()
}, 300_000)
afterAll(async () => {
  for (const site of [few, many]) {
    site?.api.close()
    await site?.host.stop()
  }
  await dockers?.stop()
})

async function begin(): Promise<Site> {
  const host = await Host.start()
  await host.startTsnet('--log-level', 'warn')
  const api = new BenchApi(host)
  await api.call('POST', '/networks', { name: 'wide', subnets: ['10.30.0.0/16'] })
  for (let i = 0; i < endpointCount; i++) {
    await api.call('POST', '/sandboxes', { name: nameOf(i) })
    await api.connect('wide', nameOf(i))
  }
  return { host, api }
}

test(`${portCount} ports on ${endpointCount} endpoints: the last costs what the first did`, async () => {
  // onto other numbers, so that every port is an element of its own
  const times: number[] = []
  const none: number[] = []
  const sizes: [number, number[]][] = [0, 1000, portCount].map(size => [size, size === 0 ? none : []])
  for (const [size, some] of sizes.slice(1)) {
    for (let i = times.length; i * each < size; i++)
      times.push(await timed(() => many.api.publish(nameOf(i), first + i * each, 8000, each)))
    for (let i = 0; i < samples; i++) {
      const turn = [
        { on: few, costs: none },
        { on: many, costs: some },
      ]
      for (const { on, costs } of i % 2 === 0 ? turn : turn.reverse()) {
        const asked = [nameOf(i % endpointCount), 40_000 + i, 80] as const
        costs.push(await timed(() => on.api.publish(...asked)))
        await on.api.unpublish(...asked)
      }
    }
  }
  say(`to publish ${each} ports of an endpoint, the first`, times[0]!, 'ms')
  say(`to publish ${each} ports of an endpoint, the last`, times.at(-1)!, 'ms')
  for (const [size, costs] of sizes) say(`to publish port ${size + 1}`, medianOf(costs), 'ms')
  reportCurve('ports', 'to publish a port', `port ${portCount + 1} against the first`, sizes, { atMost: 1.5 })
})

test('a new connection through the last port takes as long as one through the first', async () => {
  const ends = [
    { sandbox: nameOf(0), port: 8000 },
    { sandbox: nameOf(endpointCount - 1), port: 8000 + each - 1 },
  ]
  for (const { sandbox, port } of ends) {
    const command = [...many.host.sandbox(sandbox).argv, process.execPath, clock, 'serve', String(port)]
    await many.host.serve(`clock-${sandbox}`, ...command)
    const isUp = ['sh', '-c', `ss -Htln 'sport = :${port}' | grep -q :`]
    await until(`port ${port}`, () => many.host.tryRun(...many.host.sandbox(sandbox).argv, ...isUp).status === 0)
  }
  connect(many.host, 'tsnet', { atMost: 1.05 })
})

function connect(host: Host, whose: string, target = {}): void {
  const asked = [addresses.host4, String(connections), String(first), String(last)]
  const said = host.outside.run(process.execPath, clock, 'ask', ...asked)
  const [byFirst, byLast] = JSON.parse(said) as [number[], number[]]
  say(`${whose}: a new connection through the first of ${portCount} ports`, medianOf(byFirst), 'ms')
  say(`${whose}: a new connection through the last of ${portCount} ports`, medianOf(byLast), 'ms')
  say(`${whose}: a new connection through the last against the first`, ratioOf(byLast, byFirst), 'x', target)
}

test('a range of 10,000 ports onto itself against one port', async () => {
  const one: number[] = []
  const range: number[] = []
  for (let i = 0; i < 6; i++) {
    one.push(await timed(() => few.api.publish(nameOf(i), 50_000, 50_000)))
    range.push(await timed(() => few.api.publish(nameOf(i), first, first, portCount)))
    await few.api.unpublish(nameOf(i), 50_000, 50_000)
    await few.api.unpublish(nameOf(i), first, first, portCount)
  }
  say('to publish one port', medianOf(one), 'ms')
  say(`to publish a range of ${portCount} ports onto itself`, medianOf(range), 'ms')
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
  const perPort = (ports: number): number => {
    const range = `50000-${50_000 + ports - 1}`
    return (timeOf('-p', `${range}:${range}`) - timeOf()) / ports
  }
  timeOf()
  start('first', '-p', `${first}:8000`)
  const firsts = Array.from({ length: 4 }, () => perPort(10))
  say("Docker's bridge: to publish one of the first ports", medianOf(firsts), 'ms')
  writeFileSync(dockers.path('/run/rules'), copies(dockers.run('iptables-save')))
  dockers.run('sh', '-c', 'iptables-restore --noflush </run/rules')
  start('last', '-p', `${last}:8000`)
  connect(dockers, "Docker's bridge, rules copied")
  say(`Docker's bridge, rules copied: to publish one more than ${portCount} ports`, perPort(2), 'ms')
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
