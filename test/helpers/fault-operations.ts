import type { Controller } from '../../src/cnm/controller.js'
import { parsePortSpec } from '../../src/ports/spec.js'
import { isLong } from './fault-sample.js'

/** One operation to be made to fail at each of its steps. */
export interface Operation {
  name: string
  /** what there has to be */
  before?: (controller: Controller) => Promise<unknown>
  run: (controller: Controller) => Promise<unknown>
  /** the way back from what `run` has done to what was before it */
  back: (controller: Controller) => Promise<unknown>
  /** the way back from `before` */
  after?: (controller: Controller) => Promise<unknown>
}

const dockerNetwork = 'd'.repeat(64)
const dockerEndpoint = 'e'.repeat(64)
const sandboxKey = '/proc/self/ns/net'
const ports = ['8080:80', '5353:53/udp', '127.0.0.1::443', '9000-9002:9000-9002'].map(parsePortSpec)
const live = parsePortSpec('8443:443')

const all =
  (...works: ((controller: Controller) => Promise<unknown>)[]) =>
  async (controller: Controller): Promise<void> => {
    for (const work of works) await work(controller)
  }

const box = (name: string) => `tst-flt-${name}-${process.pid}`
const makeBox = (name: string) => (c: Controller) => c.createSandbox({ name: box(name) })
const removeBox = (name: string) => (c: Controller) => c.deleteSandbox(box(name))

export interface Kind {
  /** what the tests call it */
  name: string
  driver: 'bridge' | 'overlay' | 'macvlan'
  subnets: string[]
  options: Record<string, string>
  publishes: boolean
  /** of what it does, only the long form tries what another kind does in the same way */
  isBrief?: boolean
}

export const kinds: Kind[] = [
  {
    ...{ name: 'bridge', driver: 'bridge', subnets: ['10.30.0.0/24', 'fd00:30::/64'], publishes: true },
    options: { icc: 'false' },
  },
  {
    ...{ name: 'overlay', driver: 'overlay', subnets: ['10.31.0.0/24', 'fd00:31::/64'], publishes: true },
    options: { flood: 'true', mtu: '1400' },
  },
  {
    ...{ name: 'macvlan with the host', driver: 'macvlan', subnets: ['10.32.0.0/24'], publishes: false },
    options: { parent: 'uplink0', host_access: 'true' },
  },
  {
    ...{
      name: 'macvlan without a parent',
      driver: 'macvlan',
      subnets: ['10.33.0.0/24', 'fd00:33::/64'],
      publishes: false,
    },
    options: {},
    isBrief: true,
  },
]

/** Everything that can be done with a network of a kind, by both doors. */
export function operationsOf(kind: Kind): Operation[] {
  const { driver, subnets, options, publishes } = kind
  const make = (c: Controller) => c.createNetwork({ name: 'lab', driver, subnets, options })
  const remove = (c: Controller) => c.deleteNetwork('lab')
  const given = publishes ? { ports } : {}
  const connect = (c: Controller) => c.connect('lab', box('a'), { ...given, aliases: ['web'] })
  const disconnect = (c: Controller) => c.disconnect('lab', box('a'))
  return [
    { name: 'network create', run: make, back: remove },
    { name: 'network rm', before: make, run: remove, back: make, after: remove },
    ...(driver === 'bridge' ? [{ name: 'sandbox create', run: makeBox('a'), back: removeBox('a') }] : []),
    {
      name: 'connect',
      before: all(make, makeBox('a')),
      run: connect,
      back: disconnect,
      after: all(removeBox('a'), remove),
    },
    {
      name: 'disconnect',
      before: all(make, makeBox('a'), connect),
      run: disconnect,
      back: connect,
      after: all(removeBox('a'), remove),
    },
    ...(publishes
      ? publishOperations(all(make, makeBox('a'), connect), all(removeBox('a'), remove), makeBox, removeBox)
      : []),
    ...(kind.isBrief && !isLong ? [] : dockerOperations(kind, make, remove)),
  ]
}

type Work = (controller: Controller) => Promise<unknown>

function publishOperations(
  before: Work,
  after: Work,
  makeOther: (name: string) => Work,
  removeOther: (name: string) => Work,
): Operation[] {
  const add = (c: Controller) => c.publish(box('a'), { port: live })
  const rm = (c: Controller) => c.unpublish(box('a'), { port: live })
  const connectOther = (c: Controller) => c.connect('lab', box('b'), {})
  const replace = (c: Controller) => c.publish(box('b'), { port: parsePortSpec('8080:81'), replace: true })
  const giveBack = (c: Controller) => c.publish(box('a'), { port: parsePortSpec('8080:80'), replace: true })
  return [
    { name: 'publish add', before, run: add, back: rm, after },
    { name: 'publish rm', before: all(before, add), run: rm, back: add, after },
    {
      name: 'publish add --replace',
      before: all(before, makeOther('b'), connectOther),
      run: replace,
      back: giveBack,
      after: all(removeOther('b'), after),
    },
  ]
}

/** By dockerd's door: a network of its own for drivers of one host, a network that is there for one of many. */
function dockerOperations({ driver, subnets, options, publishes }: Kind, make: Work, remove: Work): Operation[] {
  const global = driver === 'overlay'
  const pools = subnets.map(subnet => {
    const family = subnet.includes(':') ? (6 as const) : (4 as const)
    const gateway = family === 4 ? subnet.replace('.0/24', '.1/24') : subnet.replace('::/64', '::1/64')
    const host = subnet.replace('.0/24', '.9')
    const auxAddresses = options.host_access === 'true' ? { host } : {}
    return {
      family,
      subnet,
      assignedBy: 'docker' as const,
      auxAddresses,
      ...(driver === 'macvlan' ? {} : { gateway: gateway.replace(/\/.*/, '') }),
    }
  })
  const spec = {
    ...{ networkId: dockerNetwork, internal: false, ipv6: subnets.length > 1, pools },
    options: global ? { network: 'lab' } : { driver, ...options },
  }
  const create = (c: Controller) => c.docker.createNetwork(spec)
  const end = (c: Controller) => c.docker.deleteNetwork(dockerNetwork)
  const addresses = subnets.map(subnet => subnet.replace('.0/24', '.77/24').replace('::/64', '::77/64'))
  const endpoint = (c: Controller) =>
    c.docker.createEndpoint({
      networkId: dockerNetwork,
      endpointId: dockerEndpoint,
      addresses,
      mac: '02:42:0a:1e:00:4d',
    })
  const endEndpoint = (c: Controller) => c.docker.deleteEndpoint(dockerNetwork, dockerEndpoint)
  const join = (c: Controller) => c.docker.join(dockerNetwork, dockerEndpoint, sandboxKey)
  const leave = (c: Controller) => c.docker.leave(dockerNetwork, dockerEndpoint)
  const publish = (c: Controller) => c.docker.publish(dockerNetwork, dockerEndpoint, ports)
  const revoke = (c: Controller) => c.docker.revoke(dockerNetwork, dockerEndpoint)
  const network = global ? all(make, create) : create
  const noNetwork = global ? all(end, remove) : end
  const there = { after: noNetwork, before: network }
  const joined = { before: all(network, endpoint, join), after: all(endEndpoint, noNetwork) }
  return [
    { name: 'CreateNetwork', run: create, back: end, ...(global && { before: make, after: remove }) },
    { name: 'DeleteNetwork', before: network, run: end, back: create, after: noNetwork },
    ...(global ? [] : bindOperations(spec, make, remove)),
    { name: 'CreateEndpoint', ...there, run: endpoint, back: endEndpoint },
    {
      name: 'DeleteEndpoint',
      before: all(network, endpoint, join, leave),
      run: endEndpoint,
      back: all(endpoint, join, leave),
      after: joined.after,
    },
    {
      name: 'Join',
      before: all(network, endpoint),
      run: join,
      back: all(leave, endEndpoint, endpoint),
      after: joined.after,
    },
    {
      name: 'Leave',
      ...joined,
      before: publishes ? all(joined.before, publish) : joined.before,
      run: leave,
      back: publishes ? all(join, publish) : join,
    },
    ...(publishes
      ? [
          { name: 'ProgramExternalConnectivity', ...joined, run: publish, back: revoke },
          {
            name: 'RevokeExternalConnectivity',
            ...joined,
            before: all(joined.before, publish),
            run: revoke,
            back: publish,
          },
        ]
      : []),
  ]
}

/** A Docker network that stands for one of ours, with a subnet of its own beside. */
function bindOperations(
  spec: Parameters<Controller['docker']['createNetwork']>[0],
  make: Work,
  remove: Work,
): Operation[] {
  const pools = [
    {
      family: 4 as const,
      subnet: '10.39.0.0/24',
      assignedBy: 'docker' as const,
      auxAddresses: { host: '10.39.0.9' },
      gateway: '10.39.0.1',
    },
  ]
  const bind = (c: Controller) => c.docker.createNetwork({ ...spec, options: { network: 'lab' }, pools })
  const unbind = (c: Controller) => c.docker.deleteNetwork(dockerNetwork)
  return [
    { name: 'CreateNetwork of network=lab', before: make, run: bind, back: unbind, after: remove },
    {
      name: 'DeleteNetwork of network=lab',
      before: all(make, bind),
      run: unbind,
      back: bind,
      after: all(unbind, remove),
    },
  ]
}
