import { frameSize } from './framing.js'
import type { Request } from './request.js'

/** Acknowledgements wait in the socket's receive buffer, which holds about 250 of them before it drops some. */
const requestsAtOnce = 100
/** What one send holds at most. */
export const bytesAtOnce = 65_536

/** Split where a request must see what those before it did, and where a send gets too large. */
export function* batches(requests: readonly Request[]): Generator<readonly Request[]> {
  let batch: Request[] = []
  let size = 0
  for (const request of requests) {
    const grown = size + frameSize(request.body)
    const last = batch.at(-1)
    const depends = request.byName && !last?.byName
    if (last && (depends || batch.length >= requestsAtOnce || grown > bytesAtOnce)) {
      yield batch
      batch = []
      size = 0
    }
    batch.push(request)
    size += frameSize(request.body)
  }
  if (batch.length > 0) yield batch
}
