import fc from 'fast-check'
import { afterAll, expect } from 'vitest'

// Input that nobody means well: how much of it, of which kinds, and what has to be said about every case.

/** Of each kind: 5,000 in a normal run, more where the environment says so (`scripts/test --long`, `scripts/soak`). */
export const cases = Number(process.env.TSNET_HOSTILE_CASES ?? 5_000)
/** The normal run tries the same cases every time, so that it says something of a change; the long one always others. */
export const runs = { numRuns: cases, ...(process.env.TSNET_HOSTILE_CASES === undefined && { seed: 20_261_121 }) }
/** For all cases of a kind, on a machine that has much else to do. */
export const patientMs = 120_000 + cases * 50
/** More than this nothing may take. Of this process's own time: what others have taken of a busy machine says nothing. */
const longestMs = 1_000

/** Of the processor, by this process, since it started. */
export const spentMs = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}

/** Counts what became of the cases of one kind, and prints it at the end. */
export class Tally {
  tried = 0
  refused = 0
  answered = 0
  slowestMs = 0

  constructor(readonly what: string) {
    afterAll(() => console.log(this.words))
  }

  get words(): string {
    const { what, tried, refused, answered, slowestMs } = this
    return `hostile ${what}: ${tried} cases tried, ${refused} refused, ${answered} answered, slowest ${slowestMs.toFixed(1)} ms of processor time`
  }

  add(refused: boolean, ms: number): void {
    this.tried++
    refused ? this.refused++ : this.answered++
    this.slowestMs = Math.max(this.slowestMs, ms)
    expect(ms).toBeLessThan(longestMs)
  }

  /** Time one synchronous case; false from `work` is a refusal. */
  time(work: () => boolean): void {
    const start = spentMs()
    const answered = work()
    this.add(!answered, spentMs() - start)
  }
}

const nastyTexts = [
  '',
  ' ',
  '\0',
  '..',
  '../../etc/passwd',
  '/',
  '%00',
  '%',
  '__proto__',
  'constructor',
  'x'.repeat(5_000),
  '\u202e\ufeff',
  '\ud800',
  '\n{"a":1}',
  '10.0.0.0/99',
  '0.0.0.0/0',
  '::/0',
  '999.1.1.1',
  '10.30.0.2%eth0',
  '; nft flush ruleset',
  '$(reboot)',
  '-rf',
  '"; drop',
]
const nastyValues = [null, true, false, 0, -1, 1.5, 2 ** 31, 2 ** 53, -0, 1e308, [], {}, [[]], [null], { '': '' }]

/** Any value of JSON, the bad ones that people think of more often than chance would. */
export const anyValue: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom<unknown>(...nastyTexts) },
  { weight: 2, arbitrary: fc.constantFrom<unknown>(...nastyValues) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
)

type Place = { holder: Record<string, unknown>; key: string }

function placesIn(value: unknown, depth = 0): Place[] {
  if (typeof value !== 'object' || value === null || depth > 20) return []
  const holder = value as Record<string, unknown>
  // not by the name of the prototype, which would be changed for everybody
  const keys = Object.keys(holder).filter(key => key !== '__proto__')
  return keys.flatMap(key => [{ holder, key }, ...placesIn(holder[key], depth + 1)])
}

const often = ['replace', 'replace', 'remove', 'add'] as const
const ways = [...often, ...often, ...often, ...often, 'many', 'deep'] as const

/** A right value with some of its parts replaced, removed, doubled or given neighbours that do not belong there. */
export const mutated = (whole: unknown): fc.Arbitrary<unknown> =>
  fc.array(fc.tuple(fc.nat(1_000), fc.nat(ways.length - 1), anyValue), { minLength: 1, maxLength: 3 }).map(changes => {
    const box = { whole: structuredClone(whole) }
    let multiplied = false
    for (const [pick, way, value] of changes) {
      const how = ways[way]
      const places = placesIn(box)
      const place = places[pick % places.length]
      if (place === undefined) continue
      const { holder, key } = place
      if (how === 'replace') holder[key] = structuredClone(value)
      else if (how === 'add') holder[`${key}x`] = structuredClone(value)
      else if (how === 'many' && multiplied) continue
      else if (how === 'many') {
        multiplied = true
        const one = holder[key]
        holder[key] = Array.from({ length: 300 }, () => one)
      } else if (how === 'deep') holder[key] = JSON.parse(`${'['.repeat(1_000)}${']'.repeat(1_000)}`)
      else if (Array.isArray(holder)) holder.splice(Number(key), 1)
      else if (key !== 'whole') delete holder[key]
    }
    return box.whole
  })

/** Bytes with some of them changed, cut off, or doubled. */
export const damaged = (bytes: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> =>
  fc
    .record({ bytes, changes: fc.array(fc.tuple(fc.nat(0xffff), fc.nat(255)), { maxLength: 8 }), cut: fc.nat(0xffff) })
    .map(({ bytes, changes, cut }) => {
      const copy = Buffer.from(bytes)
      if (copy.length === 0) return copy
      for (const [at, byte] of changes) copy[at % copy.length] = byte
      if (cut % 4 === 0) return copy.subarray(0, cut % copy.length)
      return cut % 4 === 1 ? Buffer.concat([copy, copy.subarray(cut % copy.length)]) : copy
    })

/** A body: mostly JSON that is nearly right, sometimes JSON of anything, text that is damaged, or noise. */
export const anyBody = (whole: unknown): fc.Arbitrary<Buffer> => {
  const nearly = mutated(whole).map(value => Buffer.from(JSON.stringify(value) ?? ''))
  return fc.oneof(
    { weight: 7, arbitrary: nearly },
    { weight: 1, arbitrary: fc.constant(Buffer.from(JSON.stringify(whole))) },
    { weight: 2, arbitrary: damaged(nearly) },
    { weight: 1, arbitrary: anyValue.map(value => Buffer.from(JSON.stringify(value) ?? '')) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes)) },
  )
}
