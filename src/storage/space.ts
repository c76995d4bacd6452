/**
 * Watches the free space of the WAL volume, and says when the node should take no more writes: while there is
 * still room for what is on its way, for deletes, for a checkpoint's meta, and for the next start. Two thresholds, so
 * that it does not flutter; and a third, below, under which not even a leader's entries are taken.
 */
import type { Room } from '../vocabulary.ts'
import type { Disk } from './disk.ts'

/** Read-only below the room of so many segments, but never more than this part of the volume. */
const RESERVE_SEGMENTS = 2
const RESERVE_PART = 1 / 10
/** Of the reserve: below it no entry is taken, whoever sends it. */
const EMPTY_PART = 1 / 2
/** Writable again above so many times the reserve. */
const RECOVERY_FACTOR = 1.25
/** It is looked at again after so much of the reserve was written, whatever the time. */
const LOOK_AFTER_PART = 1 / 8

export class SpaceWatch {
  readonly #disk: Disk
  readonly #directory: string
  readonly #segmentBytes: number
  readonly #log: (message: string, fields: object) => void
  readonly #timer: NodeJS.Timeout | null
  /** What had been written at the last look, and after how much more it is looked again at once. */
  #writtenBytes = 0
  #lookAfterBytes = Infinity
  readonly #full: () => void
  readOnly = false
  /** Below this nothing more is taken, so that what must be written always can be. */
  isEmpty = false
  freeBytes = 0
  /** `room` is another than it was. */
  changed: () => void = () => {}

  constructor(
    disk: Disk,
    directory: string,
    segmentBytes: number,
    milliseconds: number,
    log: (message: string, fields: object) => void,
    full: () => void = () => {},
  ) {
    this.#full = full
    this.#disk = disk
    this.#directory = directory
    this.#segmentBytes = segmentBytes
    this.#log = log
    this.#timer = milliseconds > 0 ? setInterval(() => void this.check(), milliseconds).unref() : null
  }

  /** Never throws: a volume that cannot be asked fails at its next write, which says more. */
  async check(): Promise<void> {
    const space = await this.#disk.space(this.#directory).catch(() => null)
    if (space === null) return
    this.freeBytes = space.free
    const reserve = Math.min(RESERVE_SEGMENTS * this.#segmentBytes, space.total * RESERVE_PART)
    this.#lookAfterBytes = reserve * LOOK_AFTER_PART
    const readOnly = space.free < (this.readOnly ? reserve * RECOVERY_FACTOR : reserve)
    const before = this.room
    this.isEmpty = space.free < reserve * (this.isEmpty ? 1 : EMPTY_PART)
    if (readOnly) this.#full()
    const changes = readOnly !== this.readOnly
    this.readOnly = readOnly
    if (this.room !== before) this.changed()
    if (changes) this.#log(readOnly ? 'the disk is nearly full: read-only' : 'the disk has room again', space)
  }

  /** As consensus calls it. */
  get room(): Room {
    return this.isEmpty ? 'none' : this.readOnly ? 'little' : 'enough'
  }

  /** `bytes` were written since the start: a quick writer must not run through the reserve between two looks. */
  wrote(bytes: number): void {
    if (bytes - this.#writtenBytes < this.#lookAfterBytes) return
    this.#writtenBytes = bytes
    void this.check()
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }
}
