import { type DaemonOptions, daemonOptionTable, tlsOf } from './cli/daemon-options.js'
import { messageOf } from './errors.js'
import type { AdjustableLog } from './log.js'
import type { TlsFiles } from './net/tls.js'

interface Adjustable {
  log: AdjustableLog
  renewTls(files: TlsFiles): void
}

type Changeable = 'logLevel' | 'tlsCa' | 'tlsCert' | 'tlsKey'
const changeable: ReadonlySet<string> = new Set<Changeable>(['logLevel', 'tlsCa', 'tlsCert', 'tlsKey'])

/**
 * Take from new options what can be changed while the daemon runs, certificates also where only the files have changed.
 * Of everything else the log says that it waits for a restart; options that are wrong change nothing.
 * @returns what holds now
 */
export async function changeOptions(
  current: DaemonOptions,
  read: () => Promise<DaemonOptions>,
  { log, renewTls }: Adjustable,
): Promise<DaemonOptions> {
  let wanted: DaemonOptions
  try {
    wanted = await read()
    const tls = tlsOf(wanted)
    if (tls !== undefined && current.listen !== undefined) renewTls(tls)
  } catch (error) {
    log.error({ error: messageOf(error) }, 'the configuration is wrong: everything stays as it was')
    return current
  }
  const { logLevel, tlsCa, tlsCert, tlsKey } = wanted
  log.level = logLevel
  // named by their flags only: a value may be a store with its password
  const waiting = differences(current, wanted).filter(key => !changeable.has(key))
  for (const key of waiting)
    log.warn({ option: daemonOptionTable[key].flag }, 'this option cannot change while the daemon runs: restart it')
  log.info({ logLevel, waiting: waiting.length }, 'the configuration was read again')
  return { ...current, logLevel, ...(current.listen !== undefined && { tlsCa, tlsCert, tlsKey }) }
}

const differences = (a: DaemonOptions, b: DaemonOptions): (keyof DaemonOptions)[] =>
  (Object.keys(daemonOptionTable) as (keyof DaemonOptions)[]).filter(
    key => JSON.stringify(a[key]) !== JSON.stringify(b[key]),
  )
