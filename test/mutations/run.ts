/**
 * Do the sweeps bite? Takes safety lines out of copies of the storage, one at a time, and runs the sweep that has to
 * notice. `node test/mutations/run.ts [--only text] [--search]` prints the table: mutation, sweep that caught it, how
 * it said so. `--search` runs all sweeps on each until one notices, for lines that are new on the list. Exit code 1
 * where one survives or is caught by another sweep.
 */
import { spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { MUTATIONS, type Mutation } from './list.ts'

const ROOT = join(import.meta.dirname, '../..')
/** A mutant that hangs is caught: a start that does not end is none. */
const MOST_MILLISECONDS = 120_000

export interface Outcome {
  /** The sweep that noticed, or null. */
  readonly caughtBy: string | null
  readonly reason: string
}

/** Runs `sweep`, or all of them, on a storage without the line. Throws where the line is not there. */
export async function runMutant(mutation: Mutation, sweep: string | null): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'mutant-'))
  try {
    await cp(join(ROOT, 'src'), join(folder, 'src'), {
      recursive: true,
      filter: (path) => !/src.(consensus|machine|edge)/.test(path.slice(ROOT.length)),
    })
    await cp(join(ROOT, 'test/storage'), join(folder, 'test/storage'), { recursive: true })
    await cp(join(ROOT, 'test/fixtures/data-encrypted/keys'), join(folder, 'test/fixtures/data-encrypted/keys'), {
      recursive: true,
    })
    await cp(join(ROOT, 'test/sim/inline-zstd.ts'), join(folder, 'test/sim/inline-zstd.ts'))
    await cp(join(ROOT, 'test/mutations'), join(folder, 'test/mutations'), { recursive: true })
    const path = join(folder, 'src', mutation.file)
    const source = await readFile(path, 'utf8')
    if (!source.includes(mutation.from)) throw new Error(`'${mutation.name}': ${mutation.file} has no such line`)
    await writeFile(path, source.replaceAll(mutation.from, mutation.to))
    await writeFile(join(folder, 'package.json'), '{"type":"module"}')
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
    const text = await run([join(folder, 'test/mutations/mutant.ts'), ...(sweep === null ? [] : [sweep])])
    const caught = /^caught: (.*?): (.*)$/m.exec(text)
    if (caught !== null) return { caughtBy: nameOf(caught[0]), reason: caught[0].slice(0, 300) }
    if (text.includes('survived')) return { caughtBy: null, reason: 'survived' }
    if (!text.includes('started')) throw new Error(`'${mutation.name}' does not start: ${text}`)
    // It ended before it could say so: an error that nobody waits for, or no end at all.
    return { caughtBy: sweep, reason: text.trim().split('\n').slice(-3).join(' ').slice(0, 300) || 'no end' }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** `caught: <sweep>: <reason>`; names of sweeps of histories have a colon of their own. */
const nameOf = (line: string): string => /^caught: ((?:crash: |fail: |[^:]*power cut: )?[^:]*)/.exec(line)![1]!

function run(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const timer = setTimeout(() => child.kill('SIGKILL'), MOST_MILLISECONDS)
    let text = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (text += bytes.toString()))
    child.on('error', reject)
    child.on('close', () => {
      clearTimeout(timer)
      resolve(text)
    })
  })
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { only: { type: 'string', default: '' }, search: { type: 'boolean' } } })
  let wrong = 0
  for (const mutation of MUTATIONS.filter(({ name }) => name.includes(values.only))) {
    const began = performance.now()
    const { caughtBy, reason } = await runMutant(mutation, values.search ? null : mutation.caughtBy)
    const isRight = caughtBy === mutation.caughtBy
    if (!isRight) wrong++
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    console.log(`| ${isRight ? '' : 'WRONG '}${mutation.name} | ${caughtBy ?? 'nobody'} | ${seconds} s | ${reason} |`)
  }
  console.log(wrong === 0 ? 'all caught' : `${wrong} not caught as the list says`)
  return wrong === 0 ? 0 : 1
}

if (import.meta.main) process.exitCode = await main()
