/**
 * `node test/sim/main.ts --seeds 200 [--shell] [--from 1] [--trace 60] [--stop]`: runs seeds and prints what broke, with
 * the line that reproduces it. `SEED=7 node test/sim/main.ts`: that seed only, with its trace. `--shell`: whole nodes
 * (storage, machine and the shell's turn) with clients, in place of the consensus core alone.
 */
import { parseArgs } from 'node:util'
import { type ShellOutcome, runShellSeed } from './shell.ts'
import { shellPlanOf } from './shell-plan.ts'
import { planOf } from './plan.ts'
import { runSeed } from './simulation.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '200' },
    from: { type: 'string', default: '1' },
    trace: { type: 'string', default: '80' },
    stop: { type: 'boolean', default: false },
    shell: { type: 'boolean', default: false },
  },
})
const only = process.env.SEED
const first = Number(only ?? values.from)
const count = only === undefined ? Number(values.seeds) : 1
const started = performance.now()
let operations = 0
let decided = 0
let configurations = 0
let failed = 0
const counts: Record<string, number> = {}
for (let seed = first; seed < first + count; seed++) {
  const lines = Number(values.trace)
  const whole: ShellOutcome | null = values.shell ? await runShellSeed(seed, lines) : null
  const outcome = whole ?? runSeed(seed, lines)
  operations += outcome.operations
  decided += outcome.decided
  configurations += outcome.configurations
  for (const [what, count] of Object.entries(outcome.counts)) counts[what] = (counts[what] ?? 0) + count
  if (outcome.violation === null) continue
  failed++
  if (only !== undefined) console.log(JSON.stringify(values.shell ? shellPlanOf(seed) : planOf(seed), null, 2))
  if (failed <= 5 || only !== undefined) console.log(outcome.violation.trace)
  console.log(`seed ${seed}: ${outcome.violation.message}`)
  console.log(`  reproduce: SEED=${seed} node test/sim/main.ts${values.shell ? ' --shell' : ''} --trace 300`)
  if (values.stop) break
}
const seconds = (performance.now() - started) / 1000
const { user, system } = process.cpuUsage()
const perMinute = Math.round((60e6 * operations) / (user + system))
console.log(
  `${count} seeds, ${failed} failed; ${operations} operations, ${decided} entries decided, ` +
    `${configurations} configurations, ${seconds.toFixed(1)} s, ${perMinute} operations in a minute of one core`,
)
console.log(
  Object.entries(counts)
    .map(([what, count]) => `${count} ${what}`)
    .join(', '),
)
process.exitCode = failed > 0 ? 1 : 0
