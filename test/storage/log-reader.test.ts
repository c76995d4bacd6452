/**
 * Entries read back from a log that goes on: every range of what is decided comes back as it was written, over cuts,
 * segments and starts, packed and sealed; what was let go of or is damaged is not there, and never something else.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { KeyRing } from '../../src/storage/keys.ts'
import { readSegment } from '../../src/storage/segment.ts'
import { readSegmentHeader } from '../../src/storage/segment-reader.ts'
import { type Storage, type StorageOptions, openStorage } from '../../src/storage/storage.ts'
import { type Entry, logIndex } from '../../src/vocabulary.ts'
import { receiveFromPeer, simulated, takeSample } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk, random } from './simulated-disk.ts'

const SEGMENT_BYTES = 300_000
const NOISE = Buffer.from(
  Array.from(
    { length: 20_000 },
    (
      (next) => () =>
        next() * 256
    )(random(9)),
  ),
)
const EVERYTHING = Number.MAX_SAFE_INTEGER

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'log-reader-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const textOf = (entry: Entry): string =>
  `${entry.index} ${entry.kind === 'commands' ? Buffer.from(entry.payload).toString('latin1') : ''}`

/** Everything from `from` to `upTo`, in as many steps as it takes. */
async function readAll(storage: Storage, from: number, upTo: number, mostBytes: number): Promise<string[]> {
  const texts: string[] = []
  for (let next = from; next <= upTo; next = from + texts.length) {
    const entries = await storage.readDecided({ from: next, upTo, mostBytes })
    if (entries.length === 0) break
    texts.push(...entries.map(textOf))
  }
  return texts
}

/** A log of several starts with cuts in it, and what its entries are. */
class Writer {
  readonly disk = new SimulatedDisk()
  readonly texts: string[] = []
  readonly #next: () => number
  readonly #change: Partial<StorageOptions>
  #ballot = 1
  storage!: Storage

  constructor(seed: number, change: Partial<StorageOptions>) {
    this.#next = random(seed)
    this.#change = change
  }

  async start(): Promise<void> {
    this.storage = await openStorage(simulated(this.disk, { segmentBytes: SEGMENT_BYTES, ...this.#change }))
    if (this.texts.length === 0) await sample.written(this.storage, sample.genesis(3), sample.promised(1))
  }

  entry(index: number): Entry {
    const large = this.#next() < 0.01 ? 400_000 : 2000
    const noise = Buffer.alloc(Math.ceil(this.#next() * large), NOISE.subarray(Math.floor(this.#next() * 1000)))
    return sample.entry(index, Buffer.concat([Buffer.from(`entry ${index} `), noise]))
  }

  async append(): Promise<void> {
    const count = 1 + Math.floor(this.#next() * 8)
    const entries = Array.from({ length: count }, (_, at) => this.entry(this.texts.length + 1 + at))
    await sample.written(this.storage, { kind: 'entries', entries })
    this.texts.push(...entries.map(textOf))
  }

  /** Replaces up to five of the last entries. */
  async cut(): Promise<void> {
    const base = Math.max(1, this.texts.length - Math.floor(this.#next() * 5))
    const entries = [this.entry(base), this.entry(base + 1)]
    const ballot = sample.ballot(++this.#ballot)
    await sample.written(this.storage, sample.promised(this.#ballot))
    await sample.written(this.storage, { kind: 'accept-sync', ballot, base: logIndex(base), entries })
    this.texts.length = base - 1
    this.texts.push(...entries.map(textOf))
  }

  async checkpoint(index: number): Promise<void> {
    await sample.written(this.storage, sample.decided(index), sample.promised(this.#ballot))
    await takeSample(this.storage, index)
  }

  async work(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) {
      if (this.#next() < 0.06) await this.cut()
      else await this.append()
      if (this.#next() < 0.03) {
        await this.storage.close()
        await this.start()
      }
    }
  }
}

describe.each(['plain', 'packed', 'sealed', 'packed and sealed'])('a %s log', (kind) => {
  test.each([1, 2, 3])('gives every range of what is in it (seed %i)', async (seed) => {
    await writeFile(join(folder, 'one'), randomBytes(32))
    const writer = new Writer(seed, {
      ...(kind.includes('packed') ? { compression: 'zstd' } : {}),
      ...(kind.includes('sealed') ? { keys: new KeyRing(folder, 'one') } : {}),
    })
    await writer.start()
    await writer.work(150)
    const { storage, texts } = writer
    const last = texts.length
    expect(storage.status().segments).toBeGreaterThan(3)
    expect(await readAll(storage, 1, last, EVERYTHING)).toEqual(texts)
    const next = random(seed + 100)
    for (let round = 0; round < 40; round++) {
      const from = 1 + Math.floor(next() * last)
      const upTo = from + Math.floor(next() * 60)
      expect(await readAll(storage, from, upTo, 1 + next() * 20_000)).toEqual(texts.slice(from - 1, upTo))
    }
    await storage.close()
  })
})

test('at least one entry is given, and not much more than was asked for', async () => {
  const writer = new Writer(4, {})
  await writer.start()
  const { storage } = writer
  await sample.written(storage, ...Array.from({ length: 50 }, (_, at) => sample.appended(at + 1, at + 1)))
  for (let index = 51; index <= 150; index++) {
    await sample.written(storage, { kind: 'entries', entries: [sample.entry(index, 'x'.repeat(1000))] })
  }
  expect(await storage.readDecided({ from: 60, upTo: 150, mostBytes: 1 })).toHaveLength(1)
  const some = await storage.readDecided({ from: 60, upTo: 150, mostBytes: 10_000 })
  expect(some.length).toBeGreaterThanOrEqual(9)
  expect(some.length).toBeLessThanOrEqual(11)
  expect(await storage.readDecided({ from: 151, upTo: 200, mostBytes: 10_000 })).toEqual([])
  expect(await storage.readDecided({ from: 60, upTo: 59, mostBytes: 10_000 })).toEqual([])
  await storage.close()
})

test.each(['none', 'zstd'] as const)(
  'the bound is of what is in memory, not of the disk (compression: %s)',
  async (compression) => {
    const writer = new Writer(10, { compression })
    await writer.start()
    const { storage } = writer
    const zeros = (index: number): Entry => sample.entry(index, Buffer.alloc(10_000))
    const some = (from: number, to: number): Entry[] =>
      Array.from({ length: to - from + 1 }, (_, at) => zeros(from + at))
    for (let index = 1; index <= 50; index++) {
      await sample.written(storage, { kind: 'entries', entries: some(index, index) })
    }
    await sample.written(storage, { kind: 'entries', entries: some(51, 100) })
    for (const from of [1, 30, 51, 70]) {
      const read = await storage.readDecided({ from, upTo: 100, mostBytes: 95_000 })
      expect(read.length).toBeGreaterThan(0)
      expect(read.length).toBeLessThanOrEqual(10)
    }
    await storage.close()
  },
)

test('reads go on while the log is written, sealed and let go of', async () => {
  const writer = new Writer(5, {})
  await writer.start()
  await writer.work(60)
  const work = { isOver: false, read: 0 }
  const reading = (async () => {
    for (let round = 0; !work.isOver; round++) {
      const last = writer.texts.length - 10
      const from = Math.max(1, last - (round % 200))
      const wanted = writer.texts.slice(from - 1, last)
      const texts = await readAll(writer.storage, from, last, 5000)
      expect(texts).toEqual(wanted.slice(0, texts.length))
      work.read += texts.length
      await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  for (let round = 0; round < 6 || (work.read < 500 && round < 100); round++) {
    for (let step = 0; step < 40; step++) {
      await writer.append()
      if (step % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await writer.checkpoint(writer.texts.length - 20)
  }
  work.isOver = true
  await reading
  expect(work.read).toBeGreaterThanOrEqual(500)
  // What was let go of is not there; what is above the older checkpoint is.
  const { first } = writer.storage
  expect(first).toBeGreaterThan(200)
  expect(await writer.storage.readDecided({ from: 1, upTo: 10, mostBytes: EVERYTHING })).toEqual([])
  expect(await readAll(writer.storage, first, writer.texts.length, EVERYTHING)).toEqual(writer.texts.slice(first - 1))
  await writer.storage.close()
})

test('what a checkpoint of a peer took the place of is not there: it was perhaps never decided', async () => {
  const storage = await openStorage(simulated(new SimulatedDisk(), { segmentBytes: SEGMENT_BYTES }))
  await sample.written(storage, sample.genesis(3), sample.promised(1), sample.appended(1, 20, ' never decided'))
  await receiveFromPeer(storage, 30)
  await sample.written(storage, sample.installed(30), sample.appended(31, 40))
  for (let from = 1; from <= 30; from++) {
    expect(await storage.readDecided({ from, upTo: 40, mostBytes: EVERYTHING })).toEqual([])
  }
  expect(await readAll(storage, 31, 40, EVERYTHING)).toEqual(sample.entries(31, 40).map(textOf))
  await storage.close()
})

test('what is damaged is not given, nor anything behind it that is not chained to what is before', async () => {
  const writer = new Writer(6, {})
  await writer.start()
  for (let index = 1; index <= 120; index++) await writer.append()
  const { storage, disk, texts } = writer
  const paths = disk.paths().filter((path) => /^\/data\/wal\/[^/]*\.wal$/.test(path))
  expect(paths.length).toBeGreaterThan(1)
  const next = random(7)
  for (let round = 0; round < 30; round++) {
    const path = paths[Math.floor(next() * paths.length)]!
    const whole = Buffer.from(disk.peek(path)!)
    const damaged = Buffer.from(whole)
    damaged[Math.floor(next() * whole.length)]! ^= 1 << Math.floor(next() * 8)
    disk.poke(path, damaged)
    const read: string[] = []
    for (let from = 1; from <= texts.length; from += 25) {
      const found = await readAll(storage, from, from + 24, EVERYTHING).catch(() => [])
      expect(found).toEqual(texts.slice(from - 1, from - 1 + found.length))
      read.push(...found)
    }
    expect(read.length).toBeGreaterThan(0)
    disk.poke(path, whole)
  }
})

test('a frame of another life of the volume is not given: it is chained to something else', async () => {
  const write = async (text: string): Promise<Writer> => {
    const writer = new Writer(8, {})
    await writer.start()
    for (let index = 1; index <= 20; index++) {
      await sample.written(writer.storage, { kind: 'entries', entries: [sample.entry(index, `${text} ${index}`)] })
    }
    return writer
  }
  const [one, other] = [await write('one'), await write('two')]
  const path = one.disk.paths().find((name) => name.endsWith('.wal'))!
  const bytes = one.disk.peek(path)!
  const decoded = await readSegmentHeader(one.disk, path)
  const frames = [...readSegment(bytes, decoded, null)].flatMap((item) => (item.kind === 'frame' ? [item.header] : []))
  const { offset } = frames.find(({ last }) => last === 11)!
  other.disk.peek(path)!.copy(bytes, offset, offset)
  one.disk.poke(path, bytes)
  const read = await one.storage.readDecided({ from: 5, upTo: 20, mostBytes: EVERYTHING })
  expect(read.map(textOf)).toEqual([5, 6, 7, 8, 9, 10].map((index) => `${index} one ${index}`))
})
