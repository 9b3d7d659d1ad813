import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { explained, type Fault, FaultCount } from '../helpers/faults.js'
import { addresses, Host } from '../helpers/host.js'
import { repo } from '../helpers/machine.js'
import { startServe } from '../helpers/vantage.js'

// Faults prepared on a real host: explain names each, and says of the same way when it is mended that it works.

let host: Host
const count = new FaultCount()
const outside = addresses.outside4

beforeAll(async () => {
  host = await Host.startWithTsnet()
  const create = (name: string, subnets: string[], more: object = {}) =>
    host.request('POST', '/networks', { name, subnets, ...more })
  create('lab', ['10.30.0.0/24', 'fd00:30::/64'])
  create('web', ['10.31.0.0/24'])
  create('inner', ['10.32.0.0/24'], { internal: true })
  create('apart', ['10.33.0.0/24'], { options: { icc: 'false' } })
  create('open', ['10.34.0.0/24'], { options: { gateway_mode_ipv4: 'routed' } })
  const lan = (name: string, range: string, options: object = {}) =>
    create(name, ['198.51.100.0/24'], {
      driver: 'macvlan',
      ipRanges: [`198.51.100.${range}`],
      gateways: [outside],
      options: { parent: 'uplink0', ...options },
    })
  lan('lan', '64/28')
  lan('access', '80/28', { host_access: 'true' })
  lan('shy', '96/28', { mode: 'private' })
  const onLab = { srv: 'open', box: 'lab', shop: 'lab', far: 'web', kept: 'inner', one: 'apart', two: 'apart' }
  const onLan = { mac: 'lan', mac2: 'lan', near: 'access', loner: 'shy', hermit: 'shy' }
  const on = { ...onLab, ...onLan }
  for (const [sandbox, network] of Object.entries(on)) {
    host.request('POST', '/sandboxes', { name: sandbox })
    host.request('POST', `/networks/${network}/connect`, { sandbox })
  }
  host.tsnet('publish', 'add', 'box', '8080:80')
  host.tsnet('publish', 'add', 'box', '8132:132/sctp')
  host.tsnet('publish', 'add', 'srv', '80')
  host.tsnet('publish', 'add', 'shop', '8081:80', '--from', '192.0.2.0/24')
  await startServe(host, 'box', ['80/tcp'], host.sandbox('box'))
  await startServe(host, 'shop', ['80/tcp'], host.sandbox('shop'))
  await startServe(host, 'srv', ['80/tcp'], host.sandbox('srv'))
  await startServe(host, 'mac', ['80/tcp', '53/udp'], host.sandbox('mac'))
  await startServe(host.outside, 'outside', ['80/tcp'])
}, 60_000)
afterAll(async () => {
  count.print('one host')
  await host?.stop()
})

const reconcile = `${process.execPath} ${repo}/dist/tsnet.js reconcile`

/** The host's end of an endpoint's cable, and the MAC address at the other one, as shell commands that find them. */
const of = (name: string, key: 'hostLink' | 'mac' | 'networkId'): string =>
  String(host.request<Record<string, unknown>[]>('GET', '/endpoints').find(each => each.sandbox === name)?.[key])
const bridgeOf = (name: string): string => `br-${of(name, 'networkId').slice(0, 12)}`

describe('a way that works', () => {
  test.each([
    ['box', 'shop'],
    ['box', 'shop:80'],
    ['box', '[fd00:30::3]:80'],
    ['host', 'box:80'],
    ['far', 'host:8080'],
    ['box', addresses.beyond4],
    ['box', `${addresses.beyond4}:80`],
    ['box', 'host'],
    ['host', 'host:8080'],
    [outside, 'host:8080'],
    [outside, 'srv:80'],
    ['box', 'srv:80'],
    ['box', 'box'],
    ['mac2', 'mac:80'],
    ['near', 'mac:53/udp'],
    ['mac', `${addresses.beyond4}:80`],
    [outside, 'mac:80'],
    ['host', 'near'],
    // of SCTP nothing is sent
    ['box', 'shop:132/sctp'],
    ['far', 'host:8132/sctp'],
  ])('%s to %s is said to work, hop by hop', (from, to) => {
    const got = explained(host, from, to)
    expect(got).toMatchObject({ works: true })
    expect(got.hops.filter(({ state }) => state !== 'ok')).toEqual([])
    expect(got.hops.length).toBeGreaterThan(2)
  })

  test('the probe is followed into and out of every namespace, translated where it is, and no table of it is left', () => {
    const { probe } = explained(host, 'far', 'host:8080')
    expect(probe?.result).toBe('answered')
    const met = (where: string, answer: boolean) =>
      probe?.trace?.filter(each => each.where === where && each.answer === answer)
    for (const where of ['far', 'the host', 'box'])
      for (const answer of [false, true]) expect(met(where, answer)).not.toEqual([])
    const translated = met('the host', false)?.map(({ packet }) => packet.split(' -> ')[1])
    expect(new Set(translated)).toEqual(new Set(['10.31.0.1:8080', '10.30.0.2:80']))
    const rule = probe?.trace?.find(({ rule }) => rule?.includes('@publish4_any'))
    expect(rule).toMatchObject({
      where: 'the host',
      table: 'inet tsnet',
      chain: 'publish',
      handle: expect.stringMatching(/^\d+$/),
    })
    const tables = [
      host.run('nft', 'list', 'tables'),
      ...['box', 'far'].map(name => host.sandbox(name).tryRun('nft', 'list', 'tables').stdout),
    ]
    expect(tables.join('')).not.toContain('explain')
  })

  test('the command prints a line a hop and the outcome, exit code 0', () => {
    const { status, stdout } = host.tryTsnet('explain', 'box', 'shop')
    expect(stdout).toMatch(/^✓ name .*\n(✓ .*\n)+✓ box reaches shop\n$/)
    expect(status).toBe(0)
  })
})

describe('a prepared fault is named', () => {
  const drop = (table: string) => [
    `nft 'table ${table} fw { chain f { type filter hook forward priority 5; ip daddr ${addresses.beyond4} drop; }; }'`,
    `nft delete table ${table} fw`,
  ]
  // in a chain that the daemon leaves the first word to: at the top of FORWARD it puts its own rule before theirs
  const userDrop = (program: string): string =>
    `${program} -w -N DOCKER-USER 2>/dev/null && ${program} -w -A FORWARD -j DOCKER-USER && ${program} -w -A DOCKER-USER -d ${addresses.beyond4} -j DROP || true`
  const userAllow = (program: string): string => `${program} -w -F DOCKER-USER`
  const faults: (() => Fault)[] = [
    () => ({
      ...{ name: 'foreign DROP, nftables', make: drop('inet')[0]!, mend: drop('inet')[1]! },
      ...{ from: 'box', to: `${addresses.beyond4}:80` },
      cause: /in the host, table inet fw, chain f: this rule drops it: ip daddr 203\.0\.113\.1 drop/,
      fix: /^nft delete rule inet fw f handle \d+/,
    }),
    () => ({
      ...{ name: 'foreign DROP, iptables-nft', make: userDrop('iptables-nft'), mend: userAllow('iptables-nft') },
      ...{ from: 'box', to: addresses.beyond4 },
      cause: /in the host, table ip filter, chain DOCKER-USER: this rule drops it: ip daddr 203\.0\.113\.1/,
      fix: /^nft delete rule ip filter DOCKER-USER handle \d+/,
    }),
    () => ({
      ...{
        name: 'foreign DROP, iptables-legacy',
        make: userDrop('iptables-legacy'),
        mend: userAllow('iptables-legacy'),
      },
      ...{ from: 'box', to: addresses.beyond4 },
      cause: /iptables-legacy, chain FORWARD: this rule drops it: -A DOCKER-USER -d 203\.0\.113\.1\/32 -j DROP/,
      fix: /^iptables-legacy -D DOCKER-USER -d 203\.0\.113\.1\/32 -j DROP/,
    }),
    () => ({
      ...{
        name: 'foreign DROP inside a sandbox',
        make: `ip netns exec shop nft 'table inet own { chain i { type filter hook input priority 0; tcp dport 80 drop; }; }'`,
      },
      mend: 'ip netns exec shop nft delete table inet own',
      ...{ from: 'box', to: 'shop:80' },
      cause: /in shop, table inet own, chain i: this rule drops it: tcp dport 80 drop/,
      fix: /^nsenter --net=\/run\/netns\/shop nft delete rule inet own i handle/,
    }),
    () => ({
      ...{
        name: 'missing route',
        make: 'ip -n box route del default 2>/dev/null || true',
        mend: `node ${repo}/dist/tsnet.js reconcile`,
      },
      ...{ from: 'box', to: addresses.beyond4 },
      cause: /^it has no route to 203\.0\.113\.1$/,
      fix: /reconcile/,
    }),
    () => ({
      ...{
        name: 'wrong MTU',
        make: `ip link set ${of('shop', 'hostLink')} mtu 1400`,
        mend: `ip link set ${of('shop', 'hostLink')} mtu 1500`,
      },
      ...{ from: 'box', to: 'shop' },
      cause: /has MTU 1400 instead of 1500: larger packets vanish there/,
      fix: /^ip link set \S+ mtu 1500$/,
    }),
    () => ({
      name: 'stale FDB entry',
      make: `bridge fdb replace ${of('shop', 'mac')} dev ${of('box', 'hostLink')} master static sticky`,
      mend: `bridge fdb del ${of('shop', 'mac')} dev ${of('box', 'hostLink')} master 2>/dev/null || true`,
      ...{ from: 'box', to: 'shop' },
      cause: /a stale forwarding entry \(FDB\) of br-\w+ sends frames for \S+, which is shop, to \S+ instead of/,
      fix: /^bridge fdb delete /,
    }),
    () => ({
      ...{ name: 'port not published, by its own address', from: outside, to: 'far:80' },
      cause: /^port 80\/tcp of far is not published/,
      fix: /^tsnet publish add far 80:80$/,
    }),
    () => ({
      ...{ name: 'port not published, at the host', from: outside, to: 'host:9999' },
      cause: /^port 9999\/tcp of the host is not published, and no program listens there$/,
      fix: /^tsnet publish add /,
    }),
    () => ({
      ...{ name: 'icc=false', from: 'one', to: 'two' },
      cause: /^network apart has icc=false/,
    }),
    () => ({
      ...{ name: 'internal network', from: 'kept', to: addresses.beyond4 },
      cause: /^network inner is internal: nothing leaves it/,
    }),
    () => ({
      ...{ name: 'down link', make: 'ip -n shop link set eth0 down', mend: reconcile },
      ...{ from: 'box', to: 'shop' },
      cause: /^its link eth0 is down$/,
      fix: /^tsnet reconcile$/,
    }),
    () => ({
      name: 'down link on the host',
      make: `ip link set ${of('shop', 'hostLink')} down`,
      mend: `ip link set ${of('shop', 'hostLink')} up`,
      ...{ from: 'box', to: 'shop' },
      cause: /the host's end of the cable of shop, is down$/,
    }),
    () => ({
      name: 'duplicate address',
      make: `ip netns add twin 2>/dev/null || exit 0; ip link add twin0 type veth peer name eth0 netns twin; ip link set twin0 master ${bridgeOf('shop')} up; ip -n twin link set eth0 up; ip -n twin addr add 10.30.0.3/24 dev eth0`,
      mend: 'ip link del twin0; ip netns del twin; ip -n box neigh flush all; ip neigh flush all',
      ...{ from: 'box', to: 'shop' },
      cause:
        /^10\.30\.0\.3 is taken twice on network lab: besides shop \(\S+\), something behind twin0 \(\S+\) answers for it$/,
      fix: /^ip link show twin0/,
    }),
    () => ({
      ...{ name: 'source list', from: outside, to: 'host:8081' },
      cause: /^port 8081\/tcp of the host is published for 192\.0\.2\.0\/24 only, and 198\.51\.100\.1 is not in there$/,
      fix: /--from 198\.51\.100\.1/,
      well: ['192.0.2.9', 'host:8081'],
    }),
    () => ({
      ...{ name: 'source list, from a sandbox', from: 'far', to: 'host:8081' },
      cause: /published for 192\.0\.2\.0\/24 only, and 10\.31\.0\.2 is not in there$/,
    }),
    () => ({
      ...{ name: 'other network', from: 'box', to: 'far' },
      cause: /^box is on network lab and far on network web: networks are kept apart$/,
      fix: /^tsnet connect web box$/,
    }),
    () => ({
      ...{ name: 'nobody listens', from: 'box', to: 'shop:81' },
      cause: /^the way is free, but nothing in shop listens on port 81\/tcp$/,
    }),
    () => ({
      ...{ name: 'port not published, of a routed network', from: outside, to: 'srv:81' },
      cause:
        /^its gateway mode is routed, so srv is reached at its own address, but port 81\/tcp of it is not published$/,
    }),
    () => ({
      ...{ name: 'a host and the macvlans on its link', from: 'mac', to: 'host:80' },
      cause:
        /^mac is on network lan, and the host, \S+, and the macvlans on a link of its own do not reach each other$/,
      fix: /host_access=true/,
    }),
    () => ({
      ...{ name: 'macvlan, mode=private', from: 'loner', to: 'hermit' },
      cause: /^network shy has mode=private: its endpoints reach nobody who is on uplink0 as well$/,
    }),
    () => ({
      ...{ name: 'from a LAN to another network', from: 'mac', to: 'box:80' },
      cause: /^mac is on network lan and box on network lab: networks are kept apart$/,
      fix: /^tsnet connect lab mac$/,
    }),
    () => ({
      ...{ name: 'SCTP port not published', from: 'box', to: 'host:8133/sctp' },
      cause: /^port 8133\/sctp of the host is not published/,
    }),
    () => ({
      ...{ name: 'nobody listens, UDP', from: 'box', to: 'shop:81/udp' },
      cause: /^the way is free, but nothing in shop listens on port 81\/udp$/,
    }),
    () => ({ name: 'nobody of that name', from: 'box', to: 'shpo', cause: /is called shpo$/ }),
  ]
  // by number, since what a fault is can be told only when the host runs
  test.each(faults.map((fault, i) => [i + 1, fault] as const))('fault %i', async (_i, fault) => {
    await count.judge(host, fault())
  })

  test('the command says the cause in one sentence and what to do, exit code 1', () => {
    const { status, stdout } = host.tryTsnet('explain', 'box', 'far')
    expect(stdout).toMatch(
      /\n✗ box does not reach far: box is on network lab .*: networks are kept apart\n {2}what to do: tsnet connect web box\n$/,
    )
    expect(status).toBe(1)
    expect(host.tryTsnet('explain', 'box', 'far:80:80').stderr).toMatch(/^tsnet: "far:80:80" is not NAME, NAME:PORT/)
  })
})
