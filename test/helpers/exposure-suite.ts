import { beforeAll, expect, test } from 'vitest'
import { addresses } from './host.js'
import { cable } from './machine.js'
import { four, type ModesWorld, net4, net6, six } from './modes-world.js'

const { host4, host6, outside4, outside6, beyond4, beyond6 } = addresses
/** The machine outside is also a neighbour in a private network: .1 there, the host .2. */
const lan4 = '192.168.7.2'
const lan6 = 'fd00:7::2'

/** Where published ports are and who may come, and with which address traffic leaves. */
export function exposure(get: () => ModesWorld, ...daemonOptions: string[]): void {
  let world: ModesWorld
  beforeAll(() => {
    world = get()
    const { host } = world
    cable(host, 'lan0', host.outside, 'lan0')
    for (const [machine, last] of [
      [host, 2],
      [host.outside, 1],
    ] as const) {
      machine.run('ip', 'addr', 'add', `192.168.7.${last}/24`, 'dev', 'lan0')
      machine.run('ip', 'addr', 'add', `fd00:7::${last}/64`, 'dev', 'lan0', 'nodad')
    }
  })

  test('host_ipv4 and host_ipv6: traffic leaves with that address of the host', async () => {
    const { host } = world
    host.run('ip', 'addr', 'add', '198.51.100.77/24', 'dev', 'uplink0')
    host.run('ip', 'addr', 'add', '2001:db8:100::77/64', 'dev', 'uplink0', 'nodad')
    const options = { 'com.docker.network.host_ipv4': '198.51.100.77', host_ipv6: '2001:db8:100::77' }
    world.network('named', 36, options)
    await world.box('named1', 'named', '8085:80')
    world.expectPaths(host.sandbox('named1'), {
      [`tcp ${beyond4} 80`]: 'outside 198.51.100.77',
      [`tcp ${beyond6} 80`]: 'outside 2001:db8:100::77',
      [`tcp ${host4} 8085`]: `named1 ${four(36, 1)}`,
      [`tcp ${host4} 8080`]: `lab1 ${four(36)}`,
    })
    world.expectPaths(host.sandbox('lab1'), { [`tcp ${beyond4} 80`]: `outside ${host4}` })
    expect(world.refusal('network', 'create', 'x', '-o', 'host_ipv4=198.51.100.77', '-o', 'masquerade=false')).toMatch(
      /^2 tsnet: .*option host_ipv4 has no effect with masquerade=false$/,
    )
    world.settled()
  })

  test('trusted_interfaces: published ports are reached directly from there, those for the host alone too', async () => {
    const { host } = world
    world.network('kept', 37, { trusted_interfaces: 'lan0' })
    await world.box('kept1', 'kept', '127.0.0.1:8087:80', '[::1]:8087:80', '8001')
    const closed = { [`tcp ${four(37)} 80`]: 'nothing', [`tcp ${six(37)} 80`]: 'nothing' }
    world.expectPaths(host.outside, closed)
    world.expectPaths(host.sandbox('lab1'), closed)
    host.outside.run('ip', 'route', 'replace', net4(37), 'via', lan4)
    host.outside.run('ip', 'route', 'replace', net6(37), 'via', lan6)
    world.expectPaths(host.outside, {
      [`tcp ${four(37)} 80`]: 'kept1 192.168.7.1',
      [`tcp ${six(37)} 80`]: 'kept1 fd00:7::1',
      [`tcp ${four(37)} 8001`]: 'kept1 192.168.7.1',
      [`tcp ${four(37)} 8000`]: 'nothing',
      [`tcp ${four(30)} 80`]: 'nothing',
    })
    // two ports of the host lead to one of the endpoint: the first to go leaves it open
    world.publish('kept1', '8090:80')
    world.unpublish('kept1', '127.0.0.1:8087:80')
    world.expectPaths(host.outside, { [`tcp ${four(37)} 80`]: 'kept1 192.168.7.1' })
    world.publish('lab1', '8090:80', { replace: true })
    world.expectPaths(host.outside, { [`tcp ${four(37)} 80`]: 'nothing' })
    world.settled()
    world.unpublish('lab1', '8090:80')
  })

  test('publish_default=lan: at private addresses and for the host itself', async () => {
    const { host } = world
    world.network('home', 38, { publish_default: 'lan' })
    await world.box('home1', 'home', '8086:80')
    expect(world.bindings('home1')).toEqual([
      `${lan4}:8086->80/tcp`,
      '127.0.0.1:8086->80/tcp',
      `[${lan6}]:8086->80/tcp`,
      '[::1]:8086->80/tcp',
    ])
    world.expectPaths(host.outside, {
      [`tcp ${lan4} 8086`]: 'home1 192.168.7.1',
      [`tcp ${lan6} 8086`]: 'home1 fd00:7::1',
      [`tcp ${host4} 8086`]: 'nothing',
      [`tcp ${host6} 8086`]: 'nothing',
    })
    const self = { 'tcp 127.0.0.1 8086': `home1 ${four(38, 1)}`, 'tcp ::1 8086': `home1 ${six(38, 1)}` }
    world.expectPaths(host, self)
    world.publish('home1', '0.0.0.0:8091:80')
    world.expectPaths(host.outside, { [`tcp ${host4} 8091`]: `home1 ${outside4}` })
    expect(
      world.refusal('network', 'create', 'x', '-o', 'publish_default=lan', '-o', 'host_binding=127.0.0.1'),
    ).toMatch(/^2 tsnet: .*option publish_default=lan has no effect beside host_binding=127.0.0.1$/)
  })

  test('from: clients of all published ports of a network, unless one has its own', async () => {
    const { host } = world
    world.network('some', 39, { from: '198.51.100.0/24,192.0.2.7' })
    await world.box('some1', 'some', '8088:80')
    world.publish('some1', '8089:80', { from: ['::/0'] })
    world.expectPaths(host.outside, {
      [`tcp ${host4} 8088`]: `some1 ${outside4}`,
      [`tcp ${host6} 8088`]: 'nothing',
      [`tcp ${lan4} 8088`]: 'nothing',
      [`tcp ${host4} 8089`]: 'nothing',
      [`tcp ${host6} 8089`]: `some1 ${outside6}`,
    })
    world.expectPaths(host.sandbox('lab1'), { [`tcp ${host4} 8088`]: 'nothing' })
    world.expectPaths(host, { [`tcp ${host4} 8088`]: `some1 ${host4}` })
  })

  test('--publish-default of the daemon is for networks that do not say it themselves', async () => {
    const { host } = world
    await host.stopTsnet()
    await host.startTsnet(...daemonOptions, '--publish-default', 'loopback')
    world.publish('lab1', '8092:80')
    world.publish('home1', '8093:80')
    expect(world.bindings('lab1').slice(2)).toEqual(['127.0.0.1:8092->80/tcp', '[::1]:8092->80/tcp'])
    world.expectPaths(host.outside, {
      [`tcp ${host4} 8080`]: `lab1 ${outside4}`,
      [`tcp ${host4} 8092`]: 'nothing',
      [`tcp ${lan4} 8093`]: 'home1 192.168.7.1',
    })
    world.expectPaths(host, { 'tcp 127.0.0.1 8092': `lab1 ${four(30, 1)}` })
    world.settled()
  })
}
