import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { EndpointView } from '../../src/cnm/specs.js'
import { removeAll, removeContainers, runContainer } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { until } from '../helpers/machine.js'
import { eachLeavesAsFound } from '../helpers/tidy-host.js'
import { ask, isClosed, untilServed } from '../helpers/vantage.js'

// `tsnet publish` for Docker's containers, which know nothing of it.

const { host4 } = addresses
let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
})
afterAll(() => host?.stop())

eachLeavesAsFound(
  () => host,
  () => removeAll(host),
)
beforeEach(async () => {
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.20.0.0/24', 'web')
  await runContainer(host, 'shop', 'web', '-p', '8080:80')
  await until('its name to be known', () => endpoint('shop'))
})

const endpoint = (name: string) => host.tsnetJson<EndpointView[]>('ps').find(candidate => candidate.name === name)
const specs = (name: string) => endpoint(name)?.bindings.map(({ spec, live }) => `${spec}${live ? ' live' : ''}`) ?? []
const restart = async (...verbs: string[]) => {
  for (const verb of verbs) host.docker(verb, 'shop')
  await untilServed(host.container('shop'), 'shop', ['80/tcp'])
}

test("a container's ports are published while it runs, by its name or id, beside those of docker run -p", () => {
  host.tsnet('publish', 'add', 'shop', '8081:80')
  const id = host.docker('inspect', '-f', '{{.Id}}', 'shop')
  host.tsnet('publish', 'add', id, '127.0.0.1:8082:80')
  expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('shop')
  expect(ask(host.outside, 'tcp', host4, 8081)?.name).toBe('shop')
  expect(ask(host, 'tcp', '127.0.0.1', 8082)?.name).toBe('shop')
  expect(isClosed(host.outside, 'tcp', host4, 8082)).toBe(true)
  host.tsnet('publish', 'rm', 'shop', '8081:80')
  expect(isClosed(host.outside, 'tcp', host4, 8081)).toBe(true)
})

test('they come back with the container, its lists of clients too, until they are removed', async () => {
  host.tsnet('publish', 'add', 'shop', '8081:80')
  host.tsnet('publish', 'add', 'shop', '8082:80', '--from', '203.0.113.0/24')
  for (const verbs of [['restart'], ['stop', 'start'], ['kill', 'start']]) {
    await restart(...verbs)
    await until(
      'the ports to be published again',
      () => specs('shop').filter(spec => spec.endsWith('live')).length === 4,
    )
    expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('shop')
    expect(ask(host.outside, 'tcp', host4, 8081)?.name).toBe('shop')
    expect(isClosed(host.outside, 'tcp', host4, 8082)).toBe(true)
  }
  host.tsnet('publish', 'rm', 'shop', '8082:80')
  host.docker('stop', 'shop')
  // nothing is attached now, but the container may start again
  host.tsnet('publish', 'rm', 'shop', '8081:80')
  await restart('start')
  expect(specs('shop')).toEqual(['8080:80', '8080:80'])
})

test('they follow the container to a new name', async () => {
  host.tsnet('publish', 'add', 'shop', '8081:80')
  host.docker('rename', 'shop', 'store')
  await until('the new name to be known', () => endpoint('store'))
  host.docker('restart', '-t', '0', 'store')
  await until('the port to be published again', () => specs('store').includes('8081:80 live'))
  host.docker('rename', 'store', 'shop')
  await until('the new name to be known', () => endpoint('shop'))
})

test('a container removed and made anew has only what it asks for', async () => {
  host.tsnet('publish', 'add', 'shop', '8081:80')
  removeContainers(host, 'shop')
  await runContainer(host, 'shop', 'web')
  await until('its name to be known', () => endpoint('shop'))
  // until dockerd has told what there is once more
  await host.stopTsnet()
  await host.startTsnet()
  expect(specs('shop')).toEqual([])
})

test('--replace moves a port from one container to another', async () => {
  await runContainer(host, 'green', 'web')
  await until('its name to be known', () => endpoint('green'))
  host.tsnet('publish', 'add', 'green', '8080:80', '--replace')
  expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('green')
  expect(specs('shop')).toEqual([])
})
