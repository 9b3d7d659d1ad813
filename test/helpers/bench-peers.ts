import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { inNetns, openNetns } from '../../src/netlink/netns.js'

// Programs of others that attach a namespace to a bridge and publish a port of it, as their container engines call them.

export interface Peer {
  name: string
  /** why it cannot be measured here */
  missing?: string
  /** `path` is the namespace's, number `i` */
  attach(i: number, path: string): void
  detach(i: number, path: string): void
}

const hostPortOf = (i: number): number => 40_000 + i

/** Run a program in the network namespace of a process, with JSON as its input; what it prints. */
function call(pid: number, argv: string[], input: object, env: Record<string, string> = {}): Record<string, unknown> {
  const netns = openNetns(`/proc/${pid}/ns/net`)
  try {
    const [command = '', ...args] = argv
    const options = {
      input: JSON.stringify(input),
      encoding: 'utf8',
      env: { PATH: process.env.PATH ?? '', ...env },
    } as const
    const got = inNetns(netns, () => spawnSync(command, args, options))
    if (got.status !== 0) throw new Error(`${argv.join(' ')}: ${got.stdout}${got.stderr}`)
    return JSON.parse(got.stdout || '{}') as Record<string, unknown>
  } finally {
    netns.close()
  }
}

const cniDir = '/usr/lib/cni'

/** The plugins bridge (with host-local) and portmap, one after the other, as libcni calls a list of plugins. */
export function cni(pid: number, dir: string): Peer {
  const results = new Map<number, Record<string, unknown>>()
  const common = { cniVersion: '0.4.0', name: 'cni' }
  const bridge = {
    ...common,
    type: 'bridge',
    bridge: 'cni0',
    isGateway: true,
    ipMasq: true,
    ipam: {
      type: 'host-local',
      dataDir: join(dir, 'cni'),
      ranges: [[{ subnet: '10.87.0.0/16' }]],
      routes: [{ dst: '0.0.0.0/0' }],
    },
  }
  const portmap = (i: number) => ({
    ...common,
    type: 'portmap',
    runtimeConfig: { portMappings: [{ hostPort: hostPortOf(i), containerPort: 80, protocol: 'tcp' }] },
    prevResult: results.get(i),
  })
  const run = (verb: string, plugin: string, config: object, i: number, path: string) =>
    call(pid, [join(cniDir, plugin)], config, {
      ...{ CNI_COMMAND: verb, CNI_CONTAINERID: `c${i}`, CNI_NETNS: path, CNI_IFNAME: 'eth0', CNI_PATH: cniDir },
    })
  return {
    name: 'CNI bridge + portmap',
    ...(existsSync(join(cniDir, 'portmap')) ? {} : { missing: 'containernetworking-plugins is not installed' }),
    attach(i, path) {
      results.set(i, run('ADD', 'bridge', bridge, i, path))
      run('ADD', 'portmap', portmap(i), i, path)
    },
    detach(i, path) {
      run('DEL', 'portmap', portmap(i), i, path)
      run('DEL', 'bridge', bridge, i, path)
    },
  }
}

const netavarkProgram = '/usr/lib/podman/netavark'

/** Podman's, without a name server. */
export function netavark(pid: number, dir: string): Peer {
  const id = 'bead'.repeat(16)
  const options = (i: number) => ({
    container_id: `${i}`.padStart(64, '0'),
    container_name: `n${i}`,
    port_mappings: [{ container_port: 80, host_ip: '', host_port: hostPortOf(i), protocol: 'tcp', range: 1 }],
    networks: { bench: { static_ips: [`10.88.${1 + (i >> 7)}.${1 + (i & 127)}`], interface_name: 'eth0' } },
    network_info: {
      bench: {
        ...{ name: 'bench', id, driver: 'bridge', network_interface: 'podman9' },
        subnets: [{ subnet: '10.88.0.0/16', gateway: '10.88.0.1' }],
        ...{ ipv6_enabled: false, internal: false, dns_enabled: false },
        ipam_options: { driver: 'host-local' },
      },
    },
  })
  const run = (verb: string, i: number, path: string) =>
    call(pid, [netavarkProgram, '--config', dir, verb, path], options(i))
  return {
    name: 'netavark',
    ...(existsSync(netavarkProgram) ? {} : { missing: 'netavark is not installed' }),
    attach: (i, path) => void run('setup', i, path),
    detach: (i, path) => void run('teardown', i, path),
  }
}
