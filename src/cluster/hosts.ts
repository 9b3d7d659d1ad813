import type { Change, Entry } from '../store/store.js'
import type { AliveRecord, HostRecord } from './keys.js'
import { keys } from './keys.js'

export interface HostsDeps {
  /** this host's name */
  host: string
  /** to be told before a host's VTEP changes here */
  vtepChanging: (host: string) => void
  /** somebody has deleted this host's record */
  ownDeleted: () => void
}

/** The hosts of the cluster, as the store tells them. */
export class Hosts {
  readonly #deps: HostsDeps
  readonly #vteps = new Map<string, string>()
  readonly #alive = new Set<string>()
  /** ISO 8601; of hosts that have gone down while we watched */
  readonly #lastSeen = new Map<string, string>()

  constructor(deps: HostsDeps) {
    this.#deps = deps
  }

  vtepOf(host: string): string | undefined {
    return this.#vteps.get(host)
  }

  isAlive(host: string): boolean {
    return this.#alive.has(host)
  }

  lastSeen(host: string): string | undefined {
    return this.#lastSeen.get(host)
  }

  readonly records = {
    reset: (entries: readonly Entry<HostRecord>[]): void => {
      const names = new Set(entries.map(({ value }) => value.name))
      if (!names.has(this.#deps.host)) this.#deps.ownDeleted()
      for (const name of this.#vteps.keys()) if (!names.has(name)) this.#setVtep(name, '')
      for (const { value } of entries) this.#setVtep(value.name, value.vtep)
    },
    apply: (changes: readonly Change<HostRecord>[]): void => {
      for (const change of changes) {
        if (change.type === 'put') this.#setVtep(change.value.name, change.value.vtep)
        else if (change.key === keys.host(this.#deps.host)) this.#deps.ownDeleted()
        else this.#setVtep(nameIn(change.key), '')
      }
    },
  }

  readonly alive = {
    reset: (entries: readonly Entry<AliveRecord>[]): void => {
      const names = new Set(entries.map(({ key }) => nameIn(key)))
      for (const name of [...this.#alive]) if (!names.has(name)) this.#gone(name)
      for (const name of names) this.#alive.add(name)
    },
    apply: (changes: readonly Change<AliveRecord>[]): void => {
      for (const { type, key } of changes) type === 'put' ? this.#alive.add(nameIn(key)) : this.#gone(nameIn(key))
    },
  }

  #gone(name: string): void {
    this.#alive.delete(name)
    this.#lastSeen.set(name, new Date().toISOString())
  }

  #setVtep(name: string, vtep: string): void {
    if ((this.#vteps.get(name) ?? '') === vtep) return
    this.#deps.vtepChanging(name)
    if (vtep === '') this.#vteps.delete(name)
    else this.#vteps.set(name, vtep)
  }
}

/** Of `host/NAME` or `alive/NAME`. */
const nameIn = (key: string): string => key.slice(key.indexOf('/') + 1)
