/**
 * Each safety line of the storage is needed: without it, a sweep notices (list.ts). A sample runs with the other
 * tests, another one each day; `DAY=20000 npx vitest run test/mutations` runs the sample of that day, and
 * `node test/mutations/run.ts` all of them.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { MUTATIONS } from './list.ts'
import { runMutant } from './run.ts'

const SAMPLE = 5
const day = Number(process.env.DAY ?? Math.floor(Date.now() / 86_400_000))
const chosen = Array.from({ length: SAMPLE }, (_, at) => MUTATIONS[(day * SAMPLE + at) % MUTATIONS.length]!)
console.log(`mutations ${chosen.map((one) => `'${one.name}'`).join(', ')} (DAY=${day} runs them again)`)

test('the list is long enough, and names every line once', () => {
  expect(MUTATIONS.length).toBeGreaterThanOrEqual(30)
  expect(new Set(MUTATIONS.map(({ name }) => name)).size).toBe(MUTATIONS.length)
})

test('every line is still there', () => {
  const source = (file: string): string => readFileSync(join(import.meta.dirname, '../../src', file), 'utf8')
  expect(MUTATIONS.filter(({ file, from }) => !source(file).includes(from)).map(({ name }) => name)).toEqual([])
})

test('docs/SPEC.md has the table', () => {
  const path = join(import.meta.dirname, '../../docs/SPEC.md')
  const [begin, end] = ['<!-- mutations of the storage -->\n', '<!-- end of mutations of the storage -->']
  const page = readFileSync(path, 'utf8')
  const [from, to] = [page.indexOf(begin) + begin.length, page.indexOf(end)]
  const rows = MUTATIONS.map(({ name, file, caughtBy }) => `| ${name} | \`src/${file}\` | ${caughtBy} |\n`).join('')
  const table = `| without this line: | in | noticed by |\n|---|---|---|\n${rows}`
  if (process.env.UPDATE) writeFileSync(path, page.slice(0, from) + table + page.slice(to))
  expect(readFileSync(path, 'utf8').slice(from, from + table.length)).toBe(table)
})

test('nothing is found where nothing was taken out', async () => {
  const { from, file } = MUTATIONS[0]!
  const nothing = { name: 'nothing', file, from, to: from, caughtBy: 'damaged checkpoints' }
  expect(await runMutant(nothing, nothing.caughtBy)).toEqual({ caughtBy: null, reason: 'survived' })
})

test.each(chosen)('caught: $name', async (mutation) => {
  expect(await runMutant(mutation, mutation.caughtBy)).toMatchObject({ caughtBy: mutation.caughtBy })
})
