import { defineConfig } from 'vitest/config'

// One project a suite: `vitest run --project netns`. Kernel suites enter namespaces, which is per thread, so every file has its own process.
const suite = (name: string, options: object = {}) => ({
  test: { name, include: [`test/${name}/**/*.test.ts`], pool: 'forks' as const, ...options },
})

export default defineConfig({
  test: {
    projects: [
      suite('unit'),
      suite('property', { testTimeout: 60_000 }),
      suite('contract', { testTimeout: 30_000, hookTimeout: 60_000 }),
      suite('netns', { testTimeout: 60_000, hookTimeout: 60_000, fileParallelism: false }),
      suite('docker', { testTimeout: 120_000, hookTimeout: 180_000, fileParallelism: false }),
      suite('multihost', { testTimeout: 180_000, hookTimeout: 180_000, fileParallelism: false }),
      suite('bench', { testTimeout: 900_000, hookTimeout: 180_000, fileParallelism: false }),
    ],
  },
})
