/**
 * Commands of all clients of a node that are coming in and not whole, bounded. One may be as long as a command may be
 * (decoder.ts), and a node has not as much memory as clients. What is short does not count.
 *
 * - While more than `mostBytes` are here, a command that grows is skipped: the rest of it is read and forgotten, and
 *   when it has come to its end it is refused.
 * - So that those who send nothing more do not keep the room for ever, the one that has been silent for longest, and
 *   for `stallMilliseconds` at least, is cut off then.
 */
import { type Holder, type Log, cutOff, longestSilent } from './holders.ts'

export interface IncomingBounds {
  readonly mostBytes: number
  readonly stallMilliseconds: number
}

export class Incoming {
  readonly #bounds: IncomingBounds
  readonly #senders: () => Iterable<Holder>
  readonly #log: Log
  /** Nobody has been silent for long enough before; so not all of them are looked at for each command that is skipped. */
  #nobodyBefore = -Infinity
  /** Bytes that all of them have here. */
  heldBytes = 0

  constructor(bounds: IncomingBounds, senders: () => Iterable<Holder> = () => [], log: Log = () => undefined) {
    this.#bounds = bounds
    this.#senders = senders
    this.#log = log
  }

  get isTight(): boolean {
    return this.heldBytes > this.#bounds.mostBytes
  }

  /** A command was skipped. */
  skipped(): void {
    const now = performance.now()
    if (now < this.#nobodyBefore) return
    const { stallMilliseconds } = this.#bounds
    const silent = longestSilent(this.#senders())
    const patienceEnds = (silent?.silentSince ?? now) + stallMilliseconds
    if (silent === null || now < patienceEnds) {
      this.#nobodyBefore = patienceEnds
      return
    }
    const why = `it has sent nothing more of a command for ${stallMilliseconds} ms while too much is coming in`
    cutOff(silent, 'OVERLOADED', why, this.#log)
  }
}
