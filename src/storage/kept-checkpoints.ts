/**
 * Which checkpoints stay when a new one is there: the newest, the one before to fall back to, and one more that a peer
 * is fetching. Its chunks go one by one, and where the state is large, or much is written, two newer ones are there
 * before the last of them has gone: the peer would begin again and again, and never come up. The log goes on from the
 * oldest that stays (storage.ts), so the peer finds what follows, too. PURE.
 */
import type { LogIndex } from '../vocabulary.ts'
import type { CheckpointInfo } from './checkpoint.ts'

/** The newest, and one to fall back to. */
export const CHECKPOINTS_KEPT = 2

export class KeptCheckpoints {
  /** Those of which a chunk went to a peer since the last choice: no clock tells who has given up. */
  readonly #fetched = new Set<LogIndex>()

  /** A peer has asked for a chunk of it. */
  fetched(index: LogIndex): void {
    this.#fetched.add(index)
  }

  /** Those that stay beside the new one, and it, oldest first. `hasRoom`: for the log behind what a peer is fetching. */
  choose(before: readonly CheckpointInfo[], fresh: CheckpointInfo, hasRoom: boolean): CheckpointInfo[] {
    const others = before.filter(({ index }) => index !== fresh.index)
    const sorted = [...others, fresh].toSorted((a, b) => a.index - b.index)
    const newest = sorted.slice(-CHECKPOINTS_KEPT)
    const older = sorted.slice(0, -CHECKPOINTS_KEPT)
    // The oldest: its peer has waited longest.
    const wanted = hasRoom ? older.find(({ index }) => this.#fetched.has(index)) : undefined
    this.#fetched.clear()
    return wanted === undefined ? newest : [wanted, ...newest]
  }
}
