import { afterAll, afterEach, beforeAll } from 'vitest'
import type { PortBinding } from '../../src/cnm/types.js'
import { HostPorts } from '../../src/firewall/host-ports.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { makeNetns, needRoot, netnsPath, removeNetns, run, sweep } from './netns.js'
import { boundSockets } from './sockets.js'

/** Host ports of a namespace with three addresses, in which this process stays. */
export function hostPortsWorld(prefix: string) {
  const world = {
    netns: '',
    held: undefined as unknown as HostPorts,
    sockets: () => boundSockets(world.netns),
  }
  beforeAll(() => {
    needRoot()
    sweep(prefix)
    world.netns = makeNetns(prefix)
    run(world.netns, 'ip', 'addr', 'add', '192.0.2.1/32', 'dev', 'lo')
    run(world.netns, 'ip', 'addr', 'add', '192.0.2.2/32', 'dev', 'lo')
    run(world.netns, 'ip', 'addr', 'add', '2001:db8::1/128', 'dev', 'lo', 'nodad')
    enterNetnsForGood(openNetns(netnsPath(world.netns)))
    world.held = new HostPorts()
  })
  afterEach(() => world.held.close())
  afterAll(() => removeNetns(world.netns))
  return world
}

export const binding = (over: Partial<PortBinding> = {}): PortBinding => ({
  protocol: 'tcp',
  hostIp: '0.0.0.0',
  hostPort: 8080,
  containerIp: '10.20.0.2',
  containerPort: 80,
  size: 1,
  ...over,
})
