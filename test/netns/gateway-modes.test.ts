import { gatewayModes } from '../helpers/modes-suite.js'

// Gateway modes of networks, by rules of nftables.

gatewayModes()
