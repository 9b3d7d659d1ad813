import type { BridgeData, BridgePortData, MacvlanData, VlanData, VxlanData } from './kinds.js'
import type { Netns } from './netns.js'
import type { AddrGenMode } from './objects.js'

/** A link by name or by index. */
export type LinkRef = { name: string; index?: never } | { index: number; name?: never }

/** What every link has, whatever its kind. */
export interface LinkAttributes {
  /** bytes */
  mtu?: number
  /** `02:42:ac:11:00:02` */
  mac?: string
  /** index of the bridge that the link becomes a port of; 0 takes it out (in linkSet) */
  master?: number
  up?: boolean
  alias?: string
  /** link group, for linkDeleteGroup */
  group?: number
  addrGenMode?: AddrGenMode
  /** bridge port settings: the link must be a port, or become one by `master` in the same call */
  port?: BridgePortData
}

interface NewLink extends LinkAttributes {
  /** 1 to 15 bytes, no whitespace, no '/', not '.' or '..' */
  name: string
  /** ask for this index; the kernel's choice when absent */
  index?: number
  /** create the link in this namespace instead of the one the request is sent in; master, alias and port then cannot be set */
  netns?: Netns
}

/** The other end of a veth. It starts down: the kernel cannot open it before the pair is joined (ENOTCONN of veth_open). */
export interface PeerSpec {
  name: string
  /** ask for this index; the kernel heeds it only where the first end asks for one too */
  index?: number
  mtu?: number
  mac?: string
  netns?: Netns
}

export type LinkSpec =
  | (NewLink & { kind: 'bridge'; bridge?: BridgeData })
  | (NewLink & { kind: 'veth'; peer: PeerSpec })
  /** `vxlan.id` is the VNI */
  | (NewLink & { kind: 'vxlan'; vxlan: VxlanData & { id: number } })
  /** `parent` is the index of the link underneath */
  | (NewLink & { kind: 'macvlan'; parent: number; macvlan?: MacvlanData })
  | (NewLink & { kind: 'vlan'; parent: number; vlan: VlanData & { id: number } })

/** What to change about a link. Renaming needs the index: the kernel takes a name for the link to look up. */
export type LinkChange = LinkAttributes & {
  netns?: Netns
  vxlan?: VxlanData
  /** IPv4: who has its addresses is told when it comes up; not together with `up`, which the kernel does first */
  arpNotify?: boolean
} & ({ index: number; name?: never; newName?: string } | { name: string; index?: never; newName?: never })
