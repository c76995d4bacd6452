/**
 * Whether stories and simulators bite: `node test/sim/mutate.ts [--only words] [--seeds 200] [--of 3/8]` copies sources
 * and tests to a temporary folder, breaks one line of mutations.ts after the other, and prints what noticed it: the
 * golden story in which something else happens than it expects, and the first seed at which an invariant fails. That a
 * story only goes another way is not enough. `UPDATE=1` writes what was tried into the table of docs/SPEC.md. Fails
 * where nothing notices, or where the story that is there for the line does not.
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
  readonly seed: number | null
  /** What the simulator said. */
  readonly invariant: string | null
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

  /** What notices the mutation: the stories where it is one of the core, and so many seeds of its simulator. */
  try(mutation: Mutation, seeds: number): Caught {
    const path = join(this.#folder, mutation.file)
    const text = readFileSync(path, 'utf8')
    if (!text.includes(mutation.from)) throw new Error(`${mutation.name}: the line is not there any more`)
    writeFileSync(path, text.replace(mutation.from, mutation.to))
    try {
      return this.look(mutation.simulator, seeds)
    } finally {
      writeFileSync(path, text)
    }
  }

  /** What is wrong with the copy as it is. */
  look(simulator: Mutation['simulator'], seeds: number): Caught {
    const told = simulator === 'core' ? this.#run(['test/sim/stories.ts']) : ''
    const stories = [...told.matchAll(/^([\w-]+) is broken/gm)].map((match) => match[1]!)
    if (seeds === 0) return { stories, seed: null, invariant: null }
    const options = ['--seeds', String(seeds), '--trace', '0', '--stop', ...(simulator === 'shell' ? ['--shell'] : [])]
    const ran = this.#run(['test/sim/main.ts', ...options])
    const found = /^seed (\d+): (.*)$/m.exec(ran)
    const invariant = found === null ? (ran.includes(' 0 failed') ? null : 'it does not end') : found[2]!
    return { stories, seed: found === null ? null : Number(found[1]), invariant }
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
  return story === undefined ? stories.length > 0 || invariant !== null : stories.includes(story)
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

function rowOf(mutation: Mutation, { stories, seed, invariant }: Caught): string {
  const story = mutation.story ?? stories[0] ?? ''
  const file = mutation.file.replace('src/', '')
  const noticed = invariant === null ? '' : nameOf(invariant)
  return `| ${mutation.name} | \`${file}\` | ${story} | ${noticed} | ${seed ?? ''} |`
}

/** The rows of the table in docs/SPEC.md: name, file, story, invariant, seed. */
export function tableIn(page: string): readonly (readonly string[])[] {
  const [from, to] = [page.indexOf(BEGIN), page.indexOf(END)]
  if (from < 0 || to < 0) throw new Error(`${PAGE} has no table of mutations`)
  const lines = page.slice(from, to).split('\n')
  return lines
    .filter((line) => line.startsWith('| ') && !line.startsWith('| broken'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map((cells) => cells.slice(1, 6))
}

/** Takes over the rows of the mutations that were tried, and keeps those of the others. */
function writeTable(fresh: ReadonlyMap<string, string>): void {
  const path = join(root, PAGE)
  const page = readFileSync(path, 'utf8')
  const kept = new Map(tableIn(page).map((cells) => [cells[0]!, `| ${cells.join(' | ')} |`]))
  const rows = MUTATIONS.map(({ name }) => fresh.get(name) ?? kept.get(name) ?? `| ${name} | | | | |`)
  const head = '| broken on purpose | file | story | invariant that fails | at seed |\n|---|---|---|---|---|'
  const [from, to] = [page.indexOf(BEGIN) + BEGIN.length, page.indexOf(END)]
  writeFileSync(path, `${page.slice(0, from)}\n\n${head}\n${rows.join('\n')}\n\n${page.slice(to)}`)
}

function main(): void {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: '' },
      seeds: { type: 'string', default: '300' },
      of: { type: 'string', default: '0/1' },
    },
  })
  const [share = 0, shares = 1] = values.of.split('/').map(Number)
  const wanted = MUTATIONS.filter(
    ({ name }, at) => values.only.split(',').some((words) => name.includes(words)) && at % shares === share,
  )
  const workshop = new Workshop()
  const rows = new Map<string, string>()
  let missed = 0
  try {
    for (const mutation of wanted) {
      const caught = workshop.try(mutation, Number(values.seeds))
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
