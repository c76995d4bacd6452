/**
 * Decided entries on their way into the machine. PURE.
 *
 * They are applied in slices, one a turn: whoever applies for long answers no heartbeat meanwhile, and loses its
 * leader or leadership to it. A leader that decides faster than it applies proposes nothing until it has caught up;
 * otherwise what waits here, and with it every read, would have no bound.
 */
import { type Replica, entriesBetween } from './consensus/replica.ts'
import { type Entry, type LogIndex, logIndex } from './vocabulary.ts'

/** So many entries may be left behind a slice. */
const MOST_LEFT_ENTRIES = 32

export class Backlog {
  readonly #sliceBytes: number
  /** More waits than should. */
  isLong = false

  /** `sliceBytes`: of the entries of one turn; at least one. */
  constructor(sliceBytes: number) {
    this.#sliceBytes = sliceBytes
  }

  /** The entries that this turn applies. */
  slice(replica: Replica, applied: LogIndex, decided: LogIndex): Entry[] {
    return entriesBetween(replica, logIndex(applied + 1), decided, this.#sliceBytes)
  }

  /** `left`: entries behind the slice. True: another turn is to follow, for them or for what they held up. */
  note(left: number): boolean {
    const wasLong = this.isLong
    this.isLong = left > MOST_LEFT_ENTRIES
    return left > 0 || wasLong
  }
}
