/**
 * Where segments go that the log has let go of: into `archive/` beside it, for whoever backs them up, or away.
 *
 * The archive never fills the volume: it keeps a bound, and nothing while the disk is nearly full. What is rotten is
 * never archived as if it were good. A segment that is gone already is none the less gone: the bound, a full disk and a
 * scrub may want the same one away, and an attempt that failed is made again.
 */
import type { Disk } from './disk.ts'
import { type SegmentName, segmentsAmong } from './segment.ts'

const ARCHIVE = 'archive'

export class Archive {
  readonly directory: string
  readonly #disk: Disk
  readonly #log: string
  readonly #wanted: boolean
  readonly #most: number

  /** `wanted`: whether anything is archived at all. `most`: segments that are kept, the newest. */
  constructor(disk: Disk, logDirectory: string, wanted: boolean, most: number) {
    this.#disk = disk
    this.#log = logDirectory
    this.directory = `${logDirectory}/${ARCHIVE}`
    this.#wanted = wanted
    this.#most = most
  }

  async segments(): Promise<SegmentName[]> {
    return segmentsAmong((await this.#disk.list(this.directory)) ?? [])
  }

  /** Takes these segments out of the log, durably. `isGood`: whether one may be kept. */
  async take(names: readonly string[], isGood: (name: string) => boolean, isFull: boolean): Promise<void> {
    if (this.#wanted) await this.#disk.makeDirectory(this.directory)
    for (const name of names) {
      const path = `${this.#log}/${name}`
      const isKept = this.#wanted && isGood(name)
      await (isKept ? this.#disk.rename(path, `${this.directory}/${name}`) : this.#disk.unlink(path)).catch(unlessGone)
    }
    if (this.#wanted) {
      await this.#disk.syncDirectory(this.directory)
      await this.prune(isFull)
    }
    await this.#disk.syncDirectory(this.#log)
  }

  /** Keeps the bound; nothing at all while the disk is nearly full. */
  async prune(isFull: boolean): Promise<void> {
    const segments = await this.segments()
    const kept = isFull ? 0 : this.#most
    for (const { name } of segments.slice(0, Math.max(0, segments.length - kept))) await this.remove(name)
  }

  remove(name: string): Promise<void> {
    return this.#disk.unlink(`${this.directory}/${name}`).catch(unlessGone)
  }
}

function unlessGone(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
}
