/**
 * Sweeps over damage, without a test framework: the tests run them, and `test/mutations` runs them against the storage
 * with one safety line taken out.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { LokiError } from '../../src/errors.ts'
import { InvariantViolation } from '../../src/invariant.ts'
import { KeyRing } from '../../src/storage/keys.ts'
import { type Storage, type StorageOptions, openStorage } from '../../src/storage/storage.ts'
import { dump } from '../../src/storage/waldump.ts'
import { type RecoveredLog, nodeId } from '../../src/vocabulary.ts'
import { type Model, type Progress, type Step, differs, newProgress, runHistory, simulated } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk, random } from './simulated-disk.ts'

const write = (...records: Parameters<typeof sample.written>[1][]): Step => ({ kind: 'write', records })

export const DAMAGED_HISTORY: readonly Step[] = [
  { kind: 'identity' },
  write(sample.genesis(3), sample.promised(2)),
  write(sample.appended(1, 2, ' x'.repeat(300))),
  write(sample.appended(3, 3), sample.decided(2)),
  write(sample.promised(6)),
  write(sample.acceptSync(6, 4, 5, ' six')),
  { kind: 'restart' },
  write(sample.appended(6, 6, ' y'.repeat(1200))),
  write(sample.promised(7), sample.decided(3)),
  write(sample.appended(7, 9, '\0'.repeat(1500))),
]

export async function prepared(
  history: readonly Step[] = DAMAGED_HISTORY,
  change: Partial<StorageOptions> = {},
): Promise<{ disk: SimulatedDisk; progress: Progress }> {
  const disk = new SimulatedDisk()
  const progress = newProgress()
  await runHistory(disk, history, progress, change)
  return { disk, progress }
}

export type Outcome =
  | { readonly kind: 'recovered'; readonly recovered: RecoveredLog; readonly identity: Storage['identity'] }
  | { readonly kind: 'refused'; readonly code: string; readonly message: string }

/** Opens, and insists that a refusal is coded and has changed nothing. */
export async function opened(disk: SimulatedDisk, change = {}): Promise<Outcome> {
  const before = disk.snapshot()
  try {
    const { recovered, identity } = await openStorage(simulated(disk, change))
    return { kind: 'recovered', recovered, identity }
  } catch (error) {
    if (!(error instanceof LokiError)) throw error
    assert.deepEqual(disk.snapshot(), before)
    return { kind: 'refused', code: error.code, message: error.message }
  }
}

/** Null if what was recovered is the whole truth, or a part of it that admits to be one. */
export function untrue(recovered: RecoveredLog, truth: Model, canBeTorn: boolean): string | null {
  const { doubtfulFrom, entries, first } = recovered
  const last = entries.at(-1)?.index ?? first - 1
  if (doubtfulFrom === null && last === truth.last) return differs(recovered, truth, 0)
  if (doubtfulFrom === null && !canBeTorn) return `entries behind ${last} are missing without a word`
  if (doubtfulFrom !== null && last !== doubtfulFrom - 1) return `doubtful from ${doubtfulFrom}, last ${last}`
  const cut: Model = { ...truth, last, entries: new Map([...truth.entries].filter(([index]) => index <= last)) }
  // What may be lost beside the entries is admitted to be.
  const { promise, acceptedBallot } = recovered.state
  if (recovered.promiseLost)
    return differs(
      { ...recovered, doubtfulFrom: null },
      { ...cut, state: { ...cut.state, promise, acceptedBallot } },
      0,
    )
  return differs({ ...recovered, doubtfulFrom: null }, cut, 0)
}

const META = '/data/wal/meta'

export async function tryDamage(
  source: SimulatedDisk,
  truth: Model,
  path: string,
  damage: (bytes: Buffer) => void,
  canBeTorn = false,
  change: Partial<StorageOptions> = {},
): Promise<string> {
  const disk = source.survivor(() => 0)
  const bytes = disk.peek(path)!
  damage(bytes)
  disk.poke(path, bytes)
  const outcome = await opened(disk, change)
  if (outcome.kind === 'refused') return outcome.code
  assert.equal(untrue(outcome.recovered, truth, canBeTorn), null)
  if (source.peek(META)!.includes(sample.CLUSTER)) {
    assert.deepEqual(outcome.identity, { cluster: sample.CLUSTER, node: nodeId(2) })
  }
  const { doubtfulFrom, promiseLost } = outcome.recovered
  if (doubtfulFrom === null) return 'whole'
  const again = await opened(disk, change)
  assert.ok(again.kind === 'recovered' && again.recovered.doubtfulFrom === doubtfulFrom, 'doubt was forgotten')
  assert.equal(again.recovered.promiseLost, promiseLost, 'that promises may be lost was forgotten')
  return 'doubtful'
}

/** Small segments, which mostly begin with the frame they were made for; and one that takes all frames of a start. */
const SEGMENT_SIZES = [4096, 1024 * 1024]
const KEYS = join(import.meta.dirname, '../fixtures/data-encrypted/keys')
/** The same, and packed and sealed. */
const VARIANTS: readonly Partial<StorageOptions>[] = [
  ...SEGMENT_SIZES.map((segmentBytes) => ({ segmentBytes })),
  { compression: 'zstd', keys: new KeyRing(KEYS, 'new') },
]

/** Flips a bit in every `stride`-th byte of every file. Gives how often each outcome was met. */
export async function flipSweep(stride: number): Promise<Map<string, number>> {
  const next = random(7)
  const seen = new Map<string, number>()
  for (const change of VARIANTS) {
    const { disk, progress } = await prepared(DAMAGED_HISTORY, change)
    const truth = progress.models.at(-1)!
    for (const path of disk.paths()) {
      const { length } = disk.peek(path)!
      // Most of meta is zeros; what is not is at the beginning of each slot.
      const step = (at: number): number =>
        path === META ? (at % 4096 < 128 ? 1 : 256) : change.keys ? 5 * stride : stride
      for (let at = Math.floor(next() * step(0)); at < length; at += step(at)) {
        const bit = 1 << Math.floor(next() * 8)
        const flip = (bytes: Buffer): unknown => (bytes[at] = bytes[at]! ^ bit)
        const outcome = await tryDamage(disk, truth, path, flip, false, change)
        seen.set(outcome, (seen.get(outcome) ?? 0) + 1)
      }
    }
  }
  return seen
}

/** Where the frames of a segment begin, and whether the first of them came with the segment. */
async function framesOf(disk: SimulatedDisk, path: string): Promise<{ offsets: number[]; born: boolean }> {
  const offsets: number[] = []
  let born = false
  let inside = false
  for await (const line of dump(disk, '/data/wal')) {
    if (line.kind === 'segment') {
      inside = path.endsWith(line.name)
      if (inside) born = line.bornWithFrame
    }
    if (inside && line.kind === 'frame' && !line.records[0]?.startsWith('state:')) offsets.push(line.offset)
  }
  return { offsets, born }
}

/**
 * Takes every sector of every segment away, one at a time, and cuts every segment short at every frame. Gives the
 * outcomes that were met.
 */
export async function lostSectorSweep(): Promise<Set<string>> {
  const seen = new Set<string>()
  for (const segmentBytes of SEGMENT_SIZES) {
    const { disk, progress } = await prepared(DAMAGED_HISTORY, { segmentBytes })
    const truth = progress.models.at(-1)!
    const paths = disk.paths().filter((path) => path.endsWith('.wal'))
    for (const path of paths) {
      const { length } = disk.peek(path)!
      const { offsets, born } = await framesOf(disk, path)
      const isNewest = path === paths.at(-1)
      // Only what was appended last to the newest segment may be missing without a word.
      const appended = born && offsets.length === 1 ? Number.POSITIVE_INFINITY : offsets.at(-1)!
      for (let at = 0; at < length; at += 512) {
        const take = (bytes: Buffer): unknown => bytes.fill(0, at, Math.min(at + 512, length))
        seen.add(await tryDamage(disk, truth, path, take, isNewest && at + 512 > appended))
      }
      for (const offset of isNewest ? [] : offsets) {
        const copy = disk.survivor(() => 0)
        copy.poke(path, copy.peek(path)!.subarray(0, offset))
        seen.add(await tryDamage(copy, truth, path, () => {}))
      }
    }
  }
  return seen
}

/**
 * Two lives of one volume that part after a frame: a frame, or a segment, of the one must not be believed among
 * those of the other, although each is whole and in its place.
 */
export async function spliceSweep(): Promise<void> {
  const start: Step[] = [write(sample.genesis(3)), write(sample.appended(1, 1, ' start'))]
  const life = (tag: string): Promise<{ disk: SimulatedDisk; progress: Progress }> =>
    prepared(
      [
        ...start,
        write(sample.appended(2, 2, ` ${tag}`)),
        write(sample.appended(3, 3, ` ${tag}`)),
        { kind: 'restart' },
        write(sample.appended(4, 4, ` ${tag}`)),
      ],
      { segmentBytes: 1024 * 1024 },
    )
  const one = await life('one')
  const two = await life('two')
  const truth = one.progress.models.at(-1)!
  const [first, second] = one.disk.paths().filter((path) => path.endsWith('.wal'))
  assert.ok(first && second)
  const [, , from, to] = (await framesOf(one.disk, first)).offsets
  const splices: [string, (bytes: Buffer) => void][] = [
    [first, (bytes) => two.disk.peek(first)!.copy(bytes, from, from, to)],
    [first, (bytes) => two.disk.peek(first)!.copy(bytes, from, from)],
    [second, (bytes) => two.disk.peek(second)!.copy(bytes)],
  ]
  for (const [path, splice] of splices) {
    const outcome = await tryDamage(one.disk, truth, path, splice)
    assert.notEqual(outcome, 'whole')
  }
}

/**
 * A damaged checkpoint falls back to the one before, a damaged slot of meta to the other; a first start believes nothing
 * that was there before.
 */
export async function checkpointSweep(): Promise<void> {
  const { disk, progress } = await prepared([
    { kind: 'identity' },
    write(sample.genesis(3)),
    ...[1, 2, 3, 4, 5, 6].map((index) => write(sample.appended(index, index, ' c'.repeat(900)))),
    write(sample.decided(6), sample.promised(2)),
    ...[2, 4, 6].flatMap((index): Step[] => [
      { kind: 'checkpoint', index },
      { kind: 'truncate', index },
    ]),
  ])
  for (const file of ['data', 'manifest']) {
    const path = `/data/checkpoints/0000000000000006/${file}`
    for (let at = 0; at < disk.peek(path)!.length; at++) {
      const copy = disk.survivor(() => 0)
      const bytes = copy.peek(path)!
      bytes[at]! ^= 1
      copy.poke(path, bytes)
      const found = await openStorage(simulated(copy)).catch((error: unknown) => {
        if (file === 'manifest' && error instanceof LokiError && error.code === 'FORMAT_TOO_NEW') return null
        throw error
      })
      if (found === null) continue
      assert.equal(found.checkpoint?.index, 4)
      assert.equal(differs(found.recovered, progress.models.at(-1)!, 4), null)
    }
  }
  // Either slot of meta is enough, and says the same.
  const named = await prepared([{ kind: 'identity' }])
  for (const at of [20, 4096 + 20]) {
    const copy = named.disk.survivor(() => 0)
    const bytes = copy.peek(META)!
    bytes[at]! ^= 1
    copy.poke(META, bytes)
    assert.equal((await openStorage(simulated(copy))).identity?.node, 2)
  }
  for (const path of disk.paths()) if (path.startsWith('/data/wal/')) disk.poke(path, null)
  const storage = await openStorage(simulated(disk))
  assert.equal(storage.checkpoint, null)
}

/**
 * Takes every file away but the newest segment, one at a time: what is missing is missed, or was not needed. (That a
 * newer segment was there, the index of the one before says.)
 */
export async function missingFileSweep(): Promise<Set<string>> {
  const seen = new Set<string>()
  for (const segmentBytes of SEGMENT_SIZES) {
    const { disk, progress } = await prepared(DAMAGED_HISTORY, { segmentBytes })
    const newest = disk.paths().findLast((path) => path.endsWith('.wal'))
    for (const path of disk.paths().filter((name) => name !== newest)) {
      const copy = disk.survivor(() => 0)
      copy.poke(path, null)
      seen.add(await tryDamage(copy, progress.models.at(-1)!, newest!, () => {}))
    }
  }
  return seen
}

/** Every write to the log goes elsewhere, or nowhere, and is reported as done. */
export async function misdirectSweep(): Promise<number> {
  let noticed = 0
  const clean = await prepared()
  for (let at = 1; at <= clean.disk.steps; at++) {
    if (!clean.disk.journal[at - 1]!.startsWith('write') || !clean.disk.journal[at - 1]!.includes('/wal/')) continue
    for (const fault of ['misdirectAt', 'loseAt'] as const) {
      const disk = new SimulatedDisk()
      disk[fault] = at
      const progress = newProgress()
      try {
        await runHistory(disk, DAMAGED_HISTORY, progress)
      } catch (error) {
        // The restart in the history may have noticed it.
        if (!(error instanceof LokiError || error instanceof InvariantViolation)) throw error
        noticed++
        continue
      }
      const outcome = await opened(disk)
      if (outcome.kind === 'refused') {
        noticed++
        continue
      }
      // Losing the very last write cannot be told from never having made it; everything else must be noticed.
      const isLast = !clean.disk.journal.slice(at).some((step) => step.startsWith('write') && step.includes('.wal'))
      assert.equal(untrue(outcome.recovered, progress.models.at(-1)!, isLast), null)
    }
  }
  return noticed
}

/** A promise that one damaged sector took is known from the state behind it, and nothing is lost with it. */
export async function promiseSweep(): Promise<void> {
  const { disk } = await prepared(
    [write(sample.genesis(3)), write(sample.promised(6)), write(sample.appended(1, 1, ' x'.repeat(400)))],
    { segmentBytes: 1024 * 1024 },
  )
  const path = disk.paths().find((name) => name.endsWith('.wal'))!
  const [, promise] = (await framesOf(disk, path)).offsets
  assert.ok(promise !== undefined)
  const sector = promise - (promise % 512)
  const damages: ((bytes: Buffer) => unknown)[] = [
    (bytes) => bytes.fill(0, sector, sector + 512),
    (bytes) => bytes.fill(0xff, promise, promise + 32),
    (bytes) => (bytes[promise + 33]! ^= 1),
  ]
  for (const damage of damages) {
    const copy = disk.survivor(() => 0)
    const bytes = copy.peek(path)!
    damage(bytes)
    copy.poke(path, bytes)
    const outcome = await opened(copy)
    assert.ok(outcome.kind === 'recovered')
    const { state, promiseLost = false, entries } = outcome.recovered
    assert.deepEqual([state.promise.n, promiseLost, entries.length], [6, false, 1])
  }
}
