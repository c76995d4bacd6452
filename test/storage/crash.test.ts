/**
 * Crashes on the simulated disk: every step of small histories is a crash point, with every subset of what was
 * not synced where these are few, and with chosen and random ones where they are many. After each, the storage
 * must start, and hold everything that was acknowledged and nothing else.
 */
import { describe, expect, test } from 'vitest'
import { openStorage } from '../../src/storage/storage.ts'
import { logIndex } from '../../src/vocabulary.ts'
import { newProgress, runHistory, simulated } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import { HISTORIES, crashSweep } from './sweeps.ts'

describe('every step is a crash point', () => {
  for (const [name, history] of Object.entries(HISTORIES)) {
    test(`history: ${name}`, async () => {
      const { points, starts } = await crashSweep(history)
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
  expect(storage.status().last).toBe(logIndex(3))
})
