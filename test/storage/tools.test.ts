/** The command line tools, the archive, and a checkpoint that cannot be written. */
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { checkpointTool } from '../../src/node/checkpoint-inspect.ts'
import { Archive } from '../../src/storage/archive.ts'
import { check, fsck } from '../../src/storage/fsck.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { segmentName } from '../../src/storage/segment.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { type DumpLine, waldump } from '../../src/storage/waldump.ts'
import { logIndex, timeline, volumeId } from '../../src/vocabulary.ts'
import { type Step, newProgress, runHistory, simulated, slicesOf, takeSample, writeSample } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tools-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const TOOLS: Readonly<Record<string, (argv: readonly string[]) => Promise<number>>> = {
  waldump,
  fsck,
  checkpoint: checkpointTool,
}

/** In this process: a new one for each would take most of the time. */
async function run(tool: string, ...argv: string[]): Promise<{ status: number; text: string }> {
  let text = ''
  const take = (chunk: string | Uint8Array): boolean => {
    text += String(chunk)
    return true
  }
  const spies = [process.stdout, process.stderr].map((stream) => vi.spyOn(stream, 'write').mockImplementation(take))
  try {
    const status = await TOOLS[tool]!(argv)
    return { status, text }
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
}

const lines = (text: string): unknown[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown)

const FIXTURE = join(import.meta.dirname, '../fixtures/data-encrypted')

async function prepare(): Promise<void> {
  const storage = await openStorage(sample.options(new RealDisk(), folder))
  await sample.written(storage, sample.genesis(3), sample.promised(3))
  await sample.written(storage, sample.acceptSync(3, 1, 5))
  await sample.written(storage, sample.appended(6, 8), sample.decided(4))
  await storage.close()
}

test('waldump shows every frame, and why reading stops', async () => {
  await prepare()
  const dumped = await run('waldump', folder, '--json')
  expect(dumped.status).toBe(0)
  const parsed = lines(dumped.text) as DumpLine[]
  expect(parsed.map(({ kind }) => kind)).toEqual(['segment', 'frame', 'frame', 'frame', 'frame', 'frame', 'stop'])
  const records = parsed.flatMap((line) => (line.kind === 'frame' ? line.records : []))
  expect(records).toContain('accept-sync 1.3.0.1 from 1: entries 1 to 5')
  expect(records).toContain('decided 4')
  expect(parsed.at(-1)).toMatchObject({ kind: 'stop', reason: 'nothing was written behind' })
  expect((await run('waldump', folder)).text).toContain('entries 6 to 8')
  expect((await run('waldump')).status).toBe(64)
  expect((await run('waldump', join(folder, 'nowhere'))).text).toContain('NOT_FOUND')
})

test('fsck tells whole, damaged and refused apart by its exit code', async () => {
  await prepare()
  expect(await run('fsck', folder)).toMatchObject({ status: 0 })
  expect((await run('fsck', join(folder, 'wal'), join(folder, 'checkpoints'))).status).toBe(0)
  const wal = join(folder, 'wal')
  const name = (await readdir(wal)).find((each) => each.endsWith('.wal'))!
  const bytes = await readFile(join(wal, name))
  const damage = async (text: string): Promise<void> => {
    const copy = Buffer.from(bytes)
    copy[copy.indexOf(text)]! ^= 1
    await writeFile(join(wal, name), copy)
  }
  await damage('payload 7')
  const doubtful = await run('fsck', folder)
  expect(doubtful.status).toBe(1)
  expect(doubtful.text).toContain('doubtful')
  await damage('payload 3')
  const decided = await run('fsck', folder, '--json')
  expect(decided.status).toBe(1)
  expect(decided.text).toContain('doubtful')
  expect(decided.text).toContain('"repair":"peer"')
  expect(await readFile(join(wal, name))).toHaveLength(bytes.length)
  expect(await run('fsck', join(folder, 'wal'))).toMatchObject({
    status: 64,
    text: expect.stringContaining('name both volumes'),
  })
  expect((await run('fsck')).status).toBe(64)
})

test('every tool has help, and wrong use is told with a code', async () => {
  for (const tool of [['waldump'], ['fsck'], ['checkpoint', 'inspect']] as [string, ...string[]][]) {
    const help = await run(...tool, '--help')
    expect(help).toMatchObject({ status: 0, text: expect.stringContaining(`usage: lokikv ${tool.join(' ')} <folder>`) })
    expect(help.text).toContain('Exit code')
    const unknown = await run(...tool, folder, '--jsno')
    expect(unknown).toMatchObject({ status: 64, text: expect.stringContaining('TOOL_USAGE: unknown option --jsno') })
    expect(await run(...tool, folder, '--keys')).toMatchObject({
      status: 64,
      text: expect.stringContaining('needs a value'),
    })
    expect((await run(...tool)).status).toBe(64)
  }
  expect((await run('checkpoint', 'inspcet', folder)).status).toBe(64)
  expect((await run('waldump', folder, '--from', 'x')).text).toContain('TOOL_USAGE: --from: an index expected')
})

test('waldump shows frames from an entry on, and opens what is sealed with the keys', async () => {
  const data = join(FIXTURE, 'data')
  const keys = join(FIXTURE, 'keys')
  const opened = await run('waldump', data, '--json', '--keys', keys, '--from', '45')
  expect(opened.status).toBe(0)
  const frames = (lines(opened.text) as DumpLine[]).flatMap((line) => (line.kind === 'frame' ? [line] : []))
  expect(frames[0]!.records).toEqual(['entries 45 to 45'])
  const closed = await run('waldump', data, '--json')
  expect(closed.status).toBe(0)
  const all = lines(closed.text) as DumpLine[]
  expect(all.every((line) => line.kind !== 'frame' || (line.sealed && line.records.length === 0))).toBe(true)
  expect(all.flatMap((line) => (line.kind === 'segment' ? [line.key] : []))).toEqual(
    expect.arrayContaining(['old', 'new']),
  )
  expect(await run('waldump', join(data, 'wal/archive'), '--keys', keys)).toMatchObject({
    status: 0,
    text: expect.stringContaining('entries 3 to 3'),
  })
  const other = await run('waldump', data, '--keys', folder)
  expect(other).toMatchObject({ status: 1, text: expect.stringContaining('ENCRYPTION_KEY_MISSING') })
})

test('checkpoint inspect counts and verifies', async () => {
  const keys = ['--keys', join(FIXTURE, 'keys')]
  const whole = await run('checkpoint', 'inspect', join(FIXTURE, 'data'), '--json', ...keys)
  expect(whole.status).toBe(0)
  expect(lines(whole.text)).toMatchObject([
    { index: 25, whole: true, key: 'old', chunks: 1, sessions: 2 },
    {
      index: 45,
      whole: true,
      key: 'new',
      configuration: { id: 2, start: 40, voters: [1, 2, 3] },
      collections: { '': { keys: 15, types: { string: 10, hash: 2, set: 1, list: 2 } } },
    },
  ])
  expect((await run('checkpoint', 'inspect', join(FIXTURE, 'data'), ...keys)).text).toContain("collection '': 15 keys")
  expect(await run('checkpoint', 'inspect', join(FIXTURE, 'data'))).toMatchObject({
    status: 1,
    text: expect.stringContaining('ENCRYPTION_KEY_MISSING'),
  })
  await cp(join(FIXTURE, 'data'), folder, { recursive: true })
  const path = join(folder, 'checkpoints/0000000000000045/data')
  const bytes = await readFile(path)
  bytes[99]! ^= 1
  await writeFile(path, bytes)
  const damaged = await run('checkpoint', 'inspect', folder, '--json', ...keys)
  expect(damaged.status).toBe(1)
  expect(lines(damaged.text)).toMatchObject([
    { whole: true },
    { whole: false, reason: expect.stringContaining('chunk 0 is damaged') as unknown },
  ])
  expect((await run('checkpoint', 'inspect', join(folder, 'wal'))).text).toContain('there is no checkpoint')
})

test('fsck opens what is sealed, and tells rot in an index from rot in frames', async () => {
  const keys = ['--keys', join(FIXTURE, 'keys')]
  await cp(join(FIXTURE, 'data'), folder, { recursive: true })
  expect(await run('fsck', folder, ...keys)).toMatchObject({ status: 0 })
  expect(await run('fsck', folder)).toMatchObject({
    status: 2,
    text: expect.stringContaining('ENCRYPTION_KEY_MISSING'),
  })
  const name = (await readdir(join(folder, 'wal'))).find((each) => each.endsWith('.wal'))!
  const bytes = await readFile(join(folder, 'wal', name))
  const flipped = (at: number): Buffer => {
    const copy = Buffer.from(bytes)
    copy[at]! ^= 1
    return copy
  }
  await writeFile(join(folder, 'wal', name), flipped(bytes.indexOf('LOKIINDX') + 20))
  expect(await run('fsck', folder, ...keys)).toMatchObject({
    status: 1,
    text: expect.stringMatching(/its index is damaged; a start writes it again/),
  })
  await writeFile(join(folder, 'wal', name), flipped(600))
  expect((await run('fsck', folder, ...keys)).text).toContain('a frame is damaged or missing')
  // A kill before the zeros behind the index were cut off.
  await writeFile(join(folder, 'wal', name), Buffer.concat([bytes, Buffer.alloc(5000)]))
  expect(await run('fsck', folder, ...keys)).toMatchObject({ status: 0 })
})

test('fsck refuses what a start refuses: the meta of another volume, an identity without a log', async () => {
  const identity: Step[] = [{ kind: 'identity' }]
  const foreign = new SimulatedDisk()
  await runHistory(foreign, identity, newProgress(), { random: () => volumeId('b'.repeat(32)) })
  const changes: ((disk: SimulatedDisk) => unknown)[] = [
    (disk) => disk.poke('/data/wal/meta', foreign.peek('/data/wal/meta')),
    (disk) => disk.paths().map((path) => path.endsWith('.wal') && disk.poke(path, null)),
  ]
  for (const [at, change] of changes.entries()) {
    const disk = new SimulatedDisk()
    await runHistory(disk, identity, newProgress())
    change(disk)
    const code = ['VOLUME_MISMATCH', 'LOG_DAMAGED'][at]!
    expect((await check(disk, '/data/wal', '/data/checkpoints')).at(-1)).toMatchObject({ level: 'refused' })
    await expect(openStorage(simulated(disk))).rejects.toMatchObject({ code })
  }
})

test('segments that are no longer needed go to the archive, where one is kept', async () => {
  const disk = new SimulatedDisk()
  const storage = await openStorage(simulated(disk, { archive: true }))
  await sample.written(storage, sample.genesis(3))
  for (let index = 1; index <= 40; index++)
    await sample.written(storage, sample.appended(index, index, 'x'.repeat(900)))
  await sample.written(storage, sample.decided(40), sample.promised(1))
  const before = disk.paths().filter((path) => path.endsWith('.wal'))
  for (const index of [30, 35]) {
    await takeSample(storage, index)
  }
  const archived = disk.paths().filter((path) => path.startsWith('/data/wal/archive/'))
  expect(archived.length).toBeGreaterThan(5)
  const after = disk.paths().filter((path) => path.endsWith('.wal'))
  expect(after.map((path) => path.replace('archive/', '')).sort()).toEqual(before)
  await storage.close()
  const { timeline } = await openStorage(simulated(disk, { archive: true }))
  expect(timeline).toBeGreaterThan(1)
})

test('an archive with a bound keeps the newest segments only', async () => {
  const disk = new SimulatedDisk()
  const storage = await openStorage(simulated(disk, { archive: true, archiveSegments: 2 }))
  await sample.written(storage, sample.genesis(3))
  for (let index = 1; index <= 40; index++)
    await sample.written(storage, sample.appended(index, index, 'x'.repeat(900)))
  await sample.written(storage, sample.decided(40), sample.promised(1))
  const before = disk.paths().filter((path) => path.endsWith('.wal'))
  for (const index of [30, 35]) {
    await takeSample(storage, index)
  }
  const gone = before.filter((path) => !disk.paths().includes(path))
  expect(gone.length).toBeGreaterThan(5)
  const archived = disk.paths().filter((path) => path.startsWith('/data/wal/archive/'))
  expect(archived.map((path) => path.replace('archive/', ''))).toEqual(gone.slice(-2))
  await storage.close()
})

test('what two want out of the archive at once goes without an error, and what is gone already, too', async () => {
  const disk = new SimulatedDisk()
  const names = [1, 2, 3, 4, 5].map((at) => segmentName(timeline(1), logIndex(at)))
  await disk.makeDirectory('/wal/archive')
  for (const name of names.slice(0, 3)) disk.poke(`/wal/archive/${name}`, Buffer.from('archived'))
  for (const name of names.slice(4)) disk.poke(`/wal/${name}`, Buffer.from('in the log'))
  const archive = new Archive(disk, '/wal', true, 2)
  // A disk that runs full while the log is let go of; of what is let go of, a failed attempt has moved some.
  await Promise.all([archive.prune(true), archive.take(names.slice(3), () => true, true), archive.prune(true)])
  expect(disk.paths().filter((path) => path.endsWith('.wal'))).toEqual([])
})

test('where the log cannot be let go of that is told, the log goes on, and the next attempt does it', async () => {
  const disk = new SimulatedDisk()
  const storage = await openStorage(simulated(disk, { archive: true }))
  await sample.written(storage, sample.genesis(3))
  for (let index = 1; index <= 20; index++)
    await sample.written(storage, sample.appended(index, index, 'x'.repeat(900)))
  await sample.written(storage, sample.decided(20), sample.promised(1))
  const inLog = (): string[] => disk.paths().filter((path) => /wal\/\d.*\.wal$/.test(path))
  const take = async (index: number): Promise<void> => {
    await takeSample(storage, index)
  }
  await take(5)
  const before = inLog()
  let failures = 0
  disk.onStep = (step) => {
    if (step.startsWith('rename') && step.includes('/archive/') && ++failures === 2) disk.failAt = disk.steps
  }
  await expect(take(10)).rejects.toMatchObject({ code: 'CHECKPOINT_WRITE_FAILED' })
  expect(storage.status().lastError).toContain('EIO')
  await sample.written(storage, sample.appended(21, 21))
  await take(15)
  const gone = before.filter((path) => !inLog().includes(path))
  expect(gone.length).toBeGreaterThan(2)
  const archived = disk.paths().filter((path) => path.startsWith('/data/wal/archive/'))
  expect(archived.map((path) => path.replace('archive/', ''))).toEqual(gone)
  await storage.close()
  expect((await openStorage(simulated(disk, { archive: true }))).recovered.entries.at(-1)!.index).toBe(21)
})

test('a checkpoint that cannot be written is told, the machine is drained, and the log goes on', async () => {
  const disk = new SimulatedDisk()
  const storage = await openStorage(simulated(disk))
  await sample.written(storage, sample.genesis(3), sample.appended(1, 3))
  disk.onStep = (step) => {
    if (step.startsWith('write /data/checkpoints/writing/data')) disk.failAt = disk.steps
  }
  const left = slicesOf(2)
  const attempt = storage.writeCheckpoint(
    { index: logIndex(2), configuration: sample.configuration(1, 3), start: logIndex(0) },
    () => left.shift() ?? null,
    () => Promise.resolve(),
  )
  await expect(attempt).rejects.toMatchObject({ code: 'CHECKPOINT_WRITE_FAILED' })
  expect(left).toHaveLength(0)
  expect(storage.status().lastError).toContain('EIO')
  // It may be the room that was missing: nothing of it is left.
  expect(disk.paths().filter((path) => path.includes('writing'))).toEqual([])
  await sample.written(storage, sample.appended(4, 4))
  await storage.close()
  const again = await openStorage(simulated(disk))
  expect(again.checkpoint).toBeNull()
  expect(again.recovered.entries).toHaveLength(4)
})

test('a damaged chunk is reported and never served', async () => {
  const disk = new SimulatedDisk()
  const storage = await openStorage(simulated(disk))
  await sample.written(storage, sample.genesis(3), sample.appended(1, 3))
  await writeSample(storage, 2)
  expect(await storage.readChunk(logIndex(2), 0)).toHaveLength(storage.checkpoint!.storedBytes)
  expect(await storage.readChunk(logIndex(2), 1)).toBeNull()
  expect(await storage.readChunk(logIndex(1), 0)).toBeNull()
  const path = disk.paths().find((name) => name.endsWith('/data'))!
  const bytes = disk.peek(path)!
  bytes[5]! ^= 1
  disk.poke(path, bytes)
  expect(await storage.readChunk(logIndex(2), 0)).toBeNull()
  expect(storage.status().lastError).toContain('CHECKPOINT_DAMAGED')
})
