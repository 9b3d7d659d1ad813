import { publishLive } from '../helpers/publish-live-suite.js'

// The same by rules of iptables.

publishLive('--firewall', 'iptables')
