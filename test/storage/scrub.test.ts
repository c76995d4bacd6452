/**
 * The scrub: rot in what lies still is found while the node runs, reported, never archived or served, and gone with the
 * next checkpoint; the start after it finds everything whole.
 */
import { expect, test } from 'vitest'
import { NO_KEYS } from '../../src/storage/keys.ts'
import { type ReadSome, readAround } from '../../src/storage/read-around.ts'
import { type Rot, Scrub } from '../../src/storage/scrub.ts'
import { type Storage, openStorage } from '../../src/storage/storage.ts'
import { logIndex } from '../../src/vocabulary.ts'
import { type Step, newProgress, runHistory, simulated, takeSample } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const history: Step[] = [
  { kind: 'identity' },
  { kind: 'write', records: [sample.genesis(3), sample.promised(2)] },
  ...Array.from({ length: 12 }, (_, at): Step => ({
    kind: 'write',
    records: [sample.appended(at + 1, at + 1, ' s'.repeat(900))],
  })),
  { kind: 'write', records: [sample.decided(12)] },
  { kind: 'checkpoint', index: 2 },
  { kind: 'checkpoint', index: 6 },
  { kind: 'truncate', index: 6 },
]

interface Opened {
  readonly disk: SimulatedDisk
  readonly storage: Storage
  readonly told: string[]
}

async function opened(): Promise<Opened> {
  const disk = new SimulatedDisk()
  await runHistory(disk, history, newProgress(), { archive: true })
  const told: string[] = []
  const log = (message: string, fields: object): unknown => told.push(`${message} ${JSON.stringify(fields)}`)
  return { disk, storage: await openStorage(simulated(disk, { archive: true, log })), told }
}

/** One bit of the middle of the file is another. */
function rot(disk: SimulatedDisk, path: string): void {
  const bytes = disk.peek(path)!
  bytes[Math.min(bytes.length >> 1, 1500)]! ^= 8
  disk.poke(path, bytes)
}

const sealed = (disk: SimulatedDisk): string[] =>
  disk
    .paths()
    .filter((path) => /^\/data\/wal\/\d.*\.wal$/.test(path))
    .slice(0, -1)

async function isWhole(disk: SimulatedDisk): Promise<void> {
  const told: string[] = []
  const log = (message: string): unknown => told.push(message)
  const storage = await openStorage(simulated(disk, { archive: true, log }))
  expect(told.filter((message) => message.includes('damage') || message.includes('rot'))).toEqual([])
  expect(storage.recovered.doubtfulFrom).toBeNull()
  await storage.close()
}

test('everything that lies still is verified, and nothing is found where nothing is rotten', async () => {
  const { disk, storage } = await opened()
  expect(sealed(disk).length).toBeGreaterThan(2)
  expect(await storage.scrub.pass(true)).toEqual([])
  const checkpoints = disk.paths().filter((path) => /checkpoints\/\d+\//.test(path))
  const archived = disk.paths().filter((path) => path.includes('/archive/'))
  expect(archived.length).toBeGreaterThan(0)
  const most = [...sealed(disk), ...archived, ...checkpoints].reduce((sum, path) => sum + disk.peek(path)!.length, 0)
  expect(storage.scrub.verifiedBytes).toBeGreaterThan(most * 0.8)
  expect(storage.status().rot).toMatchObject({ found: 0, open: false, passes: 1 })
  await storage.close()
})

test('who asks for a pass while one is under way waits for that one', async () => {
  const { storage } = await opened()
  const { passes } = storage.scrub
  const [first, second] = await Promise.all([storage.scrub.atOnce(), storage.scrub.atOnce()])
  expect(storage.scrub.passes).toBe(passes + 1)
  expect(second).toBe(first)
  expect(await storage.scrub.atOnce()).not.toBe(first)
  await storage.close()
})

test('a rotten segment is let go of with the next checkpoint, and never archived', async () => {
  for (let at = 0; at < 3; at++) {
    const { disk, storage, told } = await opened()
    const path = sealed(disk)[at]!
    rot(disk, path)
    expect((await storage.scrub.pass(true)).map(({ directory, name }) => `${directory}/${name}`)).toEqual([path])
    expect(told.some((line) => line.includes('ROT_FOUND') && line.includes(path))).toBe(true)
    expect(storage.status().rot).toMatchObject({ found: 1, open: true })
    // It is known: the next pass says nothing new.
    expect(await storage.scrub.pass(true)).toEqual([])
    await takeSample(storage, 12)
    expect(storage.status().rot.open).toBe(false)
    expect(disk.paths().filter((each) => each.endsWith(path.slice(path.lastIndexOf('/'))))).toEqual([])
    await storage.close()
    await isWhole(disk)
  }
})

test('a segment that a start finds rotten is let go of in the same way', async () => {
  // One that the checkpoint covers, and one that it does not.
  for (const at of [1, -1]) {
    const { disk, storage } = await opened()
    await storage.close()
    const path = sealed(disk).at(at)!
    rot(disk, path)
    const again = await openStorage(simulated(disk, { archive: true }))
    expect(again.status().rot).toMatchObject({ found: 1, open: true })
    expect(again.recovered.doubtfulFrom !== null).toBe(at === -1)
    await takeSample(again, again.status().last)
    expect(again.wantsCheckpoint).toBe(false)
    expect(disk.paths().filter((each) => each.endsWith(path.slice(path.lastIndexOf('/'))))).toEqual([])
    await again.close()
  }
})

test('a rotten checkpoint is not served any more, and the next one takes its place', async () => {
  for (const file of ['data', 'manifest']) {
    const { disk, storage } = await opened()
    rot(disk, `/data/checkpoints/0000000000000006/${file}`)
    expect(await storage.scrub.pass(true)).toHaveLength(1)
    expect(storage.checkpoint?.index).toBe(2)
    expect(storage.wantsCheckpoint).toBe(true)
    expect(await storage.readChunk(logIndex(6), 0)).toBeNull()
    // The state may not have moved on: one of the same index is as good.
    await takeSample(storage, 6)
    expect(storage.wantsCheckpoint).toBe(false)
    expect(storage.checkpoint?.index).toBe(6)
    expect(await storage.scrub.pass(true)).toEqual([])
    await storage.close()
    await isWhole(disk)
  }
})

test('what is rotten in the archive is thrown away', async () => {
  const { disk, storage } = await opened()
  const path = disk.paths().find((each) => each.includes('/archive/'))!
  rot(disk, path)
  expect(await storage.scrub.pass(true)).toMatchObject([{ kind: 'archived segment' }])
  await expect.poll(() => disk.paths().includes(path)).toBe(false)
  expect(storage.status().rot).toMatchObject({ found: 1, open: false })
  await storage.close()
})

test('a disk that is always busy is verified, too, and what goes away meanwhile is no rot', async () => {
  const { disk, storage } = await opened()
  const [gone, kept] = sealed(disk)
  rot(disk, kept!)
  const found: Rot[] = []
  const target = (path: string) => ({ kind: 'segment' as const, directory: '/data/wal', name: path.slice(10) })
  let busy = 0
  const scrub = new Scrub({
    disk,
    keys: NO_KEYS,
    targets: () => Promise.resolve([gone!, kept!].map(target)),
    isBusy: () => ++busy > 0,
    found: (one) => found.push(one),
    failed: (reason) => expect.fail(reason),
    bytesPerSecond: 1e9,
    restMilliseconds: 1,
  })
  disk.poke(gone!, null)
  scrub.start()
  await expect.poll(() => busy > 0 && found.length > 1, { timeout: 20_000 }).toBe(true)
  await scrub.stop()
  expect(found[0]).toMatchObject(target(kept!))
  await storage.close()
})

test('a pass that cannot be finished is told of, and tried again', async () => {
  const failures: string[] = []
  let passes = 0
  const scrub = new Scrub({
    disk: new SimulatedDisk(),
    keys: NO_KEYS,
    targets: () => (++passes > 2 ? Promise.resolve([]) : Promise.reject(new Error(`no list ${passes}`))),
    isBusy: () => false,
    found: () => undefined,
    failed: (reason) => failures.push(reason),
    bytesPerSecond: 1e9,
    restMilliseconds: 1,
  })
  scrub.start()
  await expect.poll(() => scrub.passes).toBeGreaterThan(0)
  await scrub.stop()
  expect(failures).toEqual(['no list 1', 'no list 2'])
})

test('blocks that a disk cannot read are rot where they are; many of them are a broken disk', async () => {
  const file = Buffer.from(Array.from({ length: 20_000 }, (_, at) => 1 + (at % 100)))
  const failing = (bad: readonly number[]): ReadSome => {
    return (buffer, at, length, offset) => {
      if (bad.includes(Math.floor(offset / 4096)))
        return Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' }))
      // As the kernel does: up to the next bad block.
      const next = Math.min(...bad.map((block) => block * 4096).filter((start) => start > offset), file.length)
      return Promise.resolve(file.copy(buffer, at, offset, Math.min(offset + length, next)))
    }
  }
  expect((await readAround(failing([]), 100, 50_000)).equals(file.subarray(100))).toBe(true)
  const around = await readAround(failing([0, 2]), 1000, 15_000)
  expect(around).toHaveLength(15_000)
  for (let at = 0; at < around.length; at++) {
    const isBad = [0, 2].includes(Math.floor((1000 + at) / 4096))
    expect(around[at]).toBe(isBad ? 0xee : file[1000 + at])
  }
  const dead: ReadSome = () => Promise.reject(Object.assign(new Error('EIO'), { code: 'EIO' }))
  await expect(readAround(dead, 0, 10_000_000)).rejects.toThrow('EIO')
})
