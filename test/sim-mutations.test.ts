/**
 * Do stories and simulators bite? `node test/sim/mutate.ts` breaks every line of test/sim/mutations.ts and wants each
 * noticed; its table is in docs/SPEC.md. Here: that the table is of these mutations, and a sample, another one every
 * day (`DAY=…` repeats that of a day).
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Workshop, isCaught, tableIn } from './sim/mutate.ts'
import { MUTATIONS } from './sim/mutations.ts'

const DAY = Number(process.env.DAY ?? Math.floor(Date.now() / 86_400_000))
const SAMPLE = 6
/** Mutations that need more seeds than this are left to the command. */
const SEEDS = 60

const rows = tableIn(readFileSync(join(import.meta.dirname, '../docs/SPEC.md'), 'utf8')).map(
  ([name, , story, invariant, seed]) => ({ name, story, invariant, seed: Number(seed) }),
)

/** Seeds to try: none where a story is enough. */
const seedsFor = (name: string): number => {
  const row = rows.find((one) => one.name === name)
  return row === undefined ? SEEDS : row.story === '' ? 2 * row.seed + 10 : 0
}
const quick = MUTATIONS.filter(({ name }) => seedsFor(name) <= SEEDS)
const sample = Array.from({ length: SAMPLE }, (_, at) => quick[(DAY * SAMPLE + at) % quick.length]!)

describe('mutations that the simulators notice', () => {
  const workshop = new Workshop()
  afterAll(() => workshop.close())

  it('are those of the table, which says what noticed each', () => {
    expect(rows.map(({ name }) => name)).toEqual(MUTATIONS.map(({ name }) => name))
    expect(rows.filter(({ story, invariant }) => story === '' && invariant === '')).toEqual([])
    expect(rows.length).toBeGreaterThanOrEqual(25)
  })

  it('have their lines in the sources', () => {
    const source = (file: string): string => readFileSync(join(import.meta.dirname, '..', file), 'utf8')
    expect(MUTATIONS.filter(({ file, from }) => !source(file).includes(from)).map(({ name }) => name)).toEqual([])
  })

  it.each(sample)(`day ${DAY}: $name`, { timeout: 300_000 }, (mutation) => {
    expect(isCaught(mutation, workshop.try(mutation, seedsFor(mutation.name)))).toBe(true)
  })

  it('unchanged they notice nothing', () => {
    for (const simulator of ['core', 'shell'] as const) {
      expect(workshop.look(simulator, 5)).toEqual({ stories: [], seed: null, invariant: null })
    }
  })
})
