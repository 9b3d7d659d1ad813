import { describe, expect, it } from 'vitest'
import type { PortSpec } from '../../src/cnm/types.js'
import { formatBinding, formatPortSpec, parsePortSpec } from '../../src/ports/spec.js'

const one = (port: number) => ({ first: port, last: port })
const range = (first: number, last: number) => ({ first, last })

describe('a port spec', () => {
  const good: [string, PortSpec][] = [
    ['80', { protocol: 'tcp', containerPort: one(80) }],
    ['80/udp', { protocol: 'udp', containerPort: one(80) }],
    ['8080:80', { protocol: 'tcp', hostPort: one(8080), containerPort: one(80) }],
    ['53:53/udp', { protocol: 'udp', hostPort: one(53), containerPort: one(53) }],
    ['7000/sctp', { protocol: 'sctp', containerPort: one(7000) }],
    ['9000-9002', { protocol: 'tcp', containerPort: range(9000, 9002) }],
    ['9000-9002:8000-8002', { protocol: 'tcp', hostPort: range(9000, 9002), containerPort: range(8000, 8002) }],
    ['9000-9002:80', { protocol: 'tcp', hostPort: range(9000, 9002), containerPort: one(80) }],
    ['127.0.0.1:8081:80', { protocol: 'tcp', hostIp: '127.0.0.1', hostPort: one(8081), containerPort: one(80) }],
    ['127.0.0.1::80', { protocol: 'tcp', hostIp: '127.0.0.1', containerPort: one(80) }],
    ['0.0.0.0:80:80', { protocol: 'tcp', hostIp: '0.0.0.0', hostPort: one(80), containerPort: one(80) }],
    ['[::]:80:80', { protocol: 'tcp', hostIp: '::', hostPort: one(80), containerPort: one(80) }],
    ['[::1]::80/udp', { protocol: 'udp', hostIp: '::1', containerPort: one(80) }],
    [
      '[FD00:0:0::01]:1-2:3-4',
      { protocol: 'tcp', hostIp: 'fd00::1', hostPort: range(1, 2), containerPort: range(3, 4) },
    ],
    [':80', { protocol: 'tcp', containerPort: one(80) }],
    ['::80', { protocol: 'tcp', containerPort: one(80) }],
    [':8080:80', { protocol: 'tcp', hostPort: one(8080), containerPort: one(80) }],
  ]
  it.each(good)('%s is read', (text, want) => {
    expect(parsePortSpec(text)).toEqual(want)
  })

  const bad: [string, string][] = [
    ['', 'write [ip:][hostPort:]containerPort[/protocol], with an IPv6 address in brackets'],
    ['80/icmp', 'the protocol is one of tcp, udp, sctp, after one slash: 80/udp'],
    ['80/tcp/udp', 'the protocol is one of tcp, udp, sctp, after one slash: 80/udp'],
    ['80/TCP', 'the protocol is one of tcp, udp, sctp, after one slash: 80/udp'],
    ['0', '"0" is no port: a number from 1 to 65535, or a range FIRST-LAST of them'],
    ['65536', '"65536" is no port: a number from 1 to 65535, or a range FIRST-LAST of them'],
    ['8080:web', '"web" is no port: a number from 1 to 65535, or a range FIRST-LAST of them'],
    ['-80', '"-80" is no port: a number from 1 to 65535, or a range FIRST-LAST of them'],
    ['90-80', 'the range 90-80 ends before it begins'],
    ['8000-8001:80-82', '2 host ports for 3 container ports: ranges must be equally long'],
    ['8000:80-82', '1 host ports for 3 container ports: ranges must be equally long'],
    ['localhost:8080:80', '"localhost" is no address of the host (IPv4, or IPv6 in brackets)'],
    ['1.2.3:8080:80', '"1.2.3" is no address of the host (IPv4, or IPv6 in brackets)'],
    ['[1.2.3.4]:8080:80', '"1.2.3.4" is no address of the host (IPv4, or IPv6 in brackets)'],
    ['[fe80::1%eth0]:80:80', '"fe80::1%eth0" is no address of the host (IPv4, or IPv6 in brackets)'],
    ['[::ffff:1.2.3.4]:80:80', '"::ffff:1.2.3.4" is no address of the host (IPv4, or IPv6 in brackets)'],
    ['[fd00::1]:80', 'write [fd00::1]::80 for a free port of that address'],
    ['fd00::1:8080:80', 'write [ip:][hostPort:]containerPort[/protocol], with an IPv6 address in brackets'],
    ['[fd00::1:80:80', 'write [ip:][hostPort:]containerPort[/protocol], with an IPv6 address in brackets'],
  ]
  it.each(bad)('%s is refused: %s', (text, why) => {
    expect(() => parsePortSpec(text)).toThrow(`port ${JSON.stringify(text)}: ${why}`)
  })

  it.each(['80', '80/udp', '8080:80', '9000-9002:80', '127.0.0.1:8081:80', '127.0.0.1::80/sctp', '[::]:80:80'])(
    '%s is written as it was read',
    text => {
      expect(formatPortSpec(parsePortSpec(text))).toBe(text)
    },
  )
})

describe('a binding', () => {
  const binding = {
    protocol: 'tcp',
    hostIp: '0.0.0.0',
    hostPort: 8080,
    containerIp: '10.0.0.2',
    containerPort: 80,
    size: 1,
  } as const
  it.each([
    [binding, '0.0.0.0:8080->80/tcp'],
    [{ ...binding, hostIp: '::', size: 3, protocol: 'udp' as const }, '[::]:8080-8082->80-82/udp'],
  ])('is shown as docker ps does: %#', (given, want) => {
    expect(formatBinding(given)).toBe(want)
  })
})
