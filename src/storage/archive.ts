/**
 * Where segments go that the log has let go of: into `archive/` beside it, for whoever backs them up, or away.
 *
 * The archive never fills the volume: it keeps a bound, and nothing while the disk is nearly full. What is rotten is
 * never archived as if it were good.
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
      if (this.#wanted && isGood(name)) await this.#disk.rename(`${this.#log}/${name}`, `${this.directory}/${name}`)
      else await this.#disk.unlink(`${this.#log}/${name}`)
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
    return this.#disk.unlink(`${this.directory}/${name}`)
  }
}
