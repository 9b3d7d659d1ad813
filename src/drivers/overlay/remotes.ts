import type { Remote } from '../../cnm/driver.js'

/** What the kernel must know of what is on other hosts: by MAC address the VTEP, by IP address the MAC address. */
export interface Entries {
  vteps: ReadonlyMap<string, string>
  macs: ReadonlyMap<string, string>
}

/** One entry that changes; absent where there was none or is to be none. */
export type Change = { what: 'vtep' | 'mac'; key: string; before?: string | undefined; after?: string | undefined }

/**
 * What is on the other hosts of one network. An address that is given again may for a while be two remotes', whose news come
 * in any order: the entry is that of the one that came last of those that are left.
 */
export class Remotes {
  readonly #byMac = new Map<string, Remote[]>()
  readonly #byAddress = new Map<string, Remote[]>()

  constructor(remotes: readonly Remote[]) {
    for (const remote of remotes) this.#add(remote)
  }

  /** Take one list for another; `before` and `after` may be all there is or only what differs. Returns what changes in the entries. */
  update(before: readonly Remote[], after: readonly Remote[]): Change[] {
    const stays = countsOf(after)
    const gone = before.filter(remote => !take(stays, remote))
    const known = countsOf(before)
    const come = after.filter(remote => !take(known, remote))
    const had = new Map<string, Change>()
    const touched = [...gone, ...come]
    for (const { mac, addresses } of touched) {
      had.set(mac, { what: 'vtep', key: mac, before: this.vtepOf(mac) })
      for (const address of addresses) had.set(address, { what: 'mac', key: address, before: this.macOf(address) })
    }
    for (const remote of gone) this.#delete(remote)
    for (const remote of come) this.#add(remote)
    return [...had.values()]
      .map(change => ({
        ...change,
        after: change.what === 'vtep' ? this.vtepOf(change.key) : this.macOf(change.key),
      }))
      .filter(change => change.before !== change.after)
  }

  /** All but those of these MAC and IP addresses. */
  entries(except: ReadonlySet<string>): Entries {
    const last = (lists: ReadonlyMap<string, Remote[]>, read: (remote: Remote) => string) => {
      const entries = new Map<string, string>()
      for (const [key, list] of lists) {
        const remote = list.at(-1)
        if (remote !== undefined && !except.has(key)) entries.set(key, read(remote))
      }
      return entries
    }
    return { vteps: last(this.#byMac, ({ vtep }) => vtep), macs: last(this.#byAddress, ({ mac }) => mac) }
  }

  /** The VTEP behind which a MAC address is. */
  vtepOf(mac: string): string | undefined {
    return this.#byMac.get(mac)?.at(-1)?.vtep
  }

  /** The MAC address that has a plain address. */
  macOf(address: string): string | undefined {
    return this.#byAddress.get(address)?.at(-1)?.mac
  }

  /** What is there already is told again where all was looked at between a change and its news: it is there once. */
  #add(remote: Remote): void {
    this.#delete(remote)
    append(this.#byMac, remote.mac, remote)
    for (const address of remote.addresses) append(this.#byAddress, address, remote)
  }

  #delete(remote: Remote): void {
    remove(this.#byMac, remote.mac, remote)
    for (const address of remote.addresses) remove(this.#byAddress, address, remote)
  }
}

const textOf = ({ mac, addresses, vtep }: Remote): string => `${mac} ${vtep} ${addresses.join()}`

function countsOf(remotes: readonly Remote[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const remote of remotes) counts.set(textOf(remote), (counts.get(textOf(remote)) ?? 0) + 1)
  return counts
}

/** One of those like this is counted no more; false when there was none. */
function take(counts: Map<string, number>, remote: Remote): boolean {
  const count = counts.get(textOf(remote)) ?? 0
  counts.set(textOf(remote), count - 1)
  return count > 0
}

function append(lists: Map<string, Remote[]>, key: string, remote: Remote): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [remote])
  else list.push(remote)
}

function remove(lists: Map<string, Remote[]>, key: string, remote: Remote): void {
  const list = lists.get(key) ?? []
  const at = list.findIndex(other => textOf(other) === textOf(remote))
  if (at !== -1) list.splice(at, 1)
  if (list.length === 0) lists.delete(key)
}
