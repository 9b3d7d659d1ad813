import type { Finding, OthersOnNetwork, Step, WantedNetwork } from '../../cnm/driver.js'
import { addressOf } from '../../net/subnets.js'
import type { Kernel } from '../../netlink/kernel.js'
import type { Link } from '../../netlink/objects.js'
import { type PingResult, ping } from '../../netlink/ping.js'
import type { Request } from '../../netlink/requests.js'
import { bridgeNameOf, type OverlayNetwork, vxlanNameOf } from './links.js'
import type { OverlayOptions } from './options.js'

/** How long another host may take to answer. */
const pingMs = 1_000
/** Of a packet that fits anywhere. */
const smallBytes = 100

/** What would be done if this were a repair, but for MTUs, which are a check of their own. */
export const linkFindings = (steps: readonly Step[]): Finding[] =>
  steps
    .filter(({ words }) => !/\bmtu\b/i.test(words))
    .map(({ words }): Finding => ({ check: 'links', words: `not done: ${words}` }))

/** The links of a network on this host have its MTU, and its packets fit between hosts. */
export function mtuFindings(
  kernel: Kernel,
  { network, endpoints }: WantedNetwork<OverlayOptions>,
  fits: number,
): Finding[] {
  const { mtu } = network.options
  const names = [bridgeNameOf(network), vxlanNameOf(network), ...endpoints.map(({ endpoint }) => endpoint.hostLink)]
  const found = names
    .flatMap(name => kernel.link(name) ?? [])
    .filter(link => link.mtu !== mtu)
    .map(link => `${link.name} has MTU ${link.mtu} instead of ${mtu}`)
  if (mtu > fits) found.push(`the underlay carries packets of ${fits} bytes at most, and the network's MTU is ${mtu}`)
  return found.map(words => ({ check: 'mtu', words }))
}

/** Entries of the kernel that are not what the other hosts have: the commands that would mend them. */
export function entryFindings(requests: readonly Request[], links: readonly Link[]): Finding[] {
  const named = (op: string): string =>
    op.replace(/\bdev (\d+)\b/, (all, index) => {
      const link = links.find(each => each.index === Number(index))
      return link === undefined ? all : `dev ${link.name}`
    })
  return requests.map(({ op }) => ({
    check: op.startsWith('bridge fdb') ? 'fdb' : 'neighbours',
    words: `not done: ${named(op)}`,
  }))
}

/** The other hosts' own addresses answer, and to packets of the full MTU too. */
export async function reachFindings({ options }: OverlayNetwork, { members }: OthersOnNetwork): Promise<Finding[]> {
  const asked = members.flatMap(({ host, addresses }) => addresses.map(addressOf).map(address => ({ host, address })))
  const found = await Promise.all(
    asked.map(async ({ host, address }) => {
      const where = `host ${host} at ${address}`
      const small = await tryPing(address, smallBytes)
      if (small !== 'answered') return `no answer from ${where}${small === 'silent' ? '' : `: ${small}`}`
      const full = await tryPing(address, options.mtu)
      if (full === 'answered') return undefined
      return `no answer from ${where} to a packet of ${options.mtu} bytes${full === 'silent' ? '' : `: ${full}`}`
    }),
  )
  return found.flatMap(words => (words === undefined ? [] : { check: 'reach', words }))
}

const tryPing = (address: string, bytes: number): Promise<PingResult | string> =>
  ping(address, bytes, pingMs).catch((error: Error) => error.message)
