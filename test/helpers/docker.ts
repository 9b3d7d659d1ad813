import type { BareHost } from './host.js'
import { image } from './image.js'
import { untilServed } from './vantage.js'

// Containers and Docker networks as the suites use them, on a host that runs dockerd.

/** Start a container that serves 80/tcp and 53/udp under its name, and wait until it does. */
export async function runContainer(host: BareHost, name: string, network: string, ...flags: string[]): Promise<void> {
  await runServing(host, name, network, ['80/tcp', '53/udp'], ...flags)
}

/** As `runContainer`, serving other ports. */
export async function runServing(
  host: BareHost,
  name: string,
  network: string,
  ports: string[],
  ...flags: string[]
): Promise<void> {
  host.docker('run', '-d', '--name', name, '--network', network, ...flags, image, 'serve', name, ...ports)
  await untilServed(host.container(name), name, ports)
}

/** A container that would do the same, if anybody started it. */
export const createContainer = (host: BareHost, name: string, network: string, ...flags: string[]): string =>
  host.docker('create', '--name', name, '--network', network, ...flags, image, 'serve', name, '80/tcp')

export const removeContainers = (host: BareHost, ...names: string[]): void => {
  host.docker('rm', '-f', ...names)
}

interface Attachment {
  IPAddress: string
  GlobalIPv6Address: string
  MacAddress: string
  Gateway: string
}

/** What Docker says of a container's attachment to a network. */
export function attachmentOf(host: BareHost, container: string, network: string): Attachment {
  const [inspected] = JSON.parse(host.docker('inspect', container)) as {
    NetworkSettings: { Networks: Record<string, Attachment> }
  }[]
  const found = inspected?.NetworkSettings.Networks[network]
  if (!found) throw new Error(`${container} is not attached to ${network}`)
  return found
}

/** What the kernel says of a link in a container, as lines of `ip -o`: families, addresses, MAC. */
export function linkIn(
  host: BareHost,
  container: string,
  ifname: string,
): { addresses: string[]; mac: string; mtu: number } | undefined {
  const got = host.container(container).tryRun('ip', 'addr', 'show', 'dev', ifname)
  if (got.status !== 0) return undefined
  return {
    addresses: [...got.stdout.matchAll(/inet6? (\S+) .*scope global/g)].map(([, address]) => address!),
    mac: /link\/ether (\S+)/.exec(got.stdout)?.[1] ?? '',
    mtu: Number(/mtu (\d+)/.exec(got.stdout)?.[1]),
  }
}

/** What a refused docker command says; fails if it was not refused. */
export function refusal(host: BareHost, ...args: string[]): string {
  const got = host.tryDocker(...args)
  if (got.status === 0) throw new Error(`docker ${args.join(' ')} was expected to fail, and printed ${got.stdout}`)
  return got.stderr
}

/** Remove every container and every network of tsnet's, as a user would. */
export function removeAll(host: BareHost): void {
  const containers = host.docker('ps', '-aq').split('\n').filter(Boolean)
  if (containers.length > 0) removeContainers(host, ...containers)
  const networks = host.docker('network', 'ls', '-q', '--filter', 'driver=tsnet').split('\n').filter(Boolean)
  if (networks.length > 0) host.docker('network', 'rm', ...networks)
}
