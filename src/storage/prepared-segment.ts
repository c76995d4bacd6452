/**
 * The next segment of the log, written with zeros beside it before it is needed: a sync of a frame in it changes no
 * metadata. It is durable under a temporary name; without it, a segment grows as it is written.
 */
import { messageOf } from '../errors.ts'
import type { Disk, DiskFile } from './disk.ts'

export const PREPARED_FILE = 'next.tmp'
const ZERO_SLICE_BYTES = 256 * 1024
/** Free space below so many segments is left to the log itself. */
const ROOM_SEGMENTS = 4

type State = { readonly kind: 'none' | 'running' | 'failed' } | { readonly kind: 'ready'; readonly file: DiskFile }

export interface PreparedOptions {
  readonly disk: Disk
  readonly directory: string
  readonly segmentBytes: number
  /** Between two slices of zeros; gives the disk back to the log. */
  readonly pause: () => Promise<void>
}

export class PreparedSegment {
  readonly #options: PreparedOptions
  #state: State = { kind: 'none' }
  #writing: Promise<void> = Promise.resolve()
  #stopped = false
  /** Why the last attempt failed, or null. */
  error: string | null = null

  constructor(options: PreparedOptions) {
    this.#options = options
  }

  get isReady(): boolean {
    return this.#state.kind === 'ready'
  }

  /** Begins to write one, unless there is one, or the last attempt for this segment failed. */
  begin(): void {
    if (this.#state.kind !== 'none' || this.#stopped) return
    this.#state = { kind: 'running' }
    this.#writing = this.#writeZeros().catch((error: unknown) => {
      // The log itself is not touched. Another attempt comes with the next segment.
      this.#state = { kind: 'failed' }
      this.error = messageOf(error)
    })
  }

  /** The file, if it is ready, under `PREPARED_FILE`. */
  take(): DiskFile | null {
    const state = this.#state
    if (state.kind === 'running') return null
    // After a failure the segment that begins now may get a successor again.
    this.#state = { kind: 'none' }
    return state.kind === 'ready' ? state.file : null
  }

  async #writeZeros(): Promise<void> {
    const { disk, directory, segmentBytes, pause } = this.#options
    // Room for the log goes before speed.
    const { free } = await disk.space(directory)
    if (free < ROOM_SEGMENTS * segmentBytes) throw new Error('the disk is too full')
    const file = await disk.open(`${directory}/${PREPARED_FILE}`, 'create-durable')
    try {
      for (let at = 0; at < segmentBytes && !this.#stopped; at += ZERO_SLICE_BYTES) {
        await file.writeZeros(at, Math.min(ZERO_SLICE_BYTES, segmentBytes - at))
        await pause()
      }
    } catch (error) {
      await file.close()
      await disk.unlink(`${directory}/${PREPARED_FILE}`)
      throw error
    }
    this.#state = { kind: 'ready', file }
  }

  /** Begins no more, and ends what is under way early. */
  stop(): void {
    this.#stopped = true
  }

  /** After `stop`: waits, and removes what was not taken. */
  async close(): Promise<void> {
    await this.#writing
    const file = this.take()
    if (file === null) return
    await file.close()
    await this.#options.disk.unlink(`${this.#options.directory}/${PREPARED_FILE}`)
  }
}
