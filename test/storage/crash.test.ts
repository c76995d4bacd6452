/**
 * Crashes on the simulated disk: every step of small histories is a crash point, with every subset of what was
 * not synced where these are few, and with chosen and random ones where they are many. After each, the storage
 * must start, and hold everything that was acknowledged and nothing else.
 */
import { describe, expect, test } from 'vitest'
import { openStorage } from '../../src/storage/storage.ts'
import { logIndex } from '../../src/vocabulary.ts'
import { type Progress, type Step, checkStart, newProgress, runHistory, simulated } from './history.ts'
import * as sample from './samples.ts'
import { type Choose, Crash, SimulatedDisk, random } from './simulated-disk.ts'

const write = (...records: Parameters<typeof sample.written>[1][]): Step => ({ kind: 'write', records })

const HISTORIES: Readonly<Record<string, readonly Step[]>> = {
  'first start, identity, entries': [
    { kind: 'identity' },
    write(sample.genesis(3), sample.promised(1)),
    write(sample.appended(1, 2)),
    write(sample.appended(3, 3), sample.decided(2)),
  ],
  'large frames over many sectors': [
    write(sample.genesis(3)),
    write(sample.appended(1, 1, ' x'.repeat(900))),
    write(sample.appended(2, 2, ' y'.repeat(1100))),
  ],
  'a suffix is replaced, twice': [
    write(sample.genesis(3), sample.appended(1, 6, ' one')),
    write(sample.promised(4)),
    write(sample.acceptSync(4, 3, 5, ' two')),
    write(sample.appended(6, 6, ' two')),
    write(sample.promised(5), sample.acceptSync(5, 2, 2, ' three'), sample.appended(3, 3, ' three')),
  ],
  'bursts and rolling segments': [
    write(sample.genesis(3)),
    { kind: 'burst', writes: [1, 2, 3, 4].map((index) => [sample.appended(index, index, ' z'.repeat(500))]) },
    { kind: 'burst', writes: [5, 6, 7, 8].map((index) => [sample.appended(index, index, ' z'.repeat(500))]) },
  ],
  'checkpoints and head truncation': [
    write(sample.genesis(3)),
    ...[1, 2, 3, 4, 5, 6].map((index) => write(sample.appended(index, index, ' c'.repeat(900)))),
    write(sample.decided(6), sample.promised(2)),
    { kind: 'checkpoint', index: 3 },
    { kind: 'truncate', index: 3 },
    { kind: 'checkpoint', index: 5 },
    { kind: 'truncate', index: 5 },
    write(sample.appended(7, 7)),
    { kind: 'checkpoint', index: 6 },
    { kind: 'truncate', index: 6 },
  ],
  'a checkpoint of a peer is installed': [
    { kind: 'identity' },
    write(sample.genesis(3), sample.appended(1, 4, ' stale'), sample.decided(2)),
    { kind: 'install', index: 20 },
    write(sample.appended(21, 22)),
  ],
  restarts: [
    write(sample.genesis(3), sample.appended(1, 2)),
    { kind: 'restart' },
    { kind: 'restart' },
    write(sample.appended(3, 3)),
    { kind: 'restart' },
  ],
}

/** Runs until step `at`; null if the history ends before it. */
async function crashed(
  history: readonly Step[],
  at: number,
  change: object,
): Promise<{ disk: SimulatedDisk; progress: Progress } | null> {
  const disk = new SimulatedDisk()
  disk.crashAt = at
  const progress = newProgress()
  try {
    await runHistory(disk, history, progress, change)
    return null
  } catch (error) {
    if (!disk.crashed) throw error
    return { disk, progress }
  }
}

/** All subsets of few units; of many: all, none, each alone, all but each, and random ones. */
function* choices(units: readonly string[], seed: number): Generator<Choose> {
  if (units.length <= 7) {
    for (let bits = 0; bits < 2 ** units.length; bits++) {
      yield (unit) => (bits >> units.indexOf(unit)) & 1
    }
    return
  }
  yield () => 0
  yield () => 1
  for (const one of units) {
    yield (unit) => (unit === one ? 1 : 0)
    yield (unit) => (unit === one ? 0 : 1)
  }
  for (let round = 0; round < 24; round++) yield randomChoice(seed + round)
}

function randomChoice(seed: number): Choose {
  const next = random(seed)
  const chosen = new Map<string, number>()
  return (unit) => {
    const found = chosen.get(unit)
    if (found !== undefined) return found
    const kind = next()
    const value = kind < 0.4 ? 0 : kind < 0.8 ? 1 : next()
    chosen.set(unit, value)
    return value
  }
}

/** Starts on what a crash left; then writes, crashes in the start, and starts again. */
async function verify(disk: SimulatedDisk, progress: Progress, seed: number, deep: boolean): Promise<void> {
  const before = disk.survivor(() => 0)
  const storage = await openStorage(simulated(disk))
  await checkStart(storage, progress)
  if (!deep) return
  const { last } = storage.status()
  await sample.written(storage, sample.appended(last + 1, last + 1, ' after'))
  await storage.close()
  const again = await openStorage(simulated(disk))
  expect(again.recovered.entries.at(-1)).toEqual(sample.entries(last + 1, last + 1, ' after')[0])
  await again.close()
  for (let at = 1; ; at++) {
    const copy = before.survivor(() => 0)
    copy.crashAt = at
    const finished = await openStorage(simulated(copy)).then(
      () => true,
      (error: unknown) => {
        if (copy.crashed) return false
        throw error
      },
    )
    if (finished) break
    const third = await openStorage(simulated(copy.survivor(randomChoice(seed + at))))
    await checkStart(third, progress)
  }
}

describe('every step is a crash point', () => {
  for (const [name, history] of Object.entries(HISTORIES)) {
    test(`history: ${name}`, async () => {
      let points = 0
      let starts = 0
      for (let at = 1; ; at++) {
        const crash = await crashed(history, at, {})
        if (crash === null) break
        points++
        let round = 0
        for (const choose of choices(crash.disk.units(), at)) {
          const disk = crash.disk.survivor(choose)
          const where = `crash at step ${at} (${crash.disk.journal.at(-1)}), choice ${round}`
          await verify(disk, crash.progress, at * 1000 + round, round % 16 === 0).catch((error: unknown) => {
            throw new Error(`${where}: ${error instanceof Error ? error.stack : String(error)}`)
          })
          round++
          starts++
        }
      }
      expect(points).toBeGreaterThan(10)
      expect(starts).toBeGreaterThan(points)
    })
  }
})

test('a start that was refused or repeated leaves nothing large behind', async () => {
  const disk = new SimulatedDisk()
  await runHistory(disk, HISTORIES['a suffix is replaced, twice']!, newProgress())
  const before = disk.used()
  for (let start = 0; start < 50; start++) await openStorage(simulated(disk, { segmentBytes: 1024 * 1024 }))
  expect(disk.used()).toBeLessThan(before + 4096)
})

test('a failed write ends it: the error is told once, and nothing is acknowledged any more', async () => {
  const disk = new SimulatedDisk()
  const errors: string[] = []
  const storage = await openStorage(simulated(disk, { onFatal: (error) => errors.push(error.code) }))
  await sample.written(storage, sample.genesis(3))
  disk.failAt = disk.steps + 1
  let acknowledged = false
  for (const index of [1, 2, 3]) {
    storage.write([sample.appended(index, index)], () => {
      acknowledged = true
    })
    for (let turn = 0; turn < 50; turn++) await Promise.resolve()
  }
  expect(errors).toEqual(['LOG_WRITE_FAILED'])
  expect(acknowledged).toBe(false)
  expect(storage.status().failed).toBe(true)
  expect(Crash).toBeDefined()
  expect(storage.status().last).toBe(logIndex(3))
})
