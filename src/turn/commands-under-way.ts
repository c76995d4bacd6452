/**
 * Which commands of each session the leader has in hand: they wait for its next entry, or it has proposed them and
 * has not applied them yet. PURE.
 *
 * A node that misses an answer sends its commands again, and again, while the leader may only be slow, or have lost its
 * quorum: each goes into the leader's log once, however often it comes. That may never keep a command out for ever:
 *
 * - what was proposed is under way until the entry of that index is applied, whatever came of it there;
 * - a leader that is deposed, and whoever becomes one, knows of nothing under way: its log may have been cut;
 * - only what joins what is before it counts: behind a gap the machine refuses, and the node sends again.
 *
 * Forgetting is harmless: a command is proposed again, and applied once all the same (machine/sessions.ts). There are no
 * more stretches than blocks that wait, or are in entries that are not applied.
 */
import type { Block, SessionId } from '../machine/entry.ts'
import type { LogIndex } from '../vocabulary.ts'

/** Commands of a session that came as one block. */
export interface Stretch {
  readonly first: number
  readonly next: number
  /** Of the entry that has them; Infinity: they wait. */
  index: number
}

interface Chain {
  readonly incarnation: number
  /** Oldest first; each begins where the one before it ends. */
  readonly stretches: Stretch[]
}

const endOf = ({ first, commands }: Block): number => first + commands.length

/** What a block has from `next` on; null: nothing. */
export function partFrom(block: Block, next: number): Block | null {
  const { first, commands } = block
  if (first >= next) return block
  return endOf(block) <= next ? null : { ...block, first: next, commands: commands.slice(next - first) }
}

export class CommandsUnderWay {
  /** By node. */
  readonly #chains = new Map<number, Chain>()

  #stretchesOf({ node, incarnation }: SessionId): readonly Stretch[] {
    const chain = this.#chains.get(node)
    return chain?.incarnation === incarnation ? chain.stretches : []
  }

  /** What of the block is not under way; null: all of it is. */
  missingOf(block: Block): Block | null {
    const stretches = this.#stretchesOf(block.session)
    const [oldest, newest] = [stretches[0], stretches.at(-1)]
    if (!oldest || !newest || block.first < oldest.first || block.first > newest.next) return block
    return endOf(block) === newest.next ? null : partFrom(block, newest.next)
  }

  /** The block waits, behind all that does. Null: it is out of order, and nothing is known of it. */
  add(block: Block): Stretch | null {
    const { session, first } = block
    const stretch = { first, next: endOf(block), index: Infinity }
    const newest = this.#stretchesOf(session).at(-1)
    if (newest !== undefined && first > newest.next) return null
    if (newest?.next === first) this.#chains.get(session.node)!.stretches.push(stretch)
    // What it repeats, too: behind it, what was behind a gap has its place.
    else this.#chains.set(session.node, { incarnation: session.incarnation, stretches: [stretch] })
    return stretch
  }

  /** Entries up to `index` are applied. */
  applied(index: LogIndex): void {
    for (const [node, { stretches }] of this.#chains) {
      const left = stretches.findIndex((stretch) => stretch.index > index)
      if (left < 0) this.#chains.delete(node)
      else if (left > 0) stretches.splice(0, left)
    }
  }

  forget(): void {
    this.#chains.clear()
  }
}
