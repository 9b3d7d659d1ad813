import { afterAll, beforeAll, expect, it } from 'vitest'
import { Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'

// A disconnect that does not wait for the kernel to delete the links: what its answer says is true when it is given.

let host: Host

beforeAll(async () => {
  host = await Host.startWithTsnet()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
  host.tsnet('sandbox', 'create', 'box')
})
afterAll(() => host?.stop())

const connect = () =>
  host.request<{ addresses: string[]; hostLink: string; ifname: string }>('POST', '/networks/lab/connect', {
    sandbox: 'box',
    ports: [{ protocol: 'tcp', hostPort: { first: 8080, last: 8080 }, containerPort: { first: 80, last: 80 } }],
  })

it('nothing passes, and port, address and interface name are free, when it is answered; the links go soon', () => {
  const first = connect()
  for (let i = 0; i < 5; i++) {
    const before = connectedLink()
    host.request('POST', '/networks/lab/disconnect', { sandbox: 'box' })
    const inside = host.json('ip', '-j', '-n', 'box', 'addr')
    expect(inside.map(link => link.ifname)).not.toContain('eth0')
    expect(JSON.stringify(inside)).not.toContain(first.addresses[0]!.split('/')[0]!)
    expect(host.run('ip', '-n', 'box', 'route')).toBe('')
    const left = host.json('ip', '-j', '-d', 'link').find(({ ifname }) => ifname === before)
    expect(left?.master).toBeUndefined()
    if (left !== undefined) expect(left.flags).not.toContain('UP')
    expect(host.run('ss', '-Hltn', 'sport', '=', ':8080')).toBe('')
    expect(JSON.stringify(host.tsnetRules())).not.toContain('8080')
    const again = connect()
    expect(again).toMatchObject({ ifname: 'eth0', addresses: first.addresses })
  }
})

const ourLinks = (): string[] => [...host.links().keys()].filter(name => /^tsn[0-9a-f]{12}$/.test(name))
const connectedLink = (): string => host.request<{ hostLink: string }[]>('GET', '/endpoints')[0]!.hostLink

it('the links that were left for the kernel go by themselves, and nothing is left to repair', async () => {
  await until('the kernel to have one link', () => ourLinks().length === 1, 15_000)
  expect(host.tsnet('reconcile', '--dry-run')).toBe('')
  expect(host.json('ip', '-j', '-n', 'box', 'link').map(link => link.ifname)).toEqual(['lo', 'eth0'])
})

it('on the command line it waits: no link is left when the command returns', () => {
  host.tsnet('disconnect', 'lab', 'box')
  expect(ourLinks()).toEqual([])
})
