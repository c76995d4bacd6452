/**
 * `SEED=7 npm run trace [-- --shell] [--last 80] [--all] [--svg file]`: runs a seed and draws how it ended, up to the
 * violation where there is one: nodes, messages, lost ones too, what became durable, crashes. `--story lost-message`
 * draws a golden story in place of a seed; `--all` with heartbeats and leases; `--svg` writes a page for a browser.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { drawSvg } from './diagram-svg.ts'
import { drawText, drawingOf } from './diagram.ts'
import { planOf } from './plan.ts'
import { ShellSimulation, runShellSeed } from './shell.ts'
import { shellPlanOf } from './shell-plan.ts'
import { Simulation, runSeed } from './simulation.ts'
import { traceOf } from './story.ts'
import type { Trace } from './trace.ts'

/** Everything of the run is kept: who was up is known from its start. */
const NOTES = 1_000_000

async function traceOfSeed(seed: number, shell: boolean): Promise<{ readonly trace: Trace; readonly end: string }> {
  if (shell) {
    const simulation = new ShellSimulation(shellPlanOf(seed), NOTES)
    const { violation } = await runShellSeed(seed, 0, simulation)
    return { trace: simulation.trace, end: violation?.message ?? 'nothing is wrong with this seed' }
  }
  const simulation = new Simulation(planOf(seed), NOTES)
  const { violation } = runSeed(seed, 0, simulation)
  return { trace: simulation.trace, end: violation?.message ?? 'nothing is wrong with this seed' }
}

const { values } = parseArgs({
  options: {
    shell: { type: 'boolean', default: false },
    last: { type: 'string', default: '80' },
    all: { type: 'boolean', default: false },
    svg: { type: 'string' },
    story: { type: 'string' },
  },
})
const { trace, end } =
  values.story === undefined
    ? await traceOfSeed(Number(process.env.SEED ?? 1), values.shell)
    : {
        trace: traceOf(readFileSync(join(import.meta.dirname, `../scripts/consensus/${values.story}.txt`), 'utf8')),
        end: values.story,
      }
const drawing = drawingOf(trace.last(NOTES), Number(values.last), values.all)
if (values.svg === undefined) {
  const isTerminal = process.stdout.isTTY
  console.log(drawText(drawing, { columns: isTerminal ? process.stdout.columns : 140, colour: isTerminal }))
} else {
  writeFileSync(values.svg, drawSvg(drawing))
  console.log(`${values.svg}: ${drawing.rows.length} rows`)
}
console.log(end)
