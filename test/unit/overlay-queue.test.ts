import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { RequestQueue } from '../../src/drivers/overlay/queue.js'
import type { Kernel } from '../../src/netlink/kernel.js'
import type { Request } from '../../src/netlink/requests.js'

/** A kernel that keeps what it is told, and refuses one request if it is to. */
function listener(refused?: number): { kernel: Kernel; told: number[]; batches: number[] } {
  const told: number[] = []
  const batches: number[] = []
  const apply = (requests: readonly { n: number }[]): void => {
    batches.push(requests.length)
    if (requests.some(({ n }) => n === refused)) throw new Error(`refused ${refused}`)
    told.push(...requests.map(({ n }) => n))
  }
  return { kernel: { apply } as unknown as Kernel, told, batches }
}

const numbers = (from: number, to: number): Request[] =>
  Array.from({ length: to - from }, (_, i) => ({ n: from + i }) as unknown as Request)

test('a few requests are told at once, and there is nothing to wait for', () => {
  const { kernel, told } = listener()
  expect(new RequestQueue(kernel).apply([numbers(0, 10), numbers(10, 20)])).toBeUndefined()
  expect(told).toHaveLength(20)
})

test('many are told in parts, between which other work has its turn', async () => {
  const { kernel, told, batches } = listener()
  let turns = 0
  const timer = setInterval(() => turns++)
  const done = new RequestQueue(kernel).apply([numbers(0, 100_000)])
  expect(told.length).toBeLessThan(1000)
  await done
  clearInterval(timer)
  expect(told).toHaveLength(100_000)
  expect(Math.max(...batches)).toBeLessThanOrEqual(500)
  expect(turns).toBeGreaterThan(1)
})

test('what comes while others wait is told after them, however little it is', async () => {
  const { kernel, told } = listener()
  const queue = new RequestQueue(kernel)
  const first = queue.apply([numbers(0, 3000)])
  const second = queue.apply([numbers(3000, 3001)])
  await Promise.all([first, second])
  expect(told).toEqual(Array.from({ length: 3001 }, (_, i) => i))
})

test('a request that is refused fails its own work and not what waits behind it', async () => {
  const { kernel, told } = listener(2600)
  const queue = new RequestQueue(kernel)
  const first = queue.apply([numbers(0, 3000)])
  const second = queue.apply([numbers(3000, 3001)])
  await expect(first).rejects.toThrow('refused 2600')
  await second
  expect(told.at(-1)).toBe(3000)
})

test('when the links go, what still waits is told nobody, and whoever waits for it goes on', async () => {
  const { kernel, told } = listener()
  const queue = new RequestQueue(kernel)
  const done = queue.apply([numbers(0, 5000)])
  queue.close()
  await done
  await sleep(10)
  expect(told).toHaveLength(500)
})
