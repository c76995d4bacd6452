/**
 * Linearizable reads at the leader, from their arrival to the state that may answer them. PURE.
 *
 * All reads of a turn, those of other nodes included, are one group: the core confirms it once, and it is
 * answered from a state that has applied the group's index.
 */
import type { Arguments } from './edge/front.ts'
import { type Reply, err, replyBytes } from './machine/reply.ts'
import type { TurnLimits } from './turn-ports.ts'
import { type LogIndex, type NodeId, logIndex } from './vocabulary.ts'

export interface AskedReads {
  readonly from: NodeId
  /** The asking node's own number for them. */
  readonly id: number
  readonly commands: readonly Arguments[]
}

interface ReadGroup {
  readonly id: number
  readonly batches: readonly AskedReads[]
  /** The time of the log when they were asked, since 1970. */
  readonly askedMilliseconds: number
  index: LogIndex
}

export class ReadQueue {
  #arrived: AskedReads[] = []
  #asked: ReadGroup[] = []
  #confirmed: ReadGroup[] = []
  #nextId = 1
  /** By node: the ids of what arrived and was not answered. */
  readonly #waiting = new Map<NodeId, Set<number>>()

  /** What waits already is not taken again: a leader that has lost its quorum is asked the same for as long as that lasts. */
  arrive(batch: AskedReads): void {
    const waiting = this.#waiting.get(batch.from) ?? new Set()
    if (waiting.has(batch.id)) return
    this.#waiting.set(batch.from, waiting.add(batch.id))
    this.#arrived.push(batch)
  }

  #forget(batches: readonly AskedReads[]): void {
    for (const { from, id } of batches) this.#waiting.get(from)?.delete(id)
  }

  get hasArrived(): boolean {
    return this.#arrived.length > 0
  }

  /** Who asked asks the next leader. */
  forgetArrived(): void {
    this.#forget(this.#arrived)
    this.#arrived = []
  }

  /** What arrived becomes a group that the core is asked to confirm under the id; `atLeast`: see `index`. */
  ask(atLeast: LogIndex, askedMilliseconds: number): number {
    const group: ReadGroup = { id: this.#nextId++, batches: this.#arrived, askedMilliseconds, index: atLeast }
    this.#arrived = []
    this.#asked.push(group)
    return group.id
  }

  /** The core confirmed every group up to `id` for a state that has applied `index`. */
  confirm(id: number, index: LogIndex): void {
    while (this.#asked.length > 0 && this.#asked[0]!.id <= id) {
      const group = this.#asked.shift()!
      group.index = logIndex(Math.max(group.index, index))
      this.#confirmed.push(group)
    }
  }

  /** Leadership was lost before the groups up to `id` were confirmed. */
  fail(id: number): void {
    for (const group of this.#asked) if (group.id <= id) this.#forget(group.batches)
    this.#asked = this.#asked.filter((group) => group.id > id)
  }

  /**
   * Groups that could be answered, but for a key that came with what was applied since and was due when they were
   * asked: they ask again, behind its expiry. True where there are any.
   */
  postpone(applied: LogIndex, dueMilliseconds: number): boolean {
    const late = this.#confirmed.filter((group) => group.index <= applied && group.askedMilliseconds >= dueMilliseconds)
    if (late.length === 0) return false
    this.#confirmed = this.#confirmed.filter((group) => !late.includes(group))
    this.#arrived.unshift(...late.flatMap((group) => group.batches))
    return true
  }

  /** The next batches that a state which has applied `applied` may answer, or null. */
  next(applied: LogIndex): readonly AskedReads[] | null {
    const group = this.#confirmed[0]
    if (!group || group.index > applied) return null
    this.#confirmed.shift()
    this.#forget(group.batches)
    return group.batches
  }
}

const TOO_LARGE = err('the reply is too large to go through this node; ask the leader itself, or for less at a time')

/** Replies to the first commands, at least to one, as many as one message to another node may carry. */
export function readWithin(
  commands: readonly Arguments[],
  read: (command: Arguments) => Reply,
  { repliesBytes = Infinity, replyMostBytes = Infinity }: TurnLimits,
): Reply[] {
  const replies: Reply[] = []
  for (let bytes = 0; replies.length < commands.length;) {
    const reply = read(commands[replies.length]!)
    bytes += replyBytes(reply)
    if (replies.length > 0 && bytes > repliesBytes) break
    replies.push(replyBytes(reply) > replyMostBytes ? TOO_LARGE : reply)
  }
  return replies
}
