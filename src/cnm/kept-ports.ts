import { del, type Operation, put, type Store } from '../store/store.js'
import type { PortSpec } from './types.js'

/** What `tsnet publish add` has published for a container of Docker's, by its name: the container's next life has another endpoint. */
export interface LivePorts {
  networkId: string
  name: string
  /** none: nothing is kept */
  ports: PortSpec[]
}

const prefix = 'live-ports/'
const keyOf = ({ networkId, name }: Omit<LivePorts, 'ports'>): string => `${prefix}${networkId}/${name}`

/** The state's records of these: a copy in memory, changed after the store has taken the change. See docker-ports.ts. */
export class KeptPorts {
  readonly #all = new Map<string, LivePorts>()

  async load(store: Store): Promise<void> {
    for (const { key, value } of (await store.list<LivePorts>(prefix)).entries) this.#all.set(key, value)
  }

  all(): LivePorts[] {
    return [...this.#all.values()]
  }

  of(networkId: string, name: string): PortSpec[] {
    return this.#all.get(keyOf({ networkId, name }))?.ports ?? []
  }

  operations(changes: readonly LivePorts[]): Operation[] {
    return changes.map(of => (of.ports.length === 0 ? del(keyOf(of)) : put(keyOf(of), of)))
  }

  commit(changes: readonly LivePorts[]): void {
    for (const of of changes)
      if (of.ports.length === 0) this.#all.delete(keyOf(of))
      else this.#all.set(keyOf(of), of)
  }
}
