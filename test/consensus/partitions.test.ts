/**
 * Elections in partial partitions (Omni-Paxos, EuroSys 2023): whatever links are down, in one direction or in both,
 * as long as some voter is connected to a quorum there is a leader that decides within four election timeouts,
 * and it stays. Written as stories (test/sim/story.ts), so that a failure can be read; the seed is in the name.
 */
import { describe, expect, it } from 'vitest'
import { Random } from '../sim/random.ts'
import { tell } from '../sim/story.ts'

const ELECTION_MILLISECONDS = 300
const SEEDS = 40

interface Partition {
  readonly voters: number
  readonly cuts: readonly string[]
}

/** Links that are down; some voter is in touch with a quorum, both ways. */
function partitionOf(random: Random): Partition {
  const voters = random.pick([3, 5, 7])!
  const nodes = Array.from({ length: voters }, (_, at) => at + 1)
  for (;;) {
    const density = random.next()
    const isCut = new Set<string>()
    for (const from of nodes) {
      for (const to of nodes) {
        if (from < to && random.chance(density)) {
          const kind = random.integer(0, 3)
          if (kind !== 1) isCut.add(`${from}>${to}`)
          if (kind !== 2) isCut.add(`${to}>${from}`)
        }
      }
    }
    const inTouch = (a: number, b: number): boolean => a === b || !(isCut.has(`${a}>${b}`) || isCut.has(`${b}>${a}`))
    const isConnected = nodes.some((hub) => nodes.filter((node) => inTouch(hub, node)).length > voters / 2)
    if (isConnected && isCut.size > 0) return { voters, cuts: [...isCut] }
  }
}

const leaders = (told: string): string[] => [...told.matchAll(/^node (\d+) leads and decides$/gm)].map(([, id]) => id!)

describe('partial partitions', () => {
  for (let seed = 1; seed <= SEEDS; seed += 10) {
    it(`seeds ${seed} to ${seed + 9}: one leader that decides within four election timeouts, and stays`, () => {
      for (let each = seed; each < seed + 10; each++) {
        const { voters, cuts } = partitionOf(new Random(each))
        const nodes = Array.from({ length: voters }, (_, at) => at + 1).join(' ')
        const story = [
          `> start ${nodes}`,
          `> until leader ${voters} within ${4 * ELECTION_MILLISECONDS}`,
          '> tick 500',
          `> cut ${cuts.join(' ')}`,
          `> tick ${4 * ELECTION_MILLISECONDS}`,
          '> expect progress within 20',
          `> tick ${20 * ELECTION_MILLISECONDS}`,
          '> expect progress within 20',
        ]
        const [first, later, ...more] = leaders(tell(story.join('\n')))
        expect({ seed: each, cuts, first, later, more }).toEqual({ seed: each, cuts, first, later: first, more: [] })
      }
    })
  }
})

describe('links that lose messages', () => {
  const changesOfLeader = (voters: number, percent: number, seed: number): number => {
    const nodes = Array.from({ length: voters }, (_, at) => at + 1).join(' ')
    const story = [`> start ${nodes}`, '> tick 1500', `> loss ${percent} seed ${seed}`, '> tick 30000']
    return [...tell(story.join('\n')).matchAll(/ became-leader /g)].length - 1
  }
  const total = (voters: number, percent: number): number =>
    Array.from({ length: 12 }, (_, at) => at + 1).reduce((sum, seed) => sum + changesOfLeader(voters, percent, seed), 0)

  it('six minutes in all, seeds 1 to 12: a lost answer deposes nobody, two in a row rarely do', () => {
    expect(total(5, 5)).toBeLessThanOrEqual(2)
    expect(total(3, 5)).toBeLessThanOrEqual(6)
    // Without the two excuses of the election these are twice as many.
    expect(total(3, 10)).toBeLessThanOrEqual(24)
  })
})
