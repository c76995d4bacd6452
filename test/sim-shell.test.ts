/**
 * A sample of the seeds of the shell simulator (test/sim/shell.ts): whole nodes with clients. The fixed ones once found
 * a fault. `npm run sim -- --shell --seeds 1000` runs more; `SEED=7 npm run sim -- --shell` shows one.
 */
import { describe, expect, it } from 'vitest'
import { runShellSeed } from './sim/shell.ts'

type Outcome = Awaited<ReturnType<typeof runShellSeed>>

/** Seeds that found a fault, with what it was. */
const FOUND: readonly (readonly [number, string])[] = [
  [29, 'the log of a node in doubt is adopted, because it has the largest ballot'],
  [202, 'a key is shown after its time because it came after the read was asked'],
]

async function check(seed: number): Promise<Outcome> {
  const outcome = await runShellSeed(seed, 300)
  const { violation } = outcome
  const reproduce = `SEED=${seed} npm run trace -- --shell`
  if (violation) expect.fail(`seed ${seed}: ${violation.message}\n${reproduce}\n${violation.trace}`)
  return outcome
}

describe('simulation of whole nodes', () => {
  for (const [seed, what] of FOUND) {
    it(`seed ${seed}: ${what}`, async () => {
      expect((await check(seed)).operations).toBeGreaterThan(0)
    })
  }

  for (let first = 1; first <= 40; first += 20) {
    it(`seeds ${first} to ${first + 19}`, { timeout: 240_000 }, async () => {
      const total = { operations: 0, configurations: 0, hashes: 0, installed: 0, failures: 0, behind: 0 }
      for (let seed = first; seed < first + 20; seed++) {
        const outcome = await check(seed)
        total.operations += outcome.operations
        total.configurations += outcome.configurations
        total.hashes += outcome.counts['states compared'] ?? 0
        total.behind += outcome.counts['turns behind'] ?? 0
        total.failures += outcome.counts['deaths by a disk'] ?? 0
        total.installed += outcome.counts['checkpoints installed'] ?? 0
      }
      // The clients were served, the members changed, states were compared, checkpoints travelled, disks failed, and
      // nodes that take their time to apply held back what they accept.
      expect(total.operations).toBeGreaterThan(15_000)
      expect(total.configurations).toBeGreaterThan(30)
      expect(total.behind).toBeGreaterThan(100)
      expect(total.hashes).toBeGreaterThan(300)
      expect(total.installed).toBeGreaterThan(0)
      expect(total.failures).toBeGreaterThan(0)
    })
  }

  it('the same seed is the same run', async () => {
    expect(await runShellSeed(7, 1000)).toEqual(await runShellSeed(7, 1000))
  })
})
