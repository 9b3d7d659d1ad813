import type { Step } from '../../cnm/driver.js'
import type { Kernel } from '../../netlink/kernel.js'
import { type Requests, tolerant } from '../../netlink/requests.js'
import { addFlood, deleteFlood, deleteVtep, everybody, type KnownEntries, setMac, setVtep } from './entries.js'
import type { OverlayNetwork } from './links.js'

export interface TouchedEntries {
  known: KnownEntries
  /** MAC and plain IP addresses of this host's own endpoints, which are nobody else's */
  own: ReadonlySet<string>
  /** MAC addresses, plain IP addresses, and with a VTEP after it the MAC address that stands for everybody */
  entries: ReadonlySet<string>
}

/** As compareEntries, for a few: each is asked for by itself, so that it costs the same however many there are. */
export function touchedEntrySteps(kernel: Kernel, network: OverlayNetwork, touched: TouchedEntries): Step[] {
  return [...touched.entries].flatMap(entry => {
    const requests = differenceOf(kernel, touched, entry)
    if (requests === undefined) return []
    return [
      { words: `put right the entry of ${entry} of network ${network.name}`, apply: () => kernel.apply(requests) },
    ]
  })
}

function differenceOf(kernel: Kernel, { known, own }: TouchedEntries, entry: string): Requests | undefined {
  const { vxlan, bridge } = known
  const [key = '', vtep] = entry.split(' ')
  if (key === everybody && vtep !== undefined)
    return known.isFlooded(vtep)
      ? tolerant(addFlood(vxlan, vtep), 'EEXIST')
      : tolerant(deleteFlood(vxlan, vtep), 'ENOENT')
  const isMac = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(key)
  if (!isMac) {
    const want = own.has(key) ? undefined : known.macOf(key)
    const have = kernel.neighbour(bridge, key)
    return want === undefined || (have?.mac === want && have.state === 'permanent')
      ? undefined
      : setMac(bridge, key, want)
  }
  const want = own.has(key) ? undefined : known.vtepOf(key)
  const have = kernel.fdbEntry(vxlan, key, { self: true })
  if (want === undefined) return have === undefined ? undefined : tolerant(deleteVtep(vxlan, key), 'ENOENT')
  const port = kernel.fdbEntry(vxlan, key, { self: false })
  const isRight = have?.dst === want && have.state === 'static' && port?.state === 'static' && port.index === vxlan
  if (isRight) return undefined
  // removed first: what is there in another shape may be in the way
  return [...tolerant(deleteVtep(vxlan, key), 'ENOENT'), setVtep(vxlan, key, want)]
}
