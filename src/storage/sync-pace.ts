/**
 * Decides, write by write, whether the log is written in line (one system call, the process waits for the disk) or
 * by the thread pool (two hops, the process goes on). Plain arithmetic over measured times.
 *
 * In line is faster while a sync takes a fraction of a millisecond, and must never freeze the loop on a slow disk.
 * So: time in line is measured by probes, a single write now and then; a run of quick ones switches over; one slow
 * write, or a slow average, switches back at once and makes the next probes rarer.
 */
export type SyncMode = 'pool' | 'inline'

/** Larger writes always go by the pool. */
export const INLINE_BYTES_MAXIMUM = 256 * 1024
const QUICK_MILLISECONDS = 0.5
const SLOW_AVERAGE_MILLISECONDS = 0.8
/** A single write that takes so long ends it. */
const SLOW_MILLISECONDS = 8
const QUICK_PROBES = 4
const PROBE_EVERY_WRITES = 64
const PROBE_EVERY_WRITES_MAXIMUM = 16_384
/** So many writes in line without a slow one forgive the slow ones before. */
const FORGIVEN_AFTER_WRITES = 4096
const AVERAGE_WEIGHT = 1 / 32

export class SyncPace {
  readonly #setting: 'auto' | SyncMode
  mode: SyncMode
  /** Running average of writes in line, in milliseconds; null before the first. */
  averageMilliseconds: number | null = null
  #writes = 0
  #quickProbes = 0
  #probeEvery = PROBE_EVERY_WRITES

  constructor(setting: 'auto' | SyncMode) {
    this.#setting = setting
    this.mode = setting === 'inline' ? 'inline' : 'pool'
  }

  /** How the next write, of `bytes` bytes, is to be made. */
  next(bytes: number): SyncMode {
    if (this.#setting === 'pool' || bytes > INLINE_BYTES_MAXIMUM) return 'pool'
    this.#writes++
    if (this.mode === 'inline' || this.#setting === 'inline') return 'inline'
    return this.#writes % this.#probeEvery === 0 ? 'inline' : 'pool'
  }

  /** A write in line took so long. */
  took(milliseconds: number): void {
    const average = this.averageMilliseconds ?? milliseconds
    this.averageMilliseconds = average + (milliseconds - average) * AVERAGE_WEIGHT
    if (this.#setting !== 'auto') return
    if (this.mode === 'pool') this.#probed(milliseconds)
    else if (milliseconds > SLOW_MILLISECONDS || this.averageMilliseconds > SLOW_AVERAGE_MILLISECONDS) this.#slowDown()
    else if (this.#writes > FORGIVEN_AFTER_WRITES) this.#probeEvery = PROBE_EVERY_WRITES
  }

  #probed(milliseconds: number): void {
    if (milliseconds > SLOW_MILLISECONDS) {
      this.#slowDown()
      return
    }
    this.#quickProbes = milliseconds < QUICK_MILLISECONDS ? this.#quickProbes + 1 : 0
    if (this.#quickProbes < QUICK_PROBES) return
    this.mode = 'inline'
    this.averageMilliseconds = milliseconds
    this.#writes = 0
  }

  #slowDown(): void {
    this.mode = 'pool'
    this.#quickProbes = 0
    this.#writes = 0
    this.#probeEvery = Math.min(this.#probeEvery * 2, PROBE_EVERY_WRITES_MAXIMUM)
  }
}
