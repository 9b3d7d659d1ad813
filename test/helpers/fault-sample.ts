import { random } from './random.js'

/** `TSNET_FAULT_STEPS=all`: every step of every operation, by itself and with its undoing */
export const isLong = process.env.TSNET_FAULT_STEPS === 'all'
export const seed = Number(process.env.TSNET_TEST_SEED ?? 1)

/** of the steps that are like one that was tried before, one in so many is tried too */
const rarity = { alone: 24, withUndo: 20 }

/**
 * Which steps are made to fail, of all that there are: in the long form all. Otherwise of each kind of step one for each driver, and
 * of the others a sample, which is the same every time unless there is a seed.
 */
export class FaultSample {
  readonly #below = random(seed)
  readonly #kinds = new Set<string>()

  /** `withUndo`: every later step fails too. */
  takes(driver: string, name: string, withUndo: boolean): boolean {
    if (isLong) return true
    if (withUndo) return this.#below(rarity.withUndo) === 0
    const kind = `${driver} ${kindOf(name)}`
    const isNew = !this.#kinds.has(kind)
    this.#kinds.add(kind)
    return isNew || this.#below(rarity.alone) === 0
  }
}

/** Without names, numbers and addresses, and however many there are of a thing. */
const kindOf = (name: string): string =>
  name
    .replace(/tst-flt-[\w-]+|\S*[0-9a-f]{12,}\S*|\S*\d[\w.:/-]*/g, '#')
    .replace(/#[ ,.{}#]*#/g, '#')
    .replace(/(\w+ \w+\/)\S*/g, '$1')
