import { publishLive } from '../helpers/publish-live-suite.js'

// Ports of what runs already, by rules of nftables.

publishLive()
