/**
 * When a node may answer a read from its own state, for clients that asked for no more (READONLY). PURE.
 *
 * - Nobody here goes back in time: not behind what another node's state has answered to clients of this one.
 * - With a bound on staleness, not from a state that may be older than that. What shows how old it is: a
 *   linearizable read of this node that was asked at some time and answered by a leader from a state that this
 *   node has applied too was the newest at some moment after it was asked. It takes no clock but this node's.
 */
import { type LogIndex, logIndex } from '../vocabulary.ts'

export class LocalReads {
  readonly #mostMilliseconds: number
  /** Clients of this node have seen answers from a state that had applied this, on whatever node. */
  #shown = logIndex(0)
  /** Everything decided before this time is in the state that has applied `#shown`. */
  #newestAt = -Infinity

  /** `mostMilliseconds`: the bound on staleness; 0: none. */
  constructor(mostMilliseconds: number) {
    this.#mostMilliseconds = mostMilliseconds
  }

  /** Clients of this node were answered from a state that had applied `index`. */
  show(index: LogIndex): void {
    this.#shown = logIndex(Math.max(this.#shown, index))
  }

  /** What was shown last was linearizable, and asked for at `askedAt`; null: it was no answer. */
  confirm(askedAt: number | null): void {
    if (askedAt !== null) this.#newestAt = Math.max(this.#newestAt, askedAt)
  }

  /** Whether a state that has applied `applied` may answer now. Where not, the leader is asked. */
  permits(applied: LogIndex, now: number): boolean {
    if (applied < this.#shown) return false
    return this.#mostMilliseconds === 0 || now - this.#newestAt <= this.#mostMilliseconds
  }
}
