/**
 * Crashes and failures on the simulated disk, without a test framework: the tests run these sweeps, and
 * `test/mutations` runs them against the storage with one safety line taken out.
 *
 * Every step of every history is a crash point: what was not synced survives in every subset where these are few, in
 * chosen and random ones where they are many. After each, the storage must start, hold everything that was
 * acknowledged and nothing else, and take nothing for damage: a crash is none.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import '../sim/inline-zstd.ts'
import {
  type ControlFile,
  readControlFile,
  renderControlFile,
  replaceControlFile,
} from '../../src/node/control-file.ts'
import { KeyRing } from '../../src/storage/keys.ts'
import { finishReset, moveAside } from '../../src/storage/reset.ts'
import { type Storage, type StorageOptions, openStorage } from '../../src/storage/storage.ts'
import { volumeId } from '../../src/vocabulary.ts'
import { EMPTY_MODEL, LARGE_CHECKPOINT, type Progress, type Step, checkStart, modelAfter } from './history.ts'
import { newProgress, receiveFromPeer, runHistory, simulated } from './history.ts'
import * as sample from './samples.ts'
import { type Choose, SimulatedDisk, random } from './simulated-disk.ts'

const KEYS = join(import.meta.dirname, '../fixtures/data-encrypted/keys')

const write = (...records: Parameters<typeof sample.written>[1][]): Step => ({ kind: 'write', records })

export interface History {
  readonly steps: readonly Step[]
  readonly options?: Partial<StorageOptions>
  /** Of the log, as past the page cache. */
  readonly writesBlocks?: boolean
}

function diskOf({ writesBlocks = false }: History): SimulatedDisk {
  const disk = new SimulatedDisk()
  disk.writesBlocks = writesBlocks
  return disk
}

const CHECKPOINTS: readonly Step[] = [
  write(sample.genesis(3)),
  ...[1, 2, 3, 4, 5, 6].map((index) => write(sample.appended(index, index, ' c'.repeat(900)))),
  write(sample.decided(6), sample.promised(2)),
  { kind: 'checkpoint', index: 3 },
  { kind: 'truncate', index: 3 },
  { kind: 'checkpoint', index: 5 },
  { kind: 'truncate', index: 5 },
  write(sample.appended(7, 7)),
  { kind: 'checkpoint', index: 6 },
  { kind: 'truncate', index: 6 },
]

const PLAIN: Readonly<Record<string, History>> = {
  'first start, identity, entries': {
    steps: [
      { kind: 'identity' },
      write(sample.genesis(3), sample.promised(1)),
      write(sample.appended(1, 2)),
      write(sample.appended(3, 3), sample.decided(2)),
    ],
  },
  'large frames over many sectors': {
    steps: [
      write(sample.genesis(3)),
      write(sample.appended(1, 1, ' x'.repeat(900))),
      write(sample.appended(2, 2, ' y'.repeat(1100))),
    ],
  },
  // Frames begin everywhere in a sector, near its end too.
  'frames of many lengths': {
    steps: [
      write(sample.genesis(3)),
      ...Array.from({ length: 40 }, (_, at) => write(sample.appended(at + 1, at + 1, 'l'.repeat(at * 4)))),
    ],
    options: { segmentBytes: 64 * 1024 },
  },
  'a suffix is replaced, twice': {
    steps: [
      write(sample.genesis(3), sample.appended(1, 6, ' one')),
      write(sample.promised(4)),
      write(sample.acceptSync(4, 3, 5, ' two')),
      write(sample.appended(6, 6, ' two')),
      write(sample.promised(5), sample.acceptSync(5, 2, 2, ' three'), sample.appended(3, 3, ' three')),
    ],
  },
  'bursts and rolling segments': {
    steps: [
      write(sample.genesis(3)),
      { kind: 'burst', writes: [1, 2, 3, 4].map((index) => [sample.appended(index, index, ' z'.repeat(500))]) },
      { kind: 'burst', writes: [5, 6, 7, 8].map((index) => [sample.appended(index, index, ' z'.repeat(500))]) },
    ],
  },
  'checkpoints and head truncation': { steps: CHECKPOINTS },
  'an archive that keeps one segment': { steps: CHECKPOINTS, options: { archive: true, archiveSegments: 1 } },
  'turns go on beside a checkpoint and a head truncation': {
    steps: [
      ...CHECKPOINTS.slice(0, 9),
      {
        kind: 'beside',
        steps: [
          { kind: 'checkpoint', index: 5 },
          { kind: 'truncate', index: 3 },
          { kind: 'burst', writes: [7, 8, 9].map((index) => [sample.appended(index, index, ' b'.repeat(900))]) },
        ],
      },
    ],
  },
  'a checkpoint of a peer is installed': {
    steps: [
      { kind: 'identity' },
      write(sample.genesis(3), sample.appended(1, 4, ' stale'), sample.decided(2)),
      { kind: 'install', index: 20 },
      write(sample.appended(21, 22)),
    ],
  },
  'a checkpoint of a peer comes in pieces, over restarts': {
    steps: [
      write(sample.genesis(3), sample.appended(1, 2, ' stale')),
      { kind: 'resumed-install', index: 100 },
      write(sample.appended(101, 101)),
    ],
  },
  'a checkpoint takes the place of the beginning, and what was accepted above it stays': {
    steps: [
      write(sample.genesis(3), sample.appended(1, 9, ' kept'), sample.decided(2)),
      { kind: 'checkpoint', index: 5 },
      write(sample.installed(5), sample.appended(6, 9, ' kept')),
      write(sample.appended(10, 10, ' kept')),
    ],
  },
  'packed and sealed: a suffix is replaced, a checkpoint taken, the log let go of': {
    steps: [
      write(sample.genesis(3), sample.appended(1, 4, ' one'.repeat(300))),
      write(sample.promised(4)),
      write(sample.acceptSync(4, 3, 5, ' two'.repeat(300))),
      write(sample.decided(5), sample.promised(5)),
      { kind: 'checkpoint', index: 3 },
      { kind: 'checkpoint', index: 5 },
      { kind: 'truncate', index: 5 },
      write(sample.appended(6, 6, ' two')),
    ],
    options: { compression: 'zstd', keys: new KeyRing(KEYS, 'new') },
  },
  restarts: {
    steps: [
      write(sample.genesis(3), sample.appended(1, 2)),
      { kind: 'restart' },
      { kind: 'restart' },
      write(sample.appended(3, 3)),
      { kind: 'restart' },
    ],
  },
}

const IN_BLOCKS = ['frames of many lengths', 'a suffix is replaced, twice', 'bursts and rolling segments']

export const HISTORIES: Readonly<Record<string, History>> = {
  ...PLAIN,
  ...Object.fromEntries(
    IN_BLOCKS.map((name) => [`${name}, in whole blocks`, { ...PLAIN[name]!, writesBlocks: true }] as const),
  ),
  // Frames that are too large to be widened, between such that are not.
  'frames of all sizes, in whole blocks': {
    steps: [
      write(sample.genesis(3)),
      ...[30, 9000, 40, 5000, 12_000, 50].map((length, at) =>
        write(sample.appended(at + 1, at + 1, 'a'.repeat(length))),
      ),
    ],
    options: { segmentBytes: 64 * 1024 },
    writesBlocks: true,
  },
  'frames of many lengths, packed and sealed, in whole blocks': {
    ...PLAIN['frames of many lengths']!,
    options: { segmentBytes: 8192, compression: 'zstd', keys: new KeyRing(KEYS, 'new') },
    writesBlocks: true,
  },
}

/** A crash in the start behind every so many-th crash is looked at as well; `DEEP=1`: behind each. */
const DEEP_EVERY = Number(process.env.DEEP ?? 3)
/** All subsets of so many units are 64 disks. `UNITS=9` has more of them. */
const FEW_UNITS = Number(process.env.UNITS ?? 6)

/** All subsets of few units; of many: all, none, each alone, all but each, and random ones. */
export function* choices(units: readonly string[], seed: number, few = FEW_UNITS): Generator<Choose> {
  if (units.length <= few) {
    for (let bits = 0; bits < 2 ** units.length; bits++) {
      yield (unit) => (bits >> units.indexOf(unit)) & 1
    }
    return
  }
  yield () => 0
  yield () => 1
  for (const one of units) {
    yield (unit) => (unit === one ? 1 : 0)
    yield (unit) => (unit === one ? 0 : 1)
  }
  const rounds = few === FEW_UNITS ? 12 : 4
  for (let round = 0; round < rounds; round++) yield randomChoice(seed + round)
}

function randomChoice(seed: number): Choose {
  const next = random(seed)
  const chosen = new Map<string, number>()
  return (unit) => {
    const found = chosen.get(unit)
    if (found !== undefined) return found
    const kind = next()
    const value = kind < 0.4 ? 0 : kind < 0.8 ? 1 : next()
    chosen.set(unit, value)
    return value
  }
}

/** How many crash points there were, by the operation that was cut short, and how many starts were made after them. */
export class Count {
  points = 0
  starts = 0
  /** `write`, `sync`, `rename`, … with the file's place: `write wal/meta`. */
  readonly operations = new Map<string, number>()

  point(step: string): void {
    this.points++
    const [act, path] = step.split(' ')
    const place = path!
      .replace('/data/', '')
      .replaceAll(/\d{10}-\d{16}/g, '#')
      .replaceAll(/\d{16}/g, '#')
    const operation = `${act} ${place.replaceAll(/[0-9a-f]{32}/g, '#')}`
    this.operations.set(operation, (this.operations.get(operation) ?? 0) + 1)
  }
}

export interface Sweep<T> {
  readonly disk: () => SimulatedDisk
  /** What `run` keeps up to date, for `verify` to know how far it came. */
  readonly begin: () => T
  readonly run: (disk: SimulatedDisk, reached: T) => Promise<void>
  /** Is given every disk that may be left; `deep` now and then, for what is too slow to do each time. */
  readonly verify: (survivor: SimulatedDisk, reached: T, seed: number, deep: boolean) => Promise<void>
}

/**
 * Runs again and again, each time cut short one step later (`crash`) or with one step later that fails (`fail`: EIO,
 * and the process ends where the storage says so), until it comes through without.
 */
export async function everyStep<T>(sweep: Sweep<T>, fault: 'crash' | 'fail' = 'crash'): Promise<Count> {
  const count = new Count()
  for (let at = 1; ; at++) {
    const disk = sweep.disk()
    const first = disk.steps
    if (fault === 'crash') disk.crashAt = first + at
    else disk.failAt = first + at
    const reached = sweep.begin()
    try {
      await sweep.run(disk, reached)
    } catch (error) {
      if (disk.steps < first + at) throw error
    }
    if (disk.steps < first + at) return count
    const step = disk.journal[first + at - 1]!
    count.point(step)
    let round = 0
    for (const choose of choices(disk.units(), at, fault === 'crash' ? FEW_UNITS : 2)) {
      const survivor = disk.survivor(choose)
      const deep = round % 16 === 0 && (at + round / 16) % DEEP_EVERY === 0
      await sweep.verify(survivor, reached, at * 1000 + round, deep).catch((error: unknown) => {
        const reason = error instanceof Error ? error.stack : String(error)
        throw new Error(`${fault} at step ${at} (${step}), choice ${round} of ${disk.units().join()}: ${reason}`)
      })
      round++
      count.starts++
    }
  }
}

/** Opens what a crash left. Nothing was damaged, so nothing may be called so. */
export function openUndamaged(disk: SimulatedDisk, options: Partial<StorageOptions> = {}): Promise<Storage> {
  const log = (message: string, fields: object): void => {
    if (message.includes('damaged')) throw new Error(`a crash is taken for damage: ${JSON.stringify(fields)}`)
  }
  return openStorage(simulated(disk, { ...options, log }))
}

/** Starts on what a crash left; then writes, crashes in the start, and starts again. */
async function verifyHistory(
  disk: SimulatedDisk,
  progress: Progress,
  options: Partial<StorageOptions>,
  seed: number,
  deep: boolean,
): Promise<void> {
  const before = disk.survivor(() => 0)
  const storage = await openUndamaged(disk, options)
  await checkStart(storage, progress, deep)
  if (!deep) return
  const { last } = storage.status()
  await sample.written(storage, sample.appended(last + 1, last + 1, ' after'))
  await storage.close()
  const again = await openUndamaged(disk, options)
  assert.deepEqual(again.recovered.entries.at(-1), sample.entries(last + 1, last + 1, ' after')[0])
  await again.close()
  for (let at = 1; ; at++) {
    const copy = before.survivor(() => 0)
    copy.crashAt = at
    const finished = await openStorage(simulated(copy, options)).then(
      () => true,
      (error: unknown) => {
        if (copy.crashed) return false
        throw error
      },
    )
    if (finished) break
    await checkStart(await openUndamaged(copy.survivor(randomChoice(seed + at)), options), progress, at % 8 === 0)
  }
}

/** Every step of a history is a crash point, or fails. */
export function historySweep(history: History, fault: 'crash' | 'fail' = 'crash'): Promise<Count> {
  const { steps, options = {} } = history
  return everyStep<Progress>(
    {
      disk: () => diskOf(history),
      begin: newProgress,
      run: (disk, progress) => runHistory(disk, steps, progress, options),
      verify: (disk, progress, seed, deep) => verifyHistory(disk, progress, options, seed, deep && fault === 'crash'),
    },
    fault,
  )
}

/**
 * The process is killed at every step of a history (or a step fails, which ends it, too), and the system lives. The
 * next process reads what was written and not synced, and speaks of it; then the power fails. What it found must be
 * there.
 */
export async function killSweep(history: History, fault: 'crash' | 'fail' = 'crash'): Promise<Count> {
  const { steps, options = {} } = history
  const count = new Count()
  for (let at = 1; ; at++) {
    const disk = diskOf(history)
    // Of the volumes only what they are in is there before the first process.
    await disk.makeDirectory('/data')
    const first = disk.steps
    if (fault === 'crash') disk.crashAt = first + at
    else disk.failAt = first + at
    disk.losesFailedWrites = true
    await runHistory(disk, steps, newProgress(), options).catch((error: unknown) => {
      if (disk.steps < first + at) throw error
    })
    if (disk.steps < first + at) return count
    const step = disk.journal[first + at - 1]!
    count.point(step)
    disk.revive()
    const { recovered: told, checkpoint } = await openUndamaged(disk, options)
    for (const choose of choices(disk.units(), at, 2)) {
      const again = await openUndamaged(disk.survivor(choose), options)
      assert.deepEqual(again.recovered, told, `${fault} at step ${at} (${step})`)
      assert.equal(again.checkpoint?.index, checkpoint?.index)
      count.starts++
    }
  }
}

const CONTROL_PATH = '/data/wal/control.toml'
const controlFile = (configurationId: number): ControlFile => ({
  clusterId: sample.CLUSTER,
  selfIdentifier: 2,
  volumeId: sample.VOLUME,
  configurationId,
  currentLeaderValue: 3,
  lastWalTimeline: 5,
  lastCheckpointId: 3,
  walDirectoryPath: '/data/wal',
  checkpointDirectoryPath: '/data/checkpoints',
  // Longer than a sector: a torn one must be noticed.
  peers: Array.from({ length: 9 }, (_, at) => ({ identifier: at + 1, address: `node-${at}:7400`, role: 'voter' })),
})

/** The control file is replaced twice: there is always the newest one that was told, or the one after, whole. */
export const controlFileSweep = (): Promise<Count> =>
  everyStep<{ told: number }>({
    disk: () => {
      const disk = new SimulatedDisk()
      disk.poke(CONTROL_PATH, Buffer.from(renderControlFile(controlFile(1))))
      return disk
    },
    begin: () => ({ told: 1 }),
    run: async (disk, reached) => {
      for (const id of [2, 3]) {
        await replaceControlFile(disk, CONTROL_PATH, controlFile(id))
        reached.told = id
      }
    },
    verify: async (disk, { told }) => {
      const found = await readControlFile(disk, CONTROL_PATH)
      assert.ok(found !== null && (found.configurationId === told || found.configurationId === told + 1))
      assert.deepEqual(found, controlFile(found.configurationId))
      await replaceControlFile(disk, CONTROL_PATH, controlFile(9))
      assert.deepEqual(await readControlFile(disk, CONTROL_PATH), controlFile(9))
    },
  })

const inside = (disk: SimulatedDisk, folder: string): string[] =>
  disk.paths().flatMap((path) => (path.startsWith(folder) ? [path.slice(folder.length)] : []))

/** Volumes of two generations are given back: whole where it was not begun, and aside, all of it, where it was. */
export async function resetSweep(): Promise<Count> {
  const source = new SimulatedDisk()
  await runHistory(source, CHECKPOINTS, newProgress(), { archive: true })
  await moveAside(source, '/data/wal', '/data/checkpoints')
  await runHistory(source, CHECKPOINTS, newProgress(), { archive: true })
  const before = source.snapshot()
  const own = ['/data/wal/', '/data/checkpoints/'].flatMap((folder) =>
    inside(source, folder).flatMap((name) => (name.startsWith('removed/') ? [] : [[folder, name] as const])),
  )
  return everyStep<{ told: boolean }>({
    disk: () => source.survivor(() => 0),
    begin: () => ({ told: false }),
    run: async (disk, reached) => {
      await moveAside(disk, '/data/wal', '/data/checkpoints')
      reached.told = true
    },
    verify: async (disk, { told }) => {
      const begun = disk.paths().includes('/data/wal/reset')
      await finishReset(disk, '/data/wal', '/data/checkpoints')
      const after = disk.snapshot()
      const isBack = own.some(([folder, name]) => after[`${folder}${name}`] !== undefined)
      assert.ok(!isBack || (!told && !begun), 'what was given back is there again')
      for (const [folder, name] of own) {
        const path = isBack ? `${folder}${name}` : `${folder}removed/${name}`
        assert.equal(after[path], before[`${folder}${name}`], `${path} is missing or has changed`)
      }
      const storage = await openUndamaged(disk)
      assert.equal(storage.recovered.state.configuration === null, !isBack)
      await storage.close()
    },
  })
}

/** A node that lost its log finds the checkpoints of its old id: they are set aside, whole, and never believed. */
export async function asideSweep(): Promise<Count> {
  const source = new SimulatedDisk()
  await runHistory(source, CHECKPOINTS, newProgress())
  for (const path of source.paths()) if (path.startsWith('/data/wal/')) source.poke(path, null)
  const kept = inside(source, '/data/checkpoints/')
  const before = source.snapshot()
  const fresh = { random: () => volumeId('9'.repeat(32)) }
  return everyStep<{ told: boolean }>({
    disk: () => source.survivor(() => 0),
    begin: () => ({ told: false }),
    run: async (disk, reached) => {
      await (await openStorage(simulated(disk, fresh))).close()
      reached.told = true
    },
    verify: async (disk, { told }) => {
      const other = { random: () => volumeId('8'.repeat(32)) }
      const storage = await openUndamaged(disk, other)
      assert.ok(storage.volume !== sample.VOLUME && (!told || storage.volume === fresh.random()))
      assert.equal(storage.checkpoint, null)
      await storage.close()
      const aside = `/data/checkpoints/aside-${sample.VOLUME}/`
      for (const name of kept) assert.equal(disk.snapshot()[`${aside}${name}`], before[`/data/checkpoints/${name}`])
    },
  })
}

/** A checkpoint that was on its way is fetched to its end by the next start; what a crash tore of it is fetched again. */
export async function resumeSweep(): Promise<Count> {
  const source = new SimulatedDisk()
  await runHistory(source, [write(sample.genesis(3))], newProgress())
  return everyStep<null>({
    disk: () => source.survivor(() => 0),
    begin: () => null,
    run: async (disk) => receiveFromPeer(await openStorage(simulated(disk)), LARGE_CHECKPOINT, 1),
    verify: async (disk) => {
      const storage = await openUndamaged(disk)
      await receiveFromPeer(storage, LARGE_CHECKPOINT)
      await checkStart(storage, { ...newProgress(), models: [modelAfter(EMPTY_MODEL, sample.genesis(3))] })
      assert.equal(storage.checkpoint?.index, LARGE_CHECKPOINT)
    },
  })
}

/**
 * A write of the log fails, any of them, and whoever writes does not care: what is acknowledged all the same must be
 * there at the next start.
 */
export const failedWriteSweep = (): Promise<Count> =>
  everyStep<{ acknowledged: number }>(
    {
      disk: () => new SimulatedDisk(),
      begin: () => ({ acknowledged: 0 }),
      run: async (disk, reached) => {
        const storage = await openStorage(simulated(disk, { onFatal: () => {} }))
        for (const index of [1, 2, 3, 4]) {
          const records = [sample.appended(index, index, ' f'.repeat(600))]
          if (index === 1) records.unshift(sample.genesis(3))
          storage.write(records, () => {
            reached.acknowledged = index
          })
          for (let turn = 0; turn < 50; turn++) await Promise.resolve()
        }
      },
      verify: async (disk, { acknowledged }) => {
        const { entries } = (await openUndamaged(disk)).recovered
        assert.ok((entries.at(-1)?.index ?? 0) >= acknowledged, `${acknowledged} was acknowledged`)
        assert.deepEqual(entries, sample.entries(1, entries.length, ' f'.repeat(600)))
      },
    },
    'fail',
  )
