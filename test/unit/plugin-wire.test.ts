import { describe, expect, it } from 'vitest'
import { kindOf, messageOf } from '../../src/errors.js'
import * as wire from '../../src/plugin-api/wire.js'

const nid = 'a'.repeat(64)
const eid = 'b'.repeat(64)
const both = { NetworkID: nid, EndpointID: eid }

const parse = (schema: Parameters<typeof wire.parseRequest>[0], body: unknown): unknown =>
  wire.parseRequest(schema, Buffer.from(typeof body === 'string' ? body : `${JSON.stringify(body)}\n`))

function refusal(schema: Parameters<typeof wire.parseRequest>[0], body: unknown): string {
  try {
    parse(schema, body)
  } catch (error) {
    expect(kindOf(error)).toBe('InvalidParameter')
    return messageOf(error)
  }
  throw new Error('it was accepted')
}

describe('CreateNetwork', () => {
  const pool = { AddressSpace: 'LocalDefault', Pool: '172.19.0.0/16', Gateway: '172.19.0.1/16', AuxAddresses: {} }

  it('is read from 29, which sends both flags and an empty list', () => {
    const body = `{"NetworkID":"${nid}","Options":{"com.docker.network.enable_ipv4":true,"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{"k":"v"}},
      "IPv4Data":[{"AddressSpace":"LocalDefault","Gateway":"172.19.0.1/16","Pool":"172.19.0.0/16"}],"IPv6Data":[]}\n`
    expect(parse(wire.createNetwork, body)).toEqual({
      NetworkID: nid,
      Options: { user: { k: 'v' }, ipv6: false, internal: false },
      IPv4Data: [pool],
      IPv6Data: [],
    })
  })

  it('is read from 20.10, which sends null or nothing where there is nothing', () => {
    const options = { 'com.docker.network.generic': null, 'com.docker.network.enable_ipv6': true }
    const got = parse(wire.createNetwork, { NetworkID: nid, Options: options, IPv4Data: null })
    expect(got).toEqual({
      NetworkID: nid,
      Options: { user: {}, ipv6: true, internal: false },
      IPv4Data: [],
      IPv6Data: [],
    })
    const bare = { NetworkID: nid, Options: { user: {}, ipv6: false, internal: false }, IPv4Data: [], IPv6Data: [] }
    for (const Options of [null, {}, undefined])
      expect(parse(wire.createNetwork, { NetworkID: nid, Options })).toEqual(bare)
  })

  it.each([
    [true, true],
    ['true', true],
    ['True', true],
    ['1', true],
    [false, false],
    ['false', false],
    [null, false],
  ])('reads the flag %j as %j', (flag, want) => {
    const got = parse(wire.createNetwork, { NetworkID: nid, Options: { 'com.docker.network.internal': flag } })
    expect(got).toMatchObject({ Options: { internal: want } })
  })

  it('takes numbers and booleans among the options of the user as the text they were', () => {
    const options = { 'com.docker.network.generic': { mtu: 1400, icc: false, parent: 'eth0' } }
    expect(parse(wire.createNetwork, { NetworkID: nid, Options: options })).toMatchObject({
      Options: { user: { mtu: '1400', icc: 'false', parent: 'eth0' } },
    })
  })

  it('keeps auxiliary addresses and IPv6 pools', () => {
    const v6 = {
      AddressSpace: 'tsnet',
      Pool: 'fd00:20::/64',
      Gateway: 'fd00:20::1/64',
      AuxAddresses: { a: 'fd00:20::5/64' },
    }
    expect(parse(wire.createNetwork, { NetworkID: nid, IPv6Data: [v6] })).toMatchObject({ IPv6Data: [v6] })
  })

  it('gives every request its own empty options, so that one that is changed does not change the next', () => {
    const first = parse(wire.createNetwork, { NetworkID: nid }) as { Options: { user: Record<string, string> } }
    first.Options.user.left = 'over'
    expect(parse(wire.createNetwork, { NetworkID: nid })).toMatchObject({ Options: { user: {} } })
    expect(parse(wire.createNetwork, { NetworkID: nid })).not.toHaveProperty('Options.user.left')
  })

  it.each([
    [{ NetworkID: 'web' }, 'NetworkID must be 64 hex digits, not "web"'],
    [{ NetworkID: nid.toUpperCase() }, /^NetworkID must be 64 hex digits/],
    [{ NetworkID: `${nid}\n` }, /^NetworkID must be 64 hex digits/],
    [{ NetworkID: '../../etc/passwd' }, 'NetworkID must be 64 hex digits, not "../../etc/passwd"'],
    [{}, 'NetworkID must be an id, not nothing'],
    [{ NetworkID: 5 }, 'NetworkID must be an id, not 5'],
    [[], 'the body must be an object, not a list'],
    ['null', 'the body must be an object, not null'],
    ['"x"', 'the body must be an object, not "x"'],
    ['{"NetworkID":', 'the body is not JSON'],
    [{ NetworkID: nid, IPv4Data: {} }, 'IPv4Data must be a list, not an object'],
    [
      { NetworkID: nid, IPv4Data: [{ Pool: '10.0.0.0' }] },
      'IPv4Data.0.Pool must be an address with its prefix length, not "10.0.0.0"',
    ],
    [{ NetworkID: nid, IPv4Data: [{ Pool: '10.0.0.0/33' }] }, /^IPv4Data.0.Pool must be an address/],
    [{ NetworkID: nid, IPv4Data: [{ Pool: '10.0.0.0/-1' }] }, /^IPv4Data.0.Pool must be an address/],
    [{ NetworkID: nid, IPv6Data: [{ Pool: 'fe80::1%eth0/64' }] }, /^IPv6Data.0.Pool must be an address/],
    [{ NetworkID: nid, IPv4Data: [{ Gateway: '10.0.0.300/24' }] }, /^IPv4Data.0.Gateway must be an address/],
    [
      { NetworkID: nid, IPv4Data: [{ AuxAddresses: { a: '; rm -rf /' } }] },
      /^IPv4Data.0.AuxAddresses.a must be an address/,
    ],
    [{ NetworkID: nid, IPv4Data: Array(65).fill({}) }, 'IPv4Data must have at most 64 entries'],
    [{ NetworkID: nid, Options: 'x' }, 'Options must be an object, not "x"'],
    [
      { NetworkID: nid, Options: { 'com.docker.network.generic': { k: { deep: 1 } } } },
      /com.docker.network.generic.k must be text/,
    ],
    [{ NetworkID: nid, Options: { 'com.docker.network.generic': { k: 'x'.repeat(4097) } } }, /generic.k must be text/],
    [
      {
        NetworkID: nid,
        Options: { 'com.docker.network.generic': Object.fromEntries(Array.from({ length: 257 }, (_, i) => [i, ''])) },
      },
      /must have at most 256 entries$/,
    ],
    [
      { NetworkID: nid, Options: { 'com.docker.network.internal': 'perhaps' } },
      /internal must be true or false, not "perhaps"$/,
    ],
  ])('refuses bad input: row %#', (body, want) => {
    expect(refusal(wire.createNetwork, body)).toMatch(want)
  })

  it('does not let a key named __proto__ reach any prototype', () => {
    const body = `{"NetworkID":"${nid}","__proto__":{"evil":1},"Options":{"com.docker.network.generic":{"__proto__":"x","a":"b"}}}`
    const got = parse(wire.createNetwork, body) as { Options: { user: object } }
    expect(Object.entries(got.Options.user)).toEqual([['a', 'b']])
    expect(Object.getPrototypeOf(got.Options.user)).toBe(Object.prototype)
    expect(({} as Record<string, unknown>).evil).toBeUndefined()
  })
})

describe('CreateEndpoint', () => {
  it('is read from the sample of the protocol', () => {
    const body = {
      ...both,
      Interface: { Address: '172.19.0.2/16', AddressIPv6: '', MacAddress: '' },
      Options: {
        'com.docker.network.endpoint.exposedports': [{ Proto: 6, Port: 80 }],
        'com.docker.network.portmap': [{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 }],
      },
    }
    expect(parse(wire.createEndpoint, body)).toEqual({
      ...both,
      Interface: { Address: '172.19.0.2/16' },
      Options: {},
    })
  })

  it('reads the MAC in both its forms', () => {
    const options = { 'com.docker.network.endpoint.macaddress': 'AkKsEwAC' }
    const got = parse(wire.createEndpoint, {
      ...both,
      Interface: { MacAddress: '02:42:AC:13:00:02' },
      Options: options,
    })
    expect(got).toMatchObject({ Interface: { MacAddress: '02:42:ac:13:00:02' }, Options: { mac: '02:42:ac:13:00:02' } })
  })

  it.each([null, undefined, {}, { Address: '', AddressIPv6: '', MacAddress: '' }])(
    'takes %j for an endpoint without addresses',
    Interface => {
      expect(parse(wire.createEndpoint, { ...both, Interface, Options: null })).toEqual({
        ...both,
        Interface: {},
        Options: {},
      })
    },
  )

  it.each([
    [{ Interface: { MacAddress: '02:42' } }, 'Interface.MacAddress must be a MAC address, not "02:42"'],
    [
      { Interface: { Address: '10.0.0.2' } },
      'Interface.Address must be an address with its prefix length, not "10.0.0.2"',
    ],
    [{ EndpointID: '' }, 'EndpointID must be 64 hex digits, not ""'],
    [{ Options: { 'com.docker.network.endpoint.macaddress': '*' } }, /macaddress must be a MAC address, not "\*"$/],
  ])('refuses %j', (part, want) => {
    expect(refusal(wire.createEndpoint, { ...both, ...part })).toMatch(want)
  })
})

describe('Join, Program and Discover', () => {
  it('read a sandbox path and refuse what is none', () => {
    expect(parse(wire.join, { ...both, SandboxKey: '/var/run/docker/netns/0123456789ab', Options: null })).toEqual({
      ...both,
      SandboxKey: '/var/run/docker/netns/0123456789ab',
    })
    expect(refusal(wire.join, { ...both, SandboxKey: 'netns' })).toBe(
      'SandboxKey must be an absolute path, not "netns"',
    )
    expect(refusal(wire.join, { ...both, SandboxKey: '/a\0b' })).toMatch(/^SandboxKey must be an absolute path/)
  })

  it.each([{ 'com.docker.network.portmap': null }, { 'com.docker.network.portmap': [] }, {}, null, undefined])(
    'take %j for no ports',
    Options => {
      expect(parse(wire.programExternalConnectivity, { ...both, Options })).toEqual({ ...both, Options: { ports: [] } })
    },
  )

  it('read port mappings without the fields of other releases', () => {
    const portmap = [
      { Proto: 6, IP: '', Port: 80, HostIP: '127.0.0.1', HostPort: 8080, HostPortEnd: 8090, NewField: {} },
      { Proto: 17, Port: 53 },
    ]
    const got = parse(wire.programExternalConnectivity, { ...both, Options: { 'com.docker.network.portmap': portmap } })
    expect(got).toMatchObject({
      Options: {
        ports: [
          { Proto: 6, Port: 80, HostIP: '127.0.0.1', HostPort: 8080, HostPortEnd: 8090 },
          { Proto: 17, Port: 53, HostPort: 0, HostPortEnd: 0 },
        ],
      },
    })
  })

  it.each([
    [{ Proto: 6, Port: 65_536 }, /Port must be a port number, not 65536$/],
    [{ Proto: 6, Port: -1 }, /Port must be a port number, not -1$/],
    [{ Proto: 6, Port: 80.5 }, /Port must be a port number, not 80.5$/],
    [{ Proto: 'tcp', Port: 80 }, /Proto must be a protocol number, not "tcp"$/],
    [{ Proto: 6, Port: 80, HostIP: 'localhost' }, /HostIP must be an IP address, not "localhost"$/],
  ])('refuse the port mapping %j', (mapping, want) => {
    const Options = { 'com.docker.network.portmap': [mapping] }
    expect(refusal(wire.programExternalConnectivity, { ...both, Options })).toMatch(want)
  })

  it('accept whatever Swarm tells of its nodes', () => {
    expect(parse(wire.discover, { DiscoveryType: 1, DiscoveryData: { Address: '10.0.0.1', Self: true } })).toEqual({})
    expect(parse(wire.allocateNetwork, { NetworkID: 'x2tz9ukm0gxp7ioxgd5a6oz6j', Options: null })).toBeDefined()
  })
})

describe('IpamDriver', () => {
  it('reads RequestPool as 20.10 and as 29 send it', () => {
    const want = { AddressSpace: 'tsnet', Pool: undefined, SubPool: undefined, Options: {}, V6: false }
    const sample = { AddressSpace: 'tsnet', Pool: '', SubPool: '', Options: null, V6: false }
    expect(parse(wire.requestPool, sample)).toEqual(want)
    expect(parse(wire.requestPool, { AddressSpace: 'tsnet' })).toEqual(want)
  })

  it('reads what an address is wanted for', () => {
    const ask = (Options: object | null) => parse(wire.requestAddress, { PoolID: 'p1', Address: '', Options })
    expect(ask(null)).toEqual({ PoolID: 'p1', Options: { gateway: false } })
    expect(ask({ RequestAddressType: 'com.docker.network.gateway' })).toMatchObject({ Options: { gateway: true } })
    expect(ask({ 'com.docker.network.endpoint.name': 'web1', 'com.docker.network.ipam.serial': 'true' })).toMatchObject(
      {
        Options: { gateway: false, endpointName: 'web1' },
      },
    )
  })

  it.each([
    [wire.requestPool, { AddressSpace: 'tsnet', Pool: '10.0.0.0' }, /^Pool must be an address with/],
    [wire.requestAddress, { PoolID: '' }, 'PoolID must be the id of a pool, not ""'],
    [wire.requestAddress, { PoolID: 'p1', Address: '10.0.0.1/24' }, 'Address must be an IP address, not "10.0.0.1/24"'],
    [wire.releaseAddress, { PoolID: 'p1' }, 'Address must be an IP address, not nothing'],
    [wire.releasePool, { PoolID: 'x'.repeat(256) }, /^PoolID must be text of at most 255 characters/],
  ])('refuses bad input: row %#', (schema, body, want) => {
    expect(refusal(schema, body)).toMatch(want)
  })
})

describe('any body', () => {
  it.each(['', '\n', '  '])('that is empty (%j) is explained as the repetition that it is', body => {
    expect(refusal(wire.createNetwork, body)).toBe(
      'the connection broke before the answer was out, and the repeated request has no body: try again',
    )
  })

  it('that is nested a hundred thousand deep is refused like any other', () => {
    expect(refusal(wire.createNetwork, '['.repeat(100_000) + ']'.repeat(100_000))).toMatch(
      /^the body must be an object/,
    )
  })
})
