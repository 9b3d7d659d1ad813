import { readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addresses, Host, pluginPath, socketPath } from '../helpers/host.js'
import { image } from '../helpers/image.js'
import { repo, until } from '../helpers/machine.js'
import { Systemd } from '../helpers/systemd.js'

// The units of packaging/systemd/ under a real systemd: sockets that are there first, exactly these capabilities, a seccomp
// filter, notifications and the watchdog. Everything that the daemon does has to work so.

let host: Host
let systemd: Systemd

beforeAll(async () => {
  host = await Host.start()
  systemd = new Systemd(host)
  await systemd.start()
})
afterAll(() => host?.stop())

const owner = (path: string): string => host.run('stat', '-c', '%a %U:%G', path).trim()
const allowed = 'cap_net_bind_service,cap_net_admin,cap_net_raw,cap_sys_admin'

test('systemd finds nothing to object to in the units, and little that they leave open', () => {
  const dir = join(repo, 'packaging/systemd')
  const units = readdirSync(dir).map(name => join(dir, name))
  const { stdout, stderr } = host.tryRun('systemd-analyze', 'verify', ...units)
  expect((stdout + stderr).replace(/^.*Command \/usr\/local\/bin\/tsnet is not executable.*\n/m, '')).toBe('')
  const level = host.run('systemd-analyze', 'security', '--offline=yes', join(dir, 'tsnet.service'))
  expect(Number(/exposure level for tsnet.service: ([\d.]+)/.exec(level)?.[1])).toBeLessThan(5)
})

test('the sockets are there before the daemon, for root and docker alone; who asks first starts it', () => {
  expect(systemd.show('ActiveState')).toBe('inactive')
  expect([socketPath, pluginPath].map(owner)).toEqual(['660 root:docker', '600 root:root'])
  expect(['/run/tsnet', '/run/docker/plugins'].map(owner)).toEqual(['711 root:root', '700 root:root'])
  expect(host.tsnet('version')).toContain('daemon: version')
  expect([systemd.show('ActiveState'), systemd.show('StatusText')]).toEqual(['active', 'answering'])
  expect(owner('/var/lib/tsnet')).toBe('700 root:root')
  expect(owner('/var/lib/tsnet/tsnet.lmdb')).toBe('600 root:root')
})

test('the daemon may do what the unit says and nothing else', () => {
  const status = systemd.status()
  const words = (set: string) =>
    host
      .run('capsh', `--decode=${status.get(set)}`)
      .trim()
      .split('=')[1]
  expect(['CapPrm', 'CapEff', 'CapBnd'].map(words)).toEqual([allowed, allowed, allowed])
  expect([status.get('NoNewPrivs'), status.get('Seccomp')]).toEqual(['1', '2'])
})

/** Has the daemon read a configuration file from its next start on. */
function configure(...lines: string[]): void {
  const file = join(host.dir, 'config.yaml')
  writeFileSync(file, `${lines.join('\n')}\n`)
  const command = `${process.execPath} ${join(repo, 'dist/tsnet.js')} daemon --config ${file}`
  // sorted after `program`, whose command it replaces
  systemd.dropIn('run', 'ExecStart=', `ExecStart=${command}`)
}

test.each(['nftables', 'iptables'])(
  'with exactly these all that a host needs works by %s, and goes without a trace',
  async firewall => {
    configure(`firewall: ${firewall}`)
    systemd.systemctl('restart', 'tsnet.service')
    expect(host.tryRun('iptables', '-t', 'nat', '-S', 'TSNET-HAIRPIN').status === 0).toBe(firewall === 'iptables')
    const before = host.snapshot()
    host.request('POST', '/networks', { name: 'lab', subnets: ['10.30.0.0/24'], ipv6: true })
    const range = { subnets: ['198.51.100.0/24'], ipRanges: ['198.51.100.64/27'] }
    host.request('POST', '/networks', { name: 'lan', driver: 'macvlan', options: { parent: 'uplink0' }, ...range })
    for (const name of ['box', 'peer']) host.request('POST', '/sandboxes', { name })
    const port = { first: 80, last: 80 }
    const ports = [{ protocol: 'tcp', hostPort: port, containerPort: port }]
    const options = { sysctls: 'net.ipv4.conf.IFNAME.log_martians=1' }
    host.request('POST', '/networks/lab/connect', { sandbox: 'box', ports, options })
    host.request('POST', '/networks/lab/connect', { sandbox: 'peer' })
    host.request('POST', '/networks/lan/connect', { sandbox: 'peer' })
    const socat = ['socat', 'TCP-LISTEN:80,fork,reuseaddr', 'SYSTEM:echo hello']
    await host.serve('web', 'ip', 'netns', 'exec', 'box', ...socat)
    const ask = () => host.outside.tryRun('socat', '-T5', '-', `TCP:${addresses.host4}:80`).stdout
    await until('an answer from outside', () => ask() === 'hello\n')
    for (const name of ['box', addresses.outside4])
      expect(host.tsnet('exec', 'peer', '--', 'ping', '-c1', '-W5', name)).toContain('1 received')
    expect(host.request('POST', '/reconcile', { dryRun: true })).toMatchObject({ changes: [], failures: [] })
    await host.end('web', 'KILL')
    for (const name of ['box', 'peer']) host.request('DELETE', `/sandboxes/${name}`)
    for (const name of ['lab', 'lan']) host.request('DELETE', `/networks/${name}`)
    await until('everything to be as before', () => host.snapshot() === before)
  },
)

test('the namespace of a process that may do more is refused, saying what to do, and what that says works', async () => {
  const shell = await host.serve('shell', 'unshare', '--net', 'sleep', '600')
  // systemd's processes do not have the machine's numbers: by path, as the daemon sees them
  const pid = systemd.tryRun('sh', '-c', 'unshare --net sleep 600 >/dev/null 2>&1 & echo $!').stdout.trim()
  const got = host.tryTsnet('sandbox', 'create', 'adopted', '--pid', pid)
  expect([got.status, got.stderr]).toEqual([3, expect.stringMatching(/CAP_SYS_PTRACE.*"ip netns attach NAME PID"/)])
  host.run('ip', 'netns', 'attach', 'given', shell.pid)
  host.tsnet('sandbox', 'create', 'adopted', '--netns', '/run/netns/given')
  host.tsnet('sandbox', 'rm', 'adopted')
  systemd.tryRun('kill', pid)
  await host.end('shell', 'KILL')
  host.run('ip', 'netns', 'delete', 'given')
})

test('dockerd finds the driver on the socket that waits for it, and containers work', async () => {
  await host.startDocker()
  systemd.systemctl('stop', 'tsnet.service')
  host.docker('network', 'create', '-d', 'tsnet', '--subnet', '10.40.0.0/24', 'web')
  expect(systemd.show('ActiveState')).toBe('active')
  host.docker('run', '-d', '--name', 'shop', '--network', 'web', '-p', '81:80', image, 'sleep', '600')
  expect(host.docker('exec', 'shop', 'ping', '-c1', '-W5', '10.40.0.1')).toContain('1 packets received')
  expect(host.tsnet('ps')).toContain('shop')
  host.docker('rm', '-f', 'shop')
  host.docker('network', 'rm', 'web')
  await host.stopDocker()
})

test('reload reads the configuration again, and says what waits', async () => {
  configure('firewall: nftables', 'host-name: other')
  systemd.systemctl('reload', 'tsnet.service')
  await until('the new configuration', () => systemd.log.includes('the configuration was read again'))
  expect(systemd.log).toMatch(/"option":"host-name".*this option cannot change while the daemon runs/)
  expect(systemd.show('ActiveState')).toBe('active')
})

test('a daemon that hangs is started again by the watchdog, and what is attached stays', async () => {
  host.request('POST', '/networks', { name: 'lab', subnets: ['10.30.0.0/24'] })
  host.request('POST', '/sandboxes', { name: 'box' })
  host.request('POST', '/networks/lab/connect', { sandbox: 'box', ip: '10.30.0.2' })
  systemd.dropIn('watchdog', 'WatchdogSec=2')
  systemd.systemctl('restart', 'tsnet.service')
  const before = systemd.show('MainPID')
  systemd.tryRun('kill', '-STOP', before)
  expect(host.tryRun('ping', '-c1', '-W5', '10.30.0.2').status).toBe(0)
  await until('another daemon', () => !['0', before].includes(systemd.show('MainPID')), 30_000)
  expect(host.request('GET', '/sandboxes')).toHaveLength(1)
  expect(systemd.show('NRestarts')).toBe('1')
  host.request('DELETE', '/sandboxes/box')
  host.request('DELETE', '/networks/lab')
})

test('stop ends it well and leaves the sockets, which are the manager’s', () => {
  systemd.systemctl('stop', 'tsnet.service')
  expect([systemd.show('ActiveState'), systemd.show('Result')]).toEqual(['inactive', 'success'])
  expect(statSync(host.path(socketPath)).isSocket()).toBe(true)
  expect(host.tsnet('version')).toContain('daemon: version')
})
