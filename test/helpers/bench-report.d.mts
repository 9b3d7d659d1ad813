import type { Curve, Group } from './bench-plot.mjs'

export const begin: string
export const end: string
export function parseResults(text: string): object[]
export function textTable(results: readonly object[]): string
export function markdownTable(results: readonly object[]): string
export function groupsOf(results: readonly object[]): Group[]
export function curvesOf(results: readonly object[]): Curve[]
export function withMachine<T extends object>(results: readonly T[]): T[]
/** Of two runs: how many of the values with a margin kept it, which did not, and how far those without moved. */
export function comparison(before: readonly object[], after: readonly object[]): string
export function withTable(document: string, table: string): string
