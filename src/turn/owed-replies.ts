/**
 * Replies that a leader owes to nodes that do not apply the commands of their clients themselves: gathered over a
 * turn, said in messages of bounded size. PURE.
 */
import type { SessionId } from '../machine/entry.ts'
import { type Reply, err, replyBytes } from '../machine/reply.ts'
import type { RelayMessage } from './relay-messages.ts'
import { type LogIndex, type NodeId, nodeId } from '../vocabulary.ts'

interface Owed {
  readonly session: SessionId
  readonly replies: { readonly sequence: number; readonly reply: Reply }[]
  bytes: number
}

/** A frame that is too large ends the connection, and the reply would be asked for again for ever. */
const TOO_LARGE = err('the command was applied, and its reply is too large to go through this node')

export class OwedReplies {
  readonly #mostBytes: number
  readonly #replyMostBytes: number
  /** Whole messages first, then the one that grows. */
  #full: Owed[] = []
  readonly #open = new Map<number, Owed>()
  readonly #ended: { readonly session: SessionId; readonly next: number }[] = []

  /** `mostBytes`: of one message; one reply always fits, up to `replyMostBytes`. */
  constructor(mostBytes: number, replyMostBytes = Infinity) {
    this.#mostBytes = mostBytes
    this.#replyMostBytes = replyMostBytes
  }

  owe(session: SessionId, sequence: number, reply: Reply): void {
    const bytes = replyBytes(reply)
    let owed = this.#open.get(session.node)
    // Two starts of a node number their commands alike: never in one message.
    const fits = owed?.session.incarnation === session.incarnation && owed.bytes + bytes <= this.#mostBytes
    if (!owed || !fits) {
      if (owed) this.#full.push(owed)
      this.#open.set(session.node, (owed = { session, replies: [], bytes: 0 }))
    }
    const isTooLarge = bytes > this.#replyMostBytes
    owed.replies.push({ sequence, reply: isTooLarge ? TOO_LARGE : reply })
    owed.bytes += isTooLarge ? 0 : bytes
  }

  /** The session is over; its node hears of it behind the replies that it is owed. */
  end(session: SessionId, next: number): void {
    this.#ended.push({ session, next })
  }

  /** `index`: what the state that gave them has applied. */
  release(index: LogIndex, send: (to: NodeId, message: RelayMessage) => void): void {
    if (this.#open.size === 0 && this.#ended.length === 0) return
    for (const { session, replies } of [...this.#full, ...this.#open.values()]) {
      send(nodeId(session.node), { kind: 'replies', session, index, replies })
    }
    this.#full = []
    this.#open.clear()
    for (const { session, next } of this.#ended.splice(0)) {
      send(nodeId(session.node), { kind: 'session-ended', session, next })
    }
  }
}
