/**
 * Frames: what one turn makes durable is one frame of a segment. Functions over bytes, no files.
 *
 *   offset  bytes
 *        0  4   length of the payload, 1 and up
 *        4  4   kind: 1 records, 2 state (the state after the frame before, once more); 0x100 added: compressed
 *        8  4   mask: every 4-byte word of the payload and its padding is XORed with it
 *       12  4   previous: `check` of the frame before; of the first frame: the CRC of the segment's header
 *       16  8   last index of the log after this frame
 *       24  4   CRC-32 of masked payload and padding, seeded with segment and offset
 *       28  4   check: CRC-32 of the 28 bytes before, seeded with segment and offset
 *       32  payload, then zeros up to a multiple of 32 (masked too)
 *
 * A payload may be compressed (compression.ts) and then, in a segment with a key, sealed: ciphertext and tag, where
 * the number of the piece is the offset of the frame, and the first 24 bytes of its header with a mask of 0 are
 * authenticated with it (keys.ts). Masks and CRCs are of the bytes as they are stored: torn and rotten are told
 * apart, and frames are verified, without the key.
 *
 * All integers are little-endian. The seed of both CRCs is the CRC-32 of the frame's offset (8 bytes), started
 * with the CRC of the segment's header, which covers volume, timeline and base: a frame in the wrong place
 * never passes for the right one. `previous` chains the frames: none can be missing between two others.
 *
 * Two properties make a torn write recognisable. A frame starts at a multiple of 32, so that its header never
 * lies across two 512-byte sectors: it is there or it is not. And no sector's part of a frame is all zeros,
 * which the mask sees to (it is 0 unless the payload has a sector's worth of one repeated word): so a zero
 * sector inside a frame is one that was never written.
 *
 * node:zlib for its native CRC-32 only; nothing here touches a file.
 */
import { crc32 } from 'node:zlib'
import type { ByteWriter } from '../bytes.ts'
import { type FileCipher, TAG_BYTES } from './keys.ts'

export const SECTOR_BYTES = 512
export const FRAME_ALIGNMENT = 32
export const FRAME_HEADER_BYTES = 32
/** A frame that claims more is damage. Also the most that one turn may persist. */
export const MAXIMUM_FRAME_BYTES = 0x4000_0000

export const FRAME_RECORDS = 1
export const FRAME_STATE = 2
const COMPRESSED = 0x100
/** Of the header, what is authenticated with a sealed payload. */
const AUTHENTICATED_BYTES = 24

export interface FrameHeader {
  readonly offset: number
  readonly length: number
  readonly kind: number
  readonly compressed: boolean
  readonly mask: number
  readonly previous: number
  readonly last: number
  readonly crc: number
  readonly check: number
  /** Where the next frame starts. */
  readonly end: number
}

const seedBytes = Buffer.alloc(8)

function frameSeed(segmentSeed: number, offset: number): number {
  seedBytes.writeUInt32LE(offset % 0x1_0000_0000, 0)
  seedBytes.writeUInt32LE(Math.floor(offset / 0x1_0000_0000), 4)
  return crc32(seedBytes, segmentSeed)
}

export const alignUp = (value: number, alignment: number): number => Math.ceil(value / alignment) * alignment

/** Leaves room for a header and gives the place where the frame starts in `writer`. The payload comes next. */
export function beginFrame(writer: ByteWriter): number {
  const start = writer.length
  for (let word = 0; word < FRAME_HEADER_BYTES / 4; word++) writer.uint32(0)
  return start
}

export interface FrameContent {
  readonly kind: number
  readonly compressed: boolean
  /** Last index of the log after the frame. */
  readonly last: number
}

export interface FramePlace {
  readonly segmentSeed: number
  /** Where in the segment the frame starts; a multiple of 32. */
  readonly offset: number
  readonly previous: number
}

/**
 * Seals with `cipher`, pads and signs the frame that starts at `start` in `writer` and holds its payload already.
 * Gives its `check`, which the next frame names as `previous`. `start` is a multiple of 4 in the writer's buffer.
 */
export function finishFrame(
  writer: ByteWriter,
  start: number,
  place: FramePlace,
  content: FrameContent,
  cipher: FileCipher | null = null,
): number {
  const plain = writer.length - start - FRAME_HEADER_BYTES
  const length = plain + (cipher === null ? 0 : TAG_BYTES)
  const padding = alignUp(length, FRAME_ALIGNMENT) - plain
  for (let count = 0; count < padding; count++) writer.uint8(0)
  const bytes = writer.view().subarray(start)
  bytes.writeUInt32LE(length, 0)
  bytes.writeUInt32LE(content.kind | (content.compressed ? COMPRESSED : 0), 4)
  bytes.writeUInt32LE(place.previous, 12)
  bytes.writeUInt32LE(content.last % 0x1_0000_0000, 16)
  bytes.writeUInt32LE(Math.floor(content.last / 0x1_0000_0000), 20)
  if (cipher !== null) {
    const end = FRAME_HEADER_BYTES + plain
    const authenticated = bytes.subarray(0, AUTHENTICATED_BYTES)
    cipher.seal(bytes.subarray(FRAME_HEADER_BYTES, end), place.offset, authenticated).copy(bytes, end)
  }
  const mask = chooseMask(bytes, place.offset)
  if (mask !== 0) applyMask(bytes, FRAME_HEADER_BYTES, mask)
  const seed = frameSeed(place.segmentSeed, place.offset)
  bytes.writeUInt32LE(mask, 8)
  bytes.writeUInt32LE(crc32(bytes.subarray(FRAME_HEADER_BYTES), seed), 24)
  const check = crc32(bytes.subarray(0, 28), seed)
  bytes.writeUInt32LE(check, 28)
  return check
}

/** The word that a part of a sector repeats throughout, or null. */
function repeatedWord(bytes: Buffer, from: number, to: number): number | null {
  const word = bytes.readUInt32LE(from)
  for (let at = from + 4; at < to; at += 4) if (bytes.readUInt32LE(at) !== word) return null
  return word
}

/** 0, unless a sector's part of the frame is all zeros; then a word that no part repeats throughout. */
function chooseMask(frame: Buffer, offset: number): number {
  const firstSector = alignUp(offset + 1, SECTOR_BYTES) - offset
  let zeros = false
  for (let from = firstSector; from < frame.length && !zeros; from += SECTOR_BYTES) {
    // The first word tells nearly always.
    zeros =
      frame.readUInt32LE(from) === 0 && repeatedWord(frame, from, Math.min(from + SECTOR_BYTES, frame.length)) === 0
  }
  if (!zeros) return 0
  const taken = new Set<number | null>()
  for (let from = firstSector; from < frame.length; from += SECTOR_BYTES) {
    taken.add(repeatedWord(frame, from, Math.min(from + SECTOR_BYTES, frame.length)))
  }
  let mask = 0xa5a5_a5a5
  while (mask === 0 || taken.has(mask)) mask = (mask + 0x9e37_79b9) >>> 0
  return mask
}

function applyMask(bytes: Buffer, from: number, mask: number): void {
  for (let at = from; at < bytes.length; at += 4) bytes.writeUInt32LE((bytes.readUInt32LE(at) ^ mask) >>> 0, at)
}

/**
 * The header at `offset`, or null where its check does not hold. `bytes` is the segment from `skipped` on, mostly from
 * its start.
 */
export function readFrameHeader(bytes: Buffer, offset: number, segmentSeed: number, skipped = 0): FrameHeader | null {
  const at = offset - skipped
  if (at + FRAME_HEADER_BYTES > bytes.length) return null
  const length = bytes.readUInt32LE(at)
  if (length === 0 || length > MAXIMUM_FRAME_BYTES) return null
  const check = bytes.readUInt32LE(at + 28)
  if (crc32(bytes.subarray(at, at + 28), frameSeed(segmentSeed, offset)) !== check) return null
  return {
    offset,
    length,
    kind: (bytes.readUInt32LE(at + 4) & ~COMPRESSED) >>> 0,
    compressed: (bytes.readUInt32LE(at + 4) & COMPRESSED) !== 0,
    mask: bytes.readUInt32LE(at + 8),
    previous: bytes.readUInt32LE(at + 12),
    last: bytes.readUInt32LE(at + 16) + bytes.readUInt32LE(at + 20) * 0x1_0000_0000,
    crc: bytes.readUInt32LE(at + 24),
    check,
    end: offset + FRAME_HEADER_BYTES + alignUp(length, FRAME_ALIGNMENT),
  }
}

/** The payload, unmasked, where its CRC holds: a view into `bytes` unless it was masked. Null where it does not. */
export function readFramePayload(bytes: Buffer, header: FrameHeader, segmentSeed: number, skipped = 0): Buffer | null {
  if (header.end - skipped > bytes.length) return null
  const padded = bytes.subarray(header.offset + FRAME_HEADER_BYTES - skipped, header.end - skipped)
  if (crc32(padded, frameSeed(segmentSeed, header.offset)) !== header.crc) return null
  if (header.mask === 0) return padded.subarray(0, header.length)
  const plain = Buffer.allocUnsafeSlow(padded.length)
  padded.copy(plain)
  applyMask(plain, 0, header.mask)
  return plain.subarray(0, header.length)
}

/** What `readFramePayload` gave, opened; null where it does not open, which no right key and no write explains. */
export function openFramePayload(
  bytes: Buffer,
  header: FrameHeader,
  sealed: Buffer,
  cipher: FileCipher,
  skipped = 0,
): Buffer | null {
  const at = header.offset - skipped
  const authenticated = Buffer.from(bytes.subarray(at, at + AUTHENTICATED_BYTES))
  authenticated.writeUInt32LE(0, 8)
  return cipher.open(sealed, header.offset, authenticated)
}

/** The next frame header at or after `offset` whose check holds, or null. */
export function findFrameHeader(bytes: Buffer, offset: number, segmentSeed: number): FrameHeader | null {
  for (let at = alignUp(offset, FRAME_ALIGNMENT); at + FRAME_HEADER_BYTES <= bytes.length; at += FRAME_ALIGNMENT) {
    const header = readFrameHeader(bytes, at, segmentSeed)
    if (header !== null) return header
  }
  return null
}

const ZEROS = Buffer.alloc(64 * 1024)

/** Whether `bytes` has nothing but zeros from `from` up to `to`; what lies behind its end counts as zeros. */
export function isBlank(bytes: Buffer, from: number, to: number): boolean {
  const end = Math.min(to, bytes.length)
  for (let at = from; at < end; at += ZEROS.length) {
    const stop = Math.min(at + ZEROS.length, end)
    if (bytes.compare(ZEROS, 0, stop - at, at, stop) !== 0) return false
  }
  return true
}

/** Why reading stops at `offset`, where no good frame of the chain is. */
export type Stop =
  /** Nothing was written here or behind. */
  | { readonly kind: 'end' }
  /** The last write did not reach the disk as a whole: whole sectors of it are as they were before. */
  | { readonly kind: 'torn' }
  /** Anything else: bytes that were durable have changed. */
  | { readonly kind: 'rot'; readonly reason: string }

/**
 * The torn-tail rule, for a write that was appended to the segment. `offset` is behind the last good frame of the
 * segment that was written last; at most one write was under way when the process died, and it began at `offset`.
 */
export function classifyStop(bytes: Buffer, offset: number, segmentSeed: number): Stop {
  if (isBlank(bytes, offset, bytes.length)) return { kind: 'end' }
  const header = readFrameHeader(bytes, offset, segmentSeed)
  const behind = header === null ? offset + FRAME_HEADER_BYTES : header.end
  if (laterWrite(bytes, behind, segmentSeed)) {
    return { kind: 'rot', reason: 'a later frame shows that this one was durable' }
  }
  if (header === null) {
    const sectorEnd = alignUp(offset + 1, SECTOR_BYTES)
    if (isBlank(bytes, offset, sectorEnd)) return { kind: 'torn' }
    return { kind: 'rot', reason: 'the header of a frame is damaged' }
  }
  if (!onlyCompanionBehind(bytes, header.end, segmentSeed)) {
    return { kind: 'rot', reason: 'there are bytes behind the last frame' }
  }
  for (let from = alignUp(offset + 1, SECTOR_BYTES); from < header.end; from += SECTOR_BYTES) {
    if (isBlank(bytes, from, Math.min(from + SECTOR_BYTES, header.end))) return { kind: 'torn' }
  }
  return { kind: 'rot', reason: 'the payload of a frame is damaged' }
}

/** Whether a frame that a later write began starts at or after `offset`. State frames belong to the write before. */
function laterWrite(bytes: Buffer, offset: number, segmentSeed: number): boolean {
  let at = offset
  for (;;) {
    const header = findFrameHeader(bytes, at, segmentSeed)
    if (header === null) return false
    if (header.kind !== FRAME_STATE) return true
    at = header.end
  }
}

/** Whether nothing is behind a frame but the state frame of the same write, whole or without its first sector. */
function onlyCompanionBehind(bytes: Buffer, offset: number, segmentSeed: number): boolean {
  if (isBlank(bytes, offset, bytes.length)) return true
  if (offset % SECTOR_BYTES !== 0) return false
  const companion = readFrameHeader(bytes, offset, segmentSeed)
  if (companion === null) return isBlank(bytes, offset, offset + SECTOR_BYTES)
  return companion.kind === FRAME_STATE && isBlank(bytes, companion.end, bytes.length)
}
