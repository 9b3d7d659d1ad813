import { defineConfig } from 'vitest/config'
import { throwawayPool } from './test/helpers/throwaway-pool.js'

// One project a suite: `vitest run --project netns`. Every file has its own process; those of suites that change the machine
// have a machine of their own too. Tests mostly wait, so more files are tried at a time than there are processors.
const suite = (name: string, options: object = {}) => ({
  test: { name, include: [`test/${name}/**/*.test.ts`], pool: 'forks' as const, maxWorkers: 2, ...options },
})
const kernelSuite = (name: string, options: object) =>
  suite(name, { pool: throwawayPool, maxWorkers: 3, sequence: { groupOrder: 1 }, ...options })

/** Where `scripts/test` puts another Debian. */
const sid = '/var/cache/tsnet-test/sid'

export default defineConfig({
  test: {
    projects: [
      suite('unit'),
      suite('property', { testTimeout: 60_000 }),
      suite('contract', { testTimeout: 30_000, hookTimeout: 60_000 }),
      kernelSuite('netns', { testTimeout: 120_000, hookTimeout: 120_000 }),
      kernelSuite('docker', { testTimeout: 120_000, hookTimeout: 180_000 }),
      kernelSuite('docker-sid', { testTimeout: 120_000, hookTimeout: 180_000, env: { TSNET_TEST_DEBIAN: sid } }),
      kernelSuite('multihost', { testTimeout: 180_000, hookTimeout: 180_000 }),
      suite('bench', { testTimeout: 900_000, hookTimeout: 180_000, fileParallelism: false, maxWorkers: 1 }),
      kernelSuite('faults', {
        testTimeout: 120_000,
        hookTimeout: 120_000,
        setupFiles: ['test/helpers/fault-points.ts'],
      }),
    ],
  },
})
