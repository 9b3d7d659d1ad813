import { join } from 'node:path'
import type { Places } from '../diagnosis/doctor.js'
import type { DaemonOptions } from './daemon-options.js'

/** The socket at which dockerd looks for the driver. */
export const pluginSocketOf = ({ pluginDir, pluginName }: DaemonOptions): string =>
  join(pluginDir, `${pluginName}.sock`)

/** Where a daemon of these options has what others need of it. */
export const placesOf = (options: DaemonOptions): Places => ({
  pluginSocket: pluginSocketOf(options),
  dockerSocket: options.dockerSocket,
  stateDir: options.stateDir,
  ...(options.store.kind === 'etcd' ? { etcd: options.store } : {}),
})
