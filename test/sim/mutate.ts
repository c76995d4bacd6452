/**
 * Whether stories and simulators bite: `node test/sim/mutate.ts [--only words] [--seeds 700] [--variations 4000]
 * [--simulator core|shell] [--of 3/8]` copies sources and tests to a temporary folder, breaks one line of mutations.ts after the other, and prints
 * what noticed it: the golden story in which something else happens than it expects, and the first variation on a story
 * and the first seed at which an invariant fails. That a story only goes another way is not enough. `UPDATE=1` writes
 * what was tried into the table of docs/SPEC.md. Fails where no invariant notices, or where the story that is there for
 * the line does not.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Mutation } from './mutation.ts'
import { MUTATIONS } from './mutations.ts'

const root = join(import.meta.dirname, '../..')
const PAGE = 'docs/SPEC.md'
const BEGIN = '<!-- mutations: written by UPDATE=1 node test/sim/mutate.ts -->'
const END = '<!-- end of mutations -->'
/** Longer takes a simulation only where the mutation made it run without end. */
const PATIENCE_MILLISECONDS = 300_000

export interface Caught {
  /** Names of the golden stories that are broken. */
  readonly stories: readonly string[]
  /** The first variation on a story in which an invariant fails, and the first seed of the simulator. */
  readonly variation: number | null
  readonly seed: number | null
  /** What the simulator said, or where it said nothing, the variation. */
  readonly invariant: string | null
}

/** How many are tried at most. */
export interface Patience {
  readonly variations: number
  readonly seeds: number
}

/** A copy of the project in which lines may be broken. */
export class Workshop {
  readonly #folder = mkdtempSync(join(tmpdir(), 'lokikv-mutation-'))

  constructor() {
    const parts = ['src', 'test/sim', 'test/scripts', 'test/storage/simulated-disk.ts', 'test/cluster/checker.ts']
    for (const part of [...parts, 'package.json']) {
      cpSync(join(root, part), join(this.#folder, part), { recursive: true })
    }
    symlinkSync(join(root, 'node_modules'), join(this.#folder, 'node_modules'))
  }

  /** What notices the mutation: the stories and their variations where it is one of the core, and its simulator. */
  try(mutation: Mutation, patience: Patience): Caught {
    const path = join(this.#folder, mutation.file)
    const text = readFileSync(path, 'utf8')
    if (!text.includes(mutation.from)) throw new Error(`${mutation.name}: the line is not there any more`)
    writeFileSync(path, text.replace(mutation.from, mutation.to))
    try {
      return this.look(mutation.simulator, patience)
    } finally {
      writeFileSync(path, text)
    }
  }

  /** What is wrong with the copy as it is. */
  look(simulator: Mutation['simulator'], { variations, seeds }: Patience): Caught {
    const isCore = simulator === 'core'
    const told = isCore ? this.#run(['test/sim/stories.ts']) : ''
    const stories = [...told.matchAll(/^([\w-]+) is broken/gm)].map((match) => match[1]!)
    const varied = this.#first(isCore ? variations : 0, ['--variations'])
    const found = this.#first(seeds, isCore ? [] : ['--shell'])
    return { stories, variation: varied.at, seed: found.at, invariant: found.invariant ?? varied.invariant }
  }

  /** The first of so many seeds that fails. */
  #first(seeds: number, options: readonly string[]): { readonly at: number | null; readonly invariant: string | null } {
    if (seeds === 0) return { at: null, invariant: null }
    const ran = this.#run(['test/sim/main.ts', '--seeds', String(seeds), '--trace', '0', '--stop', ...options])
    const found = /^seed (\d+): (.*)$/m.exec(ran)
    if (found !== null) return { at: Number(found[1]), invariant: found[2]! }
    return { at: null, invariant: ran.includes(' 0 failed') ? null : 'it does not end' }
  }

  #run(script: readonly string[]): string {
    const { stdout, stderr } = spawnSync(process.execPath, script, {
      cwd: this.#folder,
      encoding: 'utf8',
      timeout: PATIENCE_MILLISECONDS,
    })
    if (/SyntaxError|ERR_MODULE_NOT_FOUND/.test(stderr)) throw new Error(stderr)
    return stdout
  }

  close(): void {
    rmSync(this.#folder, { recursive: true })
  }
}

export function isCaught({ story }: Mutation, { stories, invariant }: Caught): boolean {
  return invariant !== null && (story === undefined || stories.includes(story))
}

/** The invariant's name, without what is different in every run. */
function nameOf(invariant: string): string {
  const plain = invariant.replace(/^(\w*Error|InvariantViolation)( \[\w+\])?: /, '')
  const [first] = plain.split(/[:;(]/)
  return first!
    .trim()
    .replaceAll(/\d+(\.\d+)*/g, 'n')
    .slice(0, 80)
}

function rowOf(mutation: Mutation, { stories, variation, seed, invariant }: Caught): string {
  const story = mutation.story ?? stories[0] ?? ''
  const file = mutation.file.replace('src/', '')
  const noticed = invariant === null ? '' : nameOf(invariant)
  return `| ${mutation.name} | \`${file}\` | ${story} | ${noticed} | ${variation ?? ''} | ${seed ?? ''} |`
}

/** The rows of the table in docs/SPEC.md: name, file, story, invariant, variation, seed. */
export function tableIn(page: string): readonly (readonly string[])[] {
  const [from, to] = [page.indexOf(BEGIN), page.indexOf(END)]
  if (from < 0 || to < 0) throw new Error(`${PAGE} has no table of mutations`)
  const lines = page.slice(from, to).split('\n')
  return lines
    .filter((line) => line.startsWith('| ') && !line.startsWith('| broken'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map((cells) => cells.slice(1, 7))
}

/** Takes over the rows of the mutations that were tried, and keeps those of the others. */
function writeTable(fresh: ReadonlyMap<string, string>): void {
  const path = join(root, PAGE)
  const page = readFileSync(path, 'utf8')
  const kept = new Map(tableIn(page).map((cells) => [cells[0]!, `| ${cells.join(' | ')} |`]))
  const rows = MUTATIONS.map(({ name }) => fresh.get(name) ?? kept.get(name) ?? `| ${name} | | | | | |`)
  const head =
    '| broken on purpose | file | story | invariant that fails | at variation | at seed |\n|---|---|---|---|---|---|'
  const [from, to] = [page.indexOf(BEGIN) + BEGIN.length, page.indexOf(END)]
  writeFileSync(path, `${page.slice(0, from)}\n\n${head}\n${rows.join('\n')}\n\n${page.slice(to)}`)
}

function main(): void {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: '' },
      simulator: { type: 'string', default: '' },
      seeds: { type: 'string', default: '700' },
      variations: { type: 'string', default: '4000' },
      of: { type: 'string', default: '0/1' },
    },
  })
  const [share = 0, shares = 1] = values.of.split('/').map(Number)
  const wanted = MUTATIONS.filter(
    ({ name, simulator }, at) =>
      simulator.includes(values.simulator) &&
      values.only.split(',').some((words) => name.includes(words)) &&
      at % shares === share,
  )
  const workshop = new Workshop()
  const rows = new Map<string, string>()
  let missed = 0
  try {
    for (const mutation of wanted) {
      const caught = workshop.try(mutation, { variations: Number(values.variations), seeds: Number(values.seeds) })
      if (!isCaught(mutation, caught)) missed++
      rows.set(mutation.name, rowOf(mutation, caught))
      console.log(isCaught(mutation, caught) ? rows.get(mutation.name) : `NOT NOTICED ${mutation.name}`)
    }
  } finally {
    workshop.close()
  }
  console.log(`${wanted.length} mutations, ${missed} not noticed`)
  if (process.env.UPDATE !== undefined) writeTable(rows)
  process.exitCode = missed > 0 ? 1 : 0
}

if (import.meta.main) main()
