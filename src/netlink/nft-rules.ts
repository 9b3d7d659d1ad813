import { asciiz, attr, be32, decode, linkInfo, list, map, message, nest, table, type ValueOf } from './codec.js'
import { NetlinkError } from './netlink-error.js'
import type { Netns } from './netns.js'
import { applyBatch } from './nft-batch.js'
import { netlinkNetfilter, nfgenmsg, nftData, subsystem } from './nftables.js'
import { nlm, type Request, request } from './request.js'
import { NetlinkSocket } from './socket.js'

// A table, a chain and its rules as the kernel has them: linux/netfilter/nf_tables.h.

/** NFT_MSG_* */
const newTable = 0
const deleteTable = 2
const newChain = 3
const getChain = 4
const newRule = 6
const getRule = 7
/** NFPROTO_IPV4 */
const ip = 2

/** NFTA_PAYLOAD_*, NFTA_CMP_*, NFTA_META_*, NFTA_IMMEDIATE_*, NFTA_NAT_*; NFTA_EXPR_* are numbered as a link's kind and its data are. */
const expression = linkInfo(
  {
    payload: table('payload', {
      target: attr(1, be32),
      base: attr(2, be32),
      offset: attr(3, be32),
      length: attr(4, be32),
    }),
    cmp: table('cmp', { source: attr(1, be32), op: attr(2, be32), data: nest(3, nftData) }),
    meta: table('meta', { target: attr(1, be32), key: attr(2, be32) }),
    immediate: table('immediate', { target: attr(1, be32), data: nest(2, nftData) }),
    nat: table('nat', {
      type: attr(1, be32),
      family: attr(2, be32),
      address: attr(3, be32),
      lastAddress: attr(4, be32),
      port: attr(5, be32),
      lastPort: attr(6, be32),
      flags: attr(7, be32),
    }),
  },
  {},
)
/** One step of a rule, on registers: what `nft --debug=netlink` prints. */
export type Expression = ValueOf<typeof expression>

const tableMessage = message(nfgenmsg, table('nftables table', { table: attr(1, asciiz), flags: attr(2, be32) }))
/** The kernel's attribute is unsigned, what it means is not. */
const signed32 = map(
  be32,
  (n: number) => n >>> 0,
  n => n | 0,
)
/** NFTA_CHAIN_*, in it NFTA_HOOK_* */
const chainMessage = message(
  nfgenmsg,
  table('nftables chain', {
    table: attr(1, asciiz),
    chain: attr(3, asciiz),
    hook: nest(4, table('nftables hook', { number: attr(1, be32), priority: attr(2, signed32) })),
    policy: attr(5, be32),
    type: attr(7, asciiz),
  }),
)
const ruleMessage = message(
  nfgenmsg,
  table('nftables rule', {
    table: attr(1, asciiz),
    chain: attr(2, asciiz),
    expressions: nest(4, list(1, expression)),
  }),
)

/** `{ type nat hook output priority -100; policy accept; }`, in numbers: NF_INET_*, NF_ACCEPT */
export interface BaseChain {
  type: string
  hook: number
  priority: number
  policy: number
}

/** A chain that is all there is of its table. */
export interface ChainName {
  table: string
  chain: string
}
export interface Chain extends BaseChain {
  rules: Expression[][]
}

/** Tables of IPv4 with one chain, in one network namespace. Without libnftables, which reads all tables there are before it changes one. */
export class NftRules {
  readonly #socket: NetlinkSocket
  #hasDeleted = false

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket
  }

  static open(netns: Netns): NftRules {
    return new NftRules(NetlinkSocket.open(netns, [], { protocol: netlinkNetfilter }))
  }

  /** `nft list chain ip TABLE CHAIN`; undefined when there is none. Of steps that are not in the table above, only the kind is known. */
  chain(name: ChainName): Chain | undefined {
    const ask = request('nft list chain', subsystem + getChain, 0, chainMessage, { ...header, attrs: name })
    try {
      const got = this.#socket.get(ask, (from, start, end) => decode(chainMessage, from, start, end))
      const { type = '', hook, policy = 0 } = got?.attrs ?? {}
      return { type, hook: hook?.number ?? 0, priority: hook?.priority ?? 0, policy, rules: this.#rules(name) }
    } catch (error) {
      if (error instanceof NetlinkError && error.code === 'ENOENT') return undefined
      throw error
    }
  }

  #rules(name: ChainName): Expression[][] {
    const ask = request('nft list rules', subsystem + getRule, 0, ruleMessage, { ...header, attrs: name })
    return this.#socket.dump(ask, (from, start, end) => decode(ruleMessage, from, start, end).attrs.expressions ?? [])
  }

  /** Make the table this chain and nothing else, in one transaction; `isThere` says that there may be one by the name. */
  replace(name: ChainName, { rules, type, hook, priority, policy }: Chain, isThere: boolean): void {
    if (isThere) this.#hasDeleted = true
    const chain = { ...name, hook: { number: hook, priority }, policy, type }
    const create = nlm.create | nlm.append
    applyBatch(this.#socket, [
      ...(isThere ? this.#deletion(name) : []),
      this.#newTable(name),
      request('nft add chain', subsystem + newChain, nlm.create, chainMessage, { ...header, attrs: chain }),
      ...rules.map(expressions =>
        request('nft add rule', subsystem + newRule, create, ruleMessage, {
          ...header,
          attrs: { ...name, expressions },
        }),
      ),
    ])
  }

  /** Absent is fine. */
  delete(name: ChainName): void {
    this.#hasDeleted = true
    applyBatch(this.#socket, this.#deletion(name))
  }

  /** Deleting what is not there fails, and the kernel lets who fails wait for a grace period of RCU. */
  #deletion(name: ChainName): Request[] {
    const gone = { ...header, attrs: { table: name.table } }
    return [this.#newTable(name), request('nft delete table', subsystem + deleteTable, 0, tableMessage, gone)]
  }

  #newTable({ table }: ChainName): Request {
    return request('nft add table', subsystem + newTable, nlm.create, tableMessage, {
      ...header,
      attrs: { table, flags: 0 },
    })
  }

  /** After a deletion the kernel lets who closes the socket wait for a grace period, some 20 ms: another thread does. */
  close(): void {
    if (this.#hasDeleted) this.#socket.closeElsewhere()
    else this.#socket.close()
  }
}

const header = { family: ip, version: 0 }
