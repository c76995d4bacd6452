/** The checker of the simulations (test/sim/checker.ts) bites, and only where something is wrong. */
import { describe, expect, it } from 'vitest'
import { createLog, sameEntry } from '../src/consensus/log.ts'
import type { Replica } from '../src/consensus/replica.ts'
import {
  type Ballot,
  type Configuration,
  type DurableState,
  type Entry,
  EMPTY_STATE,
  configurationId,
  logIndex,
  nodeId,
} from '../src/vocabulary.ts'
import { type CheckedNode, Checker } from './sim/checker.ts'
import { member } from './sim/world.ts'

const genesis: Configuration = {
  id: configurationId(1),
  voters: [1, 2, 3].map(member),
  learners: [],
  preferredLeader: nodeId(0),
}

const entry: Entry = { kind: 'commands', index: logIndex(1), payload: Buffer.from('x') }

const ballot = (n: number): Ballot => ({ configuration: configurationId(1), n, priority: 0, node: nodeId(n) })

/** A node that has decided nothing yet; on its disk: these entries, accepted in ballot `n`. */
function node(id: number, entries: readonly Entry[], n: number): CheckedNode & { state: DurableState } {
  const self = {
    id: nodeId(id),
    incarnation: 1,
    replica: { log: createLog(logIndex(1), entries) } as unknown as Replica,
    applied: 0,
    decided: 0,
    state: { ...EMPTY_STATE, acceptedBallot: ballot(n) },
    disk: {
      holds: (one: Entry) => entries.some((mine) => mine.index === one.index && sameEntry(mine, one)),
      get image() {
        return { state: self.state }
      },
    },
  }
  return self
}

describe('the checker', () => {
  it('wants an accept quorum of copies of what is decided, in that ballot or a larger one', () => {
    const all = [node(1, [entry], 2), node(2, [entry], 1), node(3, [], 1)]
    expect(() => new Checker(genesis).decides(all[0]!, logIndex(1), all)).toThrow('durability')
    all[1] = node(2, [entry], 2)
    expect(() => new Checker(genesis).decides(all[0]!, logIndex(1), all)).not.toThrow()
  })

  it('judges by the ballot in which an entry was decided, whatever is accepted before it is applied', () => {
    const all = [node(1, [entry], 1), node(2, [entry], 1), node(3, [], 1)]
    const checker = new Checker(genesis)
    checker.decides(all[0]!, logIndex(1), all)
    // Its turns take time: it follows the next leader before it has applied the entry.
    all[0]!.state = { ...EMPTY_STATE, acceptedBallot: ballot(2) }
    expect(checker.decided).toHaveLength(1)
    expect(() => new Checker(genesis).decides(all[0]!, logIndex(1), all)).toThrow('durability')
  })

  it('refuses two entries for one index', () => {
    const other: Entry = { ...entry, payload: Buffer.from('y') }
    const all = [node(1, [entry], 1), node(2, [entry], 1), node(3, [other], 1)]
    const checker = new Checker(genesis)
    checker.decides(all[0]!, logIndex(1), all)
    expect(() => checker.decides(all[2]!, logIndex(1), all)).toThrow('agreement')
  })
})
