import type { Family } from '../../src/cnm/types.js'
import { type Mode, modes, type Place, type Way, ways } from './behaviour-modes.js'

/** `WAY MODE FAMILY` -> what was measured, as the table says it. */
export type Measured = ReadonlyMap<string, string>
export const cellOf = (way: Way, mode: Mode, family: Family): string => `${ways.indexOf(way)} ${mode.name} ${family}`

const whoAsks: Record<Place, string> = {
  outside: 'A machine of the LAN asks',
  host: 'The host itself asks',
  server: 'The container itself asks',
  neighbour: 'A container of the same network asks',
  other: 'A container of another network asks',
}

/** docs/behaviour.md, from what was measured. */
export function behaviourDoc(measured: Measured): string {
  const tables = ([4, 6] as const).map(family => `## IPv${family}\n\n${table(measured, family)}`)
  return `${head}\n${tables.join('\n\n')}\n`
}

function table(measured: Measured, family: Family): string {
  const columns = ['', ...modes.map(({ name }) => name)]
  const lines = [columns, columns.map(() => '---')]
  let before: Way | undefined
  for (const way of ways) {
    if (way.from !== before?.from) lines.push([`**${whoAsks[way.from]}**`, ...modes.map(() => '')])
    const cells = modes.map(mode => measured.get(cellOf(way, mode, family)) ?? '')
    if (cells.some(cell => cell !== '')) lines.push([way.words, ...cells])
    before = way
  }
  return lines.map(cells => `| ${cells.join(' | ')} |`).join('\n')
}

const head = `# Who reaches whom

Every cell was measured: a connection was tried on a host with one network of each mode, and it is tried again, by all three kinds of
rules (nftables, iptables-nft, iptables-legacy, with the same results), whenever \`scripts/test\` runs; a difference to this page fails.
To write it anew after a change: \`TSNET_BEHAVIOUR=write npx vitest run --project netns test/netns/behaviour.test.ts\`, as root.

- **yes**: there is an answer, and the server sees the client's own address.
- **as X**: there is an answer, and the server sees X instead.
- **-**: nothing comes back; of TCP not even a refusal. **refused**: nobody listens there, and the host says so.
- An empty cell: there is no such thing to try.

The container publishes a TCP and a UDP port at every address of the host, one at 127.0.0.1 and [::1], one with \`--from\` the LAN's
subnets and one with \`--from\` others; another port it only listens on. In mode \`routed\` ports are published at the container's own
address, and on internal networks none is. The machine of the LAN has routes to the containers' subnets, and one for 127.0.0.0/8, by way of the host, whose
administrator has opened 127.0.0.0/8 to that link. It is on the link that \`trusted_interfaces\` names. The other network has mode \`nat\`.
\`--publish-default lan\` is the daemon's; a network of \`from=\` names the LAN's subnets. "The host's address" is none of a private network; a private one it has too.

Frames of bridges pass through IP rules too, as dockerd has it (\`bridge-nf-call-iptables=1\`). With that, endpoints of a network with \`icc=false\`
do not reach each other's published ports either, nor their own: the kernel turns such frames round on the bridge, where its isolated
ports do not hear each other. Without it they do, as the gateway. (Docker's own bridge is the same with \`--userland-proxy=false\`; else its
proxy carries such connections.)
`

/** What the page says, read back. */
export function readBehaviourDoc(text: string): Measured {
  const said = new Map<string, string>()
  let family: Family = 4
  let from: Place | undefined
  for (const line of text.split('\n')) {
    if (line.startsWith('## ')) family = line.endsWith('6') ? 6 : 4
    if (!line.startsWith('| ')) continue
    const [words, ...cells] = line
      .slice(2, -2)
      .split('|')
      .map(cell => cell.trim())
    from = (Object.keys(whoAsks) as Place[]).find(place => `**${whoAsks[place]}**` === words) ?? from
    const way = ways.find(candidate => candidate.words === words && candidate.from === from)
    if (way === undefined) continue
    for (const [i, mode] of modes.entries()) if (cells[i]) said.set(cellOf(way, mode, family), cells[i])
  }
  return said
}
