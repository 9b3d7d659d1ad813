import { routes } from '../../src/api/routes.js'
import { methods } from '../../src/plugin-api/methods.js'

// A right request for every row of both doors' tables, to be made wrong.

const port = { first: 8080, last: 8081 }
const published = { protocol: 'tcp', hostIp: '127.0.0.1', hostPort: port, containerPort: port, from: ['10.0.0.0/8'] }
const bodies: Record<string, object> = {
  'POST /v1/networks': {
    name: 'lab',
    driver: 'bridge',
    subnets: ['10.30.0.0/24', 'fd00:30::/64'],
    ipRanges: ['10.30.0.128/25'],
    gateways: ['10.30.0.1'],
    auxAddresses: { printer: '10.30.0.200' },
    ipv6: true,
    internal: false,
    options: { mtu: '1400' },
    labels: { a: 'b' },
  },
  'POST /v1/sandboxes': {
    name: 'box',
    ephemeral: true,
    dns: { servers: ['192.0.2.1'], search: ['example.org'] },
    hostname: 'box.example',
    extraHosts: [{ name: 'other', address: '192.0.2.2' }],
  },
  'POST /v1/networks/:ref/connect': {
    sandbox: 'box',
    ip: '10.30.0.130',
    mac: '02:42:0a:1e:00:02',
    ifname: 'eth0',
    aliases: ['web'],
    ports: [published],
    routes: [{ destination: '192.0.2.0/24', via: '10.30.0.9' }],
    options: { metric: '5', gw_priority: '1' },
  },
  'POST /v1/networks/:ref/disconnect': { sandbox: 'box', force: false },
  'POST /v1/endpoints/:ref/publish': { port: published, network: 'lab', replace: true },
  'POST /v1/endpoints/:ref/unpublish': { port: published, network: 'lab' },
  'POST /v1/networks/prune': {},
  'POST /v1/networks/:ref/verify': {},
  'POST /v1/reconcile': { dryRun: true },
  'DELETE /v1/hosts/:ref': { force: true },
}
const rows = routes.map(({ method, path, body }) => {
  const row = `${method.toUpperCase()} ${path}`
  return {
    method: method.toUpperCase(),
    path,
    body: bodies[row] ?? (body !== undefined && method !== 'get' ? {} : undefined),
  }
})
const withBody = rows.filter(({ body }) => body !== undefined)

/** Every row of the table of routes; bodies more often than paths, as there is more in them to be wrong. */
export const wholeApi = [
  ...rows,
  { method: 'GET', path: '/v1/nothing/:ref', body: undefined },
  ...withBody,
  ...withBody,
]

const NetworkID = 'a'.repeat(64)
const EndpointID = 'b'.repeat(64)
const portmap = [{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 }]
const network = {
  NetworkID,
  Options: {
    'com.docker.network.generic': { 'com.docker.network.driver.mtu': '1400' },
    'com.docker.network.enable_ipv6': false,
    'com.docker.network.internal': false,
  },
  IPv4Data: [
    {
      AddressSpace: 'LocalDefault',
      Pool: '10.40.0.0/24',
      Gateway: '10.40.0.1/24',
      AuxAddresses: { a: '10.40.0.9/24' },
    },
  ],
  IPv6Data: [],
}
const endpoint = {
  NetworkID,
  EndpointID,
  Interface: { Address: '10.40.0.2/24', AddressIPv6: '', MacAddress: '' },
  Options: { 'com.docker.network.portmap': portmap, 'com.docker.network.endpoint.macaddress': 'AkKsEwAC' },
}
const join = { ...endpoint, SandboxKey: '/var/run/docker/netns/0123456789ab' }
const special: Record<string, object> = {
  'NetworkDriver.CreateNetwork': network,
  'NetworkDriver.CreateEndpoint': endpoint,
  'NetworkDriver.Join': join,
  'IpamDriver.RequestPool': { AddressSpace: 'tsnet', Pool: '10.50.0.0/24', SubPool: '', Options: {}, V6: false },
  'IpamDriver.ReleasePool': { PoolID: 'p1' },
  'IpamDriver.RequestAddress': {
    PoolID: 'p1',
    Address: '10.50.0.7',
    Options: { RequestAddressType: 'com.docker.network.gateway' },
  },
  'IpamDriver.ReleaseAddress': { PoolID: 'p1', Address: '10.50.0.7' },
}

/** Every method, and what makes things more often than what takes them away, so that there is something to work on. */
export const wholePlugin: [method: string, whole: object][] = [
  ...[...methods.keys()].map((method): [string, object] => [method, special[method] ?? endpoint]),
  ...Object.entries(special),
  ...Object.entries(special),
  ['NetworkDriver.NoSuchMethod', {}],
]
