import type { ReconcileReport } from '../cnm/specs.js'
import { packageVersion } from '../version.js'
import { complain, printJson, printLines, type Session } from './session.js'

export async function reconcile({ client, json }: Session, flags: { dryRun?: true }): Promise<void> {
  const report = await client.post<ReconcileReport>(['reconcile'], { dryRun: flags.dryRun ?? false })
  if (json) printJson(report)
  else printLines(report.changes)
  for (const failure of report.failures) process.exitCode = complain(failure)
}

/** The client's own version is printed even when no daemon answers. */
export async function showVersion({ client, json, quiet }: Session): Promise<void> {
  const own = { version: packageVersion(), node: process.versions.node }
  let daemon: Record<string, unknown> | null = null
  try {
    daemon = await client.get<Record<string, unknown>>('version')
  } catch (error) {
    process.exitCode = complain(error)
  }
  if (json) printJson({ client: own, daemon })
  else if (quiet) printLines([own.version])
  else printLines([wordsOf('client', own), ...(daemon === null ? [] : [wordsOf('daemon', daemon)])])
}

/** `client: version 0.1.0, node 20.20.2` */
const wordsOf = (who: string, fields: Record<string, unknown>): string =>
  `${who}: ${Object.entries(fields)
    .map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join(', ')}`
