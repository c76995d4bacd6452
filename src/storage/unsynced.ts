/**
 * What a start has read may be in the memory of the system only: a process that was killed, or ended by a sync that
 * failed, leaves bytes and names that the next process reads and that a power cut takes back. Whoever answers for
 * them must have made them durable.
 *
 * - Of the log that is the last write at most: a write begins when the one before it is durable. It is written again,
 *   the same bytes at the same place, because a sync that comes after a failed one does not bring back what that one
 *   lost; and then synced.
 * - A file is whole and durable before it gets its name; the name is durable when its directory is synced.
 */
import type { Disk } from './disk.ts'

/** The last frames of the newest segment, as many as one write may have: they and nothing else may not be durable. */
export interface LogTail {
  readonly path: string
  readonly offset: number
  readonly bytes: Uint8Array
}

/** A frame of records and the state frame behind it are one write (wal.ts). */
const FRAMES_OF_A_WRITE = 2

/** Follows the frames of a segment, and knows where its last write began at the latest. */
export class TailWatch {
  #offsets: number[] = []
  /** A segment appears with its header and its first write. */
  #isFromStart = true

  frame(offset: number): void {
    this.#offsets.push(offset)
    if (this.#offsets.length <= FRAMES_OF_A_WRITE) return
    this.#offsets.shift()
    this.#isFromStart = false
  }

  /** What is before damage was durable: more was written behind it. */
  rot(): void {
    this.#offsets = []
    this.#isFromStart = false
  }

  /** `end`: of the last frame. */
  tail(path: string, bytes: Uint8Array, end: number): LogTail {
    const offset = this.#isFromStart ? 0 : (this.#offsets[0] ?? end)
    return { path, offset, bytes: bytes.subarray(offset, end) }
  }
}

/** `directories`: of the volumes, where they are there. */
export async function makeDurable(disk: Disk, directories: readonly string[], tail: LogTail | null): Promise<void> {
  if (tail !== null) {
    const file = await disk.open(tail.path, 'write')
    try {
      if (tail.bytes.length > 0) await file.write(tail.bytes, tail.offset)
      await file.sync()
    } finally {
      await file.close()
    }
  }
  for (const directory of directories) {
    if ((await disk.list(directory)) !== null) await disk.syncDirectory(directory)
  }
}
