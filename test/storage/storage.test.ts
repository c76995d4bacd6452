/** The storage on the real disk: what is written comes back, in every shape that consensus asks for. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { KeyRing } from '../../src/storage/keys.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { type Storage, openStorage } from '../../src/storage/storage.ts'
import { RECORD_BYTES_MAXIMUM } from '../../src/storage/wal.ts'
import { type Entry, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'
import { readCheckpoint } from './format-reader.ts'
import { writeSample } from './history.ts'
import * as sample from './samples.ts'

let folder: string
const disk = new RealDisk()
const open = (change = {}): Promise<Storage> => openStorage(sample.options(disk, folder, change))

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'storage-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

describe('log', () => {
  test('an empty pair of volumes is stamped and gives an empty log', async () => {
    const storage = await open()
    expect(storage.volume).toBe(sample.VOLUME)
    expect(storage.identity).toBeNull()
    expect(storage.recovered.entries).toEqual([])
    expect(storage.timeline).toBe(1)
    await storage.close()
    const again = await open({ random: () => volumeId('f'.repeat(32)) })
    expect(again.volume).toBe(sample.VOLUME)
    expect(again.timeline).toBe(2)
    await again.close()
    expect((await readdir(join(folder, 'wal'))).filter((name) => name.endsWith('.wal'))).toHaveLength(1)
  })

  test.each([
    ['that may not be read is none of its business', 'EACCES', true],
    ['whose names cannot be made durable is', 'EIO', false],
  ])('what is above volumes that somebody else has made, and %s', async (_what, code, starts) => {
    class DiskBelow extends RealDisk {
      override syncDirectory(directory: string): Promise<void> {
        return directory === folder
          ? Promise.reject(Object.assign(new Error(code), { code }))
          : super.syncDirectory(directory)
      }
    }
    for (const volume of ['wal', 'checkpoints']) await mkdir(join(folder, volume))
    const opened = openStorage(sample.options(new DiskBelow(), folder, {}))
    if (starts) await (await opened).close()
    else await expect(opened).rejects.toThrow(code)
  })

  test('identity, records and entries come back', async () => {
    const storage = await open()
    await storage.setIdentity(sample.CLUSTER, nodeId(2))
    await sample.written(storage, sample.genesis(3), sample.promised(4), sample.acceptSync(4, 1, 3))
    await sample.written(storage, sample.appended(4, 9), sample.decided(7))
    await storage.close()
    const again = await open({ expected: { cluster: sample.CLUSTER, node: nodeId(2) } })
    expect(again.identity).toEqual({ cluster: sample.CLUSTER, node: 2 })
    expect(again.recovered.state).toEqual({
      promise: sample.ballot(4),
      acceptedBallot: sample.ballot(4),
      decided: 7,
      configuration: sample.configuration(1, 3),
      configurationStart: 0,
    })
    expect(sample.shown(again.recovered)).toEqual(sample.shown({ entries: sample.entries(1, 9) }))
    expect(again.recovered.doubtfulFrom).toBeNull()
    await again.close()
  })

  test('an accept-sync replaces the suffix, over many starts', async () => {
    let storage = await open()
    await sample.written(storage, sample.genesis(3), sample.appended(1, 9, ' old'))
    await storage.close()
    storage = await open()
    await sample.written(storage, sample.promised(5))
    await sample.written(storage, sample.acceptSync(5, 4, 6, ' new'), sample.appended(7, 7, ' new'))
    await storage.close()
    for (let start = 0; start < 3; start++) {
      storage = await open()
      const wanted = [...sample.entries(1, 3, ' old'), ...sample.entries(4, 7, ' new')]
      expect(sample.shown(storage.recovered)).toEqual(sample.shown({ entries: wanted }))
      expect(storage.recovered.state.acceptedBallot).toEqual(sample.ballot(5))
      await storage.close()
    }
  })

  test('what would replace decided entries is refused before anything is written', async () => {
    const storage = await open()
    await sample.written(storage, sample.genesis(3), sample.appended(1, 9), sample.decided(5))
    expect(() => storage.write([sample.acceptSync(7, 5, 6)], () => {})).toThrow(/would replace what is decided/)
    await sample.written(storage, sample.acceptSync(7, 6, 6))
    await storage.close()
  })

  test('small segments roll over, and done is called in order', async () => {
    const storage = await open({ segmentBytes: 4096 })
    await sample.written(storage, sample.genesis(3))
    const order: number[] = []
    const all: Promise<void>[] = []
    for (let index = 1; index <= 200; index++) {
      all.push(
        new Promise((resolve) => {
          storage.write([sample.appended(index, index, 'x'.repeat(300))], () => {
            order.push(index)
            resolve()
          })
        }),
      )
      if (index % 7 === 0) await all.at(-1)
    }
    expect(order.length).toBeLessThan(201)
    await Promise.all(all)
    expect(order).toEqual(Array.from({ length: 200 }, (_, at) => at + 1))
    expect(storage.status().segments).toBeGreaterThan(10)
    await storage.close()
    const again = await open({ segmentBytes: 4096 })
    expect(again.recovered.entries).toHaveLength(200)
    await again.close()
  })
})

describe('limits', () => {
  test('segments of a size that is not allowed are refused with the range', async () => {
    for (const segmentBytes of [0, 4095, 1024 ** 3 + 1, 4 * 1024 ** 3 + 1, Number.NaN]) {
      await expect(open({ segmentBytes })).rejects.toMatchObject({
        code: 'CONFIGURATION_INVALID',
        message: expect.stringContaining('4096 to 1073741824') as unknown,
      })
    }
    expect(await readdir(folder)).toEqual([])
  })

  test('an entry may be many times as large as a segment, with compression and a key, too', async () => {
    await writeFile(join(folder, 'key'), randomBytes(32))
    const payload = Buffer.alloc(48 * 1024 * 1024, 'a large value ')
    payload.set(randomBytes(1024 * 1024), 5_000_000)
    const settings = [{}, { compression: 'zstd', keys: new KeyRing(folder, 'key') }]
    for (const [at, change] of settings.entries()) {
      const storage = await open({ segmentBytes: 1024 * 1024, ...change })
      if (at === 0) await sample.written(storage, sample.genesis(3))
      const large = { ...sample.entry(at * 3 + 2), payload } as Entry
      await sample.written(storage, sample.appended(at * 3 + 1, at * 3 + 1))
      await sample.written(storage, { kind: 'entries', entries: [large] })
      await sample.written(storage, sample.appended(at * 3 + 3, at * 3 + 3))
      await storage.close()
    }
    const again = await open({ keys: new KeyRing(folder) })
    expect(again.recovered.entries.map(({ index }) => index)).toEqual([1, 2, 3, 4, 5, 6])
    for (const at of [1, 4]) {
      const entry = again.recovered.entries[at] as Extract<Entry, { kind: 'commands' }>
      expect(payload.equals(entry.payload)).toBe(true)
    }
    await again.close()
  })

  test('a record beyond the limit is refused before anything is written, and nothing is lost', async () => {
    const storage = await open()
    await sample.written(storage, sample.genesis(3), sample.appended(1, 2))
    const before = storage.status()
    // Memory that is never touched.
    const payload = Buffer.alloc(RECORD_BYTES_MAXIMUM / 2 + 1)
    const entries = [3, 4].map((index) => ({ ...sample.entry(index), payload }) as Entry)
    expect(() => storage.write([{ kind: 'entries', entries }], () => {})).toThrow(/allowed are 805306368/)
    await sample.written(storage, sample.appended(3, 3))
    expect(storage.status().frames).toBe(before.frames + 1)
    await storage.close()
    const again = await open()
    expect(sample.shown(again.recovered)).toEqual(sample.shown({ entries: sample.entries(1, 3) }))
    await again.close()
  })

  test('records that were given at once and are too much for one frame are several frames', async () => {
    const storage = await open({ segmentBytes: 64 * 1024 * 1024 })
    await sample.written(storage, sample.genesis(3))
    const { frames } = storage.status()
    const payload = 'x'.repeat(10 * 1024 * 1024)
    await sample.written(storage, ...[1, 2, 3, 4].map((index) => sample.appended(index, index, payload)))
    expect(storage.status().frames).toBe(frames + 2)
    await storage.close()
    const again = await open()
    expect(again.recovered.entries).toHaveLength(4)
    await again.close()
  })
})

describe('checkpoints', () => {
  const slices = (count: number, tag: string): Buffer[] =>
    Array.from({ length: count }, (_, at) => Buffer.from(`${tag} ${at} `.repeat(20_000)))
  const read = async (storage: Storage): Promise<string[]> => {
    const got: string[] = []
    for await (const slice of storage.readCheckpoint()) got.push(digest(slice))
    return got
  }
  const digest = (slice: Buffer): string => createHash('sha256').update(slice).digest('hex')

  test('come back slice by slice; two are kept; the log is let go of behind the older one', async () => {
    let storage = await open({ segmentBytes: 4096 })
    await sample.written(storage, sample.genesis(3))
    for (let index = 1; index <= 60; index++)
      await sample.written(storage, sample.appended(index, index, 'x'.repeat(200)))
    await sample.written(storage, sample.decided(60), sample.promised(1))
    for (const index of [10, 30, 50]) {
      await writeSample(storage, index, slices(9, String(index)))
      await storage.truncateHead(logIndex(index))
    }
    expect(await readdir(join(folder, 'checkpoints'))).toEqual(['0000000000000030', '0000000000000050', 'stamp'])
    await storage.close()
    storage = await open()
    expect(storage.recovered.first).toBe(31)
    expect(storage.recovered.entries[0]!.index).toBe(31)
    expect(storage.recovered.entries).toHaveLength(30)
    expect(storage.checkpoint!.index).toBe(50)
    expect(await read(storage)).toEqual(slices(9, '50').map(digest))
    await storage.close()
  })

  test('a slice of any size goes through chunks that a peer can send, and comes back in one piece', async () => {
    const storage = await open()
    await sample.written(storage, sample.genesis(3), sample.appended(1, 9), sample.decided(9))
    const sizes = [10, 40 * 1024 * 1024 + 7, 0, 2 * 1024 * 1024, 5]
    const given = sizes.map((size, at) => Buffer.alloc(size, `slice ${at}; `))
    await writeSample(storage, 9, given)
    expect(await read(storage)).toEqual(given.map(digest))
    const chunks = await Promise.all(
      storage.checkpoint!.chunks.map((_, chunk) => storage.readChunk(logIndex(9), chunk)),
    )
    expect(chunks.length).toBeGreaterThan(3)
    for (const chunk of chunks) expect(zstdDecompressSync(chunk!).length).toBeLessThan(20 * 1024 * 1024)
    const found = readCheckpoint(join(folder, 'checkpoints', '0000000000000009'))
    expect(found.slices.map(digest)).toEqual(given.map(digest))
    await storage.close()
  })

  test('go from peer to peer, resumed after a restart, and are installed', async () => {
    const storage = await open()
    await sample.written(storage, sample.genesis(3), sample.appended(1, 9), sample.decided(9))
    await writeSample(storage, 9, slices(30, 'peer'))
    const manifest = (await storage.manifestBytes())!
    const other = await mkdtemp(join(tmpdir(), 'storage-peer-'))
    const openOther = (): Promise<Storage> =>
      openStorage(sample.options(disk, other, { random: () => volumeId('b'.repeat(32)) }))
    let peer = await openOther()
    let receiver = await peer.receive(manifest)
    expect(receiver.missing().length).toBeGreaterThan(1)
    await receiver.put(0, (await storage.readChunk(logIndex(9), 0))!)
    await expect(receiver.put(1, (await storage.readChunk(logIndex(9), 0))!)).rejects.toThrow(/CHUNK_DAMAGED/)
    await receiver.close()
    await peer.close()
    peer = await openOther()
    receiver = await peer.receive(manifest)
    expect(receiver.missing()[0]).toBe(1)
    for (const chunk of receiver.missing()) await receiver.put(chunk, (await storage.readChunk(logIndex(9), chunk))!)
    await receiver.commit()
    await sample.written(peer, sample.installed(9))
    await sample.written(peer, sample.appended(10, 11))
    // A newer one is begun and given up, and a newer one yet: parts of the first do not stay.
    for (const last of [12, 13]) {
      await sample.written(storage, sample.appended(last === 12 ? 10 : 13, last), sample.decided(last))
      await writeSample(storage, last, slices(30, `peer ${last}`))
      await (await peer.receive((await storage.manifestBytes())!)).close()
    }
    const parts = (await readdir(sample.options(disk, other).checkpointDirectory)).filter((name) => /receiv/.test(name))
    expect(parts).toEqual(['receiving-0000000000000013'])
    await peer.close()
    peer = await openOther()
    expect(peer.recovered.first).toBe(10)
    expect(peer.recovered.state.decided).toBe(9)
    expect(sample.shown(peer.recovered)).toEqual(sample.shown({ entries: sample.entries(10, 11) }))
    expect(await read(peer)).toEqual(slices(30, 'peer').map(digest))
    await peer.close()
    await storage.close()
    await rm(other, { recursive: true })
  })
})
