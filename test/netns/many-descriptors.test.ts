import { closeSync, openSync } from 'node:fs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openNftInside } from '../../src/firewall/libnftables.js'
import { openNetns } from '../../src/netlink/netns.js'
import { makeNetns, needRoot, netnsPath, removeNetns, run, sweep } from '../helpers/netns.js'

const prefix = 'tst-many'
const fds: number[] = []
let netns: string

beforeAll(() => {
  needRoot()
  sweep(prefix)
  netns = makeNetns(prefix)
})
afterAll(() => {
  for (const fd of fds) closeSync(fd)
  removeNetns(netns)
})

it('libnftables, which cannot use descriptors from 1024 on, works in a process that has thousands open', () => {
  while ((fds.at(-1) ?? 0) < 3000) fds.push(openSync('/dev/null', 'r'))
  for (let i = 0; i < 20; i++) {
    const inside = openNetns(netnsPath(netns))
    const nft = openNftInside(inside)
    nft.run(`add table ip many${i}`)
    nft.close()
    inside.close()
    // whatever becomes free is taken by somebody else
    fds.push(openSync('/dev/null', 'r'))
  }
  expect(run(netns, 'nft', 'list', 'tables').match(/many/g)).toHaveLength(20)
})
