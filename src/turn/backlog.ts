/**
 * Decided entries on their way into the machine. PURE.
 *
 * They are applied in slices, one a turn: whoever applies for long answers no heartbeat meanwhile, and loses its
 * leader or leadership to it. What waits here, and with it every read, must have a bound all the same. So while it is
 * long a leader proposes nothing, and nobody tells the core what storage has confirmed: a follower then says no
 * Accepted, and its leader sends no more than the window that it has for it.
 */
import type { Event } from '../consensus/events.ts'
import { type Replica, entriesBetween } from '../consensus/replica.ts'
import type { TurnLimits } from './ports.ts'
import { type Entry, type LogIndex, logIndex } from '../vocabulary.ts'

export class Backlog {
  readonly #sliceBytes: number
  readonly #mostEntries: number
  /** More waits than should. */
  isLong = false
  /** Word of storage that the core is not told yet. */
  #held: Event[] = []

  constructor({ applyBytes = Infinity, unappliedEntries = Infinity }: TurnLimits) {
    this.#sliceBytes = applyBytes
    this.#mostEntries = unappliedEntries
  }

  /** The entries that this turn applies. */
  slice(replica: Replica, applied: LogIndex, decided: LogIndex): Entry[] {
    return entriesBetween(replica, logIndex(applied + 1), decided, this.#sliceBytes)
  }

  /** Whether the core is to be told later: see `release`. */
  holds(confirmed: Event): boolean {
    if (this.isLong) this.#held.push(confirmed)
    return this.isLong
  }

  /** What the core may be told now. */
  release(): Event[] {
    return this.isLong ? [] : this.#held.splice(0)
  }

  /** `left`: entries behind the slice. True: another turn is to follow, for them or for what they held up. */
  note(left: number): boolean {
    const wasLong = this.isLong
    this.isLong = left > this.#mostEntries
    return left > 0 || wasLong
  }
}
