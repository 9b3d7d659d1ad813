import type { Controller } from './cnm/controller.js'
import { DriftWatch } from './drift/watch.js'
import { type HostDrivers, isMarked } from './drivers/index.js'
import type { Log } from './log.js'
import type { Kernel } from './netlink/kernel.js'

interface DriftParts {
  controller: Controller
  drivers: HostDrivers
  kernel: Kernel
  log: Log
}

/** What others change of ours, from the kernel's news of it to its repair. */
export function openDrift({ controller, drivers, kernel, log }: DriftParts): DriftWatch {
  const { drift } = controller
  return new DriftWatch({
    isOurs: link => isMarked(link) || drift.standsOn(link.name),
    links: () => kernel.links(),
    doubt: event => drivers.doubt(event),
    needs: () => drift.needs(),
    sandboxes: () => drift.sandboxes(),
    isRight: link => {
      const end = drift.endOf(link.name)
      return end !== undefined && drivers.isRight(end.network, end.endpoint, link)
    },
    touched: news => drift.touched(news),
    lookAtSettings: () => drift.lookAtSettings(),
    log,
  })
}
