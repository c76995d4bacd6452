/**
 * Sweeps over what is sealed and what is indexed, without a test framework: `test/mutations` runs them against the
 * storage with one safety line taken out.
 */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KeyRing } from '../../src/storage/keys.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { type Storage, openStorage } from '../../src/storage/storage.ts'
import { logIndex, volumeId } from '../../src/vocabulary.ts'
import { readCheckpoint, readLog } from './format-reader.ts'
import { simulated, writeSample } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

const KEYS = { one: Buffer.alloc(32, 1), other: Buffer.alloc(32, 2) }
const SECRET = 'a secret that is long enough'

async function inFolder(act: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'packing-sweep-'))
  try {
    await writeFile(join(folder, 'one'), KEYS.one)
    await act(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const open = (folder: string, name = 'node'): Promise<Storage> =>
  openStorage(
    sample.options(new RealDisk(), join(folder, name), {
      segmentBytes: 4096,
      keys: new KeyRing(folder, 'one'),
      ...(name === 'node' ? {} : { random: () => volumeId('b'.repeat(32)) }),
    }),
  )

const SLICES = [Buffer.from(SECRET), Buffer.from('slice')]

/** A node with ten entries and two checkpoints, and another one on its way to the newer of them. */
async function sealed(folder: string): Promise<void> {
  const storage = await open(folder)
  await sample.written(storage, sample.genesis(3), sample.promised(1))
  for (let index = 1; index <= 10; index++) {
    await sample.written(storage, sample.appended(index, index, ` ${SECRET} `.repeat(30)))
  }
  await sample.written(storage, sample.decided(10), sample.promised(2))
  await writeSample(storage, 5, SLICES)
  await writeSample(storage, 10, SLICES)
  const peer = await open(folder, 'peer')
  const receiver = await peer.receive((await storage.manifestBytes())!)
  await receiver.put(0, (await storage.readChunk(logIndex(10), 0))!)
  await writeFile(join(folder, 'hash'), storage.checkpoint!.hash)
  await peer.close()
  await storage.close()
}

const volumesOf = async (folder: string): Promise<Map<string, Buffer>> => {
  const files = new Map<string, Buffer>()
  for (const name of ['node', 'peer']) {
    for (const entry of await readdir(join(folder, name), { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name)
      if (entry.isFile()) files.set(path, await readFile(path))
    }
  }
  return files
}

/** What is sealed is so as the page says, comes back, and is nowhere in the clear. */
export const sealedSweep = (): Promise<void> =>
  inFolder(async (folder) => {
    await sealed(folder)
    const hash = await readFile(join(folder, 'hash'), 'utf8')
    for (const [path, bytes] of await volumesOf(folder)) {
      for (const secret of [SECRET, hash]) assert.ok(!bytes.includes(secret), `${path} has '${secret}' in the clear`)
    }
    const log = readLog(join(folder, 'node/wal'), KEYS)
    assert.equal([...log.entries.values()].filter((text) => text.includes(SECRET)).length, 10)
    assert.ok(readCheckpoint(join(folder, 'node/checkpoints/0000000000000010'), KEYS).sealed)
    const storage = await open(folder)
    assert.equal(storage.recovered.entries.length, 10)
    await storage.close()
  })

/** No salt is used twice, by segments or checkpoints. */
export const saltSweep = (): Promise<void> =>
  inFolder(async (folder) => {
    await sealed(folder)
    const salts: string[] = []
    for (const [path, bytes] of await volumesOf(folder)) {
      const at = bytes.indexOf('one')
      if (at > 0 && /\.wal$|manifest$/.test(path)) salts.push(bytes.toString('hex', at + 3, at + 19))
    }
    assert.ok(salts.length > 4)
    assert.equal(new Set(salts).size, salts.length, 'a salt was used twice')
  })

/** Another key under the id is told as such, and nothing is written. */
export const wrongKeySweep = (): Promise<void> =>
  inFolder(async (folder) => {
    await sealed(folder)
    await writeFile(join(folder, 'one'), KEYS.other)
    const before = await volumesOf(folder)
    await assert.rejects(open(folder), /ENCRYPTION_KEY_WRONG/)
    assert.deepEqual(await volumesOf(folder), before)
  })

/** A start that reads by an index has what one has that reads all, whatever bit of the index is flipped. */
export async function indexSweep(): Promise<void> {
  const source = new SimulatedDisk()
  const start = async (disk: SimulatedDisk): Promise<Storage> => openStorage(simulated(disk, { segmentBytes: 300_000 }))
  const storage = await start(source)
  await sample.written(storage, sample.genesis(3))
  for (let index = 1; index <= 100; index++) {
    await sample.written(storage, sample.appended(index, index, ` ${index}`.repeat(700)))
  }
  await sample.written(storage, sample.decided(100))
  for (const index of [90, 95]) {
    await writeSample(storage, index, SLICES)
    await storage.truncateHead(logIndex(index))
  }
  await storage.close()
  await (await start(source)).close()
  const path = source.paths().find((each) => each.endsWith('.wal'))!
  const bytes = source.peek(path)!
  for (let at = bytes.indexOf('LOKIINDX'); at < bytes.length; at++) {
    const disk = source.survivor(() => 1)
    const flipped = Buffer.from(bytes)
    flipped[at]! ^= 1 << (at % 8)
    disk.poke(path, flipped)
    const again = await start(disk)
    const indices = again.recovered.entries.map(({ index }) => index)
    const wanted = Array.from({ length: 10 }, (_, place) => 91 + place)
    assert.deepEqual(indices, wanted, `byte ${at} of an index`)
    assert.equal(again.recovered.doubtfulFrom, null)
    await again.close()
  }
}
