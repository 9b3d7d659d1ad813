import { join } from 'node:path'
import type { InsideDifference, Namespaces, SandboxLink, WantedSandbox } from '../cnm/driver.js'
import type { Sandbox } from '../cnm/types.js'
import { conflict } from '../errors.js'
import { Kernel } from '../netlink/kernel.js'
import { createNetns, deleteNetns, type Netns, openNetns } from '../netlink/netns.js'
import { linkSet, neighbourReplace } from '../netlink/requests.js'
import { writeSysctl, writeSysctls } from '../netlink/sysctl.js'
import { hostsText, isOurResolvConf, resolvConfText, SandboxFiles } from './files.js'
import { namedFor, planInside, unread } from './wiring.js'

export interface SandboxPaths {
  /** where `ip netns` looks: /run/netns */
  netnsDir: string
  /** where `ip netns exec` looks for files to show in /etc: /etc/netns */
  etcDir: string
}

/** Sandboxes as the kernel has them. A namespace is opened for each call and closed again: an open one cannot be removed by its owner. */
export class KernelNamespaces implements Namespaces {
  readonly #paths: SandboxPaths

  constructor(paths: SandboxPaths) {
    this.#paths = paths
  }

  pathOf(name: string): string {
    return join(this.#paths.netnsDir, name)
  }

  exists(path: string): boolean {
    try {
      openNetns(path).close()
      return true
    } catch {
      return false
    }
  }

  check(path: string): void {
    openNetns(path).close()
  }

  create(sandbox: Sandbox): void {
    const netns = createNetns(sandbox.netns)
    try {
      Kernel.inside(netns, kernel => kernel.apply(linkSet({ name: 'lo', up: true })))
      const files = this.#files(sandbox)
      files.write('hosts', hostsText(sandbox, []))
      files.write('resolv.conf', resolvConfText(sandbox))
    } catch (error) {
      this.delete(sandbox)
      throw error
    } finally {
      netns.close()
    }
  }

  delete(sandbox: Sandbox): void {
    deleteNetns(sandbox.netns)
    this.#files(sandbox).delete()
  }

  freeLinkName(path: string, prefix: string): string {
    const taken = new Set(this.#inside(path, kernel => kernel.links().map(link => link.name)))
    let number = 0
    while (taken.has(`${prefix}${number}`)) number++
    return `${prefix}${number}`
  }

  hasLink(path: string, ifname: string): boolean {
    return this.#inside(path, kernel => kernel.linkIndex(ifname) !== undefined)
  }

  compare(wanted: WantedSandbox): InsideDifference | undefined {
    const { sandbox } = wanted
    const inside = this.#insideIfThere(sandbox.netns, (kernel, netns) => planInside(kernel, netns, wanted))
    if (inside === undefined) return undefined
    const { words, missing } = inside
    if (missing.length > 0) return { missing }
    for (const { file } of this.#fileChanges(wanted)) words.push(`write its ${file}`)
    if (words.length === 0) return { missing }
    const step = { words: `in sandbox ${sandbox.name}: ${words.join(', ')}`, apply: () => this.apply(wanted) }
    return { missing, step }
  }

  apply(wanted: WantedSandbox): void {
    // when the last one leaves, its routes go with it, and there is nothing to put right
    if (wanted.leaving === undefined || wanted.links.length > 0)
      this.#inside(wanted.sandbox.netns, (kernel, netns) => {
        const plan = planInside(kernel, netns, wanted, unread)
        const [missing] = plan.missing
        if (missing !== undefined) throw conflict(`interface ${missing} is missing in sandbox ${wanted.sandbox.name}`)
        writeSysctls(netns, plan.sysctls)
        if (plan.requests.length > 0) kernel.apply(plan.requests)
      })
    for (const { file, text } of this.#fileChanges(wanted)) this.#files(wanted.sandbox).write(file, text)
  }

  adjust(path: string, mac: string, { sysctls, neighbours }: Pick<SandboxLink, 'sysctls' | 'neighbours'>): void {
    this.#inside(path, (kernel, netns) => {
      const link = kernel.links().find(candidate => candidate.mac === mac)
      if (link === undefined) return
      for (const [key, value] of Object.entries(namedFor(link.name, sysctls))) writeSysctl(netns, key, value)
      kernel.apply(neighbours.map(neighbour => neighbourReplace({ index: link.index, ...neighbour })))
    })
  }

  identity(path: string): string {
    const netns = openNetns(path)
    try {
      return netns.identity()
    } finally {
      netns.close()
    }
  }

  /** An adopted namespace keeps the files that it has. */
  #fileChanges({ sandbox, links }: WantedSandbox) {
    if (!sandbox.owned) return []
    const files = this.#files(sandbox)
    const addresses = links.flatMap(({ addresses }) => addresses)
    const resolvConf = files.read('resolv.conf')
    const changes = [
      { file: 'hosts' as const, text: hostsText(sandbox, addresses), have: files.read('hosts') },
      ...(isOurResolvConf(resolvConf)
        ? [{ file: 'resolv.conf' as const, text: resolvConfText(sandbox), have: resolvConf }]
        : []),
    ]
    return changes.filter(({ text, have }) => text !== have)
  }

  #files(sandbox: Sandbox): SandboxFiles {
    return new SandboxFiles(sandbox.name, this.#paths.etcDir)
  }

  #insideIfThere<T>(path: string, work: (kernel: Kernel, netns: Netns) => T): T | undefined {
    try {
      return this.#inside(path, work)
    } catch (error) {
      if (!this.exists(path)) return undefined
      throw error
    }
  }

  #inside<T>(path: string, work: (kernel: Kernel, netns: Netns) => T): T {
    const netns = openNetns(path)
    try {
      return Kernel.inside(netns, kernel => work(kernel, netns))
    } finally {
      netns.close()
    }
  }
}
