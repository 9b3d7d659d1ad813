import { join } from 'node:path'
import { expect } from 'vitest'
import type { EndpointView } from '../../src/cnm/specs.js'
import { formatBinding, parsePortSpec } from '../../src/ports/spec.js'
import { addresses, Host } from './host.js'
import { repo, until } from './machine.js'
import type { Vantage } from './vantage.js'
import { askAll, startServe } from './vantage.js'

export const net4 = (n: number): string => `10.${n}.0.0/24`
export const net6 = (n: number): string => `fd00:${n}::/64`
export const four = (n: number, last = 2): string => `10.${n}.0.${last}`
export const six = (n: number, last = 2): string => `fd00:${n}::${last}`

const served = ['80/tcp', '8000/tcp', '8001/tcp', '53/udp']

/** A host with networks of many kinds, and a machine outside that has routes to all of them. */
export class ModesWorld {
  private constructor(readonly host: Host) {}

  static async start(...daemonOptions: string[]): Promise<ModesWorld> {
    const host = await Host.start()
    await host.startTsnet(...daemonOptions)
    for (let n = 30; n < 40; n++) {
      host.outside.run('ip', 'route', 'add', net4(n), 'via', addresses.host4)
      host.outside.run('ip', 'route', 'add', net6(n), 'via', addresses.host6)
    }
    await startServe(host.outside, 'outside', ['80/tcp'])
    await startServe(host, 'host', ['4000/tcp'])
    const world = new ModesWorld(host)
    world.network('lab', 30)
    await world.box('lab1', 'lab', '8080:80')
    return world
  }

  /** 10.N.0.0/24 and fd00:N::/64 */
  network(name: string, n: number, options: Record<string, string> = {}): void {
    this.host.request('POST', '/networks', { name, subnets: [net4(n), net6(n)], options })
  }

  /** A sandbox with published ports (`8080:80`), where everything that is published or not has a server behind it. */
  async box(name: string, on: string, ...specs: string[]): Promise<void> {
    const { host } = this
    host.request('POST', '/sandboxes', { name })
    host.request('POST', `/networks/${on}/connect`, { sandbox: name, ports: specs.map(parsePortSpec) })
    const place = host.sandbox(name)
    await host.serve(`serve-${name}`, ...place.argv, join(repo, 'test/helpers/serve'), name, ...served)
    const own = served.map(port => `${port.split('/')[1]} 127.0.0.1 ${port.split('/')[0]}`)
    await until(`${name} to serve`, () => !Object.values(askAll(place, own)).includes('nothing'), 20_000)
  }

  publish(name: string, spec: string, how: { from?: string[]; replace?: boolean } = {}): void {
    const { from, replace = false } = how
    const port = { ...parsePortSpec(spec), ...(from && { from }) }
    this.host.request('POST', `/endpoints/${name}/publish`, { port, replace })
  }

  unpublish(name: string, spec: string): void {
    this.host.request('POST', `/endpoints/${name}/unpublish`, { port: parsePortSpec(spec) })
  }

  bindings(name: string): string[] {
    const endpoint = this.host.request<EndpointView[]>('GET', '/endpoints').find(candidate => candidate.name === name)
    return endpoint!.bindings.map(formatBinding)
  }

  refusal(...args: string[]): string {
    const { status, stderr } = this.host.tryTsnet(...args)
    return `${status} ${stderr.trim()}`
  }

  settled(): void {
    const { changes } = this.host.request<{ changes: unknown[] }>('POST', '/reconcile', { dryRun: true })
    expect(changes).toEqual([])
  }

  /** For each target what answers there: `lab1 10.30.0.3` is a server and the client's address as it sees it. */
  expectPaths(from: Vantage, want: Record<string, string>): void {
    const got = askAll(from, Object.keys(want))
    // silence is asked for once; an answer gets the time that a busy machine needs
    let late = Object.keys(want).filter(target => got[target] === 'nothing' && want[target] !== 'nothing')
    for (let tries = 0; late.length > 0 && tries < 5; tries++) {
      const again = askAll(from, late, 3)
      Object.assign(got, again)
      late = late.filter(target => again[target] === 'nothing')
    }
    expect(got).toEqual(want)
  }
}
