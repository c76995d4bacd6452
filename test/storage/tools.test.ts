/** The command line tools, the archive, and a checkpoint that cannot be written. */
import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { openStorage } from '../../src/storage/storage.ts'
import type { DumpLine } from '../../src/storage/waldump.ts'
import { logIndex } from '../../src/vocabulary.ts'
import { simulated, slicesOf } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tools-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

function run(tool: 'waldump' | 'fsck', ...argv: string[]): { status: number | null; text: string } {
  const code = `import { ${tool} } from './src/storage/${tool}.ts'; process.exitCode = await ${tool}(process.argv.slice(1))`
  const result = spawnSync(process.execPath, ['--input-type=module', '-e', code, '--', ...argv], { encoding: 'utf8' })
  return { status: result.status, text: result.stdout + result.stderr }
}

async function prepare(): Promise<void> {
  const storage = await openStorage(sample.options(new RealDisk(), folder))
  await sample.written(storage, sample.genesis(3), sample.promised(3))
  await sample.written(storage, sample.acceptSync(3, 1, 5))
  await sample.written(storage, sample.appended(6, 8), sample.decided(4))
  await storage.close()
}

test('waldump shows every frame, and why reading stops', async () => {
  await prepare()
  const lines = run('waldump', folder, '--json')
  expect(lines.status).toBe(0)
  const parsed = lines.text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as DumpLine)
  expect(parsed.map(({ kind }) => kind)).toEqual(['segment', 'frame', 'frame', 'frame', 'frame', 'frame', 'stop'])
  const records = parsed.flatMap((line) => (line.kind === 'frame' ? line.records : []))
  expect(records).toContain('accept-sync 1.3.0.1 from 1: entries 1 to 5')
  expect(records).toContain('decided 4')
  expect(parsed.at(-1)).toMatchObject({ kind: 'stop', reason: 'nothing was written behind' })
  expect(run('waldump', folder).text).toContain('entries 6 to 8')
  expect(run('waldump').status).toBe(64)
  expect(run('waldump', join(folder, 'nowhere')).text).toContain('NOT_FOUND')
})

test('fsck tells whole, damaged and refused apart by its exit code', async () => {
  await prepare()
  expect(run('fsck', folder)).toMatchObject({ status: 0 })
  expect(run('fsck', join(folder, 'wal'), join(folder, 'checkpoints')).status).toBe(0)
  const wal = join(folder, 'wal')
  const name = (await readdir(wal)).find((each) => each.endsWith('.wal'))!
  const bytes = await readFile(join(wal, name))
  const damage = async (text: string): Promise<void> => {
    const copy = Buffer.from(bytes)
    copy[copy.indexOf(text)]! ^= 1
    await writeFile(join(wal, name), copy)
  }
  await damage('payload 7')
  const doubtful = run('fsck', folder)
  expect(doubtful.status).toBe(1)
  expect(doubtful.text).toContain('doubtful')
  await damage('payload 3')
  const decided = run('fsck', folder, '--json')
  expect(decided.status).toBe(1)
  expect(decided.text).toContain('doubtful')
  expect(await readFile(join(wal, name))).toHaveLength(bytes.length)
  expect(run('fsck', join(folder, 'wal'))).toMatchObject({
    status: 64,
    text: expect.stringContaining('name both volumes'),
  })
  expect(run('fsck').status).toBe(64)
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
    const left = slicesOf(index)
    const head = { index: logIndex(index), configuration: sample.configuration(1, 3), start: logIndex(0) }
    await storage.writeCheckpoint(
      head,
      () => left.shift() ?? null,
      () => Promise.resolve(),
    )
    await storage.truncateHead(logIndex(index))
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
    const left = slicesOf(index)
    const head = { index: logIndex(index), configuration: sample.configuration(1, 3), start: logIndex(0) }
    const next = (): Buffer | null => left.shift() ?? null
    await storage.writeCheckpoint(head, next, () => Promise.resolve())
    await storage.truncateHead(logIndex(index))
  }
  const gone = before.filter((path) => !disk.paths().includes(path))
  expect(gone.length).toBeGreaterThan(5)
  const archived = disk.paths().filter((path) => path.startsWith('/data/wal/archive/'))
  expect(archived.map((path) => path.replace('archive/', ''))).toEqual(gone.slice(-2))
  await storage.close()
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
  const left = slicesOf(2)
  await storage.writeCheckpoint(
    { index: logIndex(2), configuration: sample.configuration(1, 3), start: logIndex(0) },
    () => left.shift() ?? null,
    () => Promise.resolve(),
  )
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
