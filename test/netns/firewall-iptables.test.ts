import { afterAll, beforeAll } from 'vitest'
import { createIptablesFirewall } from '../../src/firewall/iptables.js'
import { enterNetnsForGood, openNetns } from '../../src/netlink/netns.js'
import { firewallContract } from '../helpers/firewall-contract.js'
import { makeNetns, needRoot, netnsPath, removeNetns, sweep } from '../helpers/netns.js'

// What iptables writes, in a namespace apart: its tables are there for good once they have been used.

const prefix = 'tst-iptc'
let netns: string

beforeAll(() => {
  needRoot()
  sweep(prefix)
  netns = makeNetns(prefix)
  enterNetnsForGood(openNetns(netnsPath(netns)))
})
afterAll(() => removeNetns(netns))

firewallContract('iptables-nft', () => createIptablesFirewall('nft'))
firewallContract('iptables-legacy', () => createIptablesFirewall('legacy'))
