import type { Network } from '../cnm/types.js'
import { conflict, NetError, unavailable } from '../errors.js'
import { askDocker, type DockerAnswer } from './api.js'

/** The oldest dockerd that we have tried: 20.10. Docker's API of that time is in every later one (moby api/swagger.yaml). */
const oldestApi = '1.41'
/** Making a network, dockerd calls us back several times, and those calls may wait for a store. */
const createMs = 60_000
const wanted = 'which is to have the network'

interface DockerNetwork {
  Id: string
  Name: string
  Driver: string
  Options: Record<string, string> | null
}

/** What a Docker network is bound to. */
export type Bound = Pick<Network, 'id' | 'name' | 'subnets' | 'internal' | 'dockerNetworkIds'>

/**
 * Have dockerd make a network that is bound to one of ours: `docker network create -d PLUGIN -o network=NAME --ipam-driver
 * PLUGIN --ipam-opt network=NAME --subnet .. --gateway .. NAME`. One that is there already and bound to the same is fine.
 * Returns Docker's id of it.
 * @throws {NetError} Unavailable: no dockerd there, or too old a one. Conflict: Docker has another network of that name
 */
export async function ensureDockerNetwork(
  socketPath: string,
  network: Bound,
  { name, plugin }: { name: string; plugin: string },
): Promise<string> {
  await checkVersion(socketPath)
  const known = await findNetwork(socketPath, name)
  if (known !== undefined) {
    if (isBound(known, network, plugin)) return known.Id
    throw conflict(
      `Docker has a network ${name} already, of driver ${known.Driver}, which is not bound to ${network.name}: remove it, or choose another name with --name`,
    )
  }
  const answer = await askDocker(
    socketPath,
    { method: 'POST', path: `/v${oldestApi}/networks/create`, body: dockerNetworkOf(network, name, plugin) },
    { wanted, timeoutMs: createMs },
  )
  if (answer.status === 201) return (JSON.parse(answer.body) as { Id: string }).Id
  throw new NetError(
    answer.status === 409 ? 'Conflict' : 'Unavailable',
    `dockerd refuses network ${name}: ${reasonOf(answer)}`,
  )
}

async function checkVersion(socketPath: string): Promise<void> {
  const answer = await askDocker(socketPath, { path: '/version' }, { wanted })
  const { ApiVersion = '0', Version = 'unknown' } = parse<{ ApiVersion?: string; Version?: string }>(socketPath, answer)
  if (isOlder(ApiVersion, oldestApi))
    throw unavailable(
      `dockerd on ${socketPath} is of version ${Version} with API ${ApiVersion}: it must be 20.10 or later, with API ${oldestApi}`,
    )
}

function isOlder(version: string, than: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [leastMajor = 0, leastMinor = 0] = than.split('.').map(Number)
  return major < leastMajor || (major === leastMajor && minor < leastMinor)
}

/** By its exact name: dockerd's filter finds parts of names too. */
async function findNetwork(socketPath: string, name: string): Promise<DockerNetwork | undefined> {
  const filters = encodeURIComponent(JSON.stringify({ name: [name] }))
  const answer = await askDocker(socketPath, { path: `/v${oldestApi}/networks?filters=${filters}` }, { wanted })
  return parse<DockerNetwork[]>(socketPath, answer).find(({ Name }) => Name === name)
}

const isBound = ({ Id, Driver, Options }: DockerNetwork, network: Bound, plugin: string): boolean =>
  Driver === plugin &&
  (Id === network.id ||
    network.dockerNetworkIds.includes(Id) ||
    [network.name, network.id].includes(Options?.network ?? ''))

/**
 * The body of POST /networks/create. The subnets are said: left to choose, dockerd asks an IPAM driver for another one for
 * as long as it gets one that the host has a route to, and the host has one to this network.
 */
function dockerNetworkOf({ name: bound, subnets, internal }: Bound, name: string, plugin: string): object {
  // those of other Docker networks are theirs
  const own = subnets.filter(({ dockerNetworkId }) => dockerNetworkId === undefined)
  const options = { network: bound }
  return {
    Name: name,
    CheckDuplicate: true,
    Driver: plugin,
    Internal: internal,
    EnableIPv6: own.some(({ family }) => family === 6),
    Options: options,
    IPAM: {
      Driver: plugin,
      Options: options,
      Config: own.map(({ subnet, gateway }) => ({
        Subnet: subnet,
        ...(gateway === undefined ? {} : { Gateway: gateway }),
      })),
    },
  }
}

function parse<T>(socketPath: string, answer: DockerAnswer): T {
  try {
    if (answer.status === 200) return JSON.parse(answer.body) as T
  } catch (error) {
    throw unavailable(`what answers on ${socketPath} is not dockerd`, { cause: error })
  }
  throw unavailable(`dockerd on ${socketPath} says ${answer.status}: ${reasonOf(answer)}`)
}

/** dockerd explains itself in `{"message": ".."}`. */
function reasonOf({ status, body }: DockerAnswer): string {
  try {
    return String((JSON.parse(body) as { message: unknown }).message)
  } catch {
    return body.trim() || `status ${status}`
  }
}
