/**
 * A sample of the simulator's seeds (test/sim): the consensus core in a world of faults. What seeds found has become
 * golden stories (test/scripts/consensus), which do not change when the simulator does; here are a few of the seeds
 * themselves, and a run of others. `npm run sim -- --seeds 1000` runs more; `SEED=7 npm run sim` shows one, and
 * `SEED=7 npm run trace` draws it.
 */
import { describe, expect, it } from 'vitest'
import { planOf, runSeed } from './sim/simulation.ts'
import { runVariation, shortest } from './sim/variation.ts'

/** Seeds that found a fault, with what it was; by now they may be other runs. */
const FOUND: readonly (readonly [number, string])[] = [
  [28, 'a node that was removed and is a learner again is never told'],
  [197, 'what was adopted and then replaced keeps a node from ever having caught up'],
  [309, 'what was learned of the next configuration is known although a leader of this one dropped it'],
  [1218, 'a leader that stepped down for news that nobody has any more counts itself happy'],
  [5461, 'a node that lost what its configuration rests on tells everybody that the one before is over'],
  [302807, 'below a checkpoint that the log does not know of yet the log counts as decided (in the model of the disk)'],
  [330434, 'what a checkpoint is about to replace is read back for others (in the model of the disk)'],
  [
    343762,
    'rot takes a ballot that its owner has told nobody who was there (too strict an assertion of the simulator)',
  ],
]

function check(seed: number): ReturnType<typeof runSeed> {
  const outcome = runSeed(seed, 300)
  const { violation } = outcome
  if (violation) expect.fail(`seed ${seed}: ${violation.message}\nSEED=${seed} npm run trace\n${violation.trace}`)
  return outcome
}

describe('simulation', () => {
  for (const [seed, what] of FOUND) {
    it(`seed ${seed}: ${what}`, () => {
      expect(check(seed).decided).toBeGreaterThan(0)
    })
  }

  for (let first = 1; first <= 150; first += 50) {
    it(`seeds ${first} to ${first + 49}`, { timeout: 120_000 }, () => {
      const total = { decided: 0, configurations: 0, crashes: 0, ambushes: 0 }
      for (let seed = first; seed < first + 50; seed++) {
        const { decided, configurations, counts } = check(seed)
        total.decided += decided
        total.configurations += configurations
        total.crashes += counts.crashes ?? 0
        total.ambushes += counts.ambushes ?? 0
      }
      // The cluster worked, its members changed, and it was not left in peace.
      expect(total.decided).toBeGreaterThan(10_000)
      expect(total.configurations).toBeGreaterThan(75)
      expect(total.crashes).toBeGreaterThan(150)
      expect(total.ambushes).toBeGreaterThan(100)
    })
  }

  it('the same seed is the same run', () => {
    expect(runVariation(7)).toEqual(runVariation(7))
    expect(runSeed(7)).toEqual(runSeed(7))
    expect(planOf(7)).toEqual(planOf(7))
  })
})

describe('variations on the golden stories', () => {
  it.each([1, 201, 401])('seeds %i and the 199 after it', { timeout: 60_000 }, (first) => {
    let steps = 0
    for (let seed = first; seed < first + 200; seed++) {
      const outcome = runVariation(seed)
      if (outcome.violation !== null) expect.fail(`seed ${seed}: ${outcome.violation}\n${shortest(seed).text}`)
      steps += outcome.steps
    }
    // What cannot be done is left out: not too much of it may be.
    expect(steps).toBeGreaterThan(3000)
  })
})
