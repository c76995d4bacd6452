/**
 * Sweeps over what a start makes of what it has read, without a test framework (see sweeps.ts): gaps in the log and
 * checkpoints, and entries that are read back.
 */
import assert from 'node:assert/strict'
import type { CheckpointInfo } from '../../src/storage/checkpoint.ts'
import { judge } from '../../src/storage/judgement.ts'
import type { ReplayedLog } from '../../src/storage/recovery.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { EMPTY_STATE, logIndex } from '../../src/vocabulary.ts'
import { simulated } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk, random } from './simulated-disk.ts'

const CONFIGURATION = sample.configuration(2, 3)
const NOTHING: Omit<ReplayedLog, 'state' | 'first' | 'entries' | 'next'> = {
  lostTail: false,
  doubtfulFrom: null,
  promiseLost: false,
  stateLostAt: null,
  damage: [],
  healed: [],
  segments: [],
  dead: [],
  link: null,
  newestEmpty: false,
  newestPrevious: null,
  unsealed: [],
  damagedIndices: [],
  torn: null,
  tail: null,
}

/**
 * A log with parts that rot took, below a checkpoint, above it and across its end, or with an end that it took at an
 * earlier start. Gives how many ended in doubt.
 */
export function gapSweep(): number {
  let doubtful = 0
  for (let seed = 1; seed <= 2000; seed++) {
    const next = random(seed)
    const upTo = (most: number): number => Math.floor(next() * (most + 1))
    const last = 1 + upTo(11)
    const lost = Array.from({ length: upTo(2) }, () => ({ from: 1 + upTo(last), count: upTo(3) }))
    const isLost = (index: number): boolean => lost.some(({ from, count }) => index >= from && index < from + count)
    const entries = sample.entries(1, last).filter(({ index }) => !isLost(index))
    const covered = upTo(last + 2)
    const doubtfulFrom = seed % 2 === 0 ? logIndex(last + 1) : null
    const decided = upTo(last + (doubtfulFrom === null ? 0 : 4))
    const state = { ...EMPTY_STATE, decided: logIndex(decided), configuration: CONFIGURATION }
    const stateLostAt = upTo(3) === 0 ? logIndex(1 + upTo(last)) : null
    const log = { ...NOTHING, state, first: logIndex(1), entries, next: logIndex(last + 1), doubtfulFrom, stateLostAt }
    const checkpoint = { index: logIndex(covered), configuration: CONFIGURATION, start: logIndex(1) } as CheckpointInfo
    const recovered = judge(log, covered > 0 ? checkpoint : null, [], '/data', sample.VOLUME)
    const what = `seed ${seed}: first ${recovered.first}, checkpoint ${covered}`
    for (const [at, { index }] of recovered.entries.entries()) assert.equal(index, recovered.first + at, what)
    assert(recovered.first <= covered + 1, what)
    // What is not there is in the checkpoint, or in doubt.
    const end = recovered.first + recovered.entries.length
    assert(end > last || (recovered.doubtfulFrom ?? Infinity) <= end, what)
    assert(end > covered, `${what}: the log ends before the checkpoint`)
    if (covered > state.decided) assert.equal(recovered.first, covered + 1, what)
    // It was told its configuration when it joined, and not where that began.
    assert.equal(recovered.state.configurationStart, covered > 0 ? 1 : 0, what)
    if (recovered.doubtfulFrom !== null) doubtful++
  }
  return doubtful
}

/** Entries that take little of the disk and much of the memory: what is read back at once is bounded in memory. */
export async function readBackSweep(): Promise<void> {
  const storage = await openStorage(simulated(new SimulatedDisk(), { compression: 'zstd' }))
  await sample.written(storage, sample.genesis(3))
  const zeros = (from: number): Parameters<typeof sample.written>[1] => ({
    kind: 'entries',
    entries: Array.from({ length: 10 }, (_, at) => sample.entry(from + at, Buffer.alloc(10_000))),
  })
  for (let from = 1; from <= 41; from += 10) await sample.written(storage, zeros(from))
  for (const from of [1, 5, 30]) {
    const read = await storage.readDecided({ from, upTo: 50, mostBytes: 45_000 })
    assert(read.length > 0 && read.length <= 5, `${read.length} entries of 10,000 bytes are read as 45,000`)
  }
  await storage.close()
}
