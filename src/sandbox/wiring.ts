import type { SandboxLink, WantedSandbox } from '../cnm/driver.js'
import { linkGroup } from '../marks.js'
import type { Kernel } from '../netlink/kernel.js'
import type { Netns } from '../netlink/netns.js'
import type { Address, Link } from '../netlink/objects.js'
import { listOf } from '../netlink/request.js'
import { addressAdd, linkDelete, linkSet, neighbourReplace, type Request, type Requests } from '../netlink/requests.js'
import { readSysctl } from '../netlink/sysctl.js'
import { routeChanges } from './routes.js'

/** What has to change inside a namespace, each change in words beside what carries it out. */
export interface InsidePlan {
  words: string[]
  /** written before the requests: a link must know whether it has IPv6, and whom to tell its addresses, before it comes up */
  sysctls: { key: string; value: string }[]
  requests: Request[]
  /** links that are not there, by name: then there is no plan */
  missing: string[]
}

/** What the settings of a link are. */
type ReadSettings = (netns: Netns, link: Link) => (key: string) => string

/**
 * Every namespace has a file of the same name, and the kernel goes through them all to find one: it is slow among thousands. The
 * message that tells of a link has the usual settings too.
 */
const readSettings: ReadSettings = (netns, link) => {
  const told = toldSettings(link)
  return key => (told[key] === undefined ? readSysctl(netns, key) : String(told[key]))
}

/** What no setting is: all of them are written, which changes nothing where they are so already. */
export const unread: ReadSettings = () => () => ''

/** Compare what is wanted inside with what the namespace has. Everything that is not ours stays. */
export function planInside(
  kernel: Kernel,
  netns: Netns,
  wanted: WantedSandbox,
  read: ReadSettings = readSettings,
): InsidePlan {
  const plan: InsidePlan = { words: [], sysctls: [], requests: [], missing: [] }
  const add: Add = (words, requests) => {
    plan.words.push(words)
    plan.requests.push(...listOf(requests))
  }
  const links = new Map(kernel.links().map(link => [link.name, link]))
  plan.missing = wanted.links.flatMap(({ ifname }) => (links.has(ifname) ? [] : ifname))
  if (plan.missing.length > 0) return plan
  const known = new Set(wanted.links.map(({ ifname }) => ifname))
  for (const { name, index, group } of links.values())
    if (group === linkGroup && !known.has(name) && name !== wanted.leaving)
      add(`remove link ${name}, which belongs to nothing`, linkDelete({ index }))
  const addresses = kernel.addresses()
  for (const want of wanted.links) {
    const link = links.get(want.ifname)
    if (link === undefined) continue
    const have = read(netns, link)
    for (const [key, value] of Object.entries(sysctlsOf(want)))
      if (!hasValue(have(key), value)) {
        const told = settingRequest(link, want.ifname, key, value)
        if (told === undefined) plan.sysctls.push({ key, value })
        add(`set ${key} to ${value}`, told ?? [])
      }
    linkChanges(want, link, addresses, add)
    neighbourChanges(kernel, want, link, add)
  }
  routeChanges(kernel, wanted, { links, addresses }, add)
  return plan
}

/** Words for the user, and the requests that make them true. */
export type Add = (words: string, requests: Requests) => void

/** What an interface of ours is set to; what the user asks for goes over it. */
function sysctlsOf({ ifname, addresses, announced, sysctls }: SandboxLink): Record<string, string> {
  const ipv6 = addresses.some(address => address.includes(':'))
  const own = ipv6 ? standard6 : { 'net.ipv6.conf.IFNAME.disable_ipv6': '1' }
  const announcing = announced ? {} : { ...announce4, ...(ipv6 && announce6) }
  return namedFor(ifname, { ...own, ...announcing, ...sysctls })
}

// the kernel tells the neighbours, when the link comes up, who has the addresses now (ip-sysctl.rst)
const announce4 = { 'net.ipv4.conf.IFNAME.arp_notify': '1' }
const announce6 = { 'net.ipv6.conf.IFNAME.ndisc_notify': '1' }
const standard6 = {
  'net.ipv6.conf.IFNAME.disable_ipv6': '0',
  // the link-local address is usable at once, as the others are: it follows from a MAC address that nobody else has
  'net.ipv6.conf.IFNAME.accept_dad': '0',
}

/** The kernel takes few settings of a link in a message, but those at once; undefined: this one has to be written to its file. */
function settingRequest({ index }: Link, ifname: string, key: string, value: string): Requests | undefined {
  const [announced] = Object.entries(namedFor(ifname, announce4))
  return key === announced?.[0] && value === announced[1] ? linkSet({ index, arpNotify: true }) : undefined
}

const toldSettings = ({ name, settings = {} }: Link) =>
  namedFor(name, {
    'net.ipv4.conf.IFNAME.arp_notify': settings.arpNotify,
    'net.ipv6.conf.IFNAME.disable_ipv6': settings.disableIpv6,
    'net.ipv6.conf.IFNAME.ndisc_notify': settings.ndiscNotify,
    'net.ipv6.conf.IFNAME.accept_dad': settings.acceptDad,
  })

/** Put the name of an interface where IFNAME stands; within the name of a setting a slash stands for a dot (sysctl(8)). */
export const namedFor = <T>(ifname: string, sysctls: Readonly<Record<string, T>>): Record<string, T> =>
  Object.fromEntries(
    Object.entries(sysctls).map(([key, value]) => [key.replace('IFNAME', ifname.replaceAll('.', '/')), value]),
  )

/** The kernel may write a number in another way than it was given. */
const hasValue = (have: string, want: string): boolean =>
  have === want || (have !== '' && Number(have) === Number(want))

/** Addresses before up: what the kernel announces then is all of them. */
function linkChanges(want: SandboxLink, link: Link, addresses: readonly Address[], add: Add): void {
  const { index } = link
  if (want.mtu !== undefined && link.mtu !== want.mtu)
    add(`set MTU ${want.mtu} on ${want.ifname}`, linkSet({ index, mtu: want.mtu }))
  if (link.mac !== want.mac) add(`set MAC address ${want.mac} on ${want.ifname}`, linkSet({ index, mac: want.mac }))
  const have = addresses.filter(address => address.index === index)
  for (const address of want.addresses)
    if (!have.some(candidate => candidate.address === address))
      add(`add address ${address} to ${want.ifname}`, addressAdd({ index, address, noDad: true }))
  if (!link.up) add(`bring ${want.ifname} up`, linkSet({ index, up: true }))
}

function neighbourChanges(kernel: Kernel, want: SandboxLink, { index }: Link, add: Add): void {
  if (want.neighbours.length === 0) return
  const have = kernel.neighbours({ index })
  for (const { address, mac } of want.neighbours)
    if (!have.some(known => known.address === address && known.mac === mac && known.state === 'permanent'))
      add(`neighbour ${address} is ${mac} on ${want.ifname}`, neighbourReplace({ index, address, mac }))
}
