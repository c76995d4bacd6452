/**
 * A sample of the simulator's seeds (test/sim): the fixed ones that once found a fault, and a run of others.
 * `npm run sim -- --seeds 1000` runs more; `SEED=7 npm run sim` shows one.
 */
import { describe, expect, it } from 'vitest'
import { planOf, runSeed } from './sim/simulation.ts'

/** Seeds that found a fault, with what it was. Where it has a story of its own, that is in test/scripts. */
const FOUND: readonly (readonly [number, string])[] = [
  [43, 'nodes that were removed and are voters again are never told'],
  [44, 'a storm of calls for Prepare while the disk is slow'],
  [172, 'a follower whose entries have left the memory of the leader'],
  [1209, 'a suffix that may have been chosen keeps a checkpoint away'],
  [1577, 'a fetched segment waits for ever'],
  [1592, 'the only voter has a damaged storage'],
  [1862, 'a late joiner refuses a checkpoint of an older configuration'],
  [2033, 'entries are dropped between a promise and its sync'],
]

function check(seed: number): ReturnType<typeof runSeed> {
  const outcome = runSeed(seed)
  const { violation } = outcome
  const reproduce = `SEED=${seed} node test/sim/main.ts --trace 300`
  if (violation) expect.fail(`seed ${seed}: ${violation.message}\n${reproduce}\n${violation.trace}`)
  return outcome
}

describe('simulation', () => {
  for (const [seed, what] of FOUND) {
    it(`seed ${seed}: ${what}`, () => {
      expect(check(seed).decided).toBeGreaterThan(0)
    })
  }

  for (let first = 1; first <= 300; first += 50) {
    it(`seeds ${first} to ${first + 49}`, { timeout: 120_000 }, () => {
      let decided = 0
      let configurations = 0
      for (let seed = first; seed < first + 50; seed++) {
        const outcome = check(seed)
        decided += outcome.decided
        configurations += outcome.configurations
      }
      // The cluster worked, and its members changed.
      expect(decided).toBeGreaterThan(10_000)
      expect(configurations).toBeGreaterThan(75)
    })
  }

  it('the same seed is the same run', () => {
    expect(runSeed(7)).toEqual(runSeed(7))
    expect(planOf(7)).toEqual(planOf(7))
  })
})
