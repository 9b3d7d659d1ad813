import { iptablesPaths } from '../helpers/firewall-paths-iptables.js'

// In a file of its own: each kernel side wants a namespace to itself.
iptablesPaths('nft')
