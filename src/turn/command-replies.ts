/**
 * Who is told what came of a command. PURE.
 *
 * - A node answers its own clients, when it applies their commands.
 * - The leader answers the nodes that may not apply, and every repetition: whoever sends a command again has missed
 *   something. What it has applied it answers from memory, at once; nothing of it goes into the log again.
 * - A node outside the configuration hears from the leader that its session has ended; voters meet that in the log.
 */
import { partFrom } from './commands-under-way.ts'
import { isLeader, type Replica } from '../consensus/replica.ts'
import { isVoter } from '../consensus/quorum.ts'
import type { Block, SessionId } from '../machine/entry.ts'
import type { Machine, ReplySink } from '../machine/machine.ts'
import type { Reply } from '../machine/reply.ts'
import { OwedReplies } from './owed-replies.ts'
import type { RelayMessage } from './relay-messages.ts'
import type { Relay } from './relay.ts'
import type { TurnLimits } from './ports.ts'
import { type Configuration, type NodeId, nodeId } from '../vocabulary.ts'

/** What it needs of the turn, as it is at the moment. */
export interface Answering {
  readonly self: NodeId
  readonly replica: Replica
  readonly machine: Machine
  readonly relay: Relay
  /** The configuration in force after the last applied entry. */
  readonly appliedConfiguration: Configuration
}

export class CommandReplies implements ReplySink {
  readonly #turn: Answering
  readonly #owed: OwedReplies
  readonly #renewed: () => void

  /** `renewed`: commands of this node go on in another session, and may be sent. */
  constructor(turn: Answering, limits: TurnLimits, renewed: () => void) {
    this.#turn = turn
    this.#owed = new OwedReplies(limits.repliesBytes ?? Infinity, limits.replyMostBytes)
    this.#renewed = renewed
  }

  reply(session: SessionId, sequence: number, reply: Reply, duplicate: boolean): void {
    const { self, replica, relay } = this.#turn
    if (session.node === self) {
      if (session.incarnation === relay.session.incarnation) relay.answer(sequence, reply)
      return
    }
    if (!isLeader(replica)) return
    if (!duplicate && this.#votes(session)) return
    this.#owed.owe(session, sequence, reply)
  }

  refused(session: SessionId, next: number): void {
    const { self, replica, relay } = this.#turn
    if (session.node === self) {
      relay.renew(session, next)
      this.#renewed()
    } else if (isLeader(replica) && !this.#votes(session)) this.#owed.end(session, next)
  }

  #votes({ node }: SessionId): boolean {
    return isVoter(this.#turn.appliedConfiguration, nodeId(node))
  }

  /** At the leader: answers what of the block is applied, and gives what is not; null: all of it is. */
  answerApplied(block: Block): Block | null {
    const { machine } = this.#turn
    const { session, first, commands } = block
    const next = machine.nextSequence(session) ?? 0
    const end = Math.min(next, first + commands.length)
    for (let sequence = first; sequence < end; sequence++) {
      // What is not remembered was acknowledged: it came.
      const reply = machine.remembered(session, sequence)
      if (reply !== undefined) this.reply(session, sequence, reply, true)
    }
    return partFrom(block, next)
  }

  /** Says what the turn owes to other nodes. */
  release(tell: (to: NodeId, message: RelayMessage) => void): void {
    this.#owed.release(this.#turn.machine.applied, tell)
  }
}
