import type { ExtraHost } from '../cnm/types.js'
import { invalid } from '../errors.js'

/** How the text after a flag becomes a value. Each throws InvalidParameter; repeatable flags get what they had so far. */

export const collect = (text: string, before: string[] | undefined): string[] => [...(before ?? []), text]

/** A repeatable `KEY=VALUE`; a key counts once, since one of two values would be lost without a word. */
export const collectPairs =
  (flag: string) =>
  (text: string, before: Record<string, string> | undefined): Record<string, string> => {
    const at = text.indexOf('=')
    if (at < 1) throw invalid(`${flag} ${text} must be KEY=VALUE`)
    const key = text.slice(0, at)
    if (before !== undefined && Object.hasOwn(before, key)) throw invalid(`${flag} ${key} is given twice`)
    // fromEntries, since assigning to __proto__ would not make a key
    return Object.fromEntries([...Object.entries(before ?? {}), [key, text.slice(at + 1)]])
  }

/** `CIDR[,VIA]`: a route on the link, or through a next hop. The daemon checks the addresses. */
export function parseRoute(text: string): { destination: string; via?: string } {
  const [destination = '', via, ...rest] = text.split(',')
  if (destination === '' || via === '' || rest.length > 0) throw invalid(`--route ${text} must be CIDR or CIDR,VIA`)
  return { destination, ...(via !== undefined && { via }) }
}

/** A repeatable `NAME:IP`; an address of IPv6 has colons of its own. */
export function collectHosts(text: string, before: ExtraHost[] | undefined): ExtraHost[] {
  const at = text.indexOf(':')
  if (at < 1) throw invalid(`--add-host ${text} must be NAME:IP`)
  const address = text.slice(at + 1).replace(/^\[(.*)\]$/, '$1')
  return [...(before ?? []), { name: text.slice(0, at), address }]
}

export function parsePid(text: string): number {
  const pid = Number(text)
  if (!/^\d+$/.test(text) || pid < 1 || pid > 2 ** 22) throw invalid(`--pid ${text} must be the id of a process`)
  return pid
}

const unitsMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** A time (ISO 8601, or seconds since 1970), or how long ago: `10m`, `1h30m`. */
export const parseTime =
  (flag: string) =>
  (text: string): Date => {
    const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g)]
    if (parts.length > 0 && parts.map(([part]) => part).join('') === text)
      return new Date(
        Date.now() -
          parts.reduce((sum, [, number, unit]) => sum + Number(number) * unitsMs[unit as keyof typeof unitsMs], 0),
      )
    const date = new Date(/^\d+(\.\d+)?$/.test(text) ? Number(text) * 1_000 : text)
    if (text === '' || Number.isNaN(date.getTime()))
      throw invalid(`${flag} ${text} must be a time, such as 2026-01-31T12:00:00Z, or how long ago, such as 10m`)
    return date
  }
