import { type Check, fail, ok, warn } from '../cnm/diagnosis.js'
import type { HostView, ReconcileReport } from '../cnm/specs.js'
import type { Endpoint, Network } from '../cnm/types.js'
import { usualMtu } from '../drivers/overlay/links.js'
import { messageOf } from '../errors.js'
import { familyOf } from '../net/subnets.js'
import type { Kernel } from '../netlink/kernel.js'
import type { Link } from '../netlink/objects.js'
import { ping } from '../netlink/ping.js'

// What of this host's networks is not as it should be, or does not fit to what is around them.

/** The option that every kind of network has which makes links of its own. */
export const mtuOf = ({ options }: Network): number | undefined => {
  const { mtu } = (options ?? {}) as { mtu?: unknown }
  return typeof mtu === 'number' && mtu > 0 ? mtu : undefined
}

/** What VXLAN puts around a frame: Ethernet 14, VXLAN 8, UDP 8, and IP. */
export const encapsulationOf = (vtep: string): number => (familyOf(vtep) === 4 ? 50 : 70)

/** Differences between what is recorded and what there is, in the words of `tsnet reconcile`. */
export function differenceChecks({ changes, failures }: ReconcileReport): Check[] {
  const stale = changes.filter(words => words.includes('belongs to nothing'))
  const different = changes.filter(words => !stale.includes(words))
  const checks = [
    ...different.map(words => fail('records', `not as it is recorded; to be done: ${words}`, 'tsnet reconcile')),
    ...stale.map(words => fail('leftovers', `nothing is recorded of it; to be done: ${words}`, 'tsnet reconcile')),
    ...failures.map(words => fail('records', words, 'tsnet reconcile')),
  ]
  return checks.length > 0
    ? checks
    : [ok('records', 'links, rules and addresses are as they are recorded, and nothing is left over')]
}

interface Obstructed {
  name: string
  bridge: string | undefined
  obstacles: readonly string[]
}

/** Other programs' rules that drop what ours accept, or what comes to the host for the network. */
export function obstacleChecks(networks: readonly Obstructed[]): Check[] {
  const checks = networks.flatMap(({ name, bridge, obstacles }) =>
    obstacles.map(words =>
      // sandboxes and Docker's containers ask at 127.0.0.11, which passes no firewall
      (words.includes('(to the resolver') ? warn : fail)(
        `network ${name}`,
        `another program's firewall drops its packets: ${words}`,
        letThrough(words, bridge),
      ),
    ),
  )
  return checks.length > 0 ? checks : [ok('firewall', "no other program's rules drop what tsnet accepts")]
}

/** `table inet filter, chain forward: policy drop (...)` -> the command that has it let through what is ours. */
export function letThrough(obstacle: string, bridge: string | undefined): string {
  const [, table, chain] = /^table (\S+ \S+), chain (\S+):/.exec(obstacle) ?? []
  const [, link, rest = '', port] = /: iifname "([^"]+)"( \S+ d(?:port|addr) (\S+))\)$/.exec(obstacle) ?? []
  if (table === 'inet firewalld')
    return link === undefined || link === bridge
      ? `firewall-cmd --permanent --zone=trusted --add-interface=${bridge} && firewall-cmd --reload`
      : `firewall-cmd --permanent --add-port=${port}/udp && firewall-cmd --reload`
  const marked = 'meta mark & 0x800000 == 0x800000'
  const accepted = link === undefined ? marked : `iifname "${link}"${rest}`
  if (table !== undefined) return `nft insert rule ${table} ${chain} '${accepted} accept'`
  if (link === undefined) return 'iptables -I FORWARD -m mark --mark 0x800000/0x800000 -j ACCEPT'
  const [program] = obstacle.split(',')
  return `${program} -I INPUT -i ${link} ${/daddr/.test(rest) ? `-d ${port}` : `-p udp --dport ${port}`} -j ACCEPT`
}

/** Packets that one link of the way takes and the next does not: they vanish without a word. */
export function mtuChecks(
  kernel: Kernel,
  networks: readonly { network: Network; endpoints: readonly Endpoint[] }[],
  underlay: { vtep: string; link: string } | undefined,
): Check[] {
  const links = kernel.links()
  const uplink = uplinkOf(kernel, links)
  const checks = networks.flatMap(({ network, endpoints }) => {
    const mtu = mtuOf(network)
    if (mtu === undefined) return []
    const what = `network ${network.name}`
    const holes = endpoints
      .flatMap(({ hostLink }) => links.find(({ name }) => name === hostLink) ?? [])
      .filter(link => link.mtu !== mtu)
      .map(({ name, mtu: has }) =>
        fail(
          what,
          `link ${name} has MTU ${has} instead of ${mtu}: larger packets vanish there`,
          `ip link set ${name} mtu ${mtu}`,
        ),
      )
    return [...holes, ...outside(kernel, network, mtu, uplink, underlay)]
  })
  return checks.length > 0
    ? checks
    : [ok('mtu', 'packets of every network fit through the links that they pass on this host')]
}

const uplinkOf = (kernel: Kernel, links: readonly Link[]): Link | undefined => {
  const [route] = kernel
    .routes()
    .filter(({ destination, type }) => destination.endsWith('/0') && type === 'unicast')
    .sort((a, b) => a.metric - b.metric)
  return links.find(({ index }) => index === route?.index)
}

function outside(
  kernel: Kernel,
  { name, driver }: Network,
  mtu: number,
  uplink: Link | undefined,
  underlay: { vtep: string; link: string } | undefined,
): Check[] {
  if (driver === 'overlay' && underlay !== undefined) {
    const fits = usualMtu(kernel, underlay)
    if (mtu <= fits) return []
    return [
      fail(
        `network ${name}`,
        `its MTU is ${mtu}, and ${underlay.link} has room for ${fits} bytes in a VXLAN packet: larger packets are cut up, or lost`,
        `ip link set ${underlay.link} mtu ${mtu + encapsulationOf(underlay.vtep)}    # on every host; or make the network anew with -o mtu=${fits}`,
      ),
    ]
  }
  if (driver !== 'bridge' || uplink === undefined || mtu <= uplink.mtu) return []
  return [
    warn(
      `network ${name}`,
      `its MTU is ${mtu}, and ${uplink.name}, by which packets leave the host, has ${uplink.mtu}: larger ones are cut up or sent back`,
      `tsnet network create ... -o mtu=${uplink.mtu}    # an MTU is that of a new network`,
    ),
  ]
}

/** How long another host may take to answer. */
const pingMs = 1_000
const smallBytes = 100

/** Whether what goes between hosts arrives there whole: `ping -M probe -s SIZE VTEP`. */
export async function pathChecks(own: string, hosts: readonly HostView[], wholeBytes: number): Promise<Check[]> {
  const others = hosts.filter(({ name, vtep }) => name !== own && vtep !== '')
  return await Promise.all(others.map(host => pathCheck(host, wholeBytes)))
}

async function pathCheck({ name, vtep, state, lastSeen }: HostView, wholeBytes: number): Promise<Check> {
  const what = `host ${name}`
  if (state === 'down')
    return warn(
      what,
      `its daemon has not been heard of since ${lastSeen}`,
      `tsnet host rm ${name}    # if it is not coming back`,
    )
  const tried = await tryPing(vtep, smallBytes)
  if (tried !== 'answered')
    return fail(what, `${vtep} does not answer${tried === 'silent' ? '' : `: ${tried}`}`, `ping ${vtep}`)
  if ((await tryPing(vtep, wholeBytes)) === 'answered')
    return ok(what, `${vtep} answers, to packets of ${wholeBytes} bytes too`)
  const most = await largest(vtep, smallBytes, wholeBytes)
  return fail(
    what,
    `packets of ${most} bytes reach ${vtep}, and networks here need ${wholeBytes}: larger ones vanish on the way between the hosts`,
    `tracepath -n ${vtep}    # and raise the MTU there, or make the networks with -o mtu=${most - encapsulationOf(vtep)}`,
  )
}

/** The size is known to this many bytes. */
const exactlyBytes = 16

async function largest(vtep: string, answered: number, silent: number): Promise<number> {
  let [low, high] = [answered, silent]
  while (high - low > exactlyBytes) {
    const middle = Math.floor((low + high) / 2)
    if ((await tryPing(vtep, middle, pingMs / 4)) === 'answered') low = middle
    else high = middle
  }
  return low
}

const tryPing = (address: string, bytes: number, timeoutMs = pingMs): Promise<string> =>
  ping(address, bytes, timeoutMs).catch(messageOf)
