import { defineConfig } from 'vitest/config'

// `npm test` runs everything but test/kube, which needs a kubeconfig and has its own script (`npm run e2e`).
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/kube/**'],
    testTimeout: 180_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 2,
  },
})
