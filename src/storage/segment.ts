/**
 * Segments: the files of the log, `<timeline>-<base>.wal`. Names, the header, and reading one.
 *
 *   offset  bytes
 *        0  8   "LOKIWAL\n"
 *        8  4   format version: 1, or 2 with one of the flags 2, 4 and 8
 *       12  4   bytes of this header, a multiple of 512
 *       16  4   CRC-32 of the header with these four bytes as zeros; the seed of every frame of the segment
 *       20  4   flags: 1 the first write of frames was made with the header, before the segment appeared;
 *               2 frames may be compressed; 4 every frame is sealed with a key; 8 where there is a doubt: promises
 *               may be lost, too
 *       24  string volume, string cluster ("" before the node has one)
 *           uint timeline, uint base, uint first index of the log, uint doubtful from (0: no doubt)
 *           uint previous timeline, uint previous base (both 0: none), uint previous end, uint32 previous check
 *           state, as it was before the first frame (records.ts)
 *           with flag 4: string key id, 16 bytes salt, 8 bytes check of the key (keys.ts)
 *           zeros
 *   header bytes   frames (frames.ts), then zeros or the end of the file; of a sealed segment, an index
 *                  (segment-index.ts)
 *
 * `base`: entries at or above it in earlier segments are superseded. `previous end` says where the segment
 * before ends, and `previous check` is the check of its last frame: the chain goes on across files, a missing
 * or shortened file is noticed, and what a crash left behind an end is never read again.
 *
 * A segment is made under a temporary name, synced, renamed, its directory synced: it is there as a whole, its
 * first frame included, or not at all.
 */
import { crc32 } from 'node:zlib'
import { ByteReader, ByteWriter } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { type ClusterId, type DurableState, type LogIndex, type Timeline, type VolumeId } from '../vocabulary.ts'
import { clusterId, logIndex, timeline, volumeId } from '../vocabulary.ts'
import {
  type FrameHeader,
  SECTOR_BYTES,
  type Stop,
  alignUp,
  classifyStop,
  findFrameHeader,
  openFramePayload,
  readFrameHeader,
  readFramePayload,
} from './frames.ts'
import { decompressPayload } from './compression.ts'
import { type FileCipher, type KeyNeed, readKeyNeed, writeKeyNeed } from './keys.ts'
import { readState, writeState } from './records.ts'

const MAGIC = Buffer.from('LOKIWAL\n', 'latin1')
/** Of segments that have none of the flags that came with format 2. */
const FORMAT_PLAIN = 1
const FORMAT = 2
const FIXED_BYTES = 24
const BORN_WITH_FRAME = 1
const COMPRESSED = 2
const ENCRYPTED = 4
const PROMISE_LOST = 8
const FLAGS = BORN_WITH_FRAME | COMPRESSED | ENCRYPTED | PROMISE_LOST
/** A header that claims more is damage. */
export const MAXIMUM_HEADER_BYTES = 1024 * 1024

/** Where the segment before ends, and the check of its last frame (of its header where it has none). */
export interface SegmentLink {
  readonly timeline: Timeline
  readonly base: LogIndex
  readonly end: number
  readonly check: number
}

export interface SegmentHeader {
  readonly volume: VolumeId
  /** Null before the node has one. */
  readonly cluster: ClusterId | null
  readonly timeline: Timeline
  readonly base: LogIndex
  /** First index of the log when the segment began. */
  readonly first: LogIndex
  readonly doubtfulFrom: LogIndex | null
  /** In doubt: whether promises may be lost, too. */
  readonly promiseLost: boolean
  /** Null in the first segment of a volume. */
  readonly previous: SegmentLink | null
  /** Whether the first frame was durable before the segment got its name: it can be rotten, but not torn. */
  readonly bornWithFrame: boolean
  /** Whether frames may be compressed. */
  readonly compressed: boolean
  /** The key that every frame is sealed with, or null. */
  readonly key: KeyNeed | null
  readonly state: DurableState
}

export interface SegmentName {
  readonly timeline: Timeline
  readonly base: LogIndex
  readonly name: string
}

export const segmentName = (line: Timeline, base: LogIndex): string =>
  `${String(line).padStart(10, '0')}-${String(base).padStart(16, '0')}.wal`

/** The segments among the names of a directory, oldest first. */
export function segmentsAmong(names: readonly string[]): SegmentName[] {
  const segments: SegmentName[] = []
  for (const name of names) {
    const match = /^(\d{10})-(\d{16})\.wal$/.exec(name)
    if (match) segments.push({ timeline: timeline(Number(match[1])), base: logIndex(Number(match[2])), name })
  }
  return segments.sort((a, b) => a.timeline - b.timeline || a.base - b.base)
}

/** The bytes of a header, and the seed of the segment's frames. */
export function encodeSegmentHeader(header: SegmentHeader): { readonly bytes: Buffer; readonly seed: number } {
  const writer = new ByteWriter()
  const packing =
    (header.compressed ? COMPRESSED : 0) |
    (header.key === null ? 0 : ENCRYPTED) |
    (header.promiseLost ? PROMISE_LOST : 0)
  writer
    .raw(MAGIC)
    .uint32(packing === 0 ? FORMAT_PLAIN : FORMAT)
    .uint32(0)
    .uint32(0)
    .uint32(packing | (header.bornWithFrame ? BORN_WITH_FRAME : 0))
  writer.string(header.volume).string(header.cluster ?? '')
  writer
    .uint(header.timeline)
    .uint(header.base)
    .uint(header.first)
    .uint(header.doubtfulFrom ?? 0)
  const { previous } = header
  writer.uint(previous?.timeline ?? 0).uint(previous?.base ?? 0)
  writer.uint(previous?.end ?? 0).uint32(previous?.check ?? 0)
  writeState(writer, header.state)
  if (header.key !== null) writeKeyNeed(writer, header.key)
  const size = alignUp(writer.length, SECTOR_BYTES)
  while (writer.length < size) writer.uint8(0)
  writer.patchUint32(12, size)
  const bytes = writer.finish()
  const seed = crc32(bytes)
  bytes.writeUInt32LE(seed, 16)
  return { bytes, seed }
}

export interface DecodedHeader {
  readonly header: SegmentHeader
  /** Bytes of the header: where the frames begin. */
  readonly size: number
  readonly seed: number
}

/** Reads the header at the start of `bytes`; `path` is for the message. Throws `LOG_DAMAGED`, `FORMAT_TOO_NEW`. */
export function decodeSegmentHeader(bytes: Buffer, path: string): DecodedHeader {
  const damaged = (reason: string): LokiError => new LokiError('LOG_DAMAGED', `${path}: ${reason}`)
  if (bytes.length < FIXED_BYTES || bytes.compare(MAGIC, 0, 8, 0, 8) !== 0) {
    throw damaged('the header of the segment is damaged (no magic)')
  }
  const format = bytes.readUInt32LE(8)
  const size = bytes.readUInt32LE(12)
  if (size < SECTOR_BYTES || size > MAXIMUM_HEADER_BYTES || size % SECTOR_BYTES !== 0 || size > bytes.length) {
    throw damaged(`the header of the segment is damaged (${size} bytes long)`)
  }
  const copy = Buffer.from(bytes.subarray(0, size))
  const seed = copy.readUInt32LE(16)
  copy.writeUInt32LE(0, 16)
  if (crc32(copy) !== seed) throw damaged('the header of the segment is damaged (checksum)')
  const flags = copy.readUInt32LE(20)
  if (format > FORMAT || (flags & ~FLAGS) !== 0) {
    throw new LokiError('FORMAT_TOO_NEW', `${path} has format ${format}, flags ${flags}; this version knows ${FORMAT}`)
  }
  const reader = new ByteReader(copy, FIXED_BYTES)
  const volume = volumeId(reader.string())
  const cluster = reader.string()
  const line = timeline(reader.uint())
  const base = logIndex(reader.uint())
  const first = logIndex(reader.uint())
  const doubt = reader.uint()
  const link = { timeline: timeline(reader.uint()), base: logIndex(reader.uint()), end: reader.uint() }
  const check = reader.uint32()
  const header: SegmentHeader = {
    volume,
    cluster: cluster === '' ? null : clusterId(cluster),
    timeline: line,
    base,
    first,
    doubtfulFrom: doubt === 0 ? null : logIndex(doubt),
    previous: link.timeline === 0 ? null : { ...link, check },
    promiseLost: (flags & PROMISE_LOST) !== 0,
    bornWithFrame: (flags & BORN_WITH_FRAME) !== 0,
    compressed: (flags & COMPRESSED) !== 0,
    state: readState(reader),
    key: (flags & ENCRYPTED) === 0 ? null : readKeyNeed(reader),
  }
  return { header, size, seed }
}

/** What reading the frames of a segment meets, in the order of the file. */
export type SegmentItem =
  /** `payload` is null where it is sealed and no cipher was given: the frame is whole as far as its CRC says. */
  | { readonly kind: 'frame'; readonly header: FrameHeader; readonly payload: Buffer | null }
  /** Damage from `from` up to `to`, where the next good frame starts or reading ends. */
  | { readonly kind: 'rot'; readonly from: number; readonly to: number; readonly reason: string }
  /** What follows at `end` is whole, but was chained to something else: two lives of one volume were mixed. */
  | { readonly kind: 'foreign'; readonly end: number }
  /** The last item, always. `end` is behind the last good frame, `check` that frame's. */
  | { readonly kind: 'stop'; readonly end: number; readonly check: number; readonly stop: Stop }

/** Where reading starts, if not at the first frame: the offset of a frame, from the index of the segment. */
export interface ReadFrom {
  readonly offset: number
  readonly previous: number
}

/**
 * Reads the frames of a segment. `known` is what the segment after it says about its end; null for the newest
 * segment, whose end the torn-tail rule finds. `cipher` opens what is sealed; null: payloads stay closed.
 */
export function* readSegment(
  bytes: Buffer,
  decoded: DecodedHeader,
  known: Pick<SegmentLink, 'end' | 'check'> | null,
  cipher: FileCipher | null = null,
  from: ReadFrom | null = null,
): Generator<SegmentItem, void> {
  const { seed, size } = decoded
  const readable = known === null ? bytes : bytes.subarray(0, known.end)
  let offset = from?.offset ?? size
  let check = from?.previous ?? seed
  let stop: Stop = { kind: 'end' }
  for (;;) {
    if (known !== null && offset >= known.end) break
    const header = readFrameHeader(readable, offset, seed)
    const payload = header === null ? null : readPayload(readable, header, decoded, cipher)
    if (header !== null && payload !== null) {
      if (header.previous !== check) yield { kind: 'foreign', end: offset }
      yield { kind: 'frame', header, payload: payload === SEALED ? null : payload }
      offset = header.end
      check = header.check
      continue
    }
    const wasDurable = known !== null || (offset === size && decoded.header.bornWithFrame)
    stop = wasDurable ? { kind: 'rot', reason: 'a frame is damaged or missing' } : classifyStop(bytes, offset, seed)
    if (stop.kind !== 'rot') break
    const next = resume(readable, offset, header, seed)
    yield { kind: 'rot', from: offset, to: next?.offset ?? readable.length, reason: stop.reason }
    if (next === null) break
    check = next.previous
    offset = next.offset
    stop = { kind: 'end' }
  }
  if (known !== null && stop.kind === 'end' && offset !== known.end) {
    stop = { kind: 'rot', reason: `the segment does not end where the next one says (${known.end})` }
    yield { kind: 'rot', from: offset, to: known.end, reason: stop.reason }
  } else if (known !== null && offset === known.end && check !== known.check) {
    yield { kind: 'foreign', end: offset }
  }
  yield { kind: 'stop', end: offset, check, stop }
}

/** Whole, as far as its CRC says, and closed: no cipher was given. */
export const SEALED = Symbol('sealed')

/** The payload as it was given to the log; null where the frame is damaged. `bytes`: as `readFrameHeader` says. */
export function readPayload(
  bytes: Buffer,
  header: FrameHeader,
  { header: { key }, seed }: DecodedHeader,
  cipher: FileCipher | null,
  skipped = 0,
): Buffer | typeof SEALED | null {
  let payload = readFramePayload(bytes, header, seed, skipped)
  if (payload !== null && key !== null) {
    if (cipher === null) return SEALED
    payload = openFramePayload(bytes, header, payload, cipher, skipped)
  }
  return payload !== null && header.compressed ? decompressPayload(payload) : payload
}

/** Where reading goes on behind damage at `offset`: the next frame that is whole, or null. */
function resume(bytes: Buffer, offset: number, header: FrameHeader | null, seed: number): FrameHeader | null {
  let at = header?.end ?? offset + 32
  for (;;) {
    const next = findFrameHeader(bytes, at, seed)
    if (next === null) return null
    if (readFramePayload(bytes, next, seed) !== null) return next
    at = next.end
  }
}
