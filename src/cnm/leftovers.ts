import { messageOf } from '../errors.js'
import type { CnmDeps } from './deps.js'

/**
 * What is left to do once an object is forgotten. There is no way back, so it fails for nobody: it is tried once more, and what
 * stays even then is told, and goes with the next reconcile, because it belongs to nothing.
 */
export async function cleanUp({ events, log }: CnmDeps, words: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work().catch(work)
  } catch (error) {
    const failure = `${words}: ${messageOf(error)}; tsnet reconcile does it`
    events.emit({ type: 'reconcile', action: 'failure', words: failure })
    log.error({ err: error }, failure)
  }
}
