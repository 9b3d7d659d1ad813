import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Host } from './host.js'
import { repo, until } from './machine.js'

/**
 * A real systemd as service manager of a host, with the units of packaging/systemd/ as they are, but for what the tests
 * change by drop-ins: where the program is, and that its log is kept. (The machine has no other services to depend on.)
 */
export class Systemd {
  #pid = ''

  constructor(readonly host: Host) {}

  get log(): string {
    return readFileSync(join(this.host.dir, 'unit.log'), 'utf8')
  }

  async start(): Promise<void> {
    const { host } = this
    const units = host.path('/run/units')
    mkdirSync(units)
    for (const file of readdirSync(join(repo, 'packaging/systemd')))
      writeFileSync(
        join(units, file),
        `${readFileSync(join(repo, 'packaging/systemd', file))}\n[Unit]\nDefaultDependencies=no\n`,
      )
    writeFileSync(
      join(units, 'test.target'),
      '[Unit]\nDefaultDependencies=no\nWants=tsnet.socket tsnet-plugin.socket\n',
    )
    this.dropIn(
      'program',
      `ExecStart=\nExecStart=${process.execPath} ${join(repo, 'dist/tsnet.js')} daemon`,
      `StandardError=append:${join(host.dir, 'unit.log')}`,
    )
    // Mounts of services are seen by the machine as on a host; what systemd says of itself goes to a file.
    const prepare = `set -e
      mount --make-rshared /
      touch /run/console && mount --bind /run/console /dev/console
      for root in $(findmnt -nr -t cgroup,cgroup2 -o TARGET); do
        mkdir -p "$root${host.cgroup}" && echo $$ >"$root${host.cgroup}/cgroup.procs" || true
      done 2>/dev/null
      exec env container=test SYSTEMD_UNIT_PATH=/run/units unshare --fork --pid --mount --mount-proc --propagation unchanged \\
        --kill-child --cgroup /usr/lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no`
    const { pid } = await host.serve('systemd', 'bash', '-c', prepare)
    const children = host.path(`/proc/${pid}/task/${pid}/children`)
    await until(
      'systemd to listen for us',
      () => {
        host.assertRuns('systemd')
        this.#pid = readFileSync(children, 'utf8').trim()
        return (
          this.#pid !== '' && this.tryRun('systemctl', 'is-active', 'tsnet.socket', 'tsnet-plugin.socket').status === 0
        )
      },
      30_000,
    )
  }

  /** In systemd's own numbering of processes. */
  tryRun(...command: string[]) {
    return this.host.tryRun('nsenter', '-t', this.#pid, '-p', '-m', '--', ...command)
  }

  systemctl(...args: string[]): string {
    const got = this.tryRun('systemctl', ...args)
    if (got.status !== 0) throw new Error(`systemctl ${args.join(' ')}: ${got.stderr}${got.stdout}`)
    return got.stdout.trim()
  }

  show(property: string): string {
    return this.systemctl('show', 'tsnet.service', '--value', '-p', property)
  }

  /** `/proc/PID/status` of the daemon, as fields. */
  status(): Map<string, string> {
    const { stdout } = this.tryRun('cat', `/proc/${this.show('MainPID')}/status`)
    return new Map(stdout.split('\n').map(line => line.split(':\t') as [string, string]))
  }

  /** Lines of the section [Service] that apply from the next start on. */
  dropIn(name: string, ...lines: string[]): void {
    const dir = this.host.path('/run/units/tsnet.service.d')
    mkdirSync(dir, { recursive: true })
    writeFileSync(join(dir, `${name}.conf`), `${['[Service]', ...lines].join('\n')}\n`)
    if (this.#pid !== '') this.systemctl('daemon-reload')
  }

  async stop(): Promise<void> {
    await this.host.end('systemd', 'KILL')
  }
}
