/**
 * The leader's word of what is decided, held back until it is wanted or has company. PURE.
 *
 * The index travels with every entry anyway. A message of its own costs each follower a turn, so it is sent at
 * once only to nodes whose clients wait for it (a node answers its own clients when it applies their commands),
 * and to the others a moment later, unless an entry has told them by then. Late or lost, it harms nobody.
 */
import type { Message } from '../consensus/messages.ts'
import type { NodeId } from '../vocabulary.ts'

/** A node that brought commands so long ago has no client that waits. */
const ASKS_MILLISECONDS = 1000
/** Nodes without waiting clients hear what is decided at most so late, or with the tick after it. */
const LATE_MILLISECONDS = 10

export class DecidedNotes {
  /** By node; null: nothing is held. */
  readonly #held = new Map<NodeId, Message | null>()
  /** When a node last brought commands of its clients. */
  readonly #askedAt = new Map<NodeId, number>()
  /** When all were last told, wanted or not. */
  #allToldAt = -Infinity

  /** The node brings commands of its clients. */
  asked(from: NodeId, now: number): void {
    this.#askedAt.set(from, now)
  }

  /** Whether clients of this node may wait. */
  isAsking(node: NodeId, now: number): boolean {
    return now - (this.#askedAt.get(node) ?? -Infinity) <= ASKS_MILLISECONDS
  }

  /** Whether the message is held back. One that says more makes what is held for that node needless. */
  takes(to: NodeId, message: Message): boolean {
    if (message.kind === 'decide') {
      this.#held.set(to, message)
      return true
    }
    if ((message.kind === 'accept-decide' || message.kind === 'beacon') && this.#held.get(to)) this.#held.set(to, null)
    return false
  }

  /** Gives out what is due. */
  release(now: number, send: (to: NodeId, message: Message) => void): void {
    const all = now - this.#allToldAt >= LATE_MILLISECONDS
    for (const [to, message] of this.#held) {
      if (message === null) continue
      if (all) this.#allToldAt = now
      else if (!this.isAsking(to, now)) continue
      this.#held.set(to, null)
      send(to, message)
    }
  }
}
