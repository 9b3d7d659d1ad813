import { type Check, type Health, ok } from '../cnm/diagnosis.js'

/** One hop of a way. */
export interface Hop extends Check {
  /** it is wrong even where a probe gets through: some packets do not, or somebody else answered */
  lasting?: true
}

export const lasting = (hop: Hop): Hop => ({ ...hop, lasting: true })

/** Only what is wrong, or else one line that says that it is well. */
export const orWell = (wrong: readonly Hop[], what: string, words: string): Hop[] =>
  wrong.length > 0 ? [...wrong] : [ok(what, words)]

export const isWrong = ({ state }: { state: Health }): boolean => state === 'fail'
