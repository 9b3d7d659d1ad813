// node --import .../loop-delay.mjs PROGRAM: how late the program's event loop is. SIGUSR2 writes a JSON line to the file that
// TSNET_LOOP_DELAYS names, and begins anew.
import { appendFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const delays = monitorEventLoopDelay({ resolution: 1 })
delays.enable()
process.on('SIGUSR2', () => {
  const ms = nanoseconds => nanoseconds / 1e6
  const p = percent => ms(delays.percentile(percent))
  appendFileSync(
    process.env.TSNET_LOOP_DELAYS,
    `${JSON.stringify({ p50: p(50), p99: p(99), most: ms(delays.max), count: delays.count })}\n`,
  )
  delays.reset()
})
