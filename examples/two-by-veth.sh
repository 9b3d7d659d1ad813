#!/bin/sh
# Two network namespaces joined by one cable, as every course on containers begins. Needs root and a running daemon:
#   examples/two-by-veth.sh
# By hand this is `ip netns add` twice, `ip link add red0 type veth peer name blue0`, two times `ip link set ... netns`,
# `ip addr add` and `ip link set up`; here the cable is a network without a way out, of two addresses.
set -eu

tsnet network create cable --internal --subnet 10.55.0.0/29
tsnet sandbox create red
tsnet sandbox create blue
tsnet connect cable red --ip 10.55.0.2 --ifname to-blue
tsnet connect cable blue --ip 10.55.0.3 --ifname to-red

tsnet exec red -- ip -brief address
tsnet exec red -- ping -c 1 -W 2 10.55.0.3
tsnet exec blue -- ping -c 1 -W 2 10.55.0.2

# Nothing but the other end: there is no default route.
tsnet exec red -- ip route

tsnet sandbox rm red blue
tsnet network rm cable
