import { afterAll, beforeAll, beforeEach } from 'vitest'
import { kindOf, messageOf } from '../../src/errors.js'
import { Kernel, type Link } from '../../src/netlink/kernel.js'
import { type Netns, openNetns } from '../../src/netlink/netns.js'
import { makeNetns, needRoot, netnsPath, removeNetns, sweep } from './netns.js'

/** A new namespace for every test of a file, our view of it, and another namespace beside it. */
export class KernelWorld {
  name!: string
  boxName!: string
  netns!: Netns
  box!: Netns
  kernel!: Kernel

  index(link: string): number {
    return (this.kernel.link(link) as Link).index
  }
}

export function useKernelWorld(prefix: string): KernelWorld {
  const world = new KernelWorld()
  beforeAll(() => {
    needRoot()
    sweep(prefix)
  })
  beforeEach(() => {
    world.name = makeNetns(prefix)
    world.boxName = makeNetns(prefix)
    world.netns = openNetns(netnsPath(world.name))
    world.box = openNetns(netnsPath(world.boxName))
    world.kernel = Kernel.open(world.netns)
    return () => {
      world.kernel.close()
      world.netns.close()
      world.box.close()
      removeNetns(world.name)
      removeNetns(world.boxName)
    }
  })
  afterAll(() => sweep(prefix))
  return world
}

/** What `work` throws; it must throw. */
export function thrown(work: () => unknown): Error {
  try {
    work()
  } catch (error) {
    if (error instanceof Error) return error
  }
  throw new Error('no error was thrown')
}

/** `Conflict: ip link add name web type bridge: File exists` */
export function refusal(work: () => unknown): string {
  const error = thrown(work)
  return `${kindOf(error)}: ${messageOf(error)}`
}
