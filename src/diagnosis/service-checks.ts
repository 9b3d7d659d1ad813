import { get as getHttp, type IncomingMessage, request } from 'node:http'
import { get as getHttps } from 'node:https'
import { type Check, fail, ok, warn } from '../cnm/diagnosis.js'
import type { Network } from '../cnm/types.js'
import { askDocker } from '../dockerd/api.js'
import { kindOf, messageOf } from '../errors.js'
import { shortId } from '../names.js'
import { type EtcdOptions, readTls } from '../store/etcd-url.js'

// Those that the daemon works with: dockerd at its plugin socket, dockerd's own API, and the members of an etcd.

const patienceMs = 2_000

/** dockerd speaks to this socket: `Plugin.Activate` is what it says first. */
export function pluginCheck(socketPath: string): Promise<Check> {
  const fix = 'systemctl restart tsnet    # or: tsnet daemon; then try again'
  return new Promise(resolve => {
    const failed = (why: string) => resolve(fail('plugin', `dockerd gets no answer on ${socketPath}: ${why}`, fix))
    const outgoing = request({ socketPath, method: 'POST', path: '/Plugin.Activate', agent: false }, response => {
      response.resume()
      const { statusCode } = response
      if (statusCode === 200) resolve(ok('plugin', `dockerd finds the driver at ${socketPath}`))
      else failed(`it says ${statusCode}`)
    })
    outgoing.setTimeout(patienceMs, () => outgoing.destroy(new Error(`nothing within ${patienceMs} ms`)))
    outgoing.on('error', (error: Error) => failed(error.message))
    outgoing.end()
  })
}

/**
 * Networks that Docker had us make and that dockerd does not know: our answer was lost, or its data were removed. Nobody
 * else will ever remove them, and they keep their subnets.
 */
export async function dockerNetworkChecks(
  socketPath: string,
  pluginSocket: string,
  networks: readonly Pick<Network, 'id' | 'name' | 'createdBy' | 'scope' | 'dockerNetworkIds'>[],
): Promise<Check[]> {
  const wanted = { wanted: 'which tells what networks it has', timeoutMs: patienceMs }
  // that it does not answer is said elsewhere
  const answer = await askDocker(socketPath, { path: '/networks' }, wanted).catch(() => undefined)
  if (answer?.status !== 200) return []
  const known = new Set((JSON.parse(answer.body) as { Id: string }[]).map(({ Id }) => Id))
  return networks.flatMap(({ id, name, createdBy, scope, dockerNetworkIds }) => {
    const unless = '# unless another dockerd has it'
    const bound = dockerNetworkIds.filter(each => !known.has(each))
    if (createdBy === 'docker' && scope === 'local' && !known.has(id)) {
      const words = `Docker had it made, and dockerd on ${socketPath} does not know it`
      return [warn(`network ${name}`, words, `tsnet network rm ${name}    ${unless}`)]
    }
    return bound.map(each => {
      const words = `Docker network ${shortId(each)} is bound to it, and dockerd on ${socketPath} does not know that one`
      const call = `curl --unix-socket ${pluginSocket} -d '{"NetworkID":"${each}"}' http://tsnet/NetworkDriver.DeleteNetwork`
      return warn(`network ${name}`, words, `${call}    ${unless}`)
    })
  })
}

/** The first whose remote plugins can do all that is needed. */
const oldestDocker = 20

/** @param needed how many of this host's networks are Docker's */
export async function dockerCheck(socketPath: string, needed: number): Promise<Check> {
  try {
    const { status, body } = await askDocker(
      socketPath,
      { path: '/version' },
      { wanted: 'which tells what its containers are called', timeoutMs: patienceMs },
    )
    if (status !== 200) return warn('dockerd', `dockerd on ${socketPath} says ${status} when asked for its version`)
    const { Version = 'unknown' } = JSON.parse(body) as { Version?: string }
    if (Number.parseInt(Version, 10) < oldestDocker)
      return warn(
        'dockerd',
        `dockerd is ${Version}, and ${oldestDocker}.10 is the oldest that was tried`,
        'upgrade Docker',
      )
    return ok('dockerd', `dockerd ${Version} answers on ${socketPath}`)
  } catch (error) {
    const words = `${messageOf(error)}: names of containers are not known`
    if (kindOf(error) === 'Forbidden') return fail('dockerd', words, 'run the daemon as root')
    if (needed > 0)
      return fail('dockerd', `${words}, and ${needed} networks here are Docker's`, 'systemctl start docker')
    return ok('dockerd', `no dockerd answers on ${socketPath}, and no network here is Docker's`)
  }
}

/** Each member by itself: hosts go on with one that answers, but a cluster that has lost half of them stands still. */
export async function etcdChecks(options: EtcdOptions): Promise<Check[]> {
  const found = await Promise.all(options.endpoints.map(endpoint => memberCheck(options, endpoint)))
  const silent = found.filter(({ state }) => state !== 'ok').length
  if (silent < found.length) return found.map(check => (check.state === 'fail' ? { ...check, state: 'warn' } : check))
  const all = `etcd does not answer at ${options.endpoints.join(', ')}: what concerns other hosts is refused until it does`
  return [fail('etcd', all, 'systemctl status etcd    # on those hosts, and see that port 2379 is open'), ...found]
}

async function memberCheck(options: EtcdOptions, endpoint: string): Promise<Check> {
  const fix = `curl http${options.tls ? 's' : ''}://${endpoint}/health`
  try {
    const health = JSON.parse(await fetchText(options, endpoint, '/health')) as { health?: string; reason?: string }
    if (health.health !== 'true')
      return fail('etcd', `member ${endpoint} is not well: ${health.reason || 'it has no leader'}`, fix)
    const { etcdserver = 'unknown' } = JSON.parse(await fetchText(options, endpoint, '/version')) as {
      etcdserver?: string
    }
    return ok('etcd', `member ${endpoint} is well, etcd ${etcdserver}`)
  } catch (error) {
    return fail('etcd', `member ${endpoint} does not answer: ${messageOf(error)}`, fix)
  }
}

function fetchText({ tls }: EtcdOptions, endpoint: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const answered = (response: IncomingMessage): void => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      response.on('end', () => resolve(text))
      response.on('error', reject)
    }
    const outgoing =
      tls === undefined
        ? getHttp(`http://${endpoint}${path}`, { agent: false }, answered)
        : getHttps(`https://${endpoint}${path}`, { agent: false, ...readTls(tls) }, answered)
    // a deadline, not a pause between two bytes
    const timer = setTimeout(() => outgoing.destroy(new Error(`nothing within ${patienceMs} ms`)), patienceMs)
    outgoing.on('close', () => clearTimeout(timer))
    outgoing.on('error', reject)
  })
}
