/** docs/FORMAT.md is right: a reader written from it reads what the storage writes. And codecs are exact. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { ByteReader, ByteWriter } from '../../src/bytes.ts'
import {
  FRAME_HEADER_BYTES,
  FRAME_RECORDS,
  alignUp,
  beginFrame,
  classifyStop,
  finishFrame,
  isBlank,
  readFrameHeader,
  readFramePayload,
} from '../../src/storage/frames.ts'
import { KeyRing } from '../../src/storage/keys.ts'
import { decodeMetaSlot, encodeMetaSlot } from '../../src/storage/meta.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { readRecords, readState, writeRecord, writeState } from '../../src/storage/records.ts'
import { decodeSegmentHeader, encodeSegmentHeader } from '../../src/storage/segment.ts'
import { decodeStamp, encodeStamp } from '../../src/storage/stamp.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { dump } from '../../src/storage/waldump.ts'
import type { DurableState, LogRecord } from '../../src/vocabulary.ts'
import { configurationId, logIndex, nodeId, timeline, volumeId } from '../../src/vocabulary.ts'
import { readCheckpoint, readLog } from './format-reader.ts'
import { writeSample } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const PACKINGS: readonly (readonly [name: string, compression: 'none' | 'zstd', key: string | null])[] = [
  ['as it is', 'none', null],
  ['compressed', 'zstd', null],
  ['encrypted', 'none', 'one'],
  ['compressed and encrypted', 'zstd', 'one'],
]

test.each(PACKINGS)(
  'a reader written from the page alone reads log and checkpoint, %s',
  async (_, compression, key) => {
    const folder = await mkdtemp(join(tmpdir(), 'format-'))
    const keys = { one: randomBytes(32) }
    try {
      await writeFile(join(folder, 'one'), keys.one)
      const packing = { compression, keys: new KeyRing(folder, key) }
      const open = () => openStorage(sample.options(new RealDisk(), folder, { segmentBytes: 8192, ...packing }))
      let storage = await open()
      await storage.setIdentity(sample.CLUSTER, nodeId(7))
      await sample.written(storage, sample.genesis(3), sample.promised(2))
      for (let index = 1; index <= 60; index++) {
        await sample.written(storage, sample.appended(index, index, index % 9 === 0 ? '\0'.repeat(3000) : ' one'))
      }
      await sample.written(storage, sample.acceptSync(5, 50, 55, ' two'), sample.decided(40))
      await storage.close()
      storage = await open()
      await sample.written(storage, {
        kind: 'entries',
        entries: [
          { kind: 'stop-sign', index: logIndex(56), next: { ...sample.configuration(2, 5), leaseMilliseconds: 200 } },
        ],
      })
      await sample.written(storage, sample.promised(9))
      for (const index of [20, 30]) {
        await writeSample(storage, index, [Buffer.from('slice')])
      }
      await storage.truncateHead(logIndex(30))
      await storage.close()
      const read = readLog(join(folder, 'wal'), keys)
      const checkpoint = readCheckpoint(join(folder, 'checkpoints/0000000000000030'), keys)
      expect(checkpoint).toMatchObject({ index: 30, slices: [Buffer.from('slice')], sealed: key !== null })
      expect(createHash('sha256').update('slice').digest('hex')).toBe(checkpoint.hash)
      storage = await open()
      const { recovered } = storage
      const values = (each: object): number[] => Object.values(each) as number[]
      expect(read).toMatchObject({ volume: storage.volume, cluster: sample.CLUSTER, node: 7, first: 21, decided: 40 })
      expect(recovered.first).toBe(21)
      expect(read.promise).toEqual(values(recovered.state.promise))
      expect(read.accepted).toEqual(values(recovered.state.acceptedBallot))
      expect(read.configuration).toBe(1)
      const wanted = recovered.entries.map((entry) =>
        entry.kind === 'commands' ? Buffer.from(entry.payload).toString() : `configuration ${entry.next.id}`,
      )
      expect([...read.entries.values()]).toEqual(wanted)
      expect(wanted).toHaveLength(36)
      await storage.close()
      const stamp = await readFile(join(folder, 'wal/stamp'), 'latin1')
      expect(stamp).toMatch(/^lokikv volume 1 wal a{32} [0-9a-f]{8}\n$/)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  },
)

const uint = fc.nat({ max: Number.MAX_SAFE_INTEGER })
const ballot = fc.record({
  configuration: uint.map(configurationId),
  n: uint,
  priority: uint,
  node: uint.map(nodeId),
})
const hex = fc.stringMatching(/^[0-9a-f]{32}$/)
const member = fc.record({ id: uint.map(nodeId), volume: hex.map(volumeId), address: fc.string({ unit: 'grapheme' }) })
const configuration = fc.record({
  id: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }).map(configurationId),
  preferredLeader: uint.map(nodeId),
  voters: fc.array(member, { maxLength: 9 }),
  learners: fc.array(member, { maxLength: 3 }),
})
const index = uint.map(logIndex)
const entry = fc.oneof(
  fc.record({
    kind: fc.constant('commands' as const),
    index,
    payload: fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  }),
  fc.record({ kind: fc.constant('stop-sign' as const), index, next: configuration }),
)
const record: fc.Arbitrary<LogRecord> = fc.oneof(
  fc.record({ kind: fc.constant('entries' as const), entries: fc.array(entry) }),
  fc.record({ kind: fc.constant('promise' as const), ballot }),
  fc.record({ kind: fc.constant('accept-sync' as const), ballot, base: index, entries: fc.array(entry) }),
  fc.record({ kind: fc.constant('decided' as const), index }),
  fc.record({ kind: fc.constant('configuration' as const), configuration, start: index }),
  fc.record({ kind: fc.constant('installed' as const), index, configuration, start: index }),
)
const state: fc.Arbitrary<DurableState> = fc.record({
  promise: ballot,
  acceptedBallot: ballot,
  decided: index,
  configuration: fc.option(configuration),
  configurationStart: index,
})

test('records and states come back as they were', () => {
  fc.assert(
    fc.property(fc.array(record), state, (records, given) => {
      const writer = new ByteWriter()
      for (const each of records) writeRecord(writer, each)
      expect(readRecords(new ByteReader(writer.finish()))).toEqual(records)
      writer.reset()
      writeState(writer, given)
      expect(readState(new ByteReader(writer.finish()))).toEqual(given)
    }),
  )
})

test('a whole frame with what this version does not know was written by a later one: the start says so', async () => {
  for (const change of ['record', 'frame']) {
    const disk = new SimulatedDisk()
    const storage = await openStorage(sample.options(disk, '/data'))
    await sample.written(storage, sample.genesis(3))
    await storage.close()
    const path = disk.paths().find((name) => name.endsWith('.wal'))!
    const bytes = disk.peek(path)!
    const { seed, size } = decodeSegmentHeader(bytes, path)
    let [offset, previous] = [size, seed]
    for (let header = readFrameHeader(bytes, offset, seed); header; header = readFrameHeader(bytes, offset, seed)) {
      ;[offset, previous] = [header.end, header.check]
    }
    const writer = new ByteWriter()
    const start = beginFrame(writer)
    writer.uint8(change === 'record' ? 8 : 1)
    const kind = change === 'record' ? FRAME_RECORDS : 0x201
    finishFrame(writer, start, { segmentSeed: seed, offset, previous }, { kind, compressed: false, last: 0 })
    disk.poke(path, Buffer.concat([bytes.subarray(0, offset), writer.finish()]))
    const before = disk.paths().map((name) => disk.peek(name)!.toString('latin1'))
    await expect(openStorage(sample.options(disk, '/data'))).rejects.toThrow('FORMAT_TOO_NEW')
    expect(disk.paths().map((name) => disk.peek(name)!.toString('latin1'))).toEqual(before)
    const lines: string[] = []
    for await (const line of dump(disk, '/data/wal')) lines.push(JSON.stringify(line))
    expect(lines.at(-1)).toContain('FORMAT_TOO_NEW')
  }
})

const bytesOf = (size: number) => fc.uint8Array({ minLength: size, maxLength: size }).map((bytes) => Buffer.from(bytes))
const key = fc.record({ keyId: fc.stringMatching(/^[a-z0-9-]{1,20}$/), salt: bytesOf(16), check: bytesOf(8) })

test('headers, meta slots and stamps come back as they were', () => {
  const link = fc.record({ timeline: fc.integer({ min: 1 }).map(timeline), base: index, end: uint, check: fc.nat() })
  const header = fc.record({
    volume: hex.map(volumeId),
    cluster: fc.option(hex),
    timeline: uint.map(timeline),
    base: index,
    first: index,
    doubtfulFrom: fc.option(fc.integer({ min: 1 }).map(logIndex)),
    previous: fc.option(link),
    bornWithFrame: fc.boolean(),
    promiseLost: fc.boolean(),
    compressed: fc.boolean(),
    key: fc.option(key),
    state,
  })
  fc.assert(
    fc.property(header, fc.nat(), (given, sequence) => {
      const { bytes, seed } = encodeSegmentHeader(given as never)
      const padded = Buffer.concat([bytes, Buffer.alloc(100)])
      expect(decodeSegmentHeader(padded, 'path')).toEqual({ header: given, size: bytes.length, seed })
      const identity = given.cluster === null ? null : { cluster: given.cluster, node: nodeId(3) }
      const content = { volume: given.volume, identity, first: given.first, timeline: given.timeline }
      expect(decodeMetaSlot(encodeMetaSlot(sequence, content as never), 'path')).toEqual({ sequence, content })
      expect(decodeStamp(encodeStamp('wal', given.volume), 'wal', 'path')).toBe(given.volume)
    }),
  )
})

const payloads = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 3000 }),
  fc
    .tuple(fc.nat({ max: 255 }), fc.integer({ min: 1, max: 5000 }))
    .map(([byte, size]) => new Uint8Array(size).fill(byte)),
  fc
    .array(fc.tuple(fc.nat({ max: 3 }), fc.integer({ min: 200, max: 1200 })), { minLength: 1 })
    .map((runs) => Uint8Array.from(runs.flatMap(([byte, size]) => Array.from({ length: size }, () => byte)))),
)

test('a frame comes back as it was; any lost sectors are a torn write, any other damage is not', () => {
  const places = fc.record({ seed: fc.nat(), previous: fc.nat(), slot: fc.nat({ max: 40 }) })
  fc.assert(
    fc.property(payloads, places, fc.nat(), fc.nat({ max: 7 }), (payload, place, where, bit) => {
      const offset = 512 + place.slot * 32
      const writer = new ByteWriter()
      const start = beginFrame(writer)
      writer.raw(payload)
      const check = finishFrame(
        writer,
        start,
        { segmentSeed: place.seed, offset, previous: place.previous },
        { kind: FRAME_RECORDS, compressed: false, last: 77 },
      )
      const file = Buffer.concat([Buffer.alloc(offset, 1), writer.finish(), Buffer.alloc(2048)])
      const header = readFrameHeader(file, offset, place.seed)!
      expect(header).toMatchObject({ length: payload.length, previous: place.previous, last: 77, check })
      expect(readFramePayload(file, header, place.seed)!.equals(Buffer.from(payload))).toBe(true)
      expect(header.end).toBe(offset + FRAME_HEADER_BYTES + alignUp(payload.length, 32))
      for (let sector = Math.floor(offset / 512); sector * 512 < header.end; sector++) {
        const [from, to] = [Math.max(offset, sector * 512), Math.min(header.end, (sector + 1) * 512)]
        expect(isBlank(file, from, to)).toBe(false)
        const torn = Buffer.from(file).fill(0, from, to)
        const left = isBlank(torn, offset, torn.length) ? 'end' : 'torn'
        expect(classifyStop(torn, offset, place.seed).kind).toBe(left)
      }
      const rotten = Buffer.from(file)
      rotten[offset + (where % (header.end - offset))]! ^= 1 << bit
      const rottenHeader = readFrameHeader(rotten, offset, place.seed)
      expect(rottenHeader === null || readFramePayload(rotten, rottenHeader, place.seed) === null).toBe(true)
      expect(readFrameHeader(Buffer.concat([Buffer.alloc(32), file]), offset + 32, place.seed)).toBeNull()
      expect(readFrameHeader(file, offset, place.seed + 1)).toBeNull()
    }),
  )
})
