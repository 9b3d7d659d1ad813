// The resolver alone, for measuring: `node name-server.mjs NETNS-PATH COUNT` answers at 127.0.0.11 in that namespace for a
// network "lab" of COUNT endpoints n0, n1, ... Says "ready", and for each line on stdin how much processor time it has used, in ms.
import { createInterface } from 'node:readline'
import { NameServer } from '../../dist/dns/server.js'
import { noLog } from '../../dist/log.js'

const [netns, count] = process.argv.slice(2)
const network = {
  id: 'lab',
  name: 'lab',
  driver: 'bridge',
  subnets: [],
  internal: true,
  labels: {},
  dockerNetworkIds: [],
}
const sandboxes = [{ id: 's0', name: 'n0', netns, owned: true, ephemeral: false }]
const endpoints = Array.from({ length: Number(count) }, (_, i) => ({
  id: `e${i}`,
  networkId: 'lab',
  name: `n${i}`,
  ...(i === 0 ? { sandboxId: 's0' } : { sandboxKey: `/x/${i}` }),
  addresses: [`10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}/8`, `fd00::${(i + 1).toString(16)}/64`],
  aliases: [`alias${i}`],
  state: 'joined',
}))
const server = new NameServer({ log: noLog })
server.update(
  { networks: () => [network], sandboxes: () => sandboxes, endpoints: () => endpoints, peers: () => [] },
  'everything',
)
console.log('ready')
for await (const _ of createInterface({ input: process.stdin })) {
  const { user, system } = process.cpuUsage()
  console.log((user + system) / 1000)
}
process.exit(0)
