import { describe, expect, test } from 'vitest'
import { parseDockerEndpointOptions, parseEndpointOptions } from '../../src/cnm/endpoint-options.js'

describe('options of an attachment', () => {
  test('are nothing when none is given, and all there is when one is', () => {
    expect(parseEndpointOptions({})).toBeUndefined()
    expect(parseEndpointOptions({ gw_priority: '-3' })).toEqual({
      gw_priority: -3,
      metric: 0,
      sysctls: {},
      neighbours: [],
      anti_spoof: true,
      extra_addresses: [],
    })
  })

  test('take extra addresses of all kinds, written the one way, single ones as subnets of one', () => {
    const text = '10.30.0.9, 10.99.0.0/16,FD00:0::9,00-00-5E-00-01-07,fd00:9::/64'
    const want = ['10.30.0.9/32', '10.99.0.0/16', 'fd00::9/128', '00:00:5e:00:01:07', 'fd00:9::/64']
    expect(parseEndpointOptions({ extra_addresses: text })?.extra_addresses).toEqual(want)
    expect(parseDockerEndpointOptions({ anti_spoof: 'false' })?.anti_spoof).toBe(false)
  })

  test("take Docker's name and form of the settings of an interface", () => {
    const text =
      'net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.IFNAME.retrans_time_ms=500,net.mpls.conf.IFNAME.input=1'
    const want = {
      'net.ipv4.conf.IFNAME.log_martians': '1',
      'net.ipv6.neigh.IFNAME.retrans_time_ms': '500',
      'net.mpls.conf.IFNAME.input': '1',
    }
    expect(parseEndpointOptions({ sysctls: text })?.sysctls).toEqual(want)
    expect(parseDockerEndpointOptions({ 'com.docker.network.endpoint.sysctls': text })?.sysctls).toEqual(want)
  })

  test('take neighbours of both families, written the one way', () => {
    expect(
      parseEndpointOptions({ neighbours: '10.30.0.9=02-00-00-00-00-09, FD00:0::9=02:00:00:00:00:AA' })?.neighbours,
    ).toEqual([
      { address: '10.30.0.9', mac: '02:00:00:00:00:09' },
      { address: 'fd00::9', mac: '02:00:00:00:00:aa' },
    ])
  })

  test.each([
    [{ gw_prioriti: '1' }, 'unknown option gw_prioriti for an attachment (did you mean gw_priority?)'],
    [{ extra_addresses: '10.0.0.1/8' }, 'extra address 10.0.0.1/8 has host bits set; it should be 10.0.0.0/8'],
    [{ extra_addresses: 'box' }, 'extra address "box" is not an IP address'],
    [{ gw_priority: 'high' }, 'option gw_priority=high must be a whole number, at most ten digits long'],
    [{ metric: '-1' }, 'option metric=-1 must be a whole number from 0 to 2147483647'],
    [{ sysctls: 'net.ipv4.ip_forward=1' }, 'may set what belongs to the interface alone'],
    [{ sysctls: 'net.ipv4.conf.eth0.rp_filter=1' }, 'with the word IFNAME in it'],
    [{ sysctls: 'net.ipv4.conf.all.rp_filter=1' }, 'not net.ipv4.conf.all.rp_filter'],
    [{ sysctls: 'net.ipv4.conf.IFNAME/../../../kernel.core_pattern=1' }, 'belongs to the interface alone'],
    [{ sysctls: 'kernel.pid_max=9' }, 'belongs to the interface alone'],
    [{ sysctls: 'net.ipv6.conf.IFNAME.disable_ipv6=1' }, 'follows from the addresses'],
    [{ sysctls: 'net.ipv4.conf.IFNAME.rp_filter=no' }, 'must give net.ipv4.conf.IFNAME.rp_filter a number, not "no"'],
    [{ sysctls: 'net.ipv4.conf.IFNAME.rp_filter' }, 'must be NAME=VALUE'],
    [{ neighbours: '10.30.0=02:00:00:00:00:09' }, 'neighbour "10.30.0" is not an IP address'],
    [{ neighbours: '10.30.0.9=01:00:00:00:00:09' }, 'multicast'],
  ])('%j is refused with the rule', (raw, message) => {
    expect(() => parseEndpointOptions(raw as unknown as Record<string, string>)).toThrow(message)
  })

  test.each([
    [
      { gw_priority: '1' },
      'option gw_priority has no effect on a container: docker run --network name=NAME,gw-priority=N',
    ],
    [
      { metric: '1' },
      'option metric has no effect on a container: dockerd gives the routes of its containers no metric',
    ],
  ])('%j is refused for a container, where dockerd decides', (raw, message) => {
    expect(() => parseDockerEndpointOptions(raw as unknown as Record<string, string>)).toThrow(message)
  })
})
