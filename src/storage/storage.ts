/**
 * The public face of the storage: one object that owns both volumes of a node.
 *
 * What it promises: `done` of a write means durable; a start gives back everything for which `done` was called,
 * and nothing that contradicts it; bytes that are damaged are never handed out; a refused start changes nothing.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LokiError, messageOf } from '../errors.ts'
import { invariant } from '../invariant.ts'
import type { ClusterId, Entry, LogIndex, LogRecord, NodeId, RecoveredLog } from '../vocabulary.ts'
import { type Timeline, type VolumeId, logIndex, timeline } from '../vocabulary.ts'
import { Archive } from './archive.ts'
import { CheckpointReceiver } from './checkpoint-receiver.ts'
import { type CheckpointHead, type CheckpointInfo, encodeManifest, decodeManifest } from './checkpoint.ts'
import { readSlices, readChunk, removeCheckpoint, removeOtherCheckpoints, writeCheckpointFiles } from './checkpoint.ts'
import { Meta, loadMeta } from './meta.ts'
import { judge } from './judgement.ts'
import { CHECKPOINTS_KEPT, KeptCheckpoints } from './kept-checkpoints.ts'
import { type KeyRing, NO_KEYS } from './keys.ts'
import { removeLeftovers } from './leftovers.ts'
import type { EntryRange } from './log-reader.ts'
import { type ReplayedLog, goodCheckpoints, replayLog } from './recovery.ts'
import { type Rot, Scrub, type ScrubTarget } from './scrub.ts'
import { SpaceWatch } from './space.ts'
import { inspectVolumes } from './stamp.ts'
import type { StorageOptions, StorageStatus } from './storage-options.ts'
import { makeDurable } from './unsynced.ts'
import { Wal, diskError } from './wal.ts'

export type { CheckpointHead, CheckpointInfo } from './checkpoint.ts'
export type { CheckpointReceiver } from './checkpoint-receiver.ts'
export type { StorageOptions, StorageStatus } from './storage-options.ts'

/** Bounds of `segmentBytes`. Offsets and times to replay stay reasonable below the upper one. */
export const SEGMENT_BYTES_MINIMUM = 4096
export const SEGMENT_BYTES_MAXIMUM = 1024 * 1024 * 1024

/**
 * Opens the volumes, recovers, and begins a new timeline. The steps are told in recovery.ts. Throws only coded
 * errors: what is wrong with the volumes, `DISK_FULL`, `DISK_ERROR`.
 */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  try {
    return await openVolumes(options)
  } catch (error) {
    const code = error instanceof LokiError ? undefined : (error as NodeJS.ErrnoException).code
    if (code === undefined) throw error
    const message = `cannot open ${options.walDirectory}: ${(error as Error).message}`
    throw new LokiError(code === 'ENOSPC' ? 'DISK_FULL' : 'DISK_ERROR', message, { cause: error })
  }
}

async function openVolumes(options: StorageOptions): Promise<Storage> {
  const { disk, walDirectory, checkpointDirectory, segmentBytes } = options
  if (!(segmentBytes >= SEGMENT_BYTES_MINIMUM && segmentBytes <= SEGMENT_BYTES_MAXIMUM)) {
    const range = `${SEGMENT_BYTES_MINIMUM} to ${SEGMENT_BYTES_MAXIMUM}`
    throw new LokiError('CONFIGURATION_INVALID', `segmentBytes is ${segmentBytes}, allowed is ${range}`)
  }
  const log = options.log ?? (() => {})
  const keys = options.keys ?? NO_KEYS
  // 1 stamps
  const volumes = await inspectVolumes(disk, walDirectory, checkpointDirectory, options.random)
  // 2 meta
  const loaded = await loadMeta(disk, walDirectory, volumes.volume)
  const identity = loaded?.content.identity ?? null
  refuseOtherIdentity(identity, options.expected ?? null, walDirectory)
  // 3 checkpoints
  const checkpoints = volumes.fresh ? { good: [], damage: [] } : await goodCheckpoints(disk, checkpointDirectory, keys)
  const newest = checkpoints.good.at(-1) ?? null
  for (const damage of checkpoints.damage) log('a checkpoint is damaged', { damage })
  // 4 replay
  const { first, timeline: inMeta } = loaded?.content ?? { first: logIndex(1), timeline: timeline(0) }
  const replayed = await replayLog(disk, walDirectory, first, volumes.volume, {
    keys,
    mustExist: identity !== null,
    newest: Math.max(inMeta, identity === null ? 0 : (options.lastTimeline ?? 0)),
    ...(options.progress ? { progress: options.progress } : {}),
  })
  // 5 judgement
  const recovered = judge(replayed, newest, checkpoints.damage, walDirectory, volumes.volume)
  for (const damage of replayed.damage) log('the log is damaged', damage)
  for (const index of replayed.damagedIndices) log('the index of a segment is bad and written again', index)
  if (recovered.doubtfulFrom !== null) {
    const { doubtfulFrom: from, promiseLost = false, state } = recovered
    log('entries were lost to rot: the leader sends them again', { from, decided: state.decided, promiseLost })
  }
  // 6 house
  await makeDurable(disk, [walDirectory, checkpointDirectory], replayed.tail)
  await volumes.stamp()
  await removeLeftovers(options, newest)
  const above = await largestTimeline(options, replayed, inMeta)
  const meta =
    loaded === null
      ? await Meta.create(disk, walDirectory, {
          volume: volumes.volume,
          identity: null,
          first: logIndex(1),
          timeline: timeline(0),
        })
      : await Meta.open(disk, walDirectory, loaded)
  // 7 timeline
  const wal = openWal(options, meta, timeline(above + 1), recovered, replayed)
  try {
    await wal.start()
  } catch (error) {
    await meta.close()
    throw error
  }
  for (const dead of [...replayed.dead, ...(replayed.newestEmpty ? replayed.segments.slice(-1) : [])]) {
    await disk.unlink(`${walDirectory}/${dead.name}`)
  }
  // A log that begins anew, because no checkpoint is left that its first entry could follow.
  if (recovered.first < meta.content.first) await meta.update({ first: recovered.first, timeline: wal.timeline })
  const storage = new Storage(options, meta, wal, recovered, checkpoints, replayed)
  await storage.moveHead(meta.content.first)
  wal.sealer.seal(replayed.unsealed.filter(({ name }) => wal.segments.some((segment) => segment.name === name)))
  await storage.checkSpace()
  const { entries, first: begins } = recovered
  log('storage opened', { timeline: wal.timeline, first: begins, entries: entries.length, direct: wal.isDirect })
  return storage
}

function refuseOtherIdentity(
  identity: { cluster: ClusterId; node: NodeId } | null,
  expected: { cluster: ClusterId; node: NodeId } | null,
  directory: string,
): void {
  if (identity === null || expected === null) return
  if (identity.cluster === expected.cluster && identity.node === expected.node) return
  throw new LokiError(
    'IDENTITY_CONFLICT',
    `${directory} belongs to node ${identity.node} of cluster ${identity.cluster}, ` +
      `and the control file says node ${expected.node} of cluster ${expected.cluster}`,
  )
}

async function largestTimeline(options: StorageOptions, replayed: ReplayedLog, inMeta: number): Promise<number> {
  const archived = await archiveOf(options).segments()
  const all = [...archived, ...replayed.dead, ...replayed.segments]
  return Math.max(inMeta, options.lastTimeline ?? 0, ...all.map((segment) => segment.timeline))
}

function openWal(
  options: StorageOptions,
  meta: Meta,
  line: Timeline,
  recovered: RecoveredLog,
  replayed: ReplayedLog,
): Wal {
  const { disk, walDirectory: directory, segmentBytes, onFatal } = options
  const { state, first, entries, doubtfulFrom, promiseLost = false } = recovered
  const last = logIndex(entries.at(-1)?.index ?? first - 1)
  // A newest segment without a frame is replaced: a crash loop must not leave a file for each start.
  const kept = replayed.newestEmpty ? replayed.segments.slice(0, -1) : replayed.segments
  const link = replayed.newestEmpty ? replayed.newestPrevious : replayed.link
  const { sync = 'auto', compression = 'none', keys = NO_KEYS, pause = () => sleep(2) } = options
  const { volume } = meta.content
  return new Wal(
    { disk, directory, segmentBytes, volume, onFatal, pause, sync, compression, keys },
    meta.content.identity?.cluster ?? null,
    line,
    { state, first, last, doubtfulFrom, promiseLost },
    link,
    kept,
  )
}

const archiveOf = ({ disk, walDirectory, archive, archiveSegments = Infinity }: StorageOptions): Archive =>
  new Archive(disk, walDirectory, archive, archiveSegments)

export class Storage {
  readonly volume: VolumeId
  /** What the start found. Who takes the entries takes them away: they keep what was read of the segments in memory. */
  recovered: RecoveredLog
  readonly #options: StorageOptions
  readonly #meta: Meta
  readonly #wal: Wal
  #checkpoints: CheckpointInfo[]
  readonly #kept = new KeptCheckpoints()
  readonly space: SpaceWatch
  readonly #keys: KeyRing
  readonly #archive: Archive
  readonly scrub: Scrub
  /** Segments of the log that are rotten. */
  readonly #rotten = new Set<string>()
  #lostCheckpoint = false
  #rotFound: number
  #lastRot: string | null
  #writing = false
  #lastError: string | null = null

  constructor(
    options: StorageOptions,
    meta: Meta,
    wal: Wal,
    recovered: RecoveredLog,
    checkpoints: { readonly good: readonly CheckpointInfo[]; readonly damage: readonly string[] },
    { damage, healed }: ReplayedLog,
  ) {
    this.#options = options
    const found = [
      ...checkpoints.damage,
      ...damage.map(({ path, offset, reason }) => `${path} at ${offset}: ${reason}`),
    ]
    this.#rotFound = found.length
    this.#lastRot = found.at(-1) ?? null
    const rotten = new Set([...damage, ...healed].map(({ path }) => path.slice(options.walDirectory.length + 1)))
    // The newest one is of this start, and whole.
    for (const { name } of wal.segments.slice(0, -1)) if (rotten.has(name)) this.#rotten.add(name)
    this.#keys = options.keys ?? NO_KEYS
    this.#meta = meta
    this.#wal = wal
    this.volume = meta.content.volume
    this.recovered = recovered
    this.#checkpoints = [...checkpoints.good]
    const { disk, walDirectory, segmentBytes, spaceCheckMilliseconds } = options
    this.#archive = archiveOf(options)
    this.scrub = new Scrub({
      disk,
      keys: this.#keys,
      targets: () => this.#still(),
      isBusy: () => this.#writing || wal.isBusy,
      found: (rot) => this.#foundRot(rot),
      failed: (reason) => {
        this.#lastError = reason
        this.#options.log?.('the disk could not be verified', { reason })
      },
      bytesPerSecond: options.scrub?.bytesPerSecond ?? Infinity,
      restMilliseconds: options.scrub?.restMilliseconds ?? 0,
    })
    if (options.scrub) this.scrub.start()
    const log = options.log ?? (() => {})
    this.space = new SpaceWatch(disk, walDirectory, segmentBytes, spaceCheckMilliseconds ?? 1000, log, () => {
      // Whoever has not backed the archive up by now has had the time.
      this.#archive.prune(true).catch(() => undefined)
    })
  }

  /** The WAL volume is nearly full: propose nothing but deletes. As in `status`, and cheap. */
  get readOnly(): boolean {
    return this.space.readOnly
  }

  /** Looks at the free space now; it is looked at regularly anyway. */
  checkSpace(): Promise<void> {
    return this.space.check()
  }

  /** Rises with every start, and with every cut of the log. */
  get timeline(): Timeline {
    return this.#wal.timeline
  }

  get identity(): { readonly cluster: ClusterId; readonly node: NodeId } | null {
    return this.#meta.content.identity
  }

  /** The newest one that is whole, or null. */
  get checkpoint(): CheckpointInfo | null {
    return this.#checkpoints.at(-1) ?? null
  }

  /** Durable when it returns. The same identity again is fine; another one is refused: `IDENTITY_CONFLICT`. */
  async setIdentity(cluster: ClusterId, node: NodeId): Promise<void> {
    refuseOtherIdentity(this.identity, { cluster, node }, this.#options.walDirectory)
    if (this.identity === null) await this.#meta.update({ identity: { cluster, node } })
    this.#wal.cluster = cluster
  }

  /**
   * Takes records in their order; `done` is called, in the order of the calls and never from inside, when they
   * are durable. A record that contradicts the log is a bug and thrown (`InvariantViolation`) before anything
   * is written.
   */
  write(records: readonly LogRecord[], done: () => void): void {
    for (const record of records) {
      if (record.kind !== 'installed') continue
      const isHere = this.#checkpoints.some(({ index }) => index === record.index)
      invariant(isHere, `checkpoint ${record.index} is not durable, and the log is to begin behind it`)
    }
    this.#wal.write(records, done)
    this.space.wrote(this.#wal.bytesWritten)
  }

  /** Where the log begins: what is below was let go of, or a checkpoint of a peer took its place. */
  get first(): LogIndex {
    return logIndex(Math.max(this.#meta.content.first, this.#wal.position.first))
  }

  /** Entries that are decided, as far as the log has them: see log-reader.ts. */
  async readDecided(range: EntryRange): Promise<Entry[]> {
    // Segments may still be here from before a checkpoint was installed: what is in them was perhaps never decided.
    return range.from < this.first ? [] : this.#wal.readDecided(range)
  }

  /** The slices of `checkpoint` as the machine gave them, verified. Throws `CHECKPOINT_DAMAGED`. */
  async *readCheckpoint(): AsyncGenerator<Buffer, void> {
    const { checkpoint } = this
    if (checkpoint === null) return
    yield* readSlices(this.#options.disk, this.#options.checkpointDirectory, checkpoint)
  }

  /**
   * Writes a checkpoint: `next` gives the next slice or null, `pause` is awaited between two slices. One at a
   * time. `next` is always called to its end (the machine holds copies until then), also where a checkpoint of this
   * index or a later one is there already and is the answer, and where writing fails: `CHECKPOINT_WRITE_FAILED`.
   */
  async writeCheckpoint(
    head: CheckpointHead,
    next: () => Buffer | null,
    pause: () => Promise<void>,
  ): Promise<CheckpointInfo> {
    invariant(!this.#writing, 'one checkpoint at a time')
    const { checkpoint } = this
    const drain = async (): Promise<void> => {
      while (next() !== null) await pause()
    }
    if (checkpoint !== null && checkpoint.index >= head.index) {
      await drain()
      return checkpoint
    }
    this.#writing = true
    const { disk, checkpointDirectory } = this.#options
    try {
      const cluster = this.identity?.cluster ?? null
      const info = await writeCheckpointFiles(disk, checkpointDirectory, { ...head, cluster }, next, pause, this.#keys)
      await this.#published(info)
      return info
    } catch (error) {
      const failed = diskError('CHECKPOINT_WRITE_FAILED', `checkpoint ${head.index}`, error)
      this.#lastError = failed.message
      // It may be room that is missing, and the log may be on the same disk.
      await disk.removeDirectory(`${checkpointDirectory}/writing`).catch(() => undefined)
      const spare = this.#checkpoints.splice(0, this.#checkpoints.length - CHECKPOINTS_KEPT)
      for (const { id } of spare) await removeCheckpoint(disk, checkpointDirectory, id).catch(() => undefined)
      await drain()
      throw failed
    } finally {
      this.#writing = false
    }
  }

  async #published(info: CheckpointInfo): Promise<void> {
    this.#lostCheckpoint = false
    // Behind what a peer fetches the log stays, too: not where it takes as much as is left.
    const hasRoom = this.#wal.segments.length * this.#options.segmentBytes < this.space.freeBytes
    this.#checkpoints = this.#kept.choose(this.#checkpoints, info, hasRoom)
    const { disk, checkpointDirectory } = this.#options
    await removeOtherCheckpoints(disk, checkpointDirectory, this.#checkpoints)
  }

  /**
   * Lets go of entries up to `index`, as far as the older of the kept checkpoints covers them (a damaged
   * checkpoint must find the log that goes with the one before). Publishes the first index, then moves whole
   * segments to `archive/` or deletes them. `CHECKPOINT_WRITE_FAILED`: nothing is lost, the next attempt does it.
   */
  async truncateHead(index: LogIndex): Promise<void> {
    // With rot in the log the older checkpoint has no log that goes with it, and needs none.
    const older = this.#checkpoints.length < CHECKPOINTS_KEPT ? 0 : this.#checkpoints[0]!.index
    const fallback = this.#rotten.size > 0 ? (this.checkpoint?.index ?? 0) : older
    const first = logIndex(Math.min(index, fallback) + 1)
    if (first <= this.#meta.content.first) return
    try {
      // First the word, then the deed: a start must not look for entries whose segments are gone.
      await this.#meta.update({ first, timeline: this.timeline })
      await this.moveHead(first)
    } catch (error) {
      const failed = diskError('CHECKPOINT_WRITE_FAILED', `the log cannot be let go of below ${first}`, error)
      this.#lastError = failed.message
      throw failed
    }
  }

  /** Moves away the segments that hold nothing at or above `first`, which meta has durably. */
  async moveHead(first: LogIndex): Promise<void> {
    const { segments } = this.#wal
    let count = 0
    for (let at = segments.length - 1; at > 0 && count === 0; at--) {
      // Everything before a segment that begins at or below the first index holds only what is gone.
      if (segments[at]!.base <= first) count = at
    }
    if (count === 0) return
    await this.#wal.sealer.idle()
    const names = segments.slice(0, count).map(({ name }) => name)
    await this.#archive.take(names, (name) => !this.#rotten.has(name), this.readOnly)
    this.#wal.forget(count)
    for (const name of names) this.#rotten.delete(name)
  }

  // ---- rot -------------------------------------------------------------------------------------------------------

  /** What lies still: sealed segments, the archive, the checkpoints. */
  async #still(): Promise<ScrubTarget[]> {
    const { walDirectory, checkpointDirectory: directory } = this.#options
    await this.#wal.sealer.idle()
    const archived = (await this.#archive.segments()).map(({ name }) => name)
    const sealed = this.#wal.segments.slice(0, -1).map(({ name }) => name)
    const at = (kind: ScrubTarget['kind'], folder: string) => (name: string) => ({ kind, directory: folder, name })
    return [
      ...archived.map(at('archived segment', this.#archive.directory)),
      ...sealed.filter((name) => !this.#rotten.has(name)).map(at('segment', walDirectory)),
      ...this.#checkpoints.map(({ id }) => id).map(at('checkpoint', directory)),
    ]
  }

  /**
   * A rotten checkpoint counts no more, and a rotten segment is let go of with the next one: what they held is in the
   * machine, whole. `wantsCheckpoint` says so; the owner takes one at once.
   */
  #foundRot(rot: Rot): void {
    this.#rotFound++
    const { kind, reason } = rot
    const path = `${rot.directory}/${rot.name}`
    this.#lastRot = `${path}: ${reason}`
    this.#options.log?.('rot was found', { code: 'ROT_FOUND', kind, path, reason })
    if (rot.kind === 'checkpoint') {
      // The older one is replaced by the next one in its time.
      this.#lostCheckpoint ||= this.checkpoint?.id === rot.name
      this.#checkpoints = this.#checkpoints.filter(({ id }) => id !== rot.name)
    } else if (rot.kind === 'segment') this.#rotten.add(rot.name)
    else this.#archive.remove(rot.name).catch(() => undefined)
  }

  /** Something on the disk is rotten, and a new checkpoint takes its place. */
  get wantsCheckpoint(): boolean {
    return this.#lostCheckpoint || this.#rotten.size > 0
  }

  /** The manifest of `checkpoint`, for a peer; null if there is none. */
  manifestBytes(): Promise<Buffer | null> {
    const { checkpoint } = this
    return Promise.resolve(checkpoint === null ? null : encodeManifest(checkpoint))
  }

  /** A chunk in the clear, for a peer; null if it is not (or no longer) here, or damaged, which is reported. */
  async readChunk(index: LogIndex, chunk: number): Promise<Buffer | null> {
    const info = this.#checkpoints.find((each) => each.index === index)
    if (info === undefined) return null
    this.#kept.fetched(index)
    try {
      return await readChunk(this.#options.disk, this.#options.checkpointDirectory, info, chunk)
    } catch (error) {
      // A newer checkpoint may have taken its place since.
      if (!this.#checkpoints.includes(info)) return null
      this.#lastError = messageOf(error)
      this.#options.log?.('a checkpoint cannot be served', { error: this.#lastError })
      return null
    }
  }

  /** Begins, or goes on, to receive a peer's checkpoint. Throws `CHECKPOINT_DAMAGED` for a bad manifest. */
  async receive(manifest: Uint8Array): Promise<CheckpointReceiver> {
    const { disk, checkpointDirectory } = this.#options
    const copy = Buffer.from(manifest)
    const { cluster, id } = decodeManifest(copy, 'manifest of a peer')
    if (this.identity !== null && cluster !== null && cluster !== this.identity.cluster) {
      throw new LokiError('IDENTITY_CONFLICT', `a checkpoint of cluster ${cluster} was offered`)
    }
    // One at a time: parts of older ones, which nobody has any more, would fill the volume.
    for (const name of (await disk.list(checkpointDirectory)) ?? []) {
      if (!name.startsWith('receiving-') || name === `receiving-${id}`) continue
      await disk.removeDirectory(`${checkpointDirectory}/${name}`)
    }
    return CheckpointReceiver.open(disk, checkpointDirectory, copy, this.#keys, (info) => this.#published(info))
  }

  status(): StorageStatus {
    const { last } = this.#wal.position
    return {
      readOnly: this.space.readOnly,
      freeBytes: this.space.freeBytes,
      failed: this.#wal.failed,
      bytes: this.#wal.bytesWritten,
      frames: this.#wal.frames,
      sync: this.#wal.pace.mode,
      syncMilliseconds: this.#wal.pace.averageMilliseconds,
      segments: this.#wal.segments.length,
      timeline: this.timeline,
      first: this.first,
      last,
      rot: {
        found: this.#rotFound,
        last: this.#lastRot,
        open: this.wantsCheckpoint,
        verifiedBytes: this.scrub.verifiedBytes,
        passes: this.scrub.passes,
      },
      lastError: this.#lastError ?? this.#wal.besideError,
    }
  }

  /** Waits for what was given, writes what is left, closes the files. */
  async close(): Promise<void> {
    this.space.stop()
    await this.scrub.stop()
    await this.#wal.close()
    await this.#meta.close()
  }
}
