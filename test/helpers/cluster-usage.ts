import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { type ClusterHost, type ClusterWorld, keyPrefix } from './cluster-world.js'
import { socketPath } from './host.js'
import { type Machine, repo } from './machine.js'

// What things cost a daemon and etcd, for the measurements.

/** Of a host's daemon: memory in MiB, and seconds of processor time since it began. */
export function usageOf(host: Machine): { memoryMiB: number; cpuSeconds: number } {
  const pid = host.run('pgrep', '-of', 'tsnet.js daemon').trim()
  const kiB = Number(/VmRSS:\s+(\d+)/.exec(host.run('cat', `/proc/${pid}/status`))?.[1])
  const ticks = host.run('cat', `/proc/${pid}/stat`).split(') ')[1]!.split(' ')
  return { memoryMiB: kiB / 1024, cpuSeconds: (Number(ticks[11]) + Number(ticks[12])) / 100 }
}

/** Of etcd: transactions that changed something so far, keys of the cluster, and how much disk they take. */
export async function etcdUsage(world: ClusterWorld): Promise<{ revision: number; keys: number; diskMiB: number }> {
  interface Status {
    Status: { header: { revision: number }; dbSize: number }
  }
  const [{ Status }] = JSON.parse(await world.etcd.ctl('endpoint', 'status', '-w', 'json')) as [Status]
  // etcd counts all of them, and sends one
  const counted = await world.etcd.ctl('get', keyPrefix, '--prefix', '--limit', '1', '--keys-only', '-w', 'json')
  const { count = 0 } = JSON.parse(counted) as { count?: number }
  return { revision: Status.header.revision, keys: count, diskMiB: Status.dbSize / (1 << 20) }
}

export interface Delays {
  count: number
  medianMs: number
  p99Ms: number
  mostMs: number
}

/** How long a host's API took to answer a small question while something else happened. */
export async function delaysDuring(host: ClusterHost, work: () => Promise<void>): Promise<Delays> {
  const argv = [join(repo, 'test/helpers/api-latency.mjs'), host.path(socketPath)]
  const child = spawn(process.execPath, argv, { stdio: ['pipe', 'pipe', 'inherit'] })
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    said += part
  })
  await once(child.stdout, 'data')
  await work()
  child.stdin.end()
  await once(child, 'close')
  return JSON.parse(said.split('\n')[1]!) as Delays
}
