import { gatewayModes } from '../helpers/modes-suite.js'

// The same by rules of iptables.

gatewayModes('--firewall', 'iptables')
