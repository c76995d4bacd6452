/**
 * `npm run sim -- --seeds 1000 [--shell] [--from 1] [--trace 60] [--stop]`: runs seeds and prints what broke, with the
 * line that reproduces it. `SEED=7 npm run sim`: that seed only, exactly as it was, with its trace. `--shell`: whole
 * nodes (storage, machine and the shell's turn) with clients, in place of the consensus core alone. `--variations`:
 * variations on the golden stories; of one that fails the shortest story that does is shown. `--starts`: one real storage
 * that is killed, damaged and started again and again.
 */
import { parseArgs } from 'node:util'
import { planOf } from './plan.ts'
import { runShellSeed } from './shell.ts'
import { shellPlanOf } from './shell-plan.ts'
import { runSeed } from './simulation.ts'
import { runStarts } from './starts.ts'
import { runVariation, shortest } from './variation.ts'

function vary(first: number, count: number, stop: boolean): number {
  const started = performance.now()
  let failed = 0
  for (let seed = first; seed < first + count; seed++) {
    const { violation, story } = runVariation(seed)
    if (violation === null) continue
    failed++
    if (failed <= 3) console.log(shortest(seed).text)
    console.log(`seed ${seed}: ${violation}`)
    console.log(`  of ${story}; again: SEED=${seed} npm run sim -- --variations`)
    if (stop) break
  }
  console.log(`${count} variations, ${failed} failed; ${((performance.now() - started) / 1000).toFixed(1)} s`)
  return failed > 0 ? 1 : 0
}

/** A seed that was asked for by itself shows its trace. */
async function startAgain(first: number, count: number, lines: number): Promise<number> {
  const counts: Record<string, number> = {}
  let failed = 0
  for (let seed = first; seed < first + count; seed++) {
    const outcome = await runStarts(seed, lines)
    for (const [what, times] of Object.entries(outcome.counts)) counts[what] = (counts[what] ?? 0) + times
    if (outcome.violation !== null && ++failed <= 5) console.log(outcome.trace)
    if (outcome.violation !== null) console.log(`seed ${seed}: ${outcome.violation}`)
    if (outcome.violation !== null) console.log(`  again: SEED=${seed} npm run sim -- --starts`)
    else if (count === 1) console.log(outcome.trace)
  }
  console.log(`${count} seeds, ${failed} failed`, counts)
  return failed > 0 ? 1 : 0
}

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '1' },
    trace: { type: 'string', default: '80' },
    stop: { type: 'boolean', default: false },
    shell: { type: 'boolean', default: false },
    variations: { type: 'boolean', default: false },
    starts: { type: 'boolean', default: false },
  },
})
const only = process.env.SEED
const first = Number(only ?? values.from)
const count = only === undefined ? Number(values.seeds) : 1
const lines = Number(values.trace)
if (values.variations) {
  process.exitCode = vary(first, count, values.stop)
  process.exit()
}
if (values.starts) {
  process.exitCode = await startAgain(first, count, lines)
  process.exit()
}
const started = performance.now()
const total = { operations: 0, decided: 0, configurations: 0, failed: 0 }
const counts: Record<string, number> = {}
for (let seed = first; seed < first + count; seed++) {
  const outcome = values.shell ? await runShellSeed(seed, lines) : runSeed(seed, lines)
  total.operations += outcome.operations
  total.decided += outcome.decided
  total.configurations += outcome.configurations
  for (const [what, count] of Object.entries(outcome.counts)) counts[what] = (counts[what] ?? 0) + count
  if (only !== undefined) console.log(JSON.stringify(values.shell ? shellPlanOf(seed) : planOf(seed), null, 2))
  const { violation } = outcome
  if (violation === null) {
    if (only !== undefined) console.log(outcome.trace)
    continue
  }
  total.failed++
  if (total.failed <= 5) console.log(violation.trace)
  const shell = values.shell ? ' -- --shell' : ''
  console.log(`seed ${seed}: ${violation.message}`)
  console.log(`  again: SEED=${seed} npm run sim${shell}   as a picture: SEED=${seed} npm run trace${shell}`)
  if (values.stop) break
}
const seconds = (performance.now() - started) / 1000
const { user, system } = process.cpuUsage()
const perMinute = Math.round((60e6 * total.operations) / (user + system))
console.log(
  `${count} seeds, ${total.failed} failed; ${total.operations} operations, ${total.decided} entries decided, ` +
    `${total.configurations} configurations, ${seconds.toFixed(1)} s, ${perMinute} operations in a minute of one core`,
)
console.log(
  Object.entries(counts)
    .map(([what, count]) => `${count} ${what}`)
    .join(', '),
)
process.exitCode = total.failed > 0 ? 1 : 0
