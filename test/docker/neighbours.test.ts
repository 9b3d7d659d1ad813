import { afterAll, beforeAll, expect, test } from 'vitest'
import { removeAll, runContainer } from '../helpers/docker.js'
import { addresses, Host } from '../helpers/host.js'
import { ask, isClosed } from '../helpers/vantage.js'

// Docker's own bridge beside a network of ours: our rules must not open what Docker keeps closed.

let host: Host

beforeAll(async () => {
  host = await Host.startWithDocker()
  host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24')
  host.tsnet('sandbox', 'create', 'box')
  host.tsnet('connect', 'lab', 'box')
})
afterAll(async () => {
  if (host) removeAll(host)
  await host?.stop()
})

const addressOf = (container: string, network: string): string =>
  JSON.parse(host.docker('inspect', container))[0].NetworkSettings.Networks[network].IPAddress

test("a sandbox reaches what Docker's bridge publishes, by the host's address, and nothing else on it", async () => {
  await runContainer(host, 'shop', 'bridge', '-p', '8081:80')
  await runContainer(host, 'back', 'bridge')
  expect(ask(host.sandbox('box'), 'tcp', addresses.host4, 8081)?.name).toBe('shop')
  expect(ask(host, 'tcp', addressOf('back', 'bridge'), 80)?.name).toBe('back')
  expect(isClosed(host.sandbox('box'), 'tcp', addressOf('back', 'bridge'), 80)).toBe(true)
})

// A network that Docker makes while we run is seen by its link, not at the next look at other firewalls.
test('nor anything on a network that Docker makes later', async () => {
  host.docker('network', 'create', 'later')
  await runContainer(host, 'late', 'later')
  const address = addressOf('late', 'later')
  expect(ask(host, 'tcp', address, 80)?.name).toBe('late')
  expect(isClosed(host.sandbox('box'), 'tcp', address, 80)).toBe(true)
})
