/**
 * What every load worker counts: operations, latencies, times without a completion, errors by kind. Warm-up and end
 * are kept here, and the report is sent from here.
 *
 * A worker lives on and runs one load after the other: its code is compiled once, and what it takes of the machine in
 * a short measurement is what it takes in a long one.
 */
import { parentPort } from 'node:worker_threads'
import { build, encodeIntoCompressedBase64 } from 'hdr-histogram-js'

/** What a worker is told. Times in milliseconds; `keys` is the number of keys, names are `key:000000000042`. */
export interface WorkerOrder {
  readonly targets: readonly { readonly host: string; readonly port: number }[]
  readonly clients: number
  readonly firstClient: number
  readonly pipeline: number
  /** Open loop: so many commands a second of this worker; 0: closed loop. */
  readonly perSecond: number
  readonly mix: { readonly set: number; readonly get: number; readonly incr: number }
  readonly valueBytes: number
  readonly keys: number
  readonly warmUpMilliseconds: number
  readonly milliseconds: number
  readonly readOnly: boolean
  /** Redis: each batch ends with `WAIT n 0`, and counts when that is answered; 0: without. */
  readonly waitReplicas: number
}

export interface WorkerReport {
  readonly operations: number
  readonly seconds: number
  /** HDR histogram of latencies in microseconds, compressed, base64. */
  readonly histogram: string
  /** Times without a completion, longer than `GAP_KEPT_MILLISECONDS`, in milliseconds since the epoch. */
  readonly gaps: readonly (readonly [number, number])[]
  readonly errors: Readonly<Record<string, number>>
  readonly reconnects: number
}

const GAP_KEPT_MILLISECONDS = 1
const GAPS_REPORTED = 1000

/** Times are those of `performance.now()`. */
export class Timing {
  /** The time is over: nothing more is to be sent. */
  ending = false
  reconnects = 0
  readonly #histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 600_000_000, autoResize: false })
  readonly #errors: Record<string, number> = {}
  readonly #gaps: [number, number][] = []
  #operations = 0
  #measuring = false
  #startedAt = 0
  #lastCompletion = 0

  /** Counts between the end of the warm-up and `milliseconds` later, then reports. */
  constructor(warmUpMilliseconds: number, milliseconds: number, report: (report: WorkerReport) => void) {
    setTimeout(() => {
      this.#measuring = true
      this.#startedAt = this.#lastCompletion = performance.now()
    }, warmUpMilliseconds)
    setTimeout(() => report(this.#report()), warmUpMilliseconds + milliseconds)
  }

  /** `count` operations that were sent at `sentAt` are answered. */
  completed(sentAt: number, now: number, count = 1): void {
    if (!this.#measuring) return
    this.#operations += count
    const microseconds = Math.max(1, Math.round((now - sentAt) * 1000))
    for (let each = 0; each < count; each++) this.#histogram.recordValue(microseconds)
  }

  /** Something was answered, be it an error: the service is there. */
  alive(now: number): void {
    if (this.#measuring && now - this.#lastCompletion > GAP_KEPT_MILLISECONDS) this.#gap(now)
    this.#lastCompletion = now
  }

  error(kind: string, count = 1): void {
    this.#errors[kind] = (this.#errors[kind] ?? 0) + count
  }

  #gap(now: number): void {
    this.#gaps.push([performance.timeOrigin + this.#lastCompletion, performance.timeOrigin + now])
  }

  #report(): WorkerReport {
    const now = performance.now()
    this.#measuring = false
    this.ending = true
    // A pause that is not over when the time is over is a pause all the same.
    if (now - this.#lastCompletion > GAP_KEPT_MILLISECONDS) this.#gap(now)
    return {
      operations: this.#operations,
      seconds: (now - this.#startedAt) / 1000,
      histogram: encodeIntoCompressedBase64(this.#histogram),
      gaps: this.#gaps.toSorted((a, b) => b[1] - b[0] - (a[1] - a[0])).slice(0, GAPS_REPORTED),
      errors: this.#errors,
      reconnects: this.reconnects,
    }
  }
}

/** In a worker: `begin` starts the load of each order, and gives what ends it; in flight is then what nobody counts. */
export function serveLoads(begin: (order: WorkerOrder, timing: Timing) => () => void): void {
  parentPort?.on('message', (order: WorkerOrder) => {
    const timing = new Timing(order.warmUpMilliseconds, order.milliseconds, (report) => {
      end()
      parentPort?.postMessage(report, [])
    })
    const end = begin(order, timing)
  })
}
