import { makeNetns, netnsPath, removeNetns, run, runWithInput } from './netns.js'

/**
 * Two namespaces with one of every kind of link, address, route, neighbour and forwarding entry, made by `ip` and
 * `bridge` alone: what our code reads is judged by those who wrote it.
 */
export interface NetlinkWorld {
  name: string
  path: string
  remove(): void
}

const links = (other: string): string => `
link add br0 type bridge forward_delay 200 hello_time 100 max_age 1000 ageing_time 12345 stp_state 1 priority 4096 mcast_snooping 0 mcast_querier 1 group_fwd_mask 8
link set br0 up addrgenmode none mtu 1450 address 02:00:00:00:00:01 alias "a bridge: ünïcode" group 77
link add v0 type veth peer name v1
link add v2 type veth peer name inside netns ${other}
link set v0 master br0 up addrgenmode none mtu 1400
link set v2 master br0 alias tsnet:web:ep
link set v0 type bridge_slave hairpin on isolated on learning off flood off mcast_flood off bcast_flood off neigh_suppress on proxy_arp on guard on root_block on fastleave on cost 55 priority 9 locked on
link add x4 type vxlan id 4097 local 192.0.2.1 dstport 4789 nolearning ttl 9 proxy l2miss l3miss ageing 77
link add x6 type vxlan id 16777215 local 2001:db8::1 group ff05::100 dev v1 dstport 8472 tos 4 rsc noudpcsum udp6zerocsumtx udp6zerocsumrx maxaddress 99
link add xg type vxlan id 9 group 239.1.1.1 dev v1 dstport 4790 gbp
link add m0 link v1 type macvlan mode bridge
link add m1 link v1 type macvlan mode private
link add m2 link v1 type macvlan mode vepa
link add p0 type veth peer name p1
link add m3 link p0 type macvlan mode passthru nopromisc
link add d0 type veth peer name d1
link set d0 address 02:00:00:00:00:d0
link set d0 up addrgenmode none
link set d1 up addrgenmode none
link set x4 up addrgenmode none
link set v1 up
`

const objects = `
address add 10.30.0.2/24 brd 10.30.0.255 dev d0
address add 10.30.0.3/24 dev d0 label d0:x
address add 10.31.0.1 peer 10.31.0.2/32 dev d0 scope link
address add 127.0.0.2/8 dev lo scope host
address add 2001:db8:30::2/64 dev d0 nodad
address add fd00:20::1/128 dev d0 nodad noprefixroute preferred_lft 0
address add 2001:db8:30::9/64 dev br0 nodad
route add default via 10.30.0.1 dev d0 metric 100
route add 10.99.0.0/16 via 10.77.0.1 dev d0 onlink proto 99 src 10.30.0.2
route add 10.98.0.0/16 dev d0 scope link mtu 1300
route add unreachable 10.97.0.0/16 metric 5
route add blackhole 10.96.0.0/16
route add prohibit 10.95.0.0/16 table 7
route add 10.94.0.0/16 dev d0 table 1000
route add default via 2001:db8:30::1 dev d0
route add 2001:db8:77::/48 dev d0 metric 9 proto 99
route add unreachable 2001:db8:78::/48
neighbour add 10.30.0.7 lladdr 02:42:0a:1e:00:07 dev d0 nud permanent
neighbour add 10.30.0.8 lladdr 02:42:0a:1e:00:08 dev d0 nud reachable
neighbour add 10.30.0.9 lladdr 02:42:0a:1e:00:09 dev d0 nud stale router
neighbour add 10.30.0.11 lladdr 02:42:0a:1e:00:0b dev d0 nud permanent extern_learn
neighbour add 2001:db8:30::7 lladdr 02:42:0a:1e:00:07 dev d0 nud permanent
neighbour add proxy 10.30.0.10 dev d0
neighbour add proxy 2001:db8:30::10 dev d0
`

const forwarding = `
fdb add 02:42:0a:1e:00:20 dev x4 dst 192.0.2.20 self permanent
fdb append 02:42:0a:1e:00:00 dev x4 dst 192.0.2.21 port 4444 vni 55 via v1 self permanent
fdb add 02:42:0a:1e:00:22 dev x6 dst 2001:db8::22 self static
fdb add 02:42:0a:1e:00:23 dev v0 master static
fdb add 02:42:0a:1e:00:24 dev x4 dst 192.0.2.24 self dynamic
fdb add 02:42:0a:1e:00:25 dev br0 self permanent
`

export function makeNetlinkWorld(prefix: string): NetlinkWorld {
  const name = makeNetns(prefix)
  const other = makeNetns(prefix)
  const remove = () => {
    removeNetns(name)
    removeNetns(other)
  }
  try {
    runWithInput(name, links(other), 'ip', '-batch', '-')
    runWithInput(name, objects, 'ip', '-batch', '-')
    runWithInput(name, forwarding, 'bridge', '-batch', '-')
    // Duplicate address detection ends within this; what is read twice must not change between.
    run(name, 'sh', '-c', 'for i in $(seq 50); do ip -6 address show tentative | grep -q . || break; sleep 0.1; done')
    return { name, path: netnsPath(name), remove }
  } catch (error) {
    remove()
    throw error
  }
}
