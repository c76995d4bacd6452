/**
 * Reads the segments of a chain for a replay, one ahead of the one that is decoded. Of a sealed segment, nothing
 * behind its end, and nothing before the mark of the first entry that is needed: what the frames there say about the
 * state, the header of the next segment says again.
 */
import type { Disk } from './disk.ts'
import { isBlank } from './frames.ts'
import { FileCipher, type KeyRing } from './keys.ts'
import { type DecodedHeader, MAXIMUM_HEADER_BYTES, type ReadFrom, type SegmentLink } from './segment.ts'
import { type SegmentName, decodeSegmentHeader } from './segment.ts'
import { indexFault, markFor, readIndex } from './segment-index.ts'

/** A segment of the chain, and what the one behind it says about its end; null for the newest. */
export interface ChainPart {
  readonly name: SegmentName
  readonly path: string
  readonly decoded: DecodedHeader
  readonly known: SegmentLink | null
}

export interface LoadedSegment extends ChainPart {
  /** From the start of the file; zeros where nothing had to be read. */
  readonly bytes: Buffer
  readonly from: ReadFrom | null
  readonly cipher: FileCipher | null
  /** Why it has no index that can be used; null: it has one. */
  readonly indexFault: string | null
  /** Whether there is something where the index should be. */
  readonly hadIndex: boolean
}

/** `ENCRYPTION_KEY_…` where its key is not here, null where it has none. */
export const cipherOf = (decoded: DecodedHeader, keys: KeyRing, path: string): FileCipher | null =>
  decoded.header.key === null ? null : FileCipher.open(keys, decoded.header.key, 'segment', path)

/** The header at the start of a segment's file. Throws as `decodeSegmentHeader`. */
export async function readSegmentHeader(disk: Disk, path: string): Promise<DecodedHeader> {
  const file = await disk.open(path, 'read')
  try {
    let bytes = await file.read(0, 4096)
    const size = bytes.length >= 16 ? bytes.readUInt32LE(12) : 0
    if (size > bytes.length && size <= MAXIMUM_HEADER_BYTES) bytes = await file.read(0, size)
    return decodeSegmentHeader(bytes, path)
  } finally {
    await file.close()
  }
}

/** The segments in their order; entries below `first` are not needed. */
export async function* loadSegments(
  disk: Disk,
  keys: KeyRing,
  chain: readonly ChainPart[],
  first: number,
): AsyncGenerator<LoadedSegment, void> {
  let next: Promise<LoadedSegment> | null = null
  for (let at = 0; at < chain.length; at++) {
    const loaded: LoadedSegment = await (next ?? loadSegment(disk, keys, chain[at]!, first))
    const following = chain[at + 1]
    next = following === undefined ? null : loadSegment(disk, keys, following, first)
    // Whoever waits for it hears of it.
    next?.catch(() => undefined)
    yield loaded
  }
}

/** One segment; `keys` null: what is sealed stays closed. */
export async function loadSegment(
  disk: Disk,
  keys: KeyRing | null,
  part: ChainPart,
  first: number,
): Promise<LoadedSegment> {
  const { path, decoded, known } = part
  const cipher = keys === null ? null : cipherOf(decoded, keys, path)
  const file = await disk.open(path, 'read')
  try {
    const size = await file.size()
    const found = await readIndex(file, size, decoded.seed, known?.end ?? null)
    if (known === null) {
      const bytes = withoutZeros(await file.read(0, size))
      // What follows a sealed one is lost: the index says where it ends.
      if (typeof found === 'object') {
        const { timeline, base } = part.name
        return {
          ...part,
          known: { timeline, base, ...found },
          bytes,
          from: null,
          cipher,
          indexFault: null,
          hadIndex: true,
        }
      }
      return { ...part, bytes, from: null, cipher, indexFault: 'it is the newest', hadIndex: false }
    }
    const fault = indexFault(found, known.end, known.check)
    const hadIndex = found !== 'none'
    const mark = fault === null && typeof found === 'object' ? markFor(found, first) : null
    if (mark === null || mark.offset >= known.end) {
      return { ...part, bytes: await file.read(0, known.end), from: null, cipher, indexFault: fault, hadIndex }
    }
    // Memory that is never touched is never taken.
    const bytes = Buffer.alloc(known.end)
    const got = await file.read(mark.offset, known.end - mark.offset)
    got.copy(bytes, mark.offset)
    return {
      ...part,
      bytes: bytes.subarray(0, mark.offset + got.length),
      from: mark,
      cipher,
      indexFault: fault,
      hadIndex,
    }
  } finally {
    await file.close()
  }
}

/**
 * The segment without the zeros it was prepared with: entries are views into it for as long as consensus keeps
 * them. What is behind the end of the bytes counts as zeros everywhere.
 */
function withoutZeros(bytes: Buffer): Buffer {
  const slice = 64 * 1024
  let used = bytes.length
  while (used > 0 && isBlank(bytes, Math.max(0, used - slice), used)) used = Math.max(0, used - slice)
  return used < bytes.length / 2 ? Buffer.from(bytes.subarray(0, used)) : bytes
}
