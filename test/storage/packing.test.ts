/**
 * Compression and encryption: what is written comes back, over every change of both settings; nothing that was given
 * is in the files in the clear; a key that is missing or wrong is told and nothing is written; crashes stay crashes.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../src/errors.ts'
import { FileCipher, KeyRing } from '../../src/storage/keys.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { type Storage, type StorageOptions, openStorage } from '../../src/storage/storage.ts'
import { logIndex, volumeId } from '../../src/vocabulary.ts'
import { HISTORIES, historySweep } from './crash-points.ts'
import { newProgress, runHistory, takeSample } from './history.ts'
import * as sample from './samples.ts'
import { DAMAGED_HISTORY, opened, prepared, untrue } from './sweeps.ts'
import { SimulatedDisk } from './simulated-disk.ts'

let folder: string
let keyFolder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'packing-'))
  keyFolder = join(folder, 'keys')
  await mkdir(keyFolder)
  await writeFile(join(keyFolder, 'one'), randomBytes(32))
  await writeFile(join(keyFolder, 'two'), `${randomBytes(32).toString('hex')}\n`)
  await writeFile(join(keyFolder, 'three'), randomBytes(32).toString('base64'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const ring = (current: string | null): KeyRing => new KeyRing(keyFolder, current)
const open = (change: Partial<StorageOptions> = {}, name = 'node'): Promise<Storage> =>
  openStorage(sample.options(new RealDisk(), join(folder, name), { segmentBytes: 16 * 1024, archive: true, ...change }))

/** Every file below `path`, by its name. */
async function filesIn(path: string): Promise<Map<string, Buffer>> {
  const names = await readdir(path, { recursive: true, withFileTypes: true })
  const files = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return new Map(await Promise.all(files.map(async (name) => [name, await readFile(name)] as const)))
}

const NOISE = randomBytes(2500).toString('base64')
const SECRETS = ['the secret of all secrets', NOISE.slice(100, 130)]

async function takeCheckpoint(storage: Storage, index: number): Promise<void> {
  const slices = Array.from({ length: 6 }, (_, at) => Buffer.from(`slice ${at} ${SECRETS.join(' ')} `.repeat(4000)))
  await takeSample(storage, index, slices)
}

/** Ten entries, a promise, a cut, decided, on top of `last`; gives the new last index. */
async function work(storage: Storage, last: number, ballot: number): Promise<number> {
  const text = ` ${SECRETS[0]!} `.repeat(50)
  await sample.written(storage, sample.appended(last + 1, last + 4, text), sample.appended(last + 5, last + 5, NOISE))
  await sample.written(storage, sample.promised(ballot))
  await sample.written(storage, sample.acceptSync(ballot, last + 4, last + 9, text), sample.decided(last + 7))
  await sample.written(storage, sample.appended(last + 10, last + 10, 'small'))
  return last + 10
}

const expected = (last: number): number[] => Array.from({ length: last }, (_, at) => at + 1)

describe('what is written comes back', () => {
  test('over every change of compression and key, and the newest setting holds for what is new', async () => {
    const settings: (readonly ['none' | 'zstd', string | null])[] = [
      ['none', null],
      ['none', 'one'],
      ['zstd', 'two'],
      ['zstd', null],
      ['zstd', 'three'],
      ['none', null],
    ]
    let last = 0
    for (const [at, [compression, key]] of settings.entries()) {
      const storage = await open({ compression, keys: ring(key) })
      expect(storage.recovered.entries.map(({ index }) => index)).toEqual(expected(last))
      if (at === 0) await sample.written(storage, sample.genesis(3))
      last = await work(storage, last, at + 1)
      await storage.close()
    }
    const storage = await open({ keys: ring(null) })
    const { entries } = storage.recovered
    expect(entries.map(({ index }) => index)).toEqual(expected(last))
    const texts = sample.shown({ entries }).filter((text) => text.includes(SECRETS[0]!))
    // Of each ten, the last is small; the one of noise was cut off.
    expect(texts).toHaveLength(settings.length * 9)
    expect(storage.recovered.state.promise.n).toBe(settings.length)
    await storage.close()
  })

  test('checkpoints as well, each with the key that it was written with', async () => {
    const read = async (storage: Storage): Promise<number> => {
      let bytes = 0
      for await (const slice of storage.readCheckpoint()) {
        expect(slice.toString()).toContain(SECRETS[1])
        bytes += slice.length
      }
      return bytes
    }
    for (const [at, key] of [null, 'one', 'two', null].entries()) {
      const storage = await open({ keys: ring(key) })
      if (at === 0) await sample.written(storage, sample.genesis(3), sample.appended(1, 20), sample.decided(20))
      else expect(storage.checkpoint!.index).toBe(at * 3)
      await takeCheckpoint(storage, at * 3 + 3)
      expect(await read(storage)).toBe(storage.checkpoint!.bytes)
      expect(storage.checkpoint!.cipher?.need.keyId ?? null).toBe(key)
      await storage.close()
    }
  })

  test('a log is smaller with compression, and no frame is larger for it', async () => {
    const sizes: number[] = []
    for (const compression of ['none', 'zstd'] as const) {
      const storage = await open({ compression, segmentBytes: 1024 * 1024 }, compression)
      await sample.written(storage, sample.genesis(3))
      const before = storage.status().bytes
      for (let index = 1; index <= 5; index++) await sample.written(storage, sample.appended(index, index, NOISE))
      const noise = storage.status().bytes - before
      for (let index = 6; index <= 25; index++) {
        await sample.written(storage, sample.appended(index, index, SECRETS[0]!.repeat(100)))
      }
      sizes.push(noise, storage.status().bytes - before - noise)
      await storage.close()
    }
    // Base64 of noise is three quarters of its length for zstd, too.
    expect(sizes[2]).toBeLessThanOrEqual(sizes[0]!)
    expect(sizes[3]).toBeLessThan(sizes[1]! / 5)
  })

  test('large frames go through the thread pool, and come back', async () => {
    const storage = await open({ compression: 'zstd', keys: ring('one'), segmentBytes: 1024 * 1024 })
    const text = SECRETS[0]!.repeat(20_000)
    await sample.written(storage, sample.genesis(3), sample.appended(1, 3, text))
    await sample.written(storage, sample.appended(4, 4))
    await storage.close()
    const again = await open({ keys: ring(null) })
    expect(sample.shown(again.recovered)).toEqual(
      sample.shown({ entries: [...sample.entries(1, 3, text), ...sample.entries(4, 4)] }),
    )
    await again.close()
  })
})

describe('nothing is in the clear', () => {
  const leaks = async (change: Partial<StorageOptions>, name: string): Promise<string[]> => {
    const storage = await open(change, name)
    await sample.written(storage, sample.genesis(3))
    let last = 0
    for (let round = 1; round <= 4; round++) last = await work(storage, last, round)
    await takeCheckpoint(storage, 12)
    await takeCheckpoint(storage, 24)
    // A peer's checkpoint, on its way.
    const peer = await open({}, `${name}-peer`)
    await sample.written(peer, sample.genesis(3), sample.appended(1, 99), sample.decided(99))
    await takeCheckpoint(peer, 99)
    const receiver = await storage.receive((await peer.manifestBytes())!)
    await receiver.put(0, (await peer.readChunk(logIndex(99), 0))!)
    const hash = peer.checkpoint!.hash
    await peer.close()
    await storage.close()
    const files = await filesIn(join(folder, name))
    expect([...files.keys()].join()).toMatch(/archive.*receiving|receiving.*archive/s)
    const wanted = [...SECRETS, 'payload 3', hash]
    return [...files].flatMap(([path, bytes]) => wanted.filter((text) => bytes.includes(text)).map(() => path))
  }

  test('without a key values are found in the files, so that the search is known to find them', async () => {
    const found = await leaks({}, 'clear')
    expect(found.some((path) => path.includes('.wal'))).toBe(true)
    expect(found.some((path) => path.includes('receiving-'))).toBe(true)
    expect(found.some((path) => path.includes('manifest'))).toBe(true)
  })

  test.each(['none', 'zstd'] as const)('with a key they are not, compression %s', async (compression) => {
    expect(await leaks({ compression, keys: ring('one') }, compression)).toEqual([])
  })
})

describe('keys', () => {
  const refused = async (code: ErrorCode, keys: () => KeyRing, ...words: string[]): Promise<void> => {
    const before = await filesIn(join(folder, 'node'))
    const attempt = Promise.resolve().then(() => open({ keys: keys() }))
    const error = await attempt.then(
      () => null,
      (thrown: unknown) => thrown,
    )
    expect(error).toMatchObject({ code })
    for (const word of words) expect((error as Error).message).toContain(word)
    expect(await filesIn(join(folder, 'node'))).toEqual(before)
  }

  test('one that is missing, no key, or another one is told with id and file, and nothing is written', async () => {
    let storage = await open({ keys: ring('one') })
    await sample.written(storage, sample.genesis(3), sample.appended(1, 5), sample.decided(5))
    await storage.close()
    const segment = (await readdir(join(folder, 'node/wal'))).find((name) => name.endsWith('.wal'))!
    const key = await readFile(join(keyFolder, 'one'))
    await refused('ENCRYPTION_KEY_MISSING', () => new KeyRing(null), 'one', segment)
    await refused('ENCRYPTION_KEY_MISSING', () => ring('four'), 'four', 'encryptionKeyId')
    await rm(join(keyFolder, 'one'))
    await refused('ENCRYPTION_KEY_MISSING', () => ring('two'), 'one', segment)
    for (const content of [Buffer.alloc(0), key.subarray(1), Buffer.concat([key, key]), 'hexadecimal it is not']) {
      await writeFile(join(keyFolder, 'one'), content)
      await refused('ENCRYPTION_KEY_INVALID', () => ring('two'), 'one', segment)
    }
    await writeFile(join(keyFolder, 'one'), randomBytes(32))
    await refused('ENCRYPTION_KEY_WRONG', () => ring('two'), 'one', segment)
    // Once nothing in the log needs it, a checkpoint may.
    await writeFile(join(keyFolder, 'one'), key)
    storage = await open({ keys: ring('one') })
    await takeCheckpoint(storage, 5)
    expect(storage.checkpoint!.cipher!.need.keyId).toBe('one')
    await storage.close()
    await rm(join(keyFolder, 'one'))
    await refused('ENCRYPTION_KEY_MISSING', () => ring('two'), 'one')
  })

  test('an id is a name, and not a path', () => {
    for (const id of ['../one', '', '.one', 'a/b']) expect(() => ring(id)).toThrow('ENCRYPTION_KEY_INVALID')
  })

  test('a checkpoint goes to a node with another key, resumed after a restart', async () => {
    const storage = await open({ keys: ring('one') })
    await sample.written(storage, sample.genesis(3), sample.appended(1, 9), sample.decided(9))
    await takeCheckpoint(storage, 9)
    const manifest = (await storage.manifestBytes())!
    const chunk = async (number: number): Promise<Buffer> => (await storage.readChunk(logIndex(9), number))!
    const openPeer = (key: string | null): Promise<Storage> =>
      open({ keys: ring(key), random: () => volumeId('b'.repeat(32)) }, 'peer')
    let peer = await openPeer('two')
    let receiver = await peer.receive(manifest)
    const count = receiver.missing().length
    expect(count).toBeGreaterThan(1)
    await receiver.put(0, await chunk(0))
    await expect(receiver.put(1, await chunk(0))).rejects.toThrow('CHUNK_DAMAGED')
    await peer.close()
    peer = await openPeer('two')
    receiver = await peer.receive(manifest)
    expect(receiver.missing()).toHaveLength(count - 1)
    await peer.close()
    // The key changed on the way: begun anew, under the new one.
    peer = await openPeer('three')
    receiver = await peer.receive(manifest)
    for (const number of receiver.missing()) await receiver.put(number, await chunk(number))
    await receiver.commit()
    expect(peer.checkpoint!.cipher!.need.keyId).toBe('three')
    expect(peer.checkpoint!.hash).toBe(storage.checkpoint!.hash)
    expect((await peer.manifestBytes())!.equals(manifest)).toBe(true)
    await peer.close()
    await storage.close()
  })

  test('a piece opens only in its place, with its header, whole', () => {
    const cipher = FileCipher.create(ring('one'), 'segment', 'path')!
    const piece = Buffer.from('some plaintext')
    const tag = cipher.seal(piece, 512, Buffer.from('header'))
    const whole = Buffer.concat([piece, tag])
    const again = FileCipher.open(ring(null), cipher.need, 'segment', 'path')
    expect(again.open(whole, 512, Buffer.from('header'))!.toString()).toBe('some plaintext')
    expect(again.open(whole, 544, Buffer.from('header'))).toBeNull()
    expect(again.open(whole, 512, Buffer.from('Header'))).toBeNull()
    whole[3]! ^= 1
    expect(again.open(whole, 512, Buffer.from('header'))).toBeNull()
    expect(() => FileCipher.open(ring(null), cipher.need, 'checkpoint', 'path')).toThrow('ENCRYPTION_KEY_WRONG')
  })
})

const packed = (): Partial<StorageOptions> => ({ compression: 'zstd', keys: ring('one') })

describe('damage', () => {
  /** What becomes of the log after each damage to a file; never a thing that is not true. */
  async function outcomes(damages: (path: string, bytes: Buffer) => Generator<Buffer>): Promise<Map<string, number>> {
    const { disk, progress } = await prepared(DAMAGED_HISTORY, packed())
    const truth = progress.models.at(-1)!
    const seen = new Map<string, number>()
    const segments = disk.paths().filter((path) => path.endsWith('.wal'))
    for (const path of segments) {
      for (const damaged of damages(path, disk.peek(path)!)) {
        const copy = disk.survivor(() => 0)
        copy.poke(path, damaged)
        const outcome = await opened(copy, packed())
        if (outcome.kind === 'recovered') expect(untrue(outcome.recovered, truth, path === segments.at(-1))).toBeNull()
        const name = outcome.kind === 'refused' ? outcome.code : outcome.recovered.doubtfulFrom ? 'doubtful' : 'whole'
        seen.set(name, (seen.get(name) ?? 0) + 1)
      }
    }
    return seen
  }

  test('flipped bits in what is sealed are rot, as in the clear, and never a key that is wrong', async () => {
    const seen = await outcomes(function* (_path, bytes) {
      for (let at = 3; at < bytes.length; at += 37) {
        const copy = Buffer.from(bytes)
        copy[at]! ^= 1 << (at % 8)
        yield copy
      }
    })
    expect([...seen.keys()].filter((name) => name.startsWith('ENCRYPTION'))).toEqual([])
    expect(seen.get('doubtful')).toBeGreaterThan(9)
  })

  test('sectors that are lost are torn at the end of the newest segment, and rot elsewhere', async () => {
    const seen = await outcomes(function* (_path, bytes) {
      for (let at = 0; at < bytes.length; at += 512) {
        const copy = Buffer.from(bytes)
        yield copy.fill(0, at, at + 512)
      }
    })
    expect(seen.get('whole')).toBeGreaterThan(0)
    expect(seen.get('doubtful')).toBeGreaterThan(0)
  })
})

describe('crashes', () => {
  test.each(['a suffix is replaced, twice', 'bursts and rolling segments', 'large frames over many sectors'])(
    'every step is a crash point: %s',
    async (name) => {
      const { points, starts } = await historySweep({ steps: HISTORIES[name]!.steps, options: packed() })
      expect(points).toBeGreaterThan(9)
      expect(starts).toBeGreaterThan(points)
    },
  )

  test('no two segments have a salt in common, and no place in a segment is written twice', async () => {
    const salts: string[] = []
    const { steps } = HISTORIES['bursts and rolling segments']!
    for (let at = 1; ; at++) {
      const disk = new SimulatedDisk()
      disk.crashAt = at
      const finished = await runHistory(disk, steps, newProgress(), packed()).then(
        () => true,
        () => false,
      )
      const survivor = disk.survivor(() => 1)
      const before = segmentsOf(survivor)
      await (await openStorage(sample.options(survivor, '/data', { segmentBytes: 4096, ...packed() }))).close()
      const after = segmentsOf(survivor)
      for (const [path, bytes] of before) {
        const now = after.get(path)
        // What was written stays as it was, up to the index behind it: the start writes to a segment of its own.
        if (now !== undefined) {
          const common = Math.min(bytes.length, bytesBeforeIndex(now).length)
          expect(now.subarray(0, common).equals(bytes.subarray(0, common))).toBe(true)
        }
      }
      for (const bytes of new Map([...before, ...after]).values()) salts.push(saltOf(bytes))
      if (finished) break
    }
    expect(salts.length).toBeGreaterThan(20)
    expect(new Set(salts).size).toBe(salts.length)
  })
})

const segmentsOf = (disk: SimulatedDisk): Map<string, Buffer> =>
  new Map(disk.paths().flatMap((path) => (path.endsWith('.wal') ? [[path, disk.peek(path)!] as const] : [])))

const bytesBeforeIndex = (bytes: Buffer): Buffer => {
  const at = bytes.indexOf('LOKIINDX')
  return at < 0 ? bytes : bytes.subarray(0, at)
}

const saltOf = (bytes: Buffer): string => {
  const at = bytes.indexOf('one')
  return bytes.toString('hex', at + 3, at + 19)
}
