import type { Driver, Drivers, Step, WantedNetwork } from '../cnm/driver.js'
import type { Endpoint, ForwardedBridge, Network } from '../cnm/types.js'
import { invalid } from '../errors.js'
import { type Element, keyOf, sameElement } from '../firewall/elements.js'
import { suggestion } from '../nearest.js'
import type { KernelEvent } from '../netlink/events.js'
import type { Link } from '../netlink/objects.js'
import { readSysctl } from '../netlink/sysctl.js'
import { diff } from '../reconcile.js'
import { bridge } from './bridge/driver.js'
import type { Doubt, DriverDeps, HostDriver } from './driver-deps.js'
import { host, none } from './fixed.js'
import { macvlan } from './macvlan/driver.js'
import { isMarked } from './mark.js'
import { overlay } from './overlay/driver.js'

export { isMarked }

/** The only list of drivers: a new one is its own file and a line here. */
const factories = { bridge, overlay, macvlan, host, none }

/** Each driver reads only networks whose options it parsed itself, so the set need not know their type. */
type AnyDriver = HostDriver<unknown>

/** The drivers as the host sees them: besides the contract, what they make of the kernel's news. */
export interface HostDrivers extends Drivers {
  /** See HostDriver.doubt. */
  doubt(event: KernelEvent): Doubt | undefined
  /** See HostDriver.isRight. */
  isRight(network: Network, endpoint: Endpoint, link: Link): boolean
}

export function createDrivers(deps: DriverDeps): HostDrivers {
  const drivers = new Map<string, AnyDriver>(
    Object.entries(factories).map(([type, create]) => [type, create(deps) as AnyDriver]),
  )
  return {
    get(type: string): Driver {
      const driver = drivers.get(type)
      if (driver !== undefined) return driver
      const known = [...drivers.keys()]
      throw invalid(`unknown driver ${type}${suggestion(type, known)}; known: ${known.join(', ')}`)
    },
    fixed: () => [...drivers].filter(([, driver]) => driver.fixed !== undefined).map(([type]) => type),
    async plan(wanted: readonly WantedNetwork[]): Promise<Step[]> {
      const steps = leftoverPorts(deps, wanted)
      const links = deps.kernel.links()
      for (const share of shares(drivers, wanted)) steps.push(...(await share.driver.plan(share.wanted, links)))
      steps.push(...leftoverLinks(deps, links, new Set(this.linkNames(wanted))), ...(await this.planFirewall(wanted)))
      return steps
    },
    planTouched: async (wanted, touched) =>
      (await drivers.get(wanted.network.driver)?.planTouched?.(wanted, touched)) ?? [],
    isRight: (network, endpoint, link) => drivers.get(network.driver)?.isRight?.(network, endpoint, link) ?? false,
    hasSettings: network => {
      const settings = drivers.get(network.driver)?.settings?.(network) ?? {}
      return Object.entries(settings).every(([key, value]) => isSet(key, value))
    },
    doubt: event => {
      for (const driver of drivers.values()) {
        const found = driver.doubt?.(event)
        if (found !== undefined) return found
      }
      return undefined
    },
    async planFirewall(wanted) {
      const elements = shares(drivers, wanted).flatMap(share => share.driver.elements(share.wanted))
      const steps = await firewallSteps(deps, [...elements, ...deps.otherBridges.wanted()])
      const bindings = wanted.flatMap(({ endpoints }) => endpoints.flatMap(({ endpoint }) => endpoint.bindings))
      const subnets = wanted.flatMap(({ network }) => network.subnets.map(({ subnet }) => subnet))
      return steps.map(({ words, apply }) => ({
        words,
        async apply() {
          await apply()
          await deps.flows.endUnchanged(bindings, subnets)
        },
      }))
    },
    bridges: wanted => bridgesOf(drivers, wanted),
    notes: network => drivers.get(network.driver)?.notes?.(network) ?? [],
    obstacles: wanted => bridgesOf(drivers, [wanted]).flatMap(deps.obstacles),
    hasLink: name => deps.kernel.linkIndex(name) !== undefined,
    linkNames: wanted => shares(drivers, wanted).flatMap(share => share.driver.linkNames(share.wanted)),
  }
}

/** A link that is gone has no settings; its end is told as such. */
function isSet(key: string, value: string): boolean {
  try {
    return readSysctl(undefined, key) === value
  } catch {
    return true
  }
}

/** Every driver with the networks that are its own. */
const shares = (drivers: ReadonlyMap<string, AnyDriver>, wanted: readonly WantedNetwork[]) =>
  [...drivers].map(([type, driver]) => ({ driver, wanted: wanted.filter(({ network }) => network.driver === type) }))

function bridgesOf(drivers: ReadonlyMap<string, AnyDriver>, wanted: readonly WantedNetwork[]): ForwardedBridge[] {
  return shares(drivers, wanted).flatMap(share => share.wanted.flatMap(one => bridgesOfNetwork(share.driver, one)))
}

function bridgesOfNetwork(driver: AnyDriver, wanted: WantedNetwork): ForwardedBridge[] {
  const elements = driver.elements([wanted])
  const linksIn = (set: 'bridges' | 'routed4' | 'routed6' | 'unprotected4' | 'unprotected6') =>
    new Set(elements.flatMap(element => (element.set === set ? [element.link] : [])))
  const routed = { 4: linksIn('routed4'), 6: linksIn('routed6') }
  const open = { 4: linksIn('unprotected4'), 6: linksIn('unprotected6') }
  return [...linksIn('bridges')].map(name => ({
    name,
    published: families.filter(family => !routed[family].has(name)),
    direct: families.filter(family => routed[family].has(name) || open[family].has(name)),
    internal: wanted.network.internal,
    doors: driver.doors?.(wanted.network) ?? [],
  }))
}
const families = [4, 6] as const

function leftoverLinks(deps: DriverDeps, links: readonly Link[], known: ReadonlySet<string>): Step[] {
  return links
    .filter(link => isMarked(link) && !known.has(link.name))
    .map(link => ({
      words: `delete link ${link.name} (${link.alias ?? 'half made'}), which belongs to nothing`,
      apply: () => deps.kernel.deleteLinks([link.name], isMarked),
    }))
}

/** Host ports that an operation held whose undoing failed. They go first: another endpoint may be waiting for them. */
function leftoverPorts({ hostPorts }: DriverDeps, wanted: readonly WantedNetwork[]): Step[] {
  const bindings = wanted.flatMap(({ endpoints }) => endpoints.flatMap(({ endpoint }) => endpoint.bindings))
  const others = hostPorts.releaseOthers(bindings, { dryRun: true })
  if (others.length === 0) return []
  const words = `release ${others.join(', ')}, which nothing publishes`
  return [{ words, apply: () => void hostPorts.releaseOthers(bindings, { dryRun: false }) }]
}

/** The elements of the one table, for all drivers together: what no driver wants is a leftover. */
async function firewallSteps({ firewall }: DriverDeps, wanted: readonly Element[]): Promise<Step[]> {
  const { elements, faults } = await firewall.check()
  if (faults.length > 0) {
    const words = `load the firewall table: ${faults.join(', ')}`
    return [{ words, apply: () => firewall.ensure(wanted) }]
  }
  const plan = diff(wanted, elements, { want: keyOf, have: keyOf }, sameElement)
  const add = [...plan.add, ...plan.change.map(({ want }) => want)]
  if (add.length === 0 && plan.remove.length === 0) return []
  const words = [`add ${add.length} elements to the firewall`, `remove ${plan.remove.length}`]
  return [{ words: words.join(', '), apply: () => firewall.apply({ add, delete: plan.remove }) }]
}
