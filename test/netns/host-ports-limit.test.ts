import { execFileSync } from 'node:child_process'
import { beforeAll, expect, it } from 'vitest'
import { binding, hostPortsWorld } from '../helpers/host-ports-world.js'

const world = hostPortsWorld('tst-hl')

beforeAll(() => {
  // of these 375 are not for ports
  execFileSync('prlimit', ['--pid', String(process.pid), '--nofile=1500:'])
})

it('a range for which there are not enough open files is refused whole, and leaves some to work with', async () => {
  const pair = (hostPort: number) => {
    const one = { hostPort, size: 1000 }
    return [binding(one), binding({ ...one, hostIp: '::', containerIp: 'fd00::2' })] as const
  }
  const first = pair(20_000)
  for (const b of first) await world.held.hold(b, 'web', first)
  const second = pair(30_000)
  await expect(world.held.hold(second[0], 'db', second)).rejects.toMatchObject({
    kind: 'Unavailable',
    message:
      'port 30125/tcp on 0.0.0.0: the daemon holds as many ports as it may have open files (ulimit -n), but for those it works with',
  })
  expect(world.sockets().length).toBe(1000)
  await world.held.release(first)
  for (const b of second) await world.held.hold(b, 'db', second)
  expect(world.sockets().length).toBe(1000)
})
