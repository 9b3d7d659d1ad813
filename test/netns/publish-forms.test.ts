import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parsePortSpec } from '../../src/ports/spec.js'
import { callApi } from '../helpers/api-client.js'
import { addresses, Host, socketPath } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { ask, isClosed, startServe, type Vantage } from '../helpers/vantage.js'

// Every form of -p, by a real daemon and real connections: where it answers, where it does not, and who is in the way.

const { host4, host6 } = addresses
let host: Host

beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.run('ip', 'addr', 'add', '198.51.100.3/24', 'dev', 'uplink0')
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--ipv6')
  for (const name of ['one', 'two', 'three']) {
    host.tsnet('sandbox', 'create', name)
    host.tsnet('connect', 'lab', name)
    await startServe(host, name, ['80/tcp', '81/tcp', '80/udp', '8020/tcp', '8022/tcp'], host.sandbox(name))
  }
})
afterAll(() => host?.stop())

interface Published {
  status: number
  /** `0.0.0.0:8080` */
  at: string[]
  message: string
}

const published: [string, string][] = []
async function publish(sandbox: string, spec: string): Promise<Published> {
  const { status, body } = await post(sandbox, 'publish', spec)
  if (status >= 300) return { status, at: [], message: body.error.message }
  published.push([sandbox, spec])
  const bindings = (body.bindings as { spec: string; hostIp: string; hostPort: number }[]).filter(b => b.spec === spec)
  const at = bindings.map(({ hostIp, hostPort }) => `${hostIp.includes(':') ? `[${hostIp}]` : hostIp}:${hostPort}`)
  return { status, at, message: '' }
}
const post = (sandbox: string, verb: string, spec: string) =>
  callApi(host.path(socketPath), 'POST', `/v1/endpoints/${sandbox}/${verb}`, { port: parsePortSpec(spec) })

beforeEach(async () => {
  for (const [sandbox, spec] of published.splice(0)) expect((await post(sandbox, 'unpublish', spec)).status).toBe(204)
})

type Place = 'outside' | 'host'
const from = (place: Place): Vantage => (place === 'outside' ? host.outside : host)
/** `host 127.0.0.1 8080 udp` */
const answers = (where: string): string | undefined => {
  const [place, address = '', port, protocol = 'tcp'] = where.split(' ')
  return ask(from(place as Place), protocol as 'tcp' | 'udp', address, Number(port))?.name
}
const closed = (where: string): boolean => {
  const [place, address = '', port] = where.split(' ')
  return isClosed(from(place as Place), 'tcp', address, Number(port))
}

describe('a port', () => {
  test.each<[string, string[], string[], string[]]>([
    [
      '8001:80',
      ['0.0.0.0:8001', '[::]:8001'],
      [`outside ${host4} 8001`, `outside ${host6} 8001`, 'host 127.0.0.1 8001', 'host ::1 8001'],
      ['host ::1 8002'],
    ],
    [
      `${host4}:8002:80`,
      [`${host4}:8002`],
      [`outside ${host4} 8002`],
      [`outside ${host6} 8002`, 'host 127.0.0.1 8002'],
    ],
    [`[${host6}]:8003:80`, [`[${host6}]:8003`], [`outside ${host6} 8003`], [`outside ${host4} 8003`, 'host ::1 8003']],
    ['0.0.0.0:8004:80', ['0.0.0.0:8004'], [`outside ${host4} 8004`], [`outside ${host6} 8004`, 'host ::1 8004']],
    ['[::]:8005:80', ['[::]:8005'], [`outside ${host6} 8005`, 'host ::1 8005'], [`outside ${host4} 8005`]],
    ['127.0.0.1:8006:80', ['127.0.0.1:8006'], ['host 127.0.0.1 8006'], [`outside ${host4} 8006`, `host ${host4} 8006`]],
    ['[::1]:8007:80', ['[::1]:8007'], ['host ::1 8007'], [`outside ${host6} 8007`]],
    [
      '8008:80/udp',
      ['0.0.0.0:8008', '[::]:8008'],
      [`outside ${host4} 8008 udp`, `outside ${host6} 8008 udp`, 'host ::1 8008 udp'],
      [],
    ],
    [
      '8020-8022:8020-8022',
      ['0.0.0.0:8020', '[::]:8020'],
      [`outside ${host4} 8020`, `outside ${host6} 8022`],
      [`outside ${host4} 8023`],
    ],
    [
      '8030-8031:80-81',
      ['0.0.0.0:8030', '[::]:8030'],
      [`outside ${host4} 8031`, `outside ${host6} 8030`],
      [`outside ${host4} 8032`],
    ],
  ])('%s is published at %j and answers there alone', async (spec, at, open, shut) => {
    expect(await publish('one', spec)).toEqual({ status: 201, at, message: '' })
    expect(open.map(where => [where, answers(where)])).toEqual(open.map(where => [where, 'one']))
    expect(shut.filter(where => !closed(where))).toEqual([])
  })

  test.each<[string, RegExp]>([
    ['80', /^0\.0\.0\.0:(\d+)$/],
    [`${host4}::80`, new RegExp(`^${host4}:(\\d+)$`)],
    [`[${host6}]::80`, /^\[2001:db8:100::2\]:(\d+)$/],
  ])('%s gets a free port of the host', async (spec, pattern) => {
    const { at } = await publish('one', spec)
    const port = Number(pattern.exec(at[0] ?? '')?.[1])
    expect(port).toBeGreaterThanOrEqual(32_768)
    expect(answers(`outside ${spec.startsWith('[') ? host6 : host4} ${port}`)).toBe('one')
    // IPv6 has the same port where nothing else is asked for
    if (spec === '80') expect(at).toEqual([`0.0.0.0:${port}`, `[::]:${port}`])
  })
})

test('a range of the host to one port gives each container the next free one, until there is none', async () => {
  expect((await publish('one', '8040-8041:80')).at[0]).toBe('0.0.0.0:8040')
  expect((await publish('two', '8040-8041:80')).at[0]).toBe('0.0.0.0:8041')
  expect(await publish('three', '8040-8041:80')).toEqual({
    status: 409,
    at: [],
    message: expect.stringMatching(/no free port in 8040-8041\/tcp on 0\.0\.0\.0 and ::/),
  })
  expect([8040, 8041].map(port => answers(`outside ${host4} ${port}`))).toEqual(['one', 'two'])
})

test('several containers have one port at different addresses, [::] beside 0.0.0.0 too', async () => {
  for (const [name, spec] of [
    ['one', `${host4}:8050:80`],
    ['two', '198.51.100.3:8050:80'],
    ['three', '127.0.0.1:8050:80'],
    ['two', '[::]:8050:80'],
    ['one', '0.0.0.0:8051:80'],
    ['three', '[::]:8051:80'],
  ] as const)
    expect((await publish(name, spec)).message).toBe('')
  const asked = [`outside ${host4}`, 'outside 198.51.100.3', 'host 127.0.0.1', `outside ${host6}`, 'host ::1']
  expect(asked.map(where => answers(`${where} 8050`))).toEqual(['one', 'two', 'three', 'two', 'two'])
  expect([host4, host6].map(address => answers(`outside ${address} 8051`))).toEqual(['one', 'three'])
})

test('whoever has the port is named: an endpoint, a program with its number, and what changes nothing for either', async () => {
  await publish('one', '8060:80')
  const message = (why: string) => ({ status: 409, at: [], message: expect.stringContaining(why) })
  for (const spec of ['8060:81', `${host4}:8060:80`, '[::1]:8060:80', '8059-8061:8059-8061'])
    expect([spec, await publish('two', spec)]).toEqual([spec, message('8060/tcp on')])
  expect(await publish('two', '8060:81')).toEqual(message('is in use by endpoint one'))
  expect(answers(`outside ${host4} 8060`)).toBe('one')
  await host.serve('squatter', 'socat', 'TCP4-LISTEN:8061,fork', 'SYSTEM:true')
  await until('the program to listen', () => host.run('ss', '-Htln', 'sport = :8061') !== '')
  expect((await publish('two', '8061:80')).message).toMatch(
    /port 8061\/tcp on 0\.0\.0\.0 is in use by socat \(pid \d+\)/,
  )
  // and of the pair only the half that is free is no half
  expect(host.run('ss', '-Htln', 'sport = :8061').trim().split('\n')).toHaveLength(1)
  await host.end('squatter')
})

test('ten thousand ports at every address are one entry and held by ten thousand sockets, whoever starts the daemon anew', async () => {
  const held = (): number => host.run('ss', '-Htln').match(/ \*:2\d{4} /g)?.length ?? 0
  expect(await publish('one', '20000-29999:20000-29999')).toEqual({
    status: 201,
    at: ['0.0.0.0:20000', '[::]:20000'],
    message: '',
  })
  expect(held()).toBe(10_000)
  expect(host.run('nft', 'list map inet tsnet publish4_any_range')).toMatch(/(tcp|6) \. 20000-29999 : 10\.30\.0\./)
  await host.stopTsnet()
  await host.startTsnet()
  expect(held()).toBe(10_000)
  const { status } = await post('one', 'unpublish', '20000-29999:20000-29999')
  expect(status).toBe(204)
  published.pop()
  expect(held()).toBe(0)
})
