import type { NetworkView } from '../cnm/specs.js'
import { ensureDockerNetwork } from '../dockerd/networks.js'
import { needSameHost, printJson, printLines, type Session } from './session.js'

/** What the daemon says of itself. */
interface About {
  /** its `--plugin-name` */
  plugin: string
  /** its `--docker-socket` */
  dockerSocket: string
}

/** Asked from here, not by the daemon, which dockerd calls back meanwhile. */
export async function attach(
  session: Session,
  ref: string,
  flags: { name?: string; dockerSocket?: string },
): Promise<void> {
  const { client, json } = session
  needSameHost(session, 'docker attach')
  const { plugin, dockerSocket } = await client.get<About>('version')
  const network = await client.get<NetworkView>('networks', ref)
  const name = flags.name ?? network.name
  const id = await ensureDockerNetwork(flags.dockerSocket ?? dockerSocket, network, { name, plugin })
  if (json) printJson({ id, name })
  else printLines([id])
}
