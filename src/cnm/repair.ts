import type { EndpointDeps } from './endpoints.js'
import { take, wantedNetworks } from './reconcile.js'
import type { ReconcileReport } from './specs.js'

// What other programs do to what is ours, and what we do about it at once.

/** Run something while every network is locked, so that nothing of them is on its way. */
type WithNetworks = <T>(work: () => Promise<T>) => Promise<T>

/** The firewall's share of a reconcile; `cause` says which program did what. Says whether there was anything to repair; throws when something could not be. */
export async function repairFirewall(deps: EndpointDeps, cause: string, withNetworks: WithNetworks): Promise<boolean> {
  const report: ReconcileReport = { dryRun: false, changes: [], failures: [] }
  await withNetworks(async () => {
    const steps = await deps.drivers.planFirewall(wantedNetworks(deps))
    if (steps.length > 0) tellDamage(deps, cause)
    for (const step of steps) await take(deps, step, report)
  })
  if (report.failures[0] !== undefined) throw new Error(report.failures[0])
  return report.changes.length > 0
}

/** What is done about it is told as any other reconcile. */
export function tellDamage(deps: EndpointDeps, cause: string): void {
  deps.events.emit({ type: 'host', action: 'damage', words: cause })
  deps.log.warn({ cause }, 'another program has changed what is ours')
}
