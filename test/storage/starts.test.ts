/**
 * A sample of the sweep of starts (test/sim/starts.ts): a real storage killed at any step of its disk, damaged and
 * started again, life after life, beside healthy peers. The seed is in the message of a failure;
 * `npm run sim -- --starts --seeds 20000` runs more, `SEED=7 npm run sim -- --starts` shows one.
 */
import { expect, test } from 'vitest'
import { runStarts } from '../sim/starts.ts'

/** What two hundred seeds must have seen more often than that. */
const MUST_HAPPEN: readonly (readonly [string, number])[] = [
  ['starts', 600],
  ['damages', 100],
  ['starts in doubt', 100],
  ['starts with promises lost', 50],
  ['checkpoints', 100],
  ['checkpoints installed', 20],
  ['came back', 120],
]

test.each([1, 201, 401])(
  'whatever a start finds, the node comes back: seeds %i and the 199 after it',
  { timeout: 60_000 },
  async (first) => {
    const counts: Record<string, number> = {}
    for (let seed = first; seed < first + 200; seed++) {
      const outcome = await runStarts(seed, 200)
      const again = `SEED=${seed} npm run sim -- --starts`
      if (outcome.violation !== null) expect.fail(`seed ${seed}: ${outcome.violation}\n${again}\n${outcome.trace}`)
      for (const [what, count] of Object.entries(outcome.counts)) counts[what] = (counts[what] ?? 0) + count
    }
    expect(MUST_HAPPEN.filter(([what, least]) => (counts[what] ?? 0) <= least)).toEqual([])
  },
)

test('the same seed is the same run', async () => {
  expect(await runStarts(7)).toEqual(await runStarts(7))
})
