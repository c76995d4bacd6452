/**
 * Seals segments that have a durable successor, one after the other, beside the log. A failure costs nothing but the
 * index: the segment is read without it, and the next start tries again.
 */
import { messageOf } from '../errors.ts'
import type { Disk } from './disk.ts'
import { type Unsealed, sealSegment } from './segment-index.ts'

export class Sealer {
  readonly #disk: Disk
  readonly #directory: string
  #sealing: Promise<void> = Promise.resolve()
  /** Why the last sealing failed, or null. */
  error: string | null = null

  constructor(disk: Disk, directory: string) {
    this.#disk = disk
    this.#directory = directory
  }

  seal(segments: readonly Unsealed[]): void {
    for (const segment of segments) {
      this.#sealing = this.#sealing
        .then(() => sealSegment(this.#disk, this.#directory, segment))
        .catch((error: unknown) => {
          // It was let go of meanwhile.
          if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
          this.error = messageOf(error)
        })
    }
  }

  /** When nothing is under way: segments may be moved. */
  idle(): Promise<void> {
    return this.#sealing
  }
}
