import type { Check, DoctorReport, Health } from '../cnm/diagnosis.js'
import { kindOf, messageOf } from '../errors.js'
import { packageVersion } from '../version.js'
import { readConfigFile } from './daemon.js'
import { parseDaemonOptions } from './daemon-options.js'
import { placesOf } from './places.js'
import { print, printJson, type Session } from './session.js'

export const signs: Record<Health, string> = { ok: '✓', warn: '!', fail: '✗' }

/** A line each with a sign, and under what is wrong what to do. Exit code 1 when anything fails. */
export async function doctor({ client, json, quiet }: Session): Promise<void> {
  const report = await examineBoth(client)
  if (json) printJson(report)
  else print(formatReport(report, quiet))
  if (!report.ok) process.exitCode = 1
}

async function examineBoth(client: Session['client']): Promise<DoctorReport> {
  try {
    const { version } = await client.get<{ version?: string }>('version')
    const report = await client.get<DoctorReport>('doctor')
    return { ...report, checks: [versionCheck(version), ...report.checks] }
  } catch (error) {
    if (kindOf(error) !== 'Unavailable') throw error
    // what can be seen without a daemon is all the more worth seeing
    const { examineAlone } = await import('../diagnosis/doctor.js')
    const options = parseDaemonOptions({}, {}, await readConfigFile(undefined))
    return await examineAlone(placesOf(options), messageOf(error))
  }
}

function versionCheck(daemon = 'unknown'): Check {
  const own = packageVersion()
  if (daemon === own) return { state: 'ok', what: 'daemon', words: `it runs, version ${daemon} as this command` }
  return {
    state: 'warn',
    what: 'daemon',
    words: `it runs version ${daemon}, and this command is version ${own}`,
    fix: 'systemctl restart tsnet    # the network goes on meanwhile',
  }
}

/** `quiet`: only what is wrong. */
export function formatReport({ checks }: DoctorReport, quiet = false): string {
  const shown = quiet ? checks.filter(({ state }) => state !== 'ok') : checks
  if (quiet) return formatChecks(shown)
  const count = (state: Health): number => checks.filter(check => check.state === state).length
  return `${formatChecks(shown)}${count('ok')} ok, ${count('warn')} to look at, ${count('fail')} wrong\n`
}

/** `✗ sysctl   net.ipv4.ip_forward is 0: ...`, and below it `fix: ...`. */
export function formatChecks(checks: readonly Check[]): string {
  const width = Math.max(0, ...checks.map(({ what }) => what.length))
  return checks
    .map(({ state, what, words, fix }) => {
      const line = `${signs[state]} ${what.padEnd(width)}  ${words}\n`
      return fix === undefined ? line : `${line}${' '.repeat(width + 4)}fix: ${fix}\n`
    })
    .join('')
}
