import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { EndpointView } from '../../src/cnm/specs.js'
import { addresses, Host } from './host.js'
import { until } from './machine.js'
import { ask, endServe, isClosed, startServe } from './vantage.js'

const { host4, host6, outside4, outside6 } = addresses
/**
 * Ports of what runs already: published, limited to some clients, moved and unpublished, with the connections that they carry;
 * by a daemon with these options.
 */
export function publishLive(...daemonOptions: string[]): void {
  let host: Host
  let bare: string

  /** whatever a network or a port can leave behind, by either backend */
  const everything = (): string => {
    const saved = ['iptables-save', 'ip6tables-save'].flatMap(program => host.run(program).split('\n'))
    return [host.snapshot(), ...saved.filter(line => line.startsWith('-A TSNET-')).sort()].join('\n')
  }

  beforeAll(async () => {
    host = await Host.start()
    await host.startTsnet(...daemonOptions)
  })
  afterAll(() => host?.stop())

  beforeEach(async () => {
    bare = everything()
    host.tsnet('network', 'create', 'lab', '--subnet', '10.30.0.0/24', '--subnet', 'fd00:30::/64')
    for (const name of ['blue', 'green']) {
      host.tsnet('sandbox', 'create', name)
      host.tsnet('connect', 'lab', name)
      await startServe(host, name, ['80/tcp', '53/udp'], host.sandbox(name))
    }
  })
  afterEach(async () => {
    for (const name of ['blue', 'green']) await endServe(host, name)
    host.tsnet('sandbox', 'rm', 'blue', 'green')
    host.tsnet('network', 'rm', 'lab')
    expect(everything()).toBe(bare)
  })

  const bindings = (name: string) =>
    host.tsnetJson<EndpointView[]>('ps').find(endpoint => endpoint.name === name)!.bindings
  const add = (...args: string[]) => host.tsnet('publish', 'add', ...args)
  const refusal = (...args: string[]) => {
    const { status, stderr } = host.tryTsnet('publish', ...args)
    return `${status} ${stderr.trim()}`
  }
  /** Flows of published ports as conntrack(8) lists them, for a host port. */
  const flowsTo = (protocol: string, port: number) =>
    host.run('conntrack', '-L', '-p', protocol, '--orig-port-dst', String(port)).split('\n').filter(Boolean)

  describe('publish', () => {
    test('add makes a port reachable, ls lists it, rm ends it', () => {
      expect(add('blue', '8080:80').split('\n')).toEqual(['0.0.0.0:8080->80/tcp', '[::]:8080->80/tcp'])
      expect(ask(host.outside, 'tcp', host4, 8080)).toEqual({ name: 'blue', peer: outside4 })
      expect(ask(host.outside, 'tcp', host6, 8080)).toEqual({ name: 'blue', peer: outside6 })
      expect(ask(host, 'tcp', '::1', 8080)?.name).toBe('blue')
      const row = /^lab +blue +0\.0\.0\.0:8080->80\/tcp +- +8080:80 +yes$/m
      expect(host.tsnet('publish', 'ls')).toMatch(row)
      expect(host.tsnet('publish', 'ls', 'green')).not.toMatch(row)
      host.tsnet('publish', 'rm', 'blue', '8080:80')
      expect(isClosed(host.outside, 'tcp', host4, 8080)).toBe(true)
      expect(bindings('blue')).toEqual([])
    })

    test('what it publishes lasts through restarts of the daemon, however that ended', async () => {
      add('blue', '8080:80', '--from', '198.51.100.0/24')
      add('blue', '53')
      const before = bindings('blue')
      await host.stopTsnet()
      await host.startTsnet(...daemonOptions)
      await host.killTsnet()
      await host.startTsnet(...daemonOptions)
      expect(bindings('blue')).toEqual(before)
      expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('blue')
      expect(isClosed(host.outside, 'tcp', host6, 8080)).toBe(true)
    })

    test('rm also ends what connect -p published', () => {
      host.tsnet('disconnect', 'lab', 'blue')
      host.tsnet('connect', 'lab', 'blue', '-p', '8080:80', '-p', '8081:80')
      host.tsnet('publish', 'rm', 'blue', '8080:80')
      expect(isClosed(host.outside, 'tcp', host4, 8080)).toBe(true)
      expect(bindings('blue').map(({ hostPort }) => hostPort)).toEqual([8081, 8081])
    })

    test('with --from only these clients come in, and the host itself', () => {
      add('blue', '8080:80', '--from', outside4)
      expect(ask(host.outside, 'tcp', host4, 8080)?.peer).toBe(outside4)
      // listed for one family, closed for the other
      expect(isClosed(host.outside, 'tcp', host6, 8080)).toBe(true)
      add('green', '8081:80', '--from', '10.0.0.0/8', '--from', '10.30.0.0/16', '--from', 'fd00::/8')
      expect(isClosed(host.outside, 'tcp', host4, 8081)).toBe(true)
      expect(ask(host.sandbox('blue'), 'tcp', host4, 8081)?.name).toBe('green')
      expect(ask(host, 'tcp', host4, 8081)?.name).toBe('green')
      expect(ask(host, 'tcp', '127.0.0.1', 8081)?.name).toBe('green')
      expect(ask(host, 'tcp', '::1', 8081)?.name).toBe('green')
      // by way of the daemon's own listener too: from one family to the other
      host.tsnet('publish', 'rm', 'green', '8081:80')
      add('green', `[${host6}]:8082:80`, '--from', 'fd00::/8')
      expect(isClosed(host.outside, 'tcp', host6, 8082)).toBe(true)
    })

    test('--from of a UDP port, and of a range', () => {
      add('blue', '5353:53/udp', '--from', '203.0.113.0/24')
      expect(isClosed(host.outside, 'udp', host4, 5353)).toBe(true)
      add('blue', '5353:53/udp', '--from', outside4, '--replace')
      expect(ask(host.outside, 'udp', host4, 5353)?.name).toBe('blue')
      add('green', '80-82:80-82', '--from', outside6)
      expect(ask(host.outside, 'tcp', host6, 80)?.name).toBe('green')
      expect(isClosed(host.outside, 'tcp', host4, 80)).toBe(true)
    })

    test('what cannot be is refused in one sentence, and changes nothing', () => {
      add('blue', '8080:80')
      const before = [bindings('blue'), bindings('green')]
      expect(refusal('add', 'green', '8080:80')).toMatch(
        /^5 tsnet: .*port 8080\/tcp on 0\.0\.0\.0 is in use by endpoint blue$/,
      )
      expect(refusal('add', 'blue', '8080:80')).toMatch(
        /^5 tsnet: .*blue publishes it already \(it has 0\.0\.0\.0:8080->80\/tcp/,
      )
      expect(refusal('add', 'red', '8081:80')).toMatch(/^4 tsnet: .*nothing called red is attached to a network$/)
      expect(refusal('add', 'blue', '8081:80', '--network', 'nowhere')).toMatch(
        /^4 tsnet: .*there is no network nowhere$/,
      )
      expect(refusal('rm', 'blue', '8081:80')).toMatch(/^4 tsnet: .*blue publishes no 8081:80 on network lab/)
      expect(refusal('add', 'blue', '80', '--replace')).toMatch(/^2 tsnet: .*needs a host port/)
      expect(refusal('add', 'blue', '8081:80', '--from', 'everybody')).toMatch(
        /^2 tsnet: .*source "everybody" is not an address/,
      )
      expect([bindings('blue'), bindings('green')]).toEqual(before)
    })

    test('--replace moves a port under a running load without a single connection refused', async () => {
      add('blue', '8080:80')
      const end = join(host.outside.dir, 'end')
      const load = host.outside.start('node', '-e', client, host4, '8080', end)
      for (const to of ['green', 'blue', 'green', 'blue', 'green']) {
        await new Promise(resolve => setTimeout(resolve, 500))
        add(to, '8080:80', '--replace')
      }
      await new Promise(resolve => setTimeout(resolve, 1000))
      writeFileSync(end, '')
      const { stdout, stderr } = await load
      expect(stderr).toBe('')
      const got = JSON.parse(stdout) as Record<string, number>
      expect(Object.keys(got).sort()).toEqual(['blue', 'green'])
      expect(got.blue! + got.green!).toBeGreaterThan(100) // as many as a busy machine makes of 200 a second
      expect(ask(host.outside, 'tcp', host4, 8080)?.name).toBe('green')
      expect(ask(host, 'tcp', '::1', 8080)?.name).toBe('green')
      expect(bindings('blue')).toEqual([])
    })
  })

  describe('flows', () => {
    /** Somebody outside who sends a datagram from one port every 50 ms, and prints each answer. */
    const talk = async (seconds: number) =>
      (await host.outside.start('node', '-e', talker, host4, '5353', String(seconds * 1000))).stdout.trim().split('\n')

    test('of a removed UDP port end, and no others', async () => {
      add('blue', '5353:53/udp')
      add('green', '5354:53/udp')
      expect(ask(host.outside, 'udp', host4, 5353)?.name).toBe('blue')
      expect(ask(host.outside, 'udp', host4, 5354)?.name).toBe('green')
      expect([flowsTo('udp', 5353).length, flowsTo('udp', 5354).length]).toEqual([1, 1])
      host.tsnet('publish', 'rm', 'blue', '5353:53/udp')
      expect([flowsTo('udp', 5353).length, flowsTo('udp', 5354).length]).toEqual([0, 1])
    })

    test('of a sandbox that is disconnected end', () => {
      add('blue', '5353:53/udp')
      expect(ask(host.outside, 'udp', host4, 5353)?.name).toBe('blue')
      host.tsnet('disconnect', 'lab', 'blue')
      expect(flowsTo('udp', 5353)).toEqual([])
      host.tsnet('connect', 'lab', 'blue')
    })

    test('a sender that never stops is led to the new place of its port, and was let in when there was none', async () => {
      const answers = talk(6)
      await until('datagrams to arrive', () => flowsTo('udp', 5353).length === 1)
      add('blue', '5353:53/udp')
      await new Promise(resolve => setTimeout(resolve, 700))
      add('green', '5353:53/udp', '--replace')
      expect([...new Set(await answers)]).toEqual(['blue', 'green'])
    })

    test('a connection ends when its port is unpublished or has moved a while ago', async () => {
      for (const end of [
        ['rm', 'blue', '8080:80'],
        ['add', 'green', '8080:80', '--replace'],
      ]) {
        add('blue', '8080:80')
        // a line now and then, to a server that answers the first one only when all are there
        await host.outside.serve('held', 'sh', '-c', `while sleep 0.1; do printf .; done | socat - TCP:${host4}:8080`)
        await until('the connection to be there', () => flowsTo('tcp', 8080).some(flow => flow.includes('ESTABLISHED')))
        host.tsnet('publish', ...end)
        await until(
          'the kernel to forget where it went',
          () => !flowsTo('tcp', 8080).some(flow => flow.includes('src=10.30.0.')),
        )
        await until('the client to hear of it', () => /reset|Broken pipe/.test(host.outside.logOf('held')))
        await host.outside.end('held')
        rmSync(join(host.outside.dir, 'held.log'))
        if (end[0] === 'add') host.tsnet('publish', 'rm', 'green', '8080:80')
      }
    })
  })
}

/** 200 connections a second until a file is there; prints who answered how often. Whatever fails goes to stderr. */
const client = `
  const net = require('node:net'); const [host, port, end] = process.argv.slice(1); const got = {}; let open = 0
  const timer = setInterval(() => {
    open++
    const socket = net.connect({ host, port: Number(port) }, () => socket.write('hello\\n'))
    let text = ''
    socket.on('data', data => { text += data }).on('error', error => console.error(error.code))
    socket.on('close', () => {
      open--
      const name = text.split(' ')[0]
      if (name) got[name] = (got[name] ?? 0) + 1
    })
  }, 5)
  const ending = setInterval(() => {
    if (!require('node:fs').existsSync(end)) return
    clearInterval(timer)
    clearInterval(ending)
    setTimeout(() => { console.log(JSON.stringify(got)); process.exit(0) }, 3000)
  }, 100)`

const talker = `
  const [host, port, ms] = process.argv.slice(1); const socket = require('node:dgram').createSocket('udp4')
  socket.on('message', text => console.log(String(text).split(' ')[0])).on('error', () => {})
  socket.bind(4000); setInterval(() => socket.send('hello\\n', Number(port), host), 50); setTimeout(() => process.exit(0), Number(ms))`
