/**
 * Crashes on the simulated disk: every step of small histories is a crash point, and every step fails once, with
 * every subset of what was not synced where these are few, and with chosen and random ones where they are many. After
 * each, the storage must start, and hold everything that was acknowledged and nothing else (crash-points.ts).
 */
import { afterAll, describe, expect, test } from 'vitest'
import { openStorage } from '../../src/storage/storage.ts'
import { logIndex } from '../../src/vocabulary.ts'
import { type Count, HISTORIES, asideSweep, controlFileSweep, failedWriteSweep } from './crash-points.ts'
import { historySweep, killSweep, resetSweep, resumeSweep } from './crash-points.ts'
import { killedReceiver, newProgress, receiveFromPeer, runHistory, simulated } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const counts: Count[] = []
function counted(count: Count): Count {
  counts.push(count)
  expect(count.starts).toBeGreaterThan(count.points)
  return count
}

afterAll(() => {
  const sum = (of: (count: Count) => number): number => counts.reduce((all, count) => all + of(count), 0)
  const operations = new Set(counts.flatMap((count) => [...count.operations.keys()]))
  console.log(
    `${sum(({ points }) => points)} crash points in ${operations.size} operations, ${sum(({ starts }) => starts)} starts`,
  )
})

describe('every step is a crash point', () => {
  for (const [name, history] of Object.entries(HISTORIES)) {
    test(`history: ${name}`, async () => expect(counted(await historySweep(history)).points).toBeGreaterThan(9))
  }

  test('a checkpoint of a peer is fetched to its end', async () =>
    expect(counted(await resumeSweep()).points).toBeGreaterThan(9))

  test('the control file is replaced', async () => expect(counted(await controlFileSweep()).points).toBeGreaterThan(9))

  test('volumes are given back', async () => expect(counted(await resetSweep()).points).toBeGreaterThan(9))

  test('checkpoints of an old id are set aside', async () =>
    expect(counted(await asideSweep()).points).toBeGreaterThan(9))
})

describe('every step fails once', () => {
  for (const [name, history] of Object.entries(HISTORIES)) {
    test(`history: ${name}`, async () => expect(counted(await historySweep(history, 'fail')).points).toBeGreaterThan(9))
  }

  test('nothing is acknowledged that a failed write took with it', async () =>
    expect(counted(await failedWriteSweep()).points).toBeGreaterThan(9))
})

describe('the process is killed, the next one reads what was not synced, and then the power fails', () => {
  const names = ['first start, identity, entries', 'large frames over many sectors', 'a suffix is replaced, twice']
  const more = ['bursts and rolling segments', 'checkpoints and head truncation', 'a checkpoint of a peer is installed']
  for (const name of [...names, ...more]) {
    test(`history: ${name}`, async () => expect((await killSweep(HISTORIES[name]!)).points).toBeGreaterThan(9))
    test(`history, where a step fails: ${name}`, async () =>
      expect((await killSweep(HISTORIES[name]!, 'fail')).points).toBeGreaterThan(9))
  }
})

test('a checkpoint of a peer whose sync has failed is fetched anew, all of it', async () => {
  const disk = new SimulatedDisk()
  const storage = await openStorage(simulated(disk))
  await sample.written(storage, sample.genesis(3))
  disk.onStep = (step) => {
    if (step.startsWith('sync ') && step.endsWith('/data')) disk.failAt = disk.steps
  }
  await expect(receiveFromPeer(storage, 20)).rejects.toThrow(/EIO/)
  disk.onStep = () => {}
  await receiveFromPeer(storage, 20)
  const after = await openStorage(simulated(disk.survivor(() => 0)))
  expect(after.checkpoint?.index).toBe(20)
})

test('a checkpoint of a peer whose sync has failed, and the process is killed at once, is not believed because it can be read', () =>
  expect(killedReceiver()).resolves.toBe(20))

test('a start that was refused or repeated leaves nothing large behind', async () => {
  const disk = new SimulatedDisk()
  await runHistory(disk, HISTORIES['a suffix is replaced, twice']!.steps, newProgress())
  const before = disk.used()
  for (let start = 0; start < 50; start++) await openStorage(simulated(disk, { segmentBytes: 1024 * 1024 }))
  expect(disk.used()).toBeLessThan(before + 4096)
})

test('a failed write ends it: the error is told once, and nothing is acknowledged any more', async () => {
  const disk = new SimulatedDisk()
  const errors: string[] = []
  const storage = await openStorage(simulated(disk, { onFatal: (error) => errors.push(error.code) }))
  await sample.written(storage, sample.genesis(3))
  disk.onStep = (step) => {
    if (step.startsWith('write') && !step.includes('next.tmp')) disk.failAt = disk.steps
  }
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

describe('a disk that fills up', () => {
  test('is told before it is full, and recovers', async () => {
    const disk = new SimulatedDisk()
    disk.capacity = 64 * 1024
    const storage = await openStorage(simulated(disk))
    await sample.written(storage, sample.genesis(3))
    let last = 0
    while (!storage.status().readOnly) {
      last++
      await sample.written(storage, sample.appended(last, last, 'x'.repeat(500)))
      await storage.checkSpace()
    }
    const { free } = await disk.space()
    expect(free).toBeGreaterThan(4096)
    expect(last).toBeGreaterThan(50)
    disk.capacity *= 2
    await storage.checkSpace()
    expect(storage.status().readOnly).toBe(false)
    await sample.written(storage, sample.appended(last + 1, last + 1))
    await storage.close()
  })

  test('does not lose what it had when it is full all the same', async () => {
    const disk = new SimulatedDisk()
    disk.capacity = 40_000
    const errors: string[] = []
    const storage = await openStorage(simulated(disk, { onFatal: (error) => errors.push(error.message) }))
    let durable = 0
    storage.write([sample.genesis(3)], () => {})
    for (let index = 1; index <= 100 && errors.length === 0; index++) {
      storage.write([sample.appended(index, index, 'x'.repeat(900))], () => {
        durable = index
      })
      for (let turn = 0; turn < 60; turn++) await Promise.resolve()
    }
    expect(errors.join()).toMatch(/LOG_WRITE_FAILED.*ENOSPC/)
    const full = openStorage(simulated(disk.survivor(() => 1)))
    await expect(full).resolves.toBeDefined()
    disk.capacity = 100
    await expect(openStorage(simulated(disk))).rejects.toMatchObject({ code: 'DISK_FULL' })
    disk.capacity = 1_000_000
    const again = await openStorage(simulated(disk))
    expect(again.recovered.entries.length).toBeGreaterThanOrEqual(durable)
    expect(durable).toBeGreaterThan(10)
    await again.close()
  })
})
