/**
 * Writes past the page cache: their blocks, for any appends; and the real disk that makes them, where the file system
 * takes them and where it refuses at any moment. What a crash leaves of them is swept in crash.test.ts ("in whole blocks")
 * and by the simulations of whole nodes.
 */
import * as fs from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Kernel } from '../../src/storage/direct-writes.ts'
import type { DiskFile } from '../../src/storage/disk.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { BLOCK_BYTES, WholeBlocks } from '../../src/storage/whole-blocks.ts'
import { logIndex } from '../../src/vocabulary.ts'
import * as sample from './samples.ts'
import { random } from './simulated-disk.ts'

const bytesOf = (next: () => number, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => 1 + Math.floor(next() * 255)))

describe('appends in whole blocks', () => {
  const seeds = [1, 2, 3, 4, 5, 6, 7, 8]
  test.each(seeds)('leave what was appended, and zeros, seed %i', (seed) => {
    const next = random(seed)
    const blocks = new WholeBlocks()
    const file = Buffer.alloc(64 * BLOCK_BYTES)
    const wanted = Buffer.alloc(file.length)
    let offset = 0
    let widened = 0
    while (offset < file.length - 8 * BLOCK_BYTES) {
      const bytes = bytesOf(next, next() * (next() < 0.5 ? 300 : 12_000))
      const memory = Buffer.alloc(next() < 0.2 ? BLOCK_BYTES : 8 * BLOCK_BYTES, 0xff)
      const found = blocks.append(bytes, offset, memory)
      if (found === null) {
        expect(memory.every((byte) => byte === 0xff)).toBe(true)
        bytes.copy(file, offset)
      } else {
        widened++
        expect([found.offset % BLOCK_BYTES, found.length % BLOCK_BYTES]).toEqual([0, 0])
        expect(found.offset + found.length - offset - bytes.length).toBeLessThan(BLOCK_BYTES)
        expect(memory.subarray(found.length).every((byte) => byte === 0xff)).toBe(true)
        memory.copy(file, found.offset, 0, found.length)
      }
      bytes.copy(wanted, offset)
      offset += bytes.length
      expect(file.equals(wanted)).toBe(true)
    }
    expect(widened).toBeGreaterThan(5)
  })

  test('are not widened any more once one is not behind the one before', () => {
    for (const offset of [0, 99, 101, BLOCK_BYTES]) {
      const blocks = new WholeBlocks()
      const memory = Buffer.alloc(4 * BLOCK_BYTES)
      expect(blocks.append(Buffer.alloc(100, 1), 0, memory)).not.toBeNull()
      expect(blocks.append(Buffer.alloc(100, 2), offset, memory)).toBeNull()
      expect(blocks.append(Buffer.alloc(100, 3), offset + 100, memory)).toBeNull()
    }
  })
})

describe('the real disk', () => {
  let folder = ''
  let isDirect = false
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'direct-'))
    const file = await new RealDisk().open(`${folder}/probe`, 'create-durable')
    await file.write(Buffer.from('header'), 0)
    isDirect = file.isDirect === true
    await file.close()
    if (!isDirect) console.log(`${folder} is not written past the page cache: what is tested here is the old way`)
  })
  afterAll(() => rm(folder, { recursive: true }))

  async function contentOf(path: string, wanted: Buffer): Promise<string> {
    const file = await new RealDisk().open(path, 'read')
    const found = await file.read(0, 64 * 1024 * 1024)
    await file.close()
    // Behind what was appended: zeros, or nothing.
    if (!found.subarray(0, wanted.length).equals(wanted)) return 'something else'
    return found.subarray(wanted.length).every((byte) => byte === 0) ? 'as wanted' : 'not zeros behind it'
  }

  async function append(file: DiskFile, next: () => number, bytes: Buffer, offset: number): Promise<void> {
    const way = next()
    if (way < 0.4 && bytes.length < 300_000) file.writeNow!(bytes, offset)
    else if (way < 0.7) await file.write(bytes, offset)
    else await file.writePieces!([bytes.subarray(0, bytes.length / 3), bytes.subarray(bytes.length / 3)], offset)
  }

  /** Appends on a real disk whose kernel refuses, or takes a part only, as `refuseAt` and `shortens` say. */
  async function appends(seed: number, path: string, kernel?: Kernel): Promise<boolean> {
    const next = random(seed)
    const disk = new RealDisk(kernel)
    const file = await disk.open(path, 'create-durable')
    const parts: Buffer[] = []
    let offset = 0
    if (next() < 0.7) for (let at = 0; at < 3; at++) await file.writeZeros(at * 256 * 1024, 256 * 1024)
    for (let count = 0; count < 25; count++) {
      const kind = next()
      const bytes = Buffer.alloc(Math.ceil(next() * (kind < 0.6 ? 700 : kind < 0.93 ? 20_000 : 2_500_000)), 1 + count)
      await append(file, next, bytes, offset)
      parts.push(bytes)
      offset += bytes.length
      // A reader beside it makes pages of what is on the disk by now.
      if (next() < 0.3) expect(await contentOf(path, Buffer.concat(parts))).toBe('as wanted')
    }
    const goesPast = file.isDirect === true
    await file.close()
    expect(await contentOf(path, Buffer.concat(parts))).toBe('as wanted')
    return goesPast
  }

  test.each([1, 2, 3, 4, 5, 6])('has what was appended, past the page cache or not, seed %i', async (seed) => {
    expect(await appends(seed, `${folder}/plain-${seed}`)).toBe(isDirect)
  })

  const refusal = (code: string): Error => Object.assign(new Error(code), { code })

  test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])(
    'goes on through the page cache where it is refused, at any write and behind a part of one, seed %i',
    async (seed) => {
      const next = random(seed ^ 0xd1)
      let left = Math.floor(next() * 15)
      const refuses = (): boolean => left-- <= 0
      const part = (length: number): number => (next() < 0.3 ? Math.ceil(length * next()) : length)
      let calls = 0
      const kernel: Kernel = {
        writeSync: (descriptor, from, at, length, place) => {
          calls++
          if (refuses()) throw refusal('EINVAL')
          return fs.writeSync(descriptor, from, at, part(length), place)
        },
        write: (descriptor, from, at, length, place, done) => {
          calls++
          if (refuses()) done(refusal('EOPNOTSUPP'), 0)
          else fs.write(descriptor, from, at, part(length), place, done)
        },
      }
      expect(await appends(seed, `${folder}/refused-${seed}`, kernel)).toBe(false)
      if (isDirect) expect(calls).toBeGreaterThan(0)
    },
  )

  /** A kernel whose writes past the page cache end as `act` says, once `from` of them have been made. */
  const kernelThat = (act: () => number, from: number): Kernel => {
    let left = from
    return {
      writeSync: (...call) => (left-- > 0 ? fs.writeSync(...call) : act()),
      write: (descriptor, bytes, at, length, place, done) => {
        if (left-- > 0) {
          fs.write(descriptor, bytes, at, length, place, done)
          return
        }
        try {
          act()
          done(null, length)
        } catch (error) {
          done(error as Error, 0)
        }
      },
    }
  }

  test('an error that is no refusal is the error of the write', async ({ skip }) => {
    skip(!isDirect, 'the file system of the folder does not take such writes')
    const fails = (): never => {
      throw refusal('EIO')
    }
    // The first two are those that look whether it is taken.
    const file = await new RealDisk(kernelThat(fails, 2)).open(`${folder}/broken`, 'create-durable')
    expect(file.isDirect).toBe(true)
    await expect(file.write(Buffer.alloc(100), 0)).rejects.toThrow('EIO')
    expect(() => file.writeNow!(Buffer.alloc(100), 100)).toThrow('EIO')
    await expect(file.writeZeros(0, BLOCK_BYTES)).rejects.toThrow('EIO')
    await file.close()
  })

  test.each([0, 1])('a page cache that does not see what goes past it is found out, write %i', async (from) => {
    const path = `${folder}/unseen-${from}`
    const file = await new RealDisk(kernelThat(() => BLOCK_BYTES, from)).open(path, 'create-durable')
    expect(file.isDirect).toBe(false)
    await file.write(Buffer.from('header'), 0)
    await file.close()
    expect(await contentOf(path, Buffer.from('header'))).toBe('as wanted')
    expect(fs.readdirSync(folder)).not.toContain('probe.wal.tmp')
  })

  test('two files that are written at once do not share what is in memory', async () => {
    const disk = new RealDisk()
    const names = ['one', 'two', 'three']
    const files = await Promise.all(names.map((name) => disk.open(`${folder}/${name}`, 'create-durable')))
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        files.map((file, at) => {
          const bytes = Buffer.alloc(5000, 10 * at + round)
          if (at < 2) return file.write(bytes, round * 5000)
          file.writeNow!(bytes, round * 5000)
          return Promise.resolve()
        }),
      )
    }
    for (const [at, name] of names.entries()) {
      const rounds = Array.from({ length: 20 }, (_, round) => Buffer.alloc(5000, 10 * at + round))
      await files[at]!.close()
      expect(await contentOf(`${folder}/${name}`, Buffer.concat(rounds))).toBe('as wanted')
    }
  })

  test.each(['pool', 'inline'] as const)('holds a log that is read back and comes back, %s', async (sync) => {
    const said: object[] = []
    const log = (message: string, fields: object): number => (message === 'storage opened' ? said.push(fields) : 0)
    const options = sample.options(new RealDisk(), `${folder}/log-${sync}`, { segmentBytes: 64 * 1024, sync, log })
    const storage = await openStorage(options)
    expect(said).toMatchObject([{ direct: isDirect }])
    await sample.written(storage, sample.genesis(3))
    for (let index = 1; index <= 300; index++) {
      await sample.written(storage, sample.appended(index, index, '.'.repeat((index * 37) % 3000)))
      if (index % 20 !== 0) continue
      const read = await storage.readDecided({ from: logIndex(index - 5), upTo: logIndex(index), mostBytes: 1 << 20 })
      expect(read.map((entry) => entry.index)).toContain(index - 5)
    }
    expect(storage.status().segments).toBeGreaterThan(4)
    await storage.close()
    const again = await openStorage(options)
    expect(again.recovered.doubtfulFrom).toBeNull()
    expect(again.recovered.entries).toEqual(
      Array.from({ length: 300 }, (_, at) => sample.entries(at + 1, at + 1, '.'.repeat(((at + 1) * 37) % 3000))[0]),
    )
    await again.close()
  })
})
