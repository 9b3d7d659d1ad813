// A network plugin of Docker's that remembers and checks nothing: `node bare-plugin.mjs PATH`, one bridge for each network, one veth pair
// for each endpoint. What dockerd takes with it, it takes with any plugin that makes links.
import { mkdirSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname } from 'node:path'
import { text } from 'node:stream/consumers'
import { Kernel } from '../../dist/netlink/kernel.js'
import { currentNetns } from '../../dist/netlink/netns.js'
import { addressAdd, linkAdd } from '../../dist/netlink/requests.js'

const [path] = process.argv.slice(2)
const kernel = Kernel.open(currentNetns())
const networks = new Map()
const short = id => id.slice(0, 10)

const methods = {
  'Plugin.Activate': () => ({ Implements: ['NetworkDriver'] }),
  'NetworkDriver.GetCapabilities': () => ({ Scope: 'local', ConnectivityScope: 'local' }),
  'NetworkDriver.CreateNetwork': ({ NetworkID, IPv4Data: [{ Gateway }] }) => {
    const name = `bare${short(NetworkID)}`
    kernel.apply(linkAdd({ kind: 'bridge', name, up: true, bridge: { forwardDelay: 0, stpState: false } }))
    const { index } = kernel.link(name)
    kernel.apply(addressAdd({ index, address: Gateway, noDad: true }))
    networks.set(NetworkID, { index, gateway: Gateway.split('/')[0] })
  },
  'NetworkDriver.Join': ({ NetworkID, EndpointID }) => {
    const { index: master, gateway } = networks.get(NetworkID)
    const peer = { name: `bi${short(EndpointID)}` }
    kernel.apply(linkAdd({ kind: 'veth', name: `bo${short(EndpointID)}`, master, up: true, peer }))
    return { InterfaceName: { SrcName: peer.name, DstPrefix: 'eth' }, Gateway: gateway }
  },
  'NetworkDriver.EndpointOperInfo': () => ({ Value: {} }),
  'NetworkDriver.DeleteEndpoint': async ({ EndpointID }) => {
    await kernel.deleteLinks([`bo${short(EndpointID)}`], () => true)
  },
}

const server = createServer(async (request, response) => {
  const body = await text(request)
  const method = methods[request.url.slice(1)] ?? (() => ({}))
  response.setHeader('Content-Type', 'application/vnd.docker.plugins.v1.2+json')
  response.end(JSON.stringify((await method(body === '' ? {} : JSON.parse(body))) ?? {}))
})
server.keepAliveTimeout = 0
mkdirSync(dirname(path), { recursive: true })
server.listen(path)
