import { expect } from 'vitest'
import { Ipam, type IpamDeps } from '../../src/ipam/ipam.js'
import { MemoryStore } from '../../src/store/memory.js'

// Address management over a store in memory, and what its suites ask of it.

export const start = async (deps: Partial<IpamDeps> = {}) => {
  const ipam = new Ipam({ store: new MemoryStore(), hostSubnets: () => [], hostId: 'host-1', ...deps })
  await ipam.load()
  return ipam
}
export const lab = (ipam: Ipam, subnet = '10.30.0.0/24', range?: string) =>
  ipam.requestPool({ family: subnet.includes(':') ? 6 : 4, subnet, owner: 'network lab', ...(range && { range }) })
export const box = { owner: 'e1', ownerName: 'endpoint box' }
export const refusal = (work: Promise<unknown>) =>
  work.then(
    value => expect.fail(`it should have been refused, and gave ${JSON.stringify(value)}`),
    ({ kind, message }) => ({ kind, message }),
  )
