import { readFileSync, statfsSync } from 'node:fs'
import { type Check, fail, ok, warn } from '../cnm/diagnosis.js'
import type { Family } from '../cnm/types.js'
import { messageOf } from '../errors.js'
import { Kernel } from '../netlink/kernel.js'
import { inThrowawayNetns } from '../netlink/netns.js'
import type { Link, Route } from '../netlink/objects.js'
import { linkAdd } from '../netlink/requests.js'
import { readSysctl } from '../netlink/sysctl.js'

// What of the host itself every network needs. Asked of the kernel, so the same whether a daemon runs or not.

/** What each kind of link is needed for; made for real, in a namespace that is gone at once. */
const kinds = [
  { kind: 'veth', needed: 'every endpoint' },
  { kind: 'bridge', needed: 'bridge and overlay networks' },
  { kind: 'vxlan', needed: 'overlay networks' },
  { kind: 'macvlan', needed: 'macvlan networks' },
] as const

export function kernelChecks(): Check[] {
  const release = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim()
  const missing = inThrowawayNetns(netns =>
    Kernel.inside(netns, kernel => kinds.flatMap(each => reasonAgainst(kernel, each.kind, each) ?? [])),
  )
  if (missing.length > 0) return missing
  return [ok('kernel', `Linux ${release} makes ${kinds.map(({ kind }) => kind).join(', ')} links`)]
}

function reasonAgainst(kernel: Kernel, kind: (typeof kinds)[number]['kind'], { needed }: { needed: string }) {
  try {
    kernel.apply(linkAdd(specOf(kernel, kind)))
    return undefined
  } catch (error) {
    return fail(
      'kernel',
      `this kernel makes no ${kind} links, which ${needed} need: ${messageOf(error)}`,
      `modprobe ${kind}`,
    )
  }
}

function specOf(kernel: Kernel, kind: (typeof kinds)[number]['kind']): Parameters<typeof linkAdd>[0] {
  const name = `t-${kind}`
  if (kind === 'veth') return { kind, name, peer: { name: 't-peer' } }
  if (kind === 'bridge') return { kind, name }
  if (kind === 'vxlan') return { kind, name, vxlan: { id: 1, port: 4789 } }
  return { kind, name, parent: kernel.link('t-veth')?.index ?? 1 }
}

const read = (name: string): string | undefined => {
  try {
    return readSysctl(undefined, name)
  } catch {
    return undefined
  }
}

/**
 * Settings that decide whether packets are forwarded.
 * @param families those of the networks that packets leave
 * @param bridges the links of our networks, by which answers have to be accepted too
 */
export function sysctlChecks(families: ReadonlySet<Family>, bridges: readonly Link[]): Check[] {
  const checks: Check[] = []
  const forwarding = { 4: 'net.ipv4.ip_forward', 6: 'net.ipv6.conf.all.forwarding' } as const
  for (const family of [4, 6] as const) {
    const name = forwarding[family]
    const value = read(name)
    if (value !== '0')
      checks.push(ok('sysctl', `${name} is ${value ?? 'not there'}: IPv${family} packets are forwarded`))
    else if (families.has(family))
      checks.push(
        fail('sysctl', `${name} is 0: nothing of IPv${family} gets into or out of networks`, `sysctl -w ${name}=1`),
      )
    else checks.push(ok('sysctl', `${name} is 0, and no network needs it yet`))
  }
  const all = read('net.ipv4.conf.all.rp_filter') ?? '0'
  for (const { name } of bridges) {
    const one = `net.ipv4.conf.${name.replaceAll('.', '/')}.forwarding`
    if (families.has(4) && read(forwarding[4]) === '1' && read(one) === '0')
      checks.push(fail('sysctl', `${one} is 0: what comes from ${name} is not forwarded`, `sysctl -w ${one}=1`))
  }
  checks.push(ok('sysctl', `net.ipv4.conf.all.rp_filter is ${all} (${rpFilterWords[all] ?? 'unknown'})`))
  checks.push(bridgeNetfilter())
  return checks
}

const rpFilterWords: Readonly<Record<string, string>> = {
  0: 'off',
  1: 'strict: a packet from an address that is routed by another link is dropped',
  2: 'loose',
}

/** Documentation/networking/ip-sysctl.rst, bridge-nf-call-*: Docker switches it on. */
function bridgeNetfilter(): Check {
  const values = ['iptables', 'ip6tables'].map(family => [family, read(`net.bridge.bridge-nf-call-${family}`)] as const)
  const on = values.filter(([, value]) => value === '1').map(([family]) => `bridge-nf-call-${family}`)
  if (on.length === 0)
    return ok('sysctl', 'packets within a bridge do not pass the rules for forwarding (bridge-nf-call-* is off)')
  return ok(
    'sysctl',
    `packets within a bridge pass the rules for forwarding too, other programs' included (${on.join(', ')} is 1)`,
  )
}

/**
 * The host's own way to each subnet is the network's bridge: a VPN or a second network with the same addresses takes it over, and
 * with a strict rp_filter what the endpoints send is then dropped as well.
 */
export function routeChecks(
  wanted: readonly { network: string; bridge: string; subnets: readonly string[] }[],
  links: readonly Link[],
  routes: readonly Route[],
): Check[] {
  return wanted.flatMap(({ network, bridge, subnets }) => {
    const index = links.find(({ name }) => name === bridge)?.index
    if (index === undefined) return []
    return subnets.flatMap(subnet => {
      const thief = routes.find(
        route => route.destination === subnet && route.type === 'unicast' && route.index !== index,
      )
      const own = routes.find(route => route.destination === subnet && route.index === index)
      if (thief === undefined || (own !== undefined && own.metric <= thief.metric)) return []
      const link = links.find(each => each.index === thief.index)?.name ?? 'another link'
      return [
        fail(
          `network ${network}`,
          `the host sends packets for ${subnet} by ${link} instead of ${bridge}, so they do not arrive`,
          `ip route delete ${subnet} dev ${link}`,
        ),
      ]
    })
  })
}

/** From here on new connections are about to be refused. */
const nearlyFull = 0.8

/** The kernel drops every new connection through the host when this table is full (nf_conntrack: table full). */
export function conntrackChecks(): Check[] {
  const [count = Number.NaN, max = 0] = ['count', 'max'].map(what => Number(read(`net.netfilter.nf_conntrack_${what}`)))
  // a kernel that remembers none has no table that could be full
  if (Number.isNaN(count) || !(max > 0)) return []
  const words = `the kernel remembers ${count} connections, of ${max} at most`
  const fix = `sysctl -w net.netfilter.nf_conntrack_max=${max * 4}`
  if (count >= max) return [fail('conntrack', `${words}: new ones are dropped`, fix)]
  return [count > max * nearlyFull ? warn('conntrack', words, fix) : ok('conntrack', words)]
}

const megabyte = 1 << 20
const leastBytes = 16 * megabyte
const fewBytes = 128 * megabyte

/** A full disk refuses every change of what is recorded. */
export function diskChecks(stateDir: string): Check[] {
  const { bavail, bsize } = statfsSync(stateDir)
  const free = bavail * bsize
  const words = `${stateDir} has ${Math.round(free / megabyte)} MB free`
  const fix = `df ${stateDir}    # and make room there`
  if (free < leastBytes) return [fail('disk', `${words}: nothing more can be recorded soon`, fix)]
  return [free < fewBytes ? warn('disk', words, fix) : ok('disk', words)]
}
