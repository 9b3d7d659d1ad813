import { expect } from 'vitest'
import type { Explanation } from '../../src/cnm/diagnosis.js'
import type { BareHost } from './host.js'
import { until } from './machine.js'

/** Something that is made wrong on purpose, what explain is asked about it, and what it has to say. */
export interface Fault {
  name: string
  /** shell commands on the host; absent: it is made wrong by how things were set up */
  make?: string
  mend?: string
  from: string
  to: string
  cause: RegExp
  fix?: RegExp
  /** what is asked when all is well again; absent: the same */
  well?: [from: string, to: string]
}

/** What explain says, by the API: the command line prints the same, and takes its time to start. */
export const explained = (host: BareHost, from: string, to: string): Explanation =>
  host.request<Explanation>('POST', '/explain', { from, to })

/** Prepared and named so far, for the line of figures at the end. */
export class FaultCount {
  readonly prepared: string[] = []
  readonly named: string[] = []

  /** Make it wrong, have it explained, and see that it is said to work again when it is mended. */
  async judge(host: BareHost, { name, make, mend, from, to, cause, fix, well }: Fault): Promise<void> {
    this.prepared.push(name)
    try {
      // the daemon may repair it meanwhile: then it is made wrong again
      const got = await until(`${name} to be named`, () => this.#broken(host, make, from, to, cause), 15_000).catch(
        () => explained(host, from, to),
      )
      expect(got.cause?.words).toMatch(cause)
      if (fix !== undefined) expect(got.cause?.fix).toMatch(fix)
    } finally {
      if (mend !== undefined) host.run('sh', '-c', mend)
    }
    if (make !== undefined || well !== undefined) await this.#expectWell(host, ...(well ?? ([from, to] as const)))
    this.named.push(name)
  }

  #broken(host: BareHost, make: string | undefined, from: string, to: string, cause: RegExp): Explanation | undefined {
    if (make !== undefined) host.run('sh', '-c', make)
    const got = explained(host, from, to)
    return !got.works && cause.test(got.cause?.words ?? '') ? got : undefined
  }

  async #expectWell(host: BareHost, from: string, to: string): Promise<void> {
    await until(`${from} to reach ${to} again`, () => explained(host, from, to).works, 15_000).catch(() =>
      expect(explained(host, from, to)).toEqual(expect.objectContaining({ works: true })),
    )
  }

  print(where: string): void {
    console.log(`explain, ${where}: ${this.prepared.length} faults prepared, ${this.named.length} named`)
  }
}
