import { isDeepStrictEqual } from 'node:util'
import { ip4 } from '../netlink/address-codecs.js'
import { be16, decode, encode, u8 } from '../netlink/codec.js'
import type { Netns } from '../netlink/netns.js'
import { type BaseChain, type Expression, NftRules } from '../netlink/nft-rules.js'

/** Ours inside of sandboxes; the host's is another. */
const name = { table: 'tsnet_dns', chain: 'output' }

/** `type nat hook output priority -100; policy accept;` NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST, NF_ACCEPT */
const outgoing: BaseChain = { type: 'nat', hook: 3, priority: -100, policy: 1 }

/** IPPROTO_* */
const protocols = { udp: 17, tcp: 6 }

export interface Ports {
  udp: number
  tcp: number
}

export interface Redirected {
  /** IPv4 address of the namespace's own */
  address: string
  port: number
}

/**
 * Inside a namespace, what its programs send to a port of an address arrives at other ports of it: the port itself stays
 * free, for a program that binds it on every address. As Docker does for its resolver.
 */
export class Redirection {
  readonly #rules: NftRules
  readonly #from: Redirected
  /** as it was read */
  #isThere = true

  private constructor(rules: NftRules, from: Redirected) {
    this.#rules = rules
    this.#from = from
  }

  /** @throws {ErrnoError} where the kernel has no nftables */
  static open(netns: Netns, from: Redirected): Redirection {
    return new Redirection(NftRules.open(netns), from)
  }

  /** Where it leads, as somebody before us has made it; undefined where it has to be made. @throws {NetlinkError} */
  target(): Ports | undefined {
    const chain = this.#rules.chain(name)
    this.#isThere = chain !== undefined
    const [udp, tcp] = chain?.rules.map(portOf) ?? []
    if (udp === undefined || tcp === undefined) return undefined
    const to = { udp, tcp }
    return isDeepStrictEqual(chain, this.#chain(to)) ? to : undefined
  }

  /** Replaces what is there. @throws {NetlinkError} */
  lead(to: Ports): void {
    this.#rules.replace(name, this.#chain(to), this.#isThere)
    this.#isThere = true
  }

  /** Absent is fine. @throws {NetlinkError} */
  delete(): void {
    this.#rules.delete(name)
  }

  close(): void {
    this.#rules.close()
  }

  #chain(to: Ports) {
    const rule = (protocol: keyof Ports): Expression[] => ruleOf(this.#from, protocol, to[protocol])
    return { ...outgoing, rules: [rule('udp'), rule('tcp')] }
  }
}

// NFT_REG_1 and NFT_REG_2; NFT_PAYLOAD_*_HEADER; NFT_CMP_EQ; NFT_META_L4PROTO; NFT_NAT_DNAT; NF_NAT_RANGE_MAP_IPS and
// NF_NAT_RANGE_PROTO_SPECIFIED
const [first, second] = [1, 2]
const [networkHeader, transportHeader] = [1, 2]
const nfprotoIpv4 = 2
const equal = 0
const layer4Protocol = 16
const destinationNat = 1
const addressAndPort = 3

/** `ip daddr ADDRESS PROTOCOL dport PORT dnat to ADDRESS:TARGET`, as nft has it translated. */
function ruleOf({ address, port }: Redirected, protocol: keyof Ports, target: number): Expression[] {
  const own = encode(ip4, address)
  const portBytes = encode(be16, port)
  const isEqual = (value: Buffer): Expression => ({ kind: 'cmp', data: { source: first, op: equal, data: { value } } })
  const load = (base: number, offset: number, length: number): Expression => ({
    kind: 'payload',
    data: { target: first, base, offset, length },
  })
  const set = (target: number, value: Buffer): Expression => ({ kind: 'immediate', data: { target, data: { value } } })
  return [
    ...[load(networkHeader, 16, own.length), isEqual(own)],
    ...[
      { kind: 'meta', data: { key: layer4Protocol, target: first } } as const,
      isEqual(encode(u8, protocols[protocol])),
    ],
    ...[load(transportHeader, 2, portBytes.length), isEqual(portBytes)],
    ...[set(first, own), set(second, encode(be16, target))],
    {
      kind: 'nat',
      data: {
        ...{ type: destinationNat, family: nfprotoIpv4, flags: addressAndPort },
        ...{ address: first, lastAddress: first, port: second, lastPort: second },
      },
    },
  ]
}

/** Where a rule leads that may be ours: the port is all in it that is not known before. */
function portOf(rule: readonly Expression[]): number | undefined {
  const loaded = rule.at(-2)
  const value = loaded?.kind === 'immediate' ? loaded.data?.data?.value : undefined
  return value?.length === be16.size ? decode(be16, value) : undefined
}
