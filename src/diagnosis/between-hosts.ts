import { fail, ok, warn } from '../cnm/diagnosis.js'
import type { OtherHosts, Remote } from '../cnm/driver.js'
import type { State } from '../cnm/state.js'
import { messageOf } from '../errors.js'
import type { Kernel } from '../netlink/kernel.js'
import type { Link } from '../netlink/objects.js'
import { ping } from '../netlink/ping.js'
import { familyOf } from '../ports/address.js'
import type { End } from './ends.js'
import { type Hop, lasting, orWell } from './hops.js'
import { encapsulationOf, mtuOf } from './network-checks.js'

// From this host's bridge of an overlay network to an endpoint on another host: what the kernel was told, against what the cluster has.

export interface BetweenDeps {
  kernel: Kernel
  state: State
  others: OtherHosts
}

/** How long another host may take to answer. */
const pingMs = 1_000
const smallBytes = 100

export async function betweenHops(deps: BetweenDeps, to: End, bridge: Link): Promise<Hop[]> {
  const { kernel, state } = deps
  const { on, host } = to
  if (on === undefined || state.cluster === undefined) return []
  const down = state.cluster.downBecause()
  const hops: Hop[] =
    down === undefined ? [] : [warn('etcd', `${down}: what other hosts have is as it was last heard`, 'tsnet doctor')]
  const remote = (await remotesOf(deps, on.network.id)).find(({ mac }) => mac === on.endpoint.mac)
  if (remote === undefined)
    return [
      ...hops,
      fail(
        'cluster',
        `${to.name} is recorded on host ${host}, which tells no address to send its packets to`,
        `tsnet host inspect ${host}`,
      ),
    ]
  const vxlan = kernel.links({ master: bridge.index }).find(({ kind }) => kind === 'vxlan')
  if (vxlan === undefined)
    return [...hops, fail('vxlan', `network ${on.network.name} has no vxlan link on this host`, 'tsnet reconcile')]
  if (!vxlan.up) return [...hops, fail('vxlan', `${vxlan.name} is down`, `ip link set ${vxlan.name} up`)]
  const stale = [
    ...forwardingFaults(kernel, to, vxlan, remote),
    ...neighbourFaults(kernel, to, bridge, remote),
    ...mtuFaults(vxlan, mtuOf(on.network)),
  ]
  const entries = orWell(
    stale,
    'vxlan',
    `${remote.mac} (${to.name}) is behind ${remote.vtep}, host ${host}, as the cluster has it`,
  )
  return [...hops, ...entries, ...(await wayHops(to, remote, mtuOf(on.network)))]
}

/** Of this moment, or as last heard. */
async function remotesOf({ state, others }: BetweenDeps, networkId: string): Promise<readonly Remote[]> {
  try {
    if (state.cluster?.downBecause() === undefined) return (await state.cluster?.readNetwork(networkId))?.remotes ?? []
  } catch {
    // it has just gone down
  }
  return others.remotes(networkId) ?? []
}

function forwardingFaults(kernel: Kernel, to: End, vxlan: Link, { mac, vtep }: Remote): Hop[] {
  const entries = kernel.fdb({ index: vxlan.index }).filter(entry => entry.mac === mac)
  const own = entries.find(({ self }) => self)
  if (own === undefined)
    return [
      fail(
        'vxlan',
        `${vxlan.name} has no forwarding entry (FDB) for ${mac}, which is ${to.name} on host ${to.host} (${vtep})`,
        'tsnet reconcile',
      ),
    ]
  if (own.dst !== vtep)
    return [
      fail(
        'vxlan',
        `a stale forwarding entry (FDB) of ${vxlan.name} sends frames for ${mac}, which is ${to.name}, to ${own.dst} instead of ${vtep}, host ${to.host}`,
        'tsnet reconcile',
      ),
    ]
  if (!entries.some(({ self }) => !self))
    return [
      fail(
        'vxlan',
        `the bridge has no forwarding entry (FDB) that leads ${mac}, which is ${to.name}, to ${vxlan.name}`,
        'tsnet reconcile',
      ),
    ]
  return []
}

function neighbourFaults(kernel: Kernel, to: End, bridge: Link, { mac }: Remote): Hop[] {
  const found = kernel.neighbours({ index: bridge.index }).find(({ address }) => address === to.address)
  if (found?.mac === mac) return []
  const words =
    found?.mac === undefined
      ? `${bridge.name} does not know the MAC address of ${to.address} (${to.name}), and asks nobody`
      : `${bridge.name} answers that ${to.address} (${to.name}) is at ${found.mac}, and it is at ${mac}`
  return [fail('vxlan', words, 'tsnet reconcile')]
}

const mtuFaults = ({ name, mtu }: Link, wanted: number | undefined): Hop[] =>
  wanted === undefined || mtu === wanted
    ? []
    : [
        lasting(
          fail(
            'vxlan',
            `${name} has MTU ${mtu} instead of ${wanted}: larger packets vanish there`,
            `ip link set ${name} mtu ${wanted}`,
          ),
        ),
      ]

/** The other host answers, and packets of the full size get there. */
async function wayHops({ host }: End, { vtep }: Remote, mtu: number | undefined): Promise<Hop[]> {
  const what = `host ${host}`
  const small = await tryPing(vtep, smallBytes)
  if (small !== 'answered')
    return [
      warn(
        what,
        `${vtep} does not answer a ping${small === 'silent' ? '' : `: ${small}`}`,
        `ping ${vtep}    # or: tsnet host inspect ${host}`,
      ),
    ]
  if (mtu === undefined || familyOf(vtep) === undefined) return []
  const whole = mtu + encapsulationOf(vtep)
  if ((await tryPing(vtep, whole)) === 'answered')
    return [ok(what, `${vtep} answers, to packets of ${whole} bytes too`)]
  return [
    lasting(
      fail(
        what,
        `packets of ${whole} bytes, which the network's MTU ${mtu} needs, do not get to ${vtep}`,
        `tracepath -n ${vtep}    # and raise the MTU there`,
      ),
    ),
  ]
}

const tryPing = (address: string, bytes: number): Promise<string> => ping(address, bytes, pingMs).catch(messageOf)
