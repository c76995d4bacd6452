/**
 * A sample of the seeds of the shell simulator (test/sim/shell.ts): whole nodes with clients. What seeds found has become
 * stories and tests: with every change of the simulator a seed is another run. `npm run sim -- --shell --seeds 1000` runs more; `SEED=7 npm run sim -- --shell` shows one.
 */
import { describe, expect, it } from 'vitest'
import { runShellSeed } from './sim/shell.ts'

type Outcome = Awaited<ReturnType<typeof runShellSeed>>

/** What twenty seeds must have seen more often than that. */
const MUST_HAPPEN: readonly (readonly [string, number])[] = [
  ['states compared', 300],
  ['turns behind', 100],
  ['checkpoints installed', 0],
  ['deaths by a disk', 0],
  ['reads of the log', 20],
  ['blocks sent again', 20],
  ['sessions that ended', 2],
  ['outcomes unknown', 2],
  ['messages that may wait', 5],
]

async function check(seed: number): Promise<Outcome> {
  const outcome = await runShellSeed(seed, 300)
  const { violation } = outcome
  const reproduce = `SEED=${seed} npm run trace -- --shell`
  if (violation) expect.fail(`seed ${seed}: ${violation.message}\n${reproduce}\n${violation.trace}`)
  return outcome
}

describe('simulation of whole nodes', () => {
  for (let first = 1; first <= 40; first += 20) {
    it(`seeds ${first} to ${first + 19}`, { timeout: 240_000 }, async () => {
      const total = { operations: 0, configurations: 0 }
      const counts: Record<string, number> = {}
      for (let seed = first; seed < first + 20; seed++) {
        const outcome = await check(seed)
        total.operations += outcome.operations
        total.configurations += outcome.configurations
        for (const [what, count] of Object.entries(outcome.counts)) counts[what] = (counts[what] ?? 0) + count
      }
      // The clients were served, the members changed, and it was not left in peace: each of these must have happened,
      // and about so often that a few seeds do not decide it.
      expect(total.operations).toBeGreaterThan(15_000)
      expect(total.configurations).toBeGreaterThan(30)
      expect(MUST_HAPPEN.filter(([what, least]) => (counts[what] ?? 0) <= least)).toEqual([])
    })
  }

  it('the same seed is the same run', async () => {
    expect(await runShellSeed(7, 1000)).toEqual(await runShellSeed(7, 1000))
  })
})
