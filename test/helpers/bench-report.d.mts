import type { Curve, Group } from './bench-plot.mjs'

export const begin: string
export const end: string
export function parseResults(text: string): object[]
export function textTable(results: readonly object[]): string
export function markdownTable(results: readonly object[]): string
export function groupsOf(results: readonly object[]): Group[]
export function curvesOf(results: readonly object[]): Curve[]
export function withTable(document: string, table: string): string
