/** Which checkpoints stay: the last two, and the one that a peer is fetching, with the log behind it. */
import { expect, test } from 'vitest'
import { type Storage, openStorage } from '../../src/storage/storage.ts'
import { logIndex } from '../../src/vocabulary.ts'
import { simulated, takeSample } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

/** Writes three entries, and takes a checkpoint of all that is there. */
async function goOn(storage: Storage): Promise<number> {
  const { last } = storage.status()
  await sample.written(storage, sample.appended(last + 1, last + 3), sample.decided(last + 3))
  await takeSample(storage, last + 3)
  return last + 3
}

async function start(disk: SimulatedDisk, change = {}): Promise<Storage> {
  const storage = await openStorage(simulated(disk, change))
  await sample.written(storage, sample.genesis(3))
  return storage
}

const chunkOf = (storage: Storage, index: number): Promise<Buffer | null> => storage.readChunk(logIndex(index), 0)

test('what a peer is fetching stays while newer ones come, and what follows it is in the log', async () => {
  const storage = await start(new SimulatedDisk())
  const first = await goOn(storage)
  for (let more = 0; more < 5; more++) {
    expect(await chunkOf(storage, first)).not.toBeNull()
    await goOn(storage)
  }
  expect(await chunkOf(storage, first)).not.toBeNull()
  expect(storage.first).toBe(first + 1)
  expect(await storage.readDecided({ from: first + 1, upTo: first + 3, mostBytes: 4096 })).not.toEqual([])
  await storage.close()
})

test('what nobody fetches any more goes with the next two', async () => {
  const disk = new SimulatedDisk()
  const storage = await start(disk)
  const first = await goOn(storage)
  await goOn(storage)
  expect(await chunkOf(storage, first)).not.toBeNull()
  await goOn(storage)
  expect(await chunkOf(storage, first)).not.toBeNull()
  await goOn(storage)
  const second = await goOn(storage)
  expect(await chunkOf(storage, first)).toBeNull()
  expect(storage.first).toBe(second - 2)
  await storage.close()
  const kept = disk.paths().filter((path) => path.endsWith('/manifest'))
  expect(kept).toHaveLength(2)
})

test('what a peer is fetching gives way where the next one finds no room', async () => {
  const disk = new SimulatedDisk()
  const storage = await start(disk)
  const first = await goOn(storage)
  for (let more = 0; more < 2; more++) {
    expect(await chunkOf(storage, first)).not.toBeNull()
    await goOn(storage)
  }
  expect(await chunkOf(storage, first)).not.toBeNull()
  disk.onStep = (step) => {
    if (step.startsWith('write /data/checkpoints/writing/data')) disk.failAt = disk.steps
  }
  await expect(goOn(storage)).rejects.toThrow('CHECKPOINT_WRITE_FAILED')
  disk.onStep = () => {}
  expect(await chunkOf(storage, first)).toBeNull()
  await goOn(storage)
  await storage.close()
})

test('where the log takes as much as is left of the disk, nothing more stays for a peer', async () => {
  const disk = new SimulatedDisk()
  const segmentBytes = 65_536
  const storage = await start(disk, { segmentBytes })
  const first = await goOn(storage)
  disk.capacity = disk.used() + segmentBytes
  await storage.checkSpace()
  for (let more = 0; more < 2; more++) {
    expect(await chunkOf(storage, first)).not.toBeNull()
    await goOn(storage)
  }
  expect(await chunkOf(storage, first)).toBeNull()
  await storage.close()
})
