import { invalid, notFound } from '../errors.js'
import type { Endpoint } from './types.js'

// How objects are put in order, and found by what a user calls them.

/** Endpoints of one moment stand in the order of their ids: the same before and after a restart. */
export const byAge = (a: Endpoint, b: Endpoint): number =>
  a.createdAt === b.createdAt ? order(a.id, b.id) : order(a.createdAt, b.createdAt)

export const byName = (a: { name: string }, b: { name: string }): number => order(a.name, b.name)

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** By name, or by the start of an id that fits only one. @throws {NetError} NotFound, InvalidParameter */
export function find<T extends { id: string; name: string }>(ref: string, all: readonly T[], what: string): T {
  const byName = all.find(object => object.name === ref)
  if (byName !== undefined) return byName
  const byStart = /^[0-9a-f]{3,}$/.test(ref) ? all.filter(object => object.id.startsWith(ref)) : []
  if (byStart.length > 1) throw invalid(`${what} ${ref} could be ${byStart.map(object => object.name).join(' or ')}`)
  if (byStart[0] === undefined) throw notFound(`there is no ${what} ${ref}`)
  return byStart[0]
}
