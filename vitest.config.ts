import { defineConfig } from 'vitest/config'

// `npm test` runs everything but test/kube, which needs a kubeconfig and has its own script (`npm run e2e`).
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/kube/**'],
    // Long: what a test waits for has its own, shorter patience; this is for machines that stand still for a while.
    testTimeout: 400_000,
    hookTimeout: 400_000,
    pool: 'forks',
    maxWorkers: 2,
  },
})
