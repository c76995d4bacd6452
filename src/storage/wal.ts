/**
 * The open end of the log: takes records, makes them durable in order, tells when.
 *
 * Guarantees
 * - One frame, one durable write at a time. What is given while it is under way is the next frame, all of it.
 * - `done` is called in the order of `write`, never from inside it, and only when everything given so far is
 *   durable. After a failed write nothing is called any more: memory is ahead of disk, and a sync that failed
 *   must not be tried again (the kernel may have dropped the pages).
 * - A record that replaces a part of the log (`isCut`) is in the first frame of a new segment on a higher
 *   timeline, with no entry before it; the segment appears with that frame or not at all.
 * - A promise, an accept-sync or a configuration is followed, in the same write, by a state frame in sectors of
 *   its own: one damaged place never makes a node forget a promise.
 * - `decided` alone waits for company: it needs no sync of its own.
 * - A segment that has a durable successor is sealed with an index, beside the log; that may fail.
 * - With a key, the nonce of a frame is its offset. An offset is written once in the life of a segment, or again with
 *   the same bytes (unsynced.ts): a process writes what is new to segments that it made itself, each with a salt of
 *   its own, and to no offset twice; after a crash the next start makes a new segment, however little of the last
 *   write is on the disk.
 */
import { ByteWriter } from '../bytes.ts'
import { LokiError, messageOf } from '../errors.ts'
import { invariant } from '../invariant.ts'
import type { ClusterId, Entry, LogIndex, LogRecord, Timeline, VolumeId } from '../vocabulary.ts'
import { logIndex, timeline } from '../vocabulary.ts'
import { compressPayload } from './compression.ts'
import type { Disk, DiskFile } from './disk.ts'
import {
  FRAME_HEADER_BYTES,
  FRAME_RECORDS,
  FRAME_STATE,
  MAXIMUM_FRAME_BYTES,
  SECTOR_BYTES,
  alignUp,
  beginFrame,
  finishFrame,
} from './frames.ts'
import { FileCipher, type KeyRing, TAG_BYTES } from './keys.ts'
import { type EntryRange, readDecided } from './log-reader.ts'
import { type LogPosition, advance, isCut, writePadding, writeRecord, writeState } from './records.ts'
import { type SyncMode, SyncPace } from './sync-pace.ts'
import { type SegmentLink, encodeSegmentHeader, segmentName } from './segment.ts'
import { Marks } from './segment-index.ts'
import { PREPARED_FILE, PreparedSegment } from './prepared-segment.ts'
import { Sealer } from './sealer.ts'

/** Turns are gathered into one frame up to about here; a single record may be larger. */
const FRAME_TARGET_BYTES = 16 * 1024 * 1024
/** Entries of one record. Above what nodes send each other (LIMITS.peerFrameBytes); a frame has room for it. */
export const RECORD_BYTES_MAXIMUM = 768 * 1024 * 1024
const WRITER_BYTES = 256 * 1024
/** A segment that has this part of its size in it gets a successor prepared. */
const PREPARE_PART = 1 / 64

export interface SegmentOnDisk {
  readonly timeline: Timeline
  readonly base: LogIndex
  readonly name: string
}

export interface WalOptions {
  readonly disk: Disk
  readonly directory: string
  readonly segmentBytes: number
  readonly volume: VolumeId
  readonly onFatal: (error: LokiError) => void
  /** Between two slices of zeros; gives the disk back to the log. */
  readonly pause: () => Promise<void>
  readonly sync: 'auto' | SyncMode
  readonly compression: Compression
  readonly keys: KeyRing
}

export type Compression = 'none' | 'zstd'

interface Item {
  readonly records: readonly LogRecord[]
  /** Records before it are in a frame already. */
  from: number
  readonly done: () => void
}

interface OpenSegment {
  readonly file: DiskFile
  readonly name: SegmentOnDisk
  readonly seed: number
  readonly cipher: FileCipher | null
  readonly marks: Marks
  offset: number
  check: number
  frames: number
  readonly prepared: boolean
}

/** Failures of the disk as one coded error that names what was under way. */
export function diskError(
  code: 'LOG_WRITE_FAILED' | 'CHECKPOINT_WRITE_FAILED',
  what: string,
  error: unknown,
): LokiError {
  if (error instanceof LokiError) return error
  return new LokiError(code, `${what}: ${messageOf(error)}`, { cause: error })
}

export class Wal {
  readonly #options: WalOptions
  #writer = new ByteWriter(WRITER_BYTES)
  #cluster: ClusterId | null
  #timeline: Timeline
  /** Behind everything that is in a frame. */
  #position: LogPosition
  /** Behind everything that was given. */
  #given: LogPosition
  /** A decided index that no frame has yet. */
  #lazy: LogRecord | null = null
  #segment: OpenSegment | null = null
  #previous: SegmentLink | null
  readonly #older: SegmentOnDisk[]
  #queue: Item[] = []
  #running = false
  #failed = false
  #closing = false
  #closed = false
  #idle: (() => void)[] = []
  readonly #prepared: PreparedSegment
  readonly sealer: Sealer
  readonly pace: SyncPace
  bytesWritten = 0
  frames = 0

  /** `previous`: where the newest segment ends. `older`: the segments that are there. */
  constructor(
    options: WalOptions,
    cluster: ClusterId | null,
    line: Timeline,
    position: LogPosition,
    previous: SegmentLink | null,
    older: readonly SegmentOnDisk[],
  ) {
    this.#options = options
    this.#prepared = new PreparedSegment(options)
    this.sealer = new Sealer(options.disk, options.directory)
    this.pace = new SyncPace(options.sync)
    this.#cluster = cluster
    this.#timeline = line
    this.#position = position
    this.#given = position
    this.#previous = previous
    this.#older = [...older]
  }

  /** Of the newest segment that is durable: what names it elsewhere must not name one that a crash could take back. */
  get timeline(): Timeline {
    return this.#segment?.name.timeline ?? this.#timeline
  }

  /** Behind everything that was given, durable or not. */
  get position(): LogPosition {
    return this.#given
  }

  /** Oldest first, the open one last. */
  get segments(): readonly SegmentOnDisk[] {
    return this.#segment === null ? this.#older : [...this.#older, this.#segment.name]
  }

  /** Something is being written. */
  get isBusy(): boolean {
    return this.#running
  }

  /** It is written past the page cache (direct-writes.ts). */
  get isDirect(): boolean {
    return this.#segment?.file.isDirect ?? false
  }

  get failed(): boolean {
    return this.#failed
  }

  /** Headers of segments to come name the cluster. */
  set cluster(cluster: ClusterId) {
    this.#cluster = cluster
  }

  /** Opens the timeline of this start: a segment with nothing but its header. */
  async start(): Promise<void> {
    await this.#newSegment(logIndex(this.#position.last + 1), this.#position, null)
  }

  write(records: readonly LogRecord[], done: () => void): void {
    invariant(!this.#closed, 'the log is closed')
    let given = this.#given
    for (const record of records) {
      const bytes = entryBytes(record)
      invariant(bytes <= RECORD_BYTES_MAXIMUM, `a record has ${bytes} bytes, allowed are ${RECORD_BYTES_MAXIMUM}`)
      given = advance(given, record)
    }
    this.#given = given
    this.#queue.push({ records, from: 0, done })
    if (!this.#running && !this.#failed) {
      this.#running = true
      void this.#run()
    }
  }

  async #run(): Promise<void> {
    try {
      while (this.#queue.length > 0) await this.#writeFrame()
    } catch (error) {
      this.#failed = true
      this.#queue = []
      this.#options.onFatal(diskError('LOG_WRITE_FAILED', `cannot write the log in ${this.#options.directory}`, error))
    }
    this.#running = false
    for (const idle of this.#idle.splice(0)) idle()
  }

  async #writeFrame(): Promise<void> {
    const before = this.#position
    const finished: Item[] = []
    // One buffer for all frames, but a rare large frame must not keep its memory for ever.
    if (this.#writer.length > 32 * WRITER_BYTES) this.#writer = new ByteWriter(WRITER_BYTES)
    this.#writer.reset()
    const start = beginFrame(this.#writer)
    const taken = this.#take(finished)
    this.#takeLazy(start)
    if (this.#writer.length > start + FRAME_HEADER_BYTES) {
      invariant(this.#writer.length < MAXIMUM_FRAME_BYTES, 'a record must fit into a frame')
      if (this.#options.compression === 'zstd') {
        taken.compressed = await compressPayload(this.#writer, start + FRAME_HEADER_BYTES)
      }
      if (taken.cut !== null) {
        this.#timeline = timeline(this.#timeline + 1)
        await this.#newSegment(taken.cut.base, { ...before, first: taken.cut.first }, taken)
      } else {
        await this.#append(before, taken)
      }
    } else {
      // `done` is never called from inside `write`.
      await Promise.resolve()
    }
    for (const item of finished) item.done()
  }

  /**
   * Encodes records from the queue: up to a target size, and up to a cut that has entries or a cut before it.
   * `decided` alone stays for the next frame, unless the log closes.
   */
  #take(finished: Item[]): Taken {
    let vital = false
    let cut: Taken['cut'] = null
    let touchesEntries = false
    while (this.#queue.length > 0) {
      const item = this.#queue[0]!
      while (item.from < item.records.length) {
        const record = item.records[item.from]!
        if (isCut(this.#position, record)) {
          if (touchesEntries) return { vital, cut, compressed: false }
          const base = record.kind === 'installed' ? logIndex(record.index + 1) : (record as { base: LogIndex }).base
          cut = { base, first: record.kind === 'installed' ? base : this.#position.first }
        }
        this.#position = advance(this.#position, record)
        item.from++
        if (record.kind === 'decided') {
          this.#lazy = record
          continue
        }
        writeRecord(this.#writer, record)
        touchesEntries ||= record.kind !== 'promise' && record.kind !== 'configuration'
        if (record.kind !== 'entries') vital = true
        if (this.#writer.length >= FRAME_TARGET_BYTES && item.from < item.records.length) {
          return { vital, cut, compressed: false }
        }
      }
      finished.push(this.#queue.shift()!)
      if (this.#writer.length >= FRAME_TARGET_BYTES) break
    }
    return { vital, cut, compressed: false }
  }

  /** The decided index travels with a frame that is written anyway, or with the last one. */
  #takeLazy(start: number): void {
    if (this.#lazy === null || (this.#writer.length === start + FRAME_HEADER_BYTES && !this.#closing)) return
    writeRecord(this.#writer, this.#lazy)
    this.#lazy = null
  }

  async #append(before: LogPosition, taken: Taken): Promise<void> {
    let segment = this.#segment!
    const size = this.#writer.length + (taken.vital ? 2 * SECTOR_BYTES : 0)
    const full = segment.offset + size > this.#options.segmentBytes && segment.frames > 0
    if (full || (this.#prepared.isReady && !segment.prepared)) {
      const base = logIndex(before.last + 1)
      if (base === segment.name.base) this.#timeline = timeline(this.#timeline + 1)
      await this.#newSegment(base, before, taken)
      return
    }
    this.#sign(segment, before.last, taken)
    const bytes = this.#writer.view()
    if (segment.file.writeNow && this.pace.next(bytes.length) === 'inline') {
      this.pace.took(segment.file.writeNow(bytes, segment.offset))
      // `done` is never called from inside `write`.
      await Promise.resolve()
    } else {
      await segment.file.write(bytes, segment.offset)
    }
    this.#written(segment, bytes.length)
    if (segment.offset > this.#options.segmentBytes * PREPARE_PART) this.#prepared.begin()
  }

  #written(segment: OpenSegment, bytes: number): void {
    segment.offset += bytes
    segment.frames++
    this.frames++
    this.bytesWritten += bytes
  }

  /**
   * Signs the frame in the writer for its place; with a state frame in sectors of its own behind a vital one.
   * `before`: the last index before it.
   */
  #sign(segment: OpenSegment, before: number, taken: Taken): void {
    const { seed, offset, cipher } = segment
    const { last, state } = this.#position
    const writer = this.#writer
    segment.marks.frame(offset, segment.check, before + 1)
    if (taken.vital) {
      const end = offset + writer.length + (cipher === null ? 0 : TAG_BYTES)
      writePadding(writer, alignUp(end, SECTOR_BYTES) - end)
    }
    const place = { segmentSeed: seed, offset, previous: segment.check }
    const content = { kind: FRAME_RECORDS, compressed: taken.compressed, last }
    segment.check = finishFrame(writer, 0, place, content, cipher)
    if (!taken.vital) return
    const start = beginFrame(writer)
    writeState(writer, state)
    const behind = { segmentSeed: seed, offset: offset + start, previous: segment.check }
    segment.check = finishFrame(writer, start, behind, { kind: FRAME_STATE, compressed: false, last }, cipher)
  }

  /** Makes the next segment, with the frame in the writer as its first where `taken` says there is one. */
  async #newSegment(base: LogIndex, position: LogPosition, taken: Taken | null): Promise<void> {
    const { disk, directory, volume, compression, keys } = this.#options
    const old = this.#segment
    const previous = old === null ? this.#previous : { ...old.name, end: old.offset, check: old.check }
    const name = segmentName(this.#timeline, base)
    const cipher = FileCipher.create(keys, 'segment', `${directory}/${name}`)
    const { bytes: header, seed } = encodeSegmentHeader({
      volume,
      cluster: this.#cluster,
      timeline: this.#timeline,
      base,
      first: position.first,
      doubtfulFrom: position.doubtfulFrom,
      promiseLost: position.promiseLost,
      previous,
      bornWithFrame: taken !== null,
      compressed: compression !== 'none',
      key: cipher?.need ?? null,
      state: position.state,
    })
    const prepared = this.#prepared.take()
    const temporary = prepared === null ? `${name}.tmp` : PREPARED_FILE
    const file = prepared ?? (await disk.open(`${directory}/${temporary}`, 'create-durable'))
    const segment: OpenSegment = {
      file,
      name: { timeline: this.#timeline, base, name },
      seed,
      cipher,
      marks: new Marks(header.length),
      offset: header.length,
      check: seed,
      frames: 0,
      prepared: prepared !== null,
    }
    if (taken === null) {
      await file.write(header, 0)
    } else {
      this.#sign(segment, base - 1, taken)
      const pieces = [header, this.#writer.view()]
      await (file.writePieces ? file.writePieces(pieces, 0) : file.write(Buffer.concat(pieces), 0))
      this.#written(segment, this.#writer.length)
    }
    await disk.rename(`${directory}/${temporary}`, `${directory}/${name}`)
    await disk.syncDirectory(directory)
    this.#segment = segment
    if (old !== null) {
      this.#older.push(old.name)
      await old.file.close()
      const { name: file, seed: oldSeed, offset: end, check, marks } = old
      this.sealer.seal([{ name: file.name, seed: oldSeed, end, check, marks: marks.list }])
    }
  }

  /** Why the last work beside the log failed, or null: the log goes on without it. */
  get besideError(): string | null {
    return this.#prepared.error ?? this.sealer.error
  }

  /** Entries that are decided: see log-reader.ts. */
  readDecided(range: EntryRange): Promise<Entry[]> {
    const { disk, directory, keys } = this.#options
    const log = { directory, segments: this.segments, marks: this.#segment?.marks.list ?? [] }
    return readDecided(disk, keys, log, range)
  }

  /** Forgets segments that the caller moved away; they are the oldest ones. */
  forget(count: number): void {
    this.#older.splice(0, count)
  }

  /** When everything given so far is durable, or the log has failed. */
  async settled(): Promise<void> {
    if (this.#running) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  async close(): Promise<void> {
    this.#closing = true
    this.#prepared.stop()
    await this.settled()
    if (this.#lazy !== null && !this.#failed) this.write([], () => {})
    await this.settled()
    this.#closed = true
    await this.#prepared.close()
    await this.sealer.idle()
    await this.#segment?.file.close()
    this.#segment = null
  }
}

function entryBytes(record: LogRecord): number {
  if (record.kind !== 'entries' && record.kind !== 'accept-sync') return 0
  let bytes = 0
  for (const entry of record.entries) if (entry.kind === 'commands') bytes += entry.payload.length
  return bytes
}

interface Taken {
  /** Has a promise, accept-sync, configuration or installation in it. */
  readonly vital: boolean
  readonly cut: { readonly base: LogIndex; readonly first: LogIndex } | null
  compressed: boolean
}
