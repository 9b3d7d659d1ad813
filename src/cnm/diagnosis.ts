/** What is wrong: what the API shows of `tsnet doctor`. */

export type Health = 'ok' | 'warn' | 'fail'

/** One thing that was looked at. */
export interface Check {
  state: Health
  /** what was looked at: `sysctl`, `network web`, `route` */
  what: string
  /** a sentence with the values found */
  words: string
  /** what to do, as a command where there is one; absent where nothing is wrong */
  fix?: string
}

export interface DoctorReport {
  /** nothing fails; there may be warnings */
  ok: boolean
  checks: Check[]
}

/** Looks, and changes nothing. */
export interface Diagnosis {
  doctor(): Promise<DoctorReport>
}

export const ok = (what: string, words: string): Check => ({ state: 'ok', what, words })
export const warn = (what: string, words: string, fix?: string): Check => ({
  state: 'warn',
  what,
  words,
  ...optional(fix),
})
export const fail = (what: string, words: string, fix?: string): Check => ({
  state: 'fail',
  what,
  words,
  ...optional(fix),
})

const optional = (fix: string | undefined): { fix?: string } => (fix === undefined ? {} : { fix })
