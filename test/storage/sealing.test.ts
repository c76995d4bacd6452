/**
 * Sealed segments: each one that has a successor gets an index, whatever happened before; it is right, it is used,
 * and nothing rests on it.
 */
import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import type { Disk, DiskFile } from '../../src/storage/disk.ts'
import { FRAME_RECORDS } from '../../src/storage/frames.ts'
import { ByteReader } from '../../src/bytes.ts'
import { readRecords } from '../../src/storage/records.ts'
import { readSegment, segmentsAmong } from '../../src/storage/segment.ts'
import {
  MARK_EVERY_BYTES,
  type SegmentIndex,
  decodeIndex,
  markFor,
  readIndex,
} from '../../src/storage/segment-index.ts'
import { readSegmentHeader } from '../../src/storage/segment-reader.ts'
import { type Storage, openStorage } from '../../src/storage/storage.ts'
import { dump } from '../../src/storage/waldump.ts'
import { type VolumeId, volumeId } from '../../src/vocabulary.ts'
import { simulated, takeSample } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const SEGMENT_BYTES = 400_000
const open = (disk: Disk, change = {}): Promise<Storage> =>
  openStorage(simulated(disk, { segmentBytes: SEGMENT_BYTES, ...change }))

const text = (index: number): string => createHash('sha256').update(String(index)).digest('hex').repeat(10)

async function filled(disk: SimulatedDisk, entries: number): Promise<Storage> {
  const storage = await open(disk)
  await sample.written(storage, sample.genesis(3), sample.promised(1))
  for (let index = 1; index <= entries; index++) {
    await sample.written(storage, sample.appended(index, index, text(index)))
  }
  await sample.written(storage, sample.decided(entries), sample.promised(2))
  return storage
}

const names = (disk: SimulatedDisk): string[] =>
  segmentsAmong(disk.paths().flatMap((path) => (/^\/data\/wal\/[^/]*$/.test(path) ? [path.slice(10)] : []))).map(
    ({ name }) => name,
  )

async function indexOf(
  disk: Disk,
  name: string,
  end: number | null = null,
): Promise<SegmentIndex | 'none' | 'damaged'> {
  const path = `/data/wal/${name}`
  const { seed } = await readSegmentHeader(disk, path)
  const file = await disk.open(path, 'read')
  const found = await readIndex(file, await file.size(), seed, end)
  await file.close()
  return found
}

/** Every segment but the newest has a whole index; gives them. */
async function allSealed(disk: SimulatedDisk): Promise<SegmentIndex[]> {
  const found: SegmentIndex[] = []
  for (const name of names(disk).slice(0, -1)) {
    const index = await indexOf(disk, name)
    expect(`${name} ${typeof index}`).toBe(`${name} object`)
    found.push(index as SegmentIndex)
  }
  return found
}

describe('the index', () => {
  test('is in every segment that has a successor, and its marks are where the entries are', async () => {
    const disk = new SimulatedDisk()
    await (await filled(disk, 1500)).close()
    expect(await allSealed(disk)).toHaveLength(names(disk).length - 1)
    await (await open(disk)).close()
    expect(names(disk).length).toBeGreaterThan(3)
    const indices = await allSealed(disk)
    expect(indices.flatMap(({ marks }) => marks).length).toBeGreaterThan(10)
    for (const [at, { end, check, marks }] of indices.entries()) {
      const path = `/data/wal/${names(disk)[at]!}`
      const decoded = await readSegmentHeader(disk, path)
      const bytes = disk.peek(path)!
      const firsts = new Map<number, number>()
      for (const item of readSegment(bytes, decoded, { end, check })) {
        if (item.kind !== 'frame') expect(item.kind).toBe('stop')
        else if (item.header.kind === FRAME_RECORDS) {
          const entries = readRecords(new ByteReader(item.payload!)).flatMap((record) =>
            record.kind === 'entries' ? record.entries : [],
          )
          if (entries.length > 0) firsts.set(item.header.offset, entries[0]!.index)
        }
      }
      let before = decoded.size
      for (const { first, offset, previous } of marks) {
        expect(firsts.get(offset)).toBe(first)
        expect(offset - before).toBeGreaterThanOrEqual(MARK_EVERY_BYTES)
        before = offset
        const from = { offset, previous }
        const items = [...readSegment(bytes, decoded, { end, check }, null, from)]
        expect(items.every(({ kind }) => kind === 'frame' || kind === 'stop')).toBe(true)
      }
      // Nothing is left of the zeros that the segment was prepared with.
      expect(bytes.length).toBeLessThan(end + 512 + 4096)
    }
  })

  test('names a place for every entry, and none before the first mark', () => {
    const marks = [10, 20, 30].map((first) => ({ first, offset: first * 1000, previous: 0 }))
    const index = { end: 0, check: 0, marks }
    expect([1, 9, 10, 19, 20, 29, 30, 99].map((first) => markFor(index, first)?.first ?? null)).toEqual([
      null,
      null,
      10,
      10,
      20,
      20,
      30,
      30,
    ])
  })

  test('is made at the next start where a crash left none, and never touched again', async () => {
    const disk = new SimulatedDisk()
    const storage = await filled(disk, 1500)
    // As the process dies: the newest segment has no successor, and no index.
    const survivor = disk.survivor(() => 1)
    await storage.close()
    for (const name of names(survivor)) {
      const path = `/data/wal/${name}`
      const index = await indexOf(survivor, name)
      // An earlier version wrote no index at all.
      if (typeof index === 'object') survivor.poke(path, survivor.peek(path)!.subarray(0, index.end))
    }
    const newest = names(survivor).at(-1)!
    await (await open(survivor)).close()
    expect(typeof (await indexOf(survivor, newest))).toBe('object')
    await allSealed(survivor)
    const before = new Map(names(survivor).map((name) => [name, survivor.peek(`/data/wal/${name}`)!]))
    survivor.onStep = (step) => {
      if (/write .*\.wal$/.test(step)) throw new Error(`a sealed segment is written to: ${step}`)
    }
    const again = await openStorage(simulated(survivor, { segmentBytes: SEGMENT_BYTES }))
    expect(again.recovered.entries).toHaveLength(1500)
    for (const [name, bytes] of before) {
      const now = survivor.peek(`/data/wal/${name}`)
      // The empty one of the start before is replaced.
      if (now !== null) expect(now.equals(bytes)).toBe(true)
    }
  })

  test('flipped in any byte, is damaged or none, blocks no start, and is written again', async () => {
    const source = new SimulatedDisk()
    await (await filled(source, 500)).close()
    await (await open(source)).close()
    const name = names(source)[0]!
    const path = `/data/wal/${name}`
    const bytes = source.peek(path)!
    const { end } = (await indexOf(source, name)) as SegmentIndex
    const from = Math.ceil(end / 512) * 512
    let damaged = 0
    for (let at = from; at < bytes.length; at += 7) {
      const copy = Buffer.from(bytes)
      copy[at]! ^= 1 << (at % 8)
      const disk = source.survivor(() => 1)
      disk.poke(path, copy)
      if ((await indexOf(disk, name, end)) === 'damaged') damaged++
      expect(typeof (await indexOf(disk, name))).toBe('string')
      const messages: string[] = []
      const storage = await open(disk, { log: (message: string) => messages.push(message) })
      expect(storage.recovered.entries).toHaveLength(500)
      expect(messages.join()).not.toContain('damaged')
      await storage.close()
      await allSealed(disk)
    }
    expect(damaged).toBeGreaterThan(50)
  })

  test('flipped in any byte, is no rot for the scrub; a flip before it is', async () => {
    const disk = new SimulatedDisk()
    await (await filled(disk, 500)).close()
    const storage = await open(disk)
    const name = names(disk)[0]!
    const path = `/data/wal/${name}`
    const bytes = disk.peek(path)!
    const { end } = (await indexOf(disk, name)) as SegmentIndex
    const rotAfterFlip = async (at: number): Promise<number> => {
      const copy = Buffer.from(bytes)
      copy[at]! ^= 1 << (at % 8)
      disk.poke(path, copy)
      return (await storage.scrub.pass(true)).length
    }
    const from = Math.ceil(end / 512) * 512
    for (let at = from; at < bytes.length; at += 31) expect(await rotAfterFlip(at)).toBe(0)
    for (let at = bytes.length - 4; at < bytes.length; at++) expect(await rotAfterFlip(at)).toBe(0)
    expect(await rotAfterFlip(end - 100)).toBe(1)
    await storage.close()
  })

  test('is told from what a segment without one ends with', async () => {
    const disk = new SimulatedDisk()
    await (await filled(disk, 500)).close()
    await (await open(disk)).close()
    const name = names(disk)[0]!
    const path = `/data/wal/${name}`
    const bytes = disk.peek(path)!
    const { end } = (await indexOf(disk, name)) as SegmentIndex
    for (const ending of [0, 1, 512, 1024, 0xffff_ffff, end & ~511]) {
      const copy = Buffer.concat([bytes.subarray(0, end), Buffer.alloc(600)])
      copy.writeUInt32LE(ending, copy.length - 4)
      disk.poke(path, copy)
      expect(await indexOf(disk, name, end)).toBe('none')
      expect(await indexOf(disk, name)).toBe('none')
    }
    disk.poke(path, bytes.subarray(0, end))
    expect(await indexOf(disk, name, end)).toBe('none')
  })

  test('of another segment is none', async () => {
    const disk = new SimulatedDisk()
    await (await filled(disk, 1500)).close()
    await (await open(disk)).close()
    const [one, two] = names(disk).map((name) => disk.peek(`/data/wal/${name}`)!)
    const size = two!.readUInt32LE(two!.length - 4)
    const { seed } = await readSegmentHeader(disk, `/data/wal/${names(disk)[0]!}`)
    expect(decodeIndex(two!.subarray(-size), seed)).toBeNull()
    const own = one!.readUInt32LE(one!.length - 4)
    expect(decodeIndex(one!.subarray(-own), seed)).not.toBeNull()
  })
})

/** Counts what is read of segments. */
function counting(disk: SimulatedDisk, read: { bytes: number }): Disk {
  const open = async (path: string, mode: Parameters<Disk['open']>[1]): Promise<DiskFile> => {
    const file = await disk.open(path, mode)
    if (!path.endsWith('.wal') || mode !== 'read') return file
    const original = file.read.bind(file)
    return Object.assign(file, {
      read: async (offset: number, length: number) => {
        const bytes = await original(offset, length)
        read.bytes += bytes.length
        return bytes
      },
    })
  }
  return new Proxy(disk, {
    get: (target, name) => {
      if (name === 'open') return open
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
}

describe('a start', () => {
  test('misses a newest segment that is not there: the one before has an index', async () => {
    for (const voters of [3, 1]) {
      const disk = new SimulatedDisk()
      const random = (): VolumeId => volumeId('1'.repeat(32))
      const storage = await open(disk, { segmentBytes: 4096, random })
      await sample.written(storage, sample.genesis(voters), sample.promised(1))
      for (let index = 1; index <= 9; index++) await sample.written(storage, sample.appended(index, index, text(index)))
      await storage.close()
      const newest = names(disk).at(-1)!
      disk.poke(`/data/wal/${newest}`, null)
      const lost = Number(newest.slice(11, 27))
      expect(lost).toBeGreaterThan(2)
      for (let start = 0; start < 2; start++) {
        const again = open(disk, { segmentBytes: 4096 })
        // Others have what was in it; nobody has it where this voter is alone.
        if (voters === 1) await expect(again).rejects.toThrow('LOG_DAMAGED_ALONE')
        else {
          expect((await again).recovered).toMatchObject({ doubtfulFrom: lost, promiseLost: true })
          expect((await again).recovered.entries).toHaveLength(lost - 1)
          await (await again).close()
        }
      }
    }
  })

  test('reads nothing of what lies below the mark of the first entry, and so does not mind what became of it', async () => {
    const disk = new SimulatedDisk()
    const storage = await filled(disk, 1500)
    for (const index of [950, 1000]) await takeSample(storage, index)
    await storage.close()
    await (await open(disk)).close()
    const name = names(disk)[0]!
    const { marks, end } = (await indexOf(disk, name)) as SegmentIndex
    const mark = marks.findLast(({ first }) => first <= 951)!
    expect(mark.offset).toBeGreaterThan(100_000)
    const path = `/data/wal/${name}`
    const bytes = disk.peek(path)!
    const withFlip = (at: number): SimulatedDisk => {
      const copy = disk.survivor(() => 1)
      const flipped = Buffer.from(bytes)
      flipped[at]! ^= 4
      copy.poke(path, flipped)
      return copy
    }
    const startOf = async (disk: Disk): Promise<string> => {
      const messages: string[] = []
      const storage = await open(disk, { log: (message: string) => messages.push(message) })
      const { entries, first } = storage.recovered
      await storage.close()
      return `${first} ${entries.length} ${messages.includes('the log is damaged')}`
    }
    const read = { bytes: 0 }
    expect(
      await startOf(
        counting(
          disk.survivor(() => 1),
          read,
        ),
      ),
    ).toBe('951 550 false')
    const unread = disk.survivor(() => 1)
    unread.poke(path, bytes.subarray(0, end))
    const all = { bytes: 0 }
    expect(await startOf(counting(unread, all))).toBe('951 550 false')
    expect(all.bytes - read.bytes).toBeGreaterThan(mark.offset - 10_000)
    expect(await startOf(withFlip(mark.offset - 1000))).toBe('951 550 false')
    await expect(startOf(withFlip(mark.offset + 40))).resolves.toMatch(/true$/)
  })

  test('tells how far it is', async () => {
    const disk = new SimulatedDisk()
    await (await filled(disk, 1500)).close()
    const seen: { entries: number; bytes: number; percent: number }[] = []
    await (await open(disk, { progress: (progress: (typeof seen)[0]) => seen.push(progress) })).close()
    expect(seen.length).toBe(4)
    expect(seen.at(-1)!.entries).toBe(1500)
    for (const [at, { entries, bytes, percent }] of seen.entries()) {
      expect(percent).toBeLessThanOrEqual(100)
      expect(entries).toBeGreaterThanOrEqual(seen[at - 1]?.entries ?? 1)
      expect(bytes).toBeGreaterThanOrEqual(seen[at - 1]?.bytes ?? 1)
    }
  })
})

test('a dump from an entry on begins at its mark', async () => {
  const disk = new SimulatedDisk()
  await (await filled(disk, 1500)).close()
  await (await open(disk)).close()
  const read = { bytes: 0 }
  const lines = async (from: number | null): Promise<string[]> => {
    const shown: string[] = []
    for await (const line of dump(counting(disk, read), '/data/wal', { from })) {
      expect(line.kind).not.toMatch(/damage|error/)
      if (line.kind === 'frame') shown.push(...line.records.filter((record) => record.startsWith('entries')))
    }
    return shown
  }
  const all = await lines(null)
  expect(all).toHaveLength(1500)
  const everything = read.bytes
  read.bytes = 0
  expect(await lines(1400)).toEqual(all.slice(1399))
  expect(read.bytes).toBeLessThan(everything / 3)
})
