#!/bin/sh
# Two network namespaces on a bridge, with a way out to the world behind the host's address. Needs root and a running daemon:
#   examples/two-by-bridge.sh [ADDRESS-OUTSIDE]
# By hand this is a bridge with an address, a veth pair for each namespace, a default route in each, ip_forward, and a
# rule that masquerades; here it is one network and two connects.
set -eu
outside=${1:-}

tsnet network create lan --subnet 10.56.0.0/24 -o bridge=lan0
for name in red blue; do
  tsnet sandbox create $name
  tsnet connect lan $name
done

# The bridge is the host's own foot in the network, and the gateway.
ip -brief address show lan0
tsnet exec red -- ip route
tsnet exec red -- ping -c 1 -W 2 10.56.0.1
tsnet exec red -- ping -c 1 -W 2 10.56.0.3
tsnet exec blue -- ping -c 1 -W 2 10.56.0.2

# The outside sees the host's address.
if [ -n "$outside" ]; then
  tsnet exec red -- ping -c 1 -W 2 "$outside"
  tsnet exec blue -- ping -c 1 -W 2 "$outside"
fi

tsnet sandbox rm red blue
tsnet network rm lan
