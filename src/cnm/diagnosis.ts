/** What is wrong, and why something does not get through: what the API shows of `tsnet doctor` and `tsnet explain`. Plain data. */

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

export interface ExplainSpec {
  /** a sandbox, an endpoint, a container, `host`, or an address */
  from: string
  /** the same, and for a port `:PORT[/PROTOCOL]` after it */
  to: string
}

/** One rule or chain that the probe met, as the kernel told it. */
export interface TraceStep {
  /** `the host`, or whose namespace it is */
  where: string
  /** `inet tsnet` */
  table: string
  chain: string
  /** as nft writes it; absent: the chain's policy, or its end */
  rule?: string
  /** as `nft -a` shows it */
  handle?: string
  /** `accept`, `drop`, `continue`, `jump ours`, ... */
  verdict: string
  /** names of links */
  iif?: string
  oif?: string
  /** `10.30.0.2 -> 10.30.0.3`: of the packet as it was there */
  packet: string
  /** it is an answer to the probe */
  answer: boolean
}

/** What became of the one probe. */
export interface ProbeReport {
  /** `ICMP echo`, `TCP connection`, ... from where to where */
  words: string
  result: 'answered' | 'refused' | 'silent' | 'unsent'
  /** absent where the kernel told nothing: no nftables here */
  trace?: TraceStep[]
}

export interface Explanation {
  from: string
  to: string
  /** it gets through; false: `cause` says what stops it */
  works: boolean
  /** the way, hop by hop */
  hops: Check[]
  /** absent where none could be sent: from outside of this host, or because a hop before has nothing to send it by */
  probe?: ProbeReport
  /** absent where it works */
  cause?: { words: string; fix?: string }
}

/** Both change nothing; what they need for a probe is gone when they return. */
export interface Diagnosis {
  doctor(): Promise<DoctorReport>
  /** A name that means nothing is a cause, not an error. @throws {NetError} InvalidParameter: these are no two ends */
  explain(spec: ExplainSpec): Promise<Explanation>
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
