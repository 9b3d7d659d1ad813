import type { Diagnosis } from '../../src/cnm/diagnosis.js'

/** Finds one thing wrong with a host that has nothing. */
export const fakeDiagnosis: Diagnosis = {
  doctor: async () => ({
    ok: false,
    checks: [
      { state: 'ok', what: 'kernel', words: 'Linux 6.1 makes veth links' },
      { state: 'fail', what: 'sysctl', words: 'net.ipv4.ip_forward is 0', fix: 'sysctl -w net.ipv4.ip_forward=1' },
    ],
  }),
  explain: async ({ from, to }) => ({
    ...{ from, to, works: false },
    hops: [{ state: 'fail', what: 'route', words: `from ${from}, there is no route`, fix: 'tsnet reconcile' }],
    cause: { words: 'there is no route', fix: 'tsnet reconcile' },
  }),
}
