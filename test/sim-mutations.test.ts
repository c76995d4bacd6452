/**
 * Do stories and simulators bite? `node test/sim/mutate.ts` breaks every line of test/sim/mutations.ts and wants each
 * noticed; its table is in docs/SPEC.md. Here: that the table is of these mutations, and a sample, another one every
 * day (`DAY=…` repeats that of a day).
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { type Patience, Workshop, isCaught, tableIn } from './sim/mutate.ts'
import { MUTATIONS } from './sim/mutations.ts'

const DAY = Number(process.env.DAY ?? Math.floor(Date.now() / 86_400_000))
const SAMPLE = 6
/** Mutations that need more seeds, or variations, than this are left to the command. */
const MOST = { seeds: 60, variations: 400 } as const

const rows = tableIn(readFileSync(join(import.meta.dirname, '../docs/SPEC.md'), 'utf8')).map(
  ([name, , story, invariant, variation, seed]) => ({
    name,
    story,
    invariant,
    variation: Number(variation),
    seed: Number(seed),
  }),
)

/** Seeds, or variations where that is quicker. */
function patienceFor(name: string): Patience {
  const row = rows.find((one) => one.name === name)
  if (row === undefined) return MOST
  const [variations, seeds] = [2 * row.variation + 10, 2 * row.seed + 10]
  const isQuick = row.variation > 0 && (row.seed === 0 || variations < 10 * seeds)
  return isQuick ? { variations, seeds: 0 } : { variations: 0, seeds }
}
const quick = MUTATIONS.filter(({ name }) => {
  const { variations, seeds } = patienceFor(name)
  return variations <= MOST.variations && seeds <= MOST.seeds
})
const sample = Array.from({ length: SAMPLE }, (_, at) => quick[(DAY * SAMPLE + at) % quick.length]!)

describe('mutations that the simulators notice', () => {
  const workshop = new Workshop()
  afterAll(() => workshop.close())

  it('are those of the table, which says what noticed each', () => {
    expect(rows.map(({ name }) => name)).toEqual(MUTATIONS.map(({ name }) => name))
    // By chance, and not only by a story that was made for it.
    expect(rows.filter(({ variation, seed }) => variation === 0 && seed === 0)).toEqual([])
    expect(rows.filter(({ invariant }) => invariant === '')).toEqual([])
    expect(rows.length).toBeGreaterThanOrEqual(25)
  })

  it('have their lines in the sources, each of them once', () => {
    const source = (file: string): string => readFileSync(join(import.meta.dirname, '..', file), 'utf8')
    const times = ({ file, from }: (typeof MUTATIONS)[number]): number => source(file).split(from).length - 1
    expect(MUTATIONS.filter((one) => times(one) !== 1).map(({ name }) => name)).toEqual([])
  })

  it.each(sample)(`day ${DAY}: $name`, { timeout: 300_000 }, (mutation) => {
    expect(isCaught(mutation, workshop.try(mutation, patienceFor(mutation.name)))).toBe(true)
  })

  it('unchanged they notice nothing', () => {
    for (const simulator of ['core', 'shell'] as const) {
      const nothing = { stories: [], variation: null, seed: null, invariant: null }
      expect(workshop.look(simulator, { variations: 100, seeds: 5 })).toEqual(nothing)
    }
  })
})
