import { libnftablesRunner } from '../../src/firewall/libnftables.js'
import { ip4 } from '../../src/netlink/address-codecs.js'
import { be16, encode, pad, struct, u8 } from '../../src/netlink/codec.js'
import { Kernel } from '../../src/netlink/kernel.js'
import { inNetns, openNetns } from '../../src/netlink/netns.js'
import { NftElements } from '../../src/netlink/nft-elements.js'
import { addressAdd, linkAdd, linkDelete, linkSet, routeReplace } from '../../src/netlink/requests.js'

/**
 * What an attachment costs if nobody is asked and nothing is remembered: only the messages to the kernel, batched as far as
 * one does not need what another made, and one transaction of nftables. Whoever attaches at all does at least this.
 */
export class Floor {
  readonly #bridge: number

  private constructor(
    readonly kernel: Kernel,
    readonly elements: NftElements,
  ) {
    kernel.apply(
      linkAdd({
        kind: 'bridge',
        name: 'floor0',
        up: true,
        bridge: { forwardDelay: 0, stpState: false, mcastSnooping: false },
      }),
    )
    this.#bridge = kernel.link('floor0')!.index
    kernel.apply(addressAdd({ index: this.#bridge, address: '10.86.0.1/16', noDad: true }))
  }

  /** In the network namespace of a process. */
  static async open(pid: number): Promise<Floor> {
    const netns = openNetns(`/proc/${pid}/ns/net`)
    try {
      const nft = inNetns(netns, () => libnftablesRunner())
      const elements = inNetns(netns, () => NftElements.open())
      await nft.run(`table inet floor {
        map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
        chain nat { type nat hook prerouting priority dstnat; dnat ip to meta l4proto . th dport map @published; }
      }`)
      nft.close()
      return new Floor(Kernel.open(netns), elements)
    } finally {
      netns.close()
    }
  }

  /** Namespace number `i`, at `path`: a veth pair, an address, a default route, a published port. */
  async attach(i: number, path: string): Promise<void> {
    const netns = openNetns(path)
    try {
      this.kernel.apply(
        linkAdd({
          kind: 'veth',
          name: `floor${i}x`,
          mtu: 1500,
          master: this.#bridge,
          up: true,
          alias: `floor:${i}`,
          port: { hairpin: true, isolated: false },
          peer: { name: 'eth0', mtu: 1500, netns },
        }),
      )
      Kernel.inside(netns, inside => {
        const { index } = inside.link('eth0')!
        inside.apply([
          ...[addressAdd({ index, address: `${addressOf(i)}/16`, noDad: true })].flat(),
          ...linkSet({ index, up: true }),
          ...[routeReplace({ destination: '0.0.0.0/0', via: '10.86.0.1' })].flat(),
        ])
      })
    } finally {
      netns.close()
    }
    this.#publish('add', i)
  }

  async detach(i: number): Promise<void> {
    this.#publish('delete', i)
    this.kernel.apply(linkDelete({ name: `floor${i}x` }))
  }

  #publish(verb: 'add' | 'delete', i: number): void {
    const key = encode(portKey, { protocol: 6, port: 30_000 + i })
    const value = encode(portValue, { address: addressOf(i), port: 80 })
    const published = { family: 'inet', table: 'floor', set: 'published' }
    this.elements.apply([{ op: `${verb} element`, verb, ...published, elements: [{ key, value }] }])
  }

  close(): void {
    this.elements.close()
    this.kernel.close()
  }
}

const portKey = struct([
  ['protocol', u8],
  ['_register', pad(3)],
  ['port', be16],
  ['_register2', pad(2)],
])
const portValue = struct([
  ['address', ip4],
  ['port', be16],
  ['_register', pad(2)],
])

const addressOf = (i: number): string => `10.86.${1 + (i >> 7)}.${1 + (i & 127)}`
