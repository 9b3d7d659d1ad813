import { asciiz, attr, be32, list, message, nest, table } from './codec.js'
import { currentNetns } from './netns.js'
import { applyBatch } from './nft-batch.js'
import { families, netlinkNetfilter, nfgenmsg, nftData, subsystem } from './nftables.js'
import { nlm, type Request, request } from './request.js'
import { NetlinkSocket } from './socket.js'

// Transactions on the elements of nftables' sets and maps: linux/netfilter/nf_tables.h.

/** NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM */
const newElements = 12
const deleteElements = 14
/** NFT_SET_ELEM_INTERVAL_END */
const intervalEnd = 1
/** An attribute has at most 64 KiB, an element at most some 150 bytes. */
const elementsInOne = 250

/** NFTA_SET_ELEM_LIST_*, in it NFTA_LIST_ELEM, in it NFTA_SET_ELEM_* */
const elementsMessage = message(
  nfgenmsg,
  table('nftables elements', {
    table: attr(1, asciiz),
    set: attr(2, asciiz),
    elements: nest(
      3,
      list(
        1,
        table('nftables element', {
          key: nest(1, nftData),
          keyEnd: nest(10, nftData),
          data: nest(2, nftData),
          flags: attr(3, be32),
        }),
      ),
    ),
  }),
)

/** One element as the kernel compares it. */
export interface ElementBytes {
  key: Buffer
  /** of a set of intervals of several parts: the last key that it stands for */
  last?: Buffer
  /** of a set of intervals of one part: not an element, but the first key behind one */
  isEnd?: boolean
  /** of a map */
  value?: Buffer
}

export interface ElementsChange {
  /** as nft says it, for errors and logs: `add element inet tsnet bridges { "br-web" }` */
  op: string
  verb: 'add' | 'delete'
  /** `inet` */
  family: string
  table: string
  set: string
  elements: readonly ElementBytes[]
}

const familyNumbers = new Map(Object.entries(families).map(([number, name]) => [name, Number(number)]))

function* requestsOf({ op, verb, family, table, set, elements }: ElementsChange): Generator<Request> {
  const [type, flags] = verb === 'add' ? [newElements, nlm.create] : [deleteElements, 0]
  for (let at = 0; at < elements.length; at += elementsInOne) {
    const some = elements.slice(at, at + elementsInOne).map(({ key, last, isEnd, value }) => ({
      key: { value: key },
      keyEnd: last && { value: last },
      // what is deleted is found by its key
      data: value && verb === 'add' ? { value } : undefined,
      flags: isEnd ? intervalEnd : undefined,
    }))
    const header = { family: familyNumbers.get(family) ?? 0, version: 0 }
    yield request(op, subsystem + type, flags, elementsMessage, { ...header, attrs: { table, set, elements: some } })
  }
}

/** Elements of one network namespace's nftables, without libnftables, which reads all tables before it changes one. */
export class NftElements {
  private constructor(readonly socket: NetlinkSocket) {}

  /** In the namespace of this thread. */
  static open(): NftElements {
    const netns = currentNetns()
    try {
      return new NftElements(NetlinkSocket.open(netns, [], { protocol: netlinkNetfilter }))
    } finally {
      netns.close()
    }
  }

  /**
   * One transaction, in this order: adding a row that is there is fine, deleting what is not is ENOENT, and adding a key that is
   * there with another value EEXIST. Throws the first NetlinkError; then nothing has changed.
   */
  apply(changes: readonly ElementsChange[]): void {
    applyBatch(
      this.socket,
      changes.flatMap(change => [...requestsOf(change)]),
    )
  }

  close(): void {
    this.socket.close()
  }
}
