import type { Family, PortBinding } from '../cnm/types.js'
import type { Element } from './elements.js'

export interface FilteredNetwork {
  /** name of the bridge link */
  bridge: string
  subnets: readonly { family: Family; subnet: string }[]
  internal: boolean
  /** source addresses are replaced by the host's on the way out */
  masquerade: boolean
  /** endpoints of the network may talk to each other */
  icc: boolean
}

/** What the firewall must hold for a network; pure. */
export declare function networkElements(network: FilteredNetwork): Element[]
/** What the firewall must hold for a published port; pure. Empty where the in-process proxy serves it (v6 host address to v4 container). */
export declare function bindingElements(binding: PortBinding): Element[]
