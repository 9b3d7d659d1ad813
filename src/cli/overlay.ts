import type { HostReport, OverlayCheck, OverlayReport } from '../cnm/specs.js'
import { type Column, formatTable } from './output.js'
import { print, printJson, type Session } from './session.js'

/** A column of the matrix for each check. */
const headers: Record<OverlayCheck, string> = {
  links: 'LINKS',
  mtu: 'MTU',
  fdb: 'FDB',
  neighbours: 'NEIGHBOURS',
  reach: 'REACH',
}

const states: Record<HostReport['state'], string> = { answered: 'up', silent: 'silent', down: 'down' }

/** `ok`, how many things are wrong, or `-` where nobody has looked. */
const cellOf = (check: OverlayCheck, { checked, found }: HostReport): string => {
  const wrong = found.filter(finding => finding.check === check).length
  return wrong > 0 ? String(wrong) : checked.includes(check) ? 'ok' : '-'
}

const columns: readonly Column<HostReport>[] = [
  ['HOST', host => host.host],
  ['STATE', host => states[host.state]],
  ...Object.entries(headers).map(
    ([check, header]): Column<HostReport> => [header, host => cellOf(check as OverlayCheck, host)],
  ),
]

/** A row a host, a column a check; then what is wrong, a line each. Exit code 1 when anything is. */
export async function verifyOverlay({ client, json, quiet }: Session, network: string): Promise<void> {
  const report = await client.post<OverlayReport>(['networks', network, 'verify'])
  if (json) printJson(report)
  else if (!quiet) print(formatReport(report))
  if (!report.ok) process.exitCode = 1
}

export const formatReport = ({ hosts }: OverlayReport): string =>
  formatTable(columns, hosts) + hosts.map(linesOf).join('')

function linesOf({ host, state, found }: HostReport): string {
  const wrong = found.map(({ words }) => words)
  if (state === 'silent') wrong.push('the daemon is up, but has not answered in time')
  if (state === 'down') wrong.push('the daemon has not been heard of; what it should have is not verified')
  return wrong.map(words => `${host}: ${words}\n`).join('')
}
