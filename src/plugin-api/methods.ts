import type { z } from 'zod'
import type { DockerDoor } from '../cnm/cnm.js'
import { invalid } from '../errors.js'
import {
  addressRequestOf,
  addressSpace,
  createEndpointAnswer,
  endpointSpecOf,
  joinAnswer,
  networkSpecOf,
  poolAnswer,
  poolRequestOf,
  portSpecsOf,
} from './translate.js'
import * as wire from './wire.js'
import { parseRequest } from './wire.js'

/** A call whose arguments have been read: what it is about, and how to do it. */
export interface Call {
  request: object
  run(docker: DockerDoor): object | Promise<object>
}

/** Reads the arguments from the body; throws InvalidParameter if they break a rule. */
export type Method = (body: Buffer) => Call

const method =
  <S extends z.ZodType<object>>(
    schema: S,
    handle: (request: z.output<S>, docker: DockerDoor) => object | Promise<object>,
  ): Method =>
  body => {
    const request = parseRequest(schema, body)
    return { request, run: docker => handle(request, docker) }
  }

/** dockerd sends no body where there are no arguments. */
const constant =
  (answer: object): Method =>
  () => ({ request: {}, run: () => answer })

/** For what is done by doing it: the answer carries nothing. */
const nothing = () => ({})

/**
 * Scope and ConnectivityScope are about Swarm: `global` would have dockerd 20.10 look for a key-value store that it no
 * longer has, and hand networks to the Swarm manager. Hosts that share a network find each other through our own store,
 * so DiscoverNew has nothing to tell us either. GwAllocChecker: on a LAN the gateway is
 * somebody else's, so dockerd (28 and later) must not make one up.
 */
const networkCapabilities = { Scope: 'local', ConnectivityScope: 'local', GwAllocChecker: true }

/** No replay: our pools and addresses are stored. No MAC: no address depends on it, and dockerd would choose it. */
const ipamCapabilities = { RequiresMACAddress: false, RequiresRequestReplay: false }

/** Every method that dockerd may call, with the shape of its arguments and what is done. */
const table: Record<string, Method> = {
  'Plugin.Activate': constant({ Implements: ['NetworkDriver', 'IpamDriver'] }),

  'NetworkDriver.GetCapabilities': constant(networkCapabilities),
  'NetworkDriver.GwAllocCheck': method(wire.gwAllocCheck, ({ Options }, docker) => {
    const skip = docker.skipsGateway(Options.user, Options.internal)
    return { SkipIPv4: skip[4], SkipIPv6: skip[6] }
  }),
  'NetworkDriver.AllocateNetwork': method(wire.allocateNetwork, nothing),
  'NetworkDriver.FreeNetwork': method(wire.freeNetwork, nothing),
  'NetworkDriver.CreateNetwork': method(wire.createNetwork, (request, docker) =>
    docker.createNetwork(networkSpecOf(request)).then(nothing),
  ),
  'NetworkDriver.DeleteNetwork': method(wire.deleteNetwork, ({ NetworkID }, docker) =>
    docker.deleteNetwork(NetworkID).then(nothing),
  ),
  'NetworkDriver.CreateEndpoint': method(wire.createEndpoint, async (request, docker) =>
    createEndpointAnswer(request, await docker.createEndpoint(endpointSpecOf(request))),
  ),
  'NetworkDriver.EndpointOperInfo': method(wire.endpointOperInfo, () => ({ Value: {} })),
  'NetworkDriver.DeleteEndpoint': method(wire.deleteEndpoint, ({ NetworkID, EndpointID }, docker) =>
    docker.deleteEndpoint(NetworkID, EndpointID).then(nothing),
  ),
  'NetworkDriver.Join': method(wire.join, async ({ NetworkID, EndpointID, SandboxKey }, docker) =>
    joinAnswer(await docker.join(NetworkID, EndpointID, SandboxKey)),
  ),
  'NetworkDriver.Leave': method(wire.leave, ({ NetworkID, EndpointID }, docker) =>
    docker.leave(NetworkID, EndpointID).then(nothing),
  ),
  'NetworkDriver.ProgramExternalConnectivity': method(wire.programExternalConnectivity, (request, docker) =>
    docker.publish(request.NetworkID, request.EndpointID, portSpecsOf(request.Options.ports)).then(nothing),
  ),
  'NetworkDriver.RevokeExternalConnectivity': method(
    wire.revokeExternalConnectivity,
    ({ NetworkID, EndpointID }, docker) => docker.revoke(NetworkID, EndpointID).then(nothing),
  ),
  'NetworkDriver.DiscoverNew': method(wire.discover, nothing),
  'NetworkDriver.DiscoverDelete': method(wire.discover, nothing),

  'IpamDriver.GetCapabilities': constant(ipamCapabilities),
  'IpamDriver.GetDefaultAddressSpaces': constant({
    LocalDefaultAddressSpace: addressSpace,
    GlobalDefaultAddressSpace: addressSpace,
  }),
  'IpamDriver.RequestPool': method(wire.requestPool, async (request, docker) => {
    if (request.AddressSpace !== addressSpace)
      throw invalid(`address space ${request.AddressSpace || '""'} is not ours: the only one is ${addressSpace}`)
    return poolAnswer(await docker.requestPool(poolRequestOf(request)))
  }),
  'IpamDriver.ReleasePool': method(wire.releasePool, ({ PoolID }, docker) => docker.releasePool(PoolID).then(nothing)),
  'IpamDriver.RequestAddress': method(wire.requestAddress, async (request, docker) => ({
    Address: await docker.requestAddress(addressRequestOf(request)),
    Data: {},
  })),
  'IpamDriver.ReleaseAddress': method(wire.releaseAddress, ({ PoolID, Address }, docker) =>
    docker.releaseAddress(PoolID, Address).then(nothing),
  ),
}

/** By name: a Map, because the name comes from outside and `constructor` is no method. */
export const methods: ReadonlyMap<string, Method> = new Map(Object.entries(table))
