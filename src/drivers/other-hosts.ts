import type { OtherHosts } from '../cnm/driver.js'
import { invalid } from '../errors.js'

/** There are none: the store is this host's own. */
export const noOtherHosts: OtherHosts = {
  host: '',
  underlay: () => {
    throw invalid('overlay networks need a store that all hosts share: start the daemon with --store etcd://HOST:2379')
  },
  remotes: () => undefined,
  vteps: () => [],
}
