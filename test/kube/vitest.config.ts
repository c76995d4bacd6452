import { defineConfig } from 'vitest/config'

// `npm run e2e`: tests on a real Kubernetes, whichever KUBECONFIG names. One after the other, stop at the first
// failure: the tests of one file build on each other.
export default defineConfig({
  test: {
    include: ['test/kube/**/*.test.ts'],
    testTimeout: 300_000,
    hookTimeout: 300_000,
    pool: 'forks',
    fileParallelism: false,
    bail: 1,
  },
})
