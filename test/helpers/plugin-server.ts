import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import type { Log } from '../../src/log.js'
import type { UnixServer } from '../../src/net/unix-server.js'
import { createPluginServer } from '../../src/plugin-api/server.js'
import { DockerdClient } from './dockerd-client.js'
import { FakeDockerDoor } from './fake-docker-door.js'

// A plugin server with a door that fails on demand, and a client that behaves as dockerd does: new for each test.

export const nid = 'a'.repeat(64)
export const eid = 'b'.repeat(64)
export const both = { NetworkID: nid, EndpointID: eid }
export const network = {
  NetworkID: nid,
  Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': {} },
  IPv4Data: [{ AddressSpace: 'LocalDefault', Gateway: '10.20.0.1/24', Pool: '10.20.0.0/24' }],
  IPv6Data: [],
}
export const portmap = [{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 }]
export const labels = {
  'com.docker.network.endpoint.exposedports': [{ Proto: 6, Port: 80 }],
  'com.docker.network.portmap': portmap,
}
export const endpoint = {
  ...both,
  Interface: { Address: '10.20.0.2/24', AddressIPv6: '', MacAddress: '' },
  Options: labels,
}
export const joining = { ...both, SandboxKey: '/var/run/docker/netns/0123456789ab', Options: labels }
export const program = { ...both, Options: labels }

export type Line = { level: string; fields: Record<string, unknown>; message: string }
export let dir: string
export let socketPath: string
export let lines: Line[]
export let log: Log
export let door: FakeDockerDoor
export let server: UnixServer
export let dockerd: DockerdClient

export function pluginServerForEachTest(): void {
  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'tst-pl-'))
    socketPath = join(dir, 'plugins/tsnet.sock')
    lines = []
    const at = (level: string) => (fields: object, message: string) =>
      void lines.push({ level, fields: { ...fields }, message })
    log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error'), child: () => log }
    door = new FakeDockerDoor()
    server = await createPluginServer({ cnm: { docker: door }, log, socketPath })
    dockerd = new DockerdClient(socketPath)
  })
  afterEach(async () => {
    dockerd.close()
    await server.close()
    rmSync(dir, { recursive: true })
  })
}

export const call = (method: string, args: object | null = null) => dockerd.call(method, args)
export const net = (method: string, args: object) => call(`NetworkDriver.${method}`, args)
export const ipam = (method: string, args: object) => call(`IpamDriver.${method}`, args)
export const failure = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'it did not fail',
    error => error.message,
  )

/** The test closed the server and started another one. */
export function replaceServer(next: UnixServer): void {
  server = next
}
