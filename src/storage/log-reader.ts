/**
 * Reads entries back from the log while it is written: for peers that need what is no longer in memory.
 *
 * Guarantees: what it gives are entries as they were written, without a gap, and of frames whose checks hold and that
 * are chained to the one before. Only what is decided may be asked for: it is durable, and no later segment replaces it.
 * Fewer than were asked for are given at the end of a segment, and above `mostBytes`; none where there is damage, where
 * the segment was let go of, or where the log does not reach so far. Nothing is changed, and the log is not held up.
 */
import type { Entry } from '../vocabulary.ts'
import type { Disk, DiskFile } from './disk.ts'
import { FRAME_STATE, type FrameHeader, readFrameHeader } from './frames.ts'
import type { FileCipher, KeyRing } from './keys.ts'
import { recordsOf } from './records.ts'
import { type DecodedHeader, type ReadFrom, SEALED, type SegmentName, readPayload } from './segment.ts'
import { type Mark, markFor, readIndex } from './segment-index.ts'
import { cipherOf, readSegmentHeader } from './segment-reader.ts'

/** Read at once; a larger frame is read as a whole. */
const WINDOW_BYTES = 256 * 1024

/** Segments of a log, oldest first, and the marks of the last one: it is being written, and has no index. */
export interface OpenLog {
  readonly directory: string
  readonly segments: readonly SegmentName[]
  readonly marks: readonly Mark[]
}

/** Which entries: at least one where there is one, and no more than about so many bytes of them, as they are in memory. */
export interface EntryRange {
  readonly from: number
  readonly upTo: number
  readonly mostBytes: number
}

/** Decided entries from `from` on. Throws what the disk throws, but for a file that is gone. */
export async function readDecided(disk: Disk, keys: KeyRing, log: OpenLog, range: EntryRange): Promise<Entry[]> {
  const { segments } = log
  // The newest one that begins at or below it: it replaces what older ones say from its base on.
  const at = segments.findLastIndex(({ base }) => base <= range.from)
  if (at < 0) return []
  const end = Math.min(range.upTo, ...segments.slice(at + 1).map(({ base }) => base - 1))
  const path = `${log.directory}/${segments[at]!.name}`
  try {
    const decoded = await readSegmentHeader(disk, path)
    const file = await disk.open(path, 'read')
    try {
      const marks = at === segments.length - 1 ? log.marks : await marksOf(file, decoded)
      const start = markFor({ marks }, range.from) ?? { offset: decoded.size, previous: decoded.seed }
      return await gather(file, decoded, cipherOf(decoded, keys, path), start, { ...range, upTo: end })
    } finally {
      await file.close()
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Without an index it is read from its start. */
async function marksOf(file: DiskFile, { seed }: DecodedHeader): Promise<readonly Mark[]> {
  const index = await readIndex(file, await file.size(), seed, null)
  return typeof index === 'object' ? index.marks : []
}

async function gather(
  file: DiskFile,
  decoded: DecodedHeader,
  cipher: FileCipher | null,
  start: ReadFrom,
  { from, upTo, mostBytes }: EntryRange,
): Promise<Entry[]> {
  const entries: Entry[] = []
  let { offset, previous } = start
  let left = mostBytes
  let window: Buffer = Buffer.alloc(0)
  let skipped = offset
  while (from + entries.length <= upTo && (left > 0 || entries.length === 0)) {
    let header = readFrameHeader(window, offset, decoded.seed, skipped)
    if (header === null || header.end - skipped > window.length) {
      const most = header === null ? WINDOW_BYTES : Math.max(WINDOW_BYTES, header.end - offset)
      window = await file.read(offset, most)
      skipped = offset
      header = readFrameHeader(window, offset, decoded.seed, skipped)
      // A header that the window before had in part, of a frame larger than a window.
      if (header !== null && header.end - skipped > window.length) window = await file.read(offset, header.end - offset)
    }
    if (header === null || header.previous !== previous) break
    const payload = readPayload(window, header, decoded, cipher, skipped)
    if (payload === null || payload === SEALED) break
    left = take(entries, header, payload, { from, upTo, mostBytes: left })
    previous = header.check
    offset = header.end
  }
  return entries
}

/** About what surrounds the payload of an entry. */
const AROUND_BYTES = 32

/** Adds the entries of a frame that are next, as far as `mostBytes` go; how much of that is left. */
function take(entries: Entry[], header: FrameHeader, payload: Buffer, { from, upTo, mostBytes }: EntryRange): number {
  let left = mostBytes
  if (header.kind === FRAME_STATE || header.last < from) return left
  for (const record of recordsOf(header.kind, payload)) {
    if (record.kind !== 'entries' && record.kind !== 'accept-sync') continue
    for (const entry of record.entries) {
      const isNext = entry.index === from + entries.length && entry.index <= upTo
      if (!isNext || (left <= 0 && entries.length > 0)) continue
      entries.push(entry)
      left -= AROUND_BYTES + (entry.kind === 'commands' ? entry.payload.length : 0)
    }
  }
  return left
}
