/**
 * The index of a sealed segment: where in the file the entries are.
 *
 * A segment gets it once it has a successor that is durable: behind its end, in sectors of its own, and the file
 * ends with it. (So a newest segment that has one has lost its successor.) No frame is believed because of it. A crash
 * while it is written, or rot in it, leaves a segment without an index, which is read from its start; the next start
 * seals it again. What it says about frames is never believed beyond the place to look at: each frame has its own
 * checks.
 *
 *   offset  bytes
 *        0  8   "LOKIINDX"
 *        8  4   format version, 1
 *       12  4   CRC-32 of the index with these four bytes as zeros, seeded with the segment's
 *       16  uint end of the frames, uint32 check of the last frame, uint marks, mark…
 *           mark: uint index of the first entry at or behind it, uint offset of a frame, uint32 `previous` of that frame
 *           zeros
 *   last 4  bytes of the index, a multiple of 512
 */
import { crc32 } from 'node:zlib'
import { ByteReader, ByteWriter } from '../bytes.ts'
import type { Disk, DiskFile } from './disk.ts'
import { SECTOR_BYTES, alignUp } from './frames.ts'
import type { ReadFrom } from './segment.ts'

const MAGIC = Buffer.from('LOKIINDX', 'latin1')
const FORMAT = 1
const FIXED_BYTES = 16
/** Frames that start so far behind the last mark get one: a reader decodes no more than this in vain. */
export const MARK_EVERY_BYTES = 64 * 1024
/** An index that claims more is none. */
const MAXIMUM_INDEX_BYTES = 16 * 1024 * 1024

/** A frame, and the index of the first entry that is in it or behind it. */
export interface Mark extends ReadFrom {
  readonly first: number
}

export interface SegmentIndex {
  /** Where the frames end, and the check of the last one: as the link of the next segment says. */
  readonly end: number
  readonly check: number
  readonly marks: readonly Mark[]
}

/** What sealing a segment takes. */
export interface Unsealed extends SegmentIndex {
  readonly name: string
  readonly seed: number
}

/** Gathers the marks of a segment from its frames, in their order. */
export class Marks {
  readonly list: Mark[] = []
  #next: number

  /** `headerBytes`: the first frame needs no mark. */
  constructor(headerBytes: number) {
    this.#next = headerBytes + MARK_EVERY_BYTES
  }

  frame(offset: number, previous: number, first: number): void {
    if (offset < this.#next) return
    this.list.push({ first, offset, previous })
    this.#next = offset + MARK_EVERY_BYTES
  }
}

export function encodeIndex(index: SegmentIndex, seed: number): Buffer {
  const writer = new ByteWriter()
  writer.raw(MAGIC).uint32(FORMAT).uint32(0)
  writer.uint(index.end).uint32(index.check).uint(index.marks.length)
  for (const mark of index.marks) writer.uint(mark.first).uint(mark.offset).uint32(mark.previous)
  const size = alignUp(writer.length + 4, SECTOR_BYTES)
  while (writer.length < size - 4) writer.uint8(0)
  writer.uint32(size)
  const bytes = writer.finish()
  bytes.writeUInt32LE(crc32(bytes, seed), 12)
  return bytes
}

/** Null where `bytes`, an index as a whole, is none of a segment with this seed. */
export function decodeIndex(bytes: Buffer, seed: number): SegmentIndex | null {
  if (bytes.length < SECTOR_BYTES || !isMagic(bytes)) return null
  const copy = Buffer.from(bytes)
  copy.writeUInt32LE(0, 12)
  if (crc32(copy, seed) !== bytes.readUInt32LE(12) || bytes.readUInt32LE(8) !== FORMAT) return null
  const reader = new ByteReader(copy, FIXED_BYTES)
  const end = reader.uint()
  const check = reader.uint32()
  const marks: Mark[] = []
  for (let left = reader.uint(); left > 0; left--) {
    marks.push({ first: reader.uint(), offset: reader.uint(), previous: reader.uint32() })
  }
  return { end, check, marks }
}

/** `none`: there is no index. `damaged`: there is the beginning or the end of one. */
export type IndexFound = SegmentIndex | 'none' | 'damaged'

/** The index of a segment's file. `end`: where its frames end, null where that is not known. */
export async function readIndex(
  file: DiskFile,
  fileBytes: number,
  seed: number,
  end: number | null,
): Promise<IndexFound> {
  if (fileBytes < SECTOR_BYTES) return 'none'
  const tail = await file.read(fileBytes - 4, 4)
  const size = tail.length === 4 ? tail.readUInt32LE(0) : 0
  const isSize = size >= SECTOR_BYTES && size % SECTOR_BYTES === 0 && size <= Math.min(fileBytes, MAXIMUM_INDEX_BYTES)
  const bytes = isSize ? await file.read(fileBytes - size, size) : NOTHING
  const index = decodeIndex(bytes, seed)
  if (index !== null) return index
  // Zeros, or the last frame of a segment that nobody sealed: anything may be there but this.
  const start = end === null ? bytes : await file.read(alignUp(end, SECTOR_BYTES), MAGIC.length)
  if (end !== null && isMagic(start) && (await isUnfinished(file, fileBytes, seed, end))) return 'none'
  return isMagic(start) || isMagic(bytes) ? 'damaged' : 'none'
}

/** A crash came before what is behind the index was cut off: that is no damage. */
async function isUnfinished(file: DiskFile, fileBytes: number, seed: number, end: number): Promise<boolean> {
  const start = alignUp(end, SECTOR_BYTES)
  const bytes = await file.read(start, Math.min(fileBytes - start, MAXIMUM_INDEX_BYTES))
  for (let size = SECTOR_BYTES; size < bytes.length; size += SECTOR_BYTES) {
    if (bytes.readUInt32LE(size - 4) === size && decodeIndex(bytes.subarray(0, size), seed) !== null) return true
  }
  return false
}

/** The bytes of a segment without a damaged index at their end: rot in an index is none in the frames. */
export function withoutIndex(bytes: Buffer): Buffer {
  const last = Math.floor(bytes.length / SECTOR_BYTES) * SECTOR_BYTES
  for (let at = last; at > Math.max(0, last - MAXIMUM_INDEX_BYTES); at -= SECTOR_BYTES) {
    if (isMagic(bytes.subarray(at, at + MAGIC.length))) return bytes.subarray(0, at)
  }
  return bytes
}

const NOTHING = Buffer.alloc(0)
const isMagic = (bytes: Buffer): boolean => bytes.length >= MAGIC.length && bytes.compare(MAGIC, 0, 8, 0, 8) === 0

/** The last mark at or before the entry at `first`; null: from the first frame on. */
export function markFor({ marks }: Pick<SegmentIndex, 'marks'>, first: number): Mark | null {
  return marks.findLast((mark) => mark.first <= first) ?? null
}

/** Writes the index behind the end of a segment that has a durable successor, and cuts off what is behind. */
export async function sealSegment(disk: Disk, directory: string, sealed: Unsealed): Promise<void> {
  const bytes = encodeIndex(sealed, sealed.seed)
  const offset = alignUp(sealed.end, SECTOR_BYTES)
  const file = await disk.open(`${directory}/${sealed.name}`, 'write')
  try {
    await file.write(bytes, offset)
    await file.truncate(offset + bytes.length)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** For messages: what is wrong with what `readIndex` found, against what the next segment says; null: nothing. */
export function indexFault(found: IndexFound, end: number, check: number): string | null {
  if (found === 'none') return 'it has no index'
  if (found === 'damaged') return 'its index is damaged'
  return found.end === end && found.check === check ? null : 'its index is of something else'
}
