import type { PortRange, Protocol } from '../cnm/types.js'

/** One row of one set or map of ruleset.nft. (To become derived from the table of sets.) */
export type Element = { set: string; protocol?: Protocol; ports?: PortRange } & Record<string, unknown>

/** Two elements with the same key are the same row; a map's row may differ in its value. */
export declare function keyOf(element: Element): string
export declare function sameElement(a: Element, b: Element): boolean
