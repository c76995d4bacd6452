/**
 * Linearizable reads at the leader, from their arrival to the state that may answer them. PURE.
 *
 * All reads of a turn, those of other nodes included, are one group: the core confirms it once, and it is
 * answered from a state that has applied the group's index.
 */
import { type Arguments, type Reply, coded, err, isError, replyBytes } from '../machine/reply.ts'
import type { TurnLimits } from './ports.ts'
import { type LogIndex, type NodeId, logIndex } from '../vocabulary.ts'

export interface AskedReads {
  readonly from: NodeId
  /** The asking node's own number for them. */
  readonly id: number
  readonly commands: readonly Arguments[]
  /** The answer to each of them, where they cannot be read. */
  readonly refusal?: Reply
}

interface ReadGroup {
  readonly id: number
  /** Not answered yet. */
  readonly batches: AskedReads[]
  /** The time of the log when they were asked, since 1970. */
  readonly askedMilliseconds: number
  index: LogIndex
}

export class ReadQueue {
  #arrived: AskedReads[] = []
  #asked: ReadGroup[] = []
  #confirmed: ReadGroup[] = []
  #nextId = 1
  /** Since when nothing was answered although something waits, as far as `giveUp` has seen. */
  #stuckSince: number | null = null
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
    this.#stuckSince = null
  }

  /** What arrived becomes a group that the core is asked to confirm under the id; `atLeast`: see `index`. */
  ask(atLeast: LogIndex, askedMilliseconds: number): number {
    const group: ReadGroup = {
      id: this.#nextId++,
      batches: this.#arrived,
      askedMilliseconds,
      index: atLeast,
    }
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
    this.#stuckSince = null
  }

  /**
   * Another leadership begins, perhaps of this node again: what waits behind an entry that is not decided may wait for
   * ever, because the log may have lost it. Who asked asks again.
   */
  forgetUndecided(decided: LogIndex): void {
    for (const group of this.#confirmed) if (group.index > decided) this.#forget(group.batches)
    this.#confirmed = this.#confirmed.filter((group) => group.index <= decided)
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

  /**
   * To be called again and again while an expiry must be logged before anything is read, and there may be no room for it
   * on too many disks. What has waited for it for long is refused by the next turn.
   */
  giveUp(now: number): void {
    const waiting = [...this.#confirmed, ...this.#asked].flatMap(({ batches }) => batches)
    waiting.push(...this.#arrived)
    if (waiting.length === 0) return
    this.#stuckSince ??= now
    if (now - this.#stuckSince < STUCK_MILLISECONDS) return
    this.#stuckSince = null
    const batches = waiting.map((batch) => ({ ...batch, refusal: NO_ROOM }))
    this.#arrived = []
    this.#asked = []
    this.#confirmed = [{ id: 0, batches, askedMilliseconds: 0, index: logIndex(0) }]
  }

  /** Whether there is a `next`, where no node is behind. */
  isReady(applied: LogIndex): boolean {
    return this.#confirmed.length > 0 && this.#confirmed[0]!.index <= applied
  }

  /** The next batch that a state which has applied `applied` may answer, but for nodes that are behind; or null. */
  next(applied: LogIndex, isBehind: (node: NodeId) => boolean = () => false): AskedReads | null {
    for (const [position, { index, batches }] of this.#confirmed.entries()) {
      if (index > applied) return null
      const at = batches.findIndex(({ from }) => !isBehind(from))
      if (at < 0) continue
      const [batch] = batches.splice(at, 1)
      if (batches.length === 0) this.#confirmed.splice(position, 1)
      this.#forget([batch!])
      this.#stuckSince = null
      return batch!
    }
    return null
  }
}

/** So long reads wait for an expiry that there may be no room for. */
const STUCK_MILLISECONDS = 3000
const NO_ROOM = coded('DISK_FULL', 'a key is due, and too few nodes have room to log that it expires; grow the volumes')

/** Whether this is the answer to a read that was not read. */
export const isRefusal = (reply: Reply | undefined): boolean => isError(reply) && reply.prefix === 'LOKI'

const TOO_LARGE = err('the reply is too large to go through this node; ask the leader itself, or for less at a time')

/**
 * Reads a state for as many bytes of replies as one turn may give, one reply at least: whoever reads for long answers no
 * heartbeat meanwhile, and what it has read has to be kept somewhere.
 */
export class TurnOfReading {
  readonly #read: (command: Arguments) => Reply
  readonly #replyMostBytes: number
  #left: number

  constructor(read: (command: Arguments) => Reply, { repliesBytes = Infinity, replyMostBytes = Infinity }: TurnLimits) {
    this.#read = read
    this.#replyMostBytes = replyMostBytes
    this.#left = repliesBytes
  }

  get isOver(): boolean {
    return this.#left <= 0
  }

  /** Undefined: not in this turn. */
  reader({ refusal }: AskedReads): (command: Arguments) => Reply | undefined {
    return (command) => {
      if (this.isOver) return undefined
      const reply = refusal === undefined ? this.#read(command) : refusal
      this.#left -= replyBytes(reply)
      return reply
    }
  }

  /** For another node: replies to the first commands, as many as this turn gives. */
  readFirst(batch: AskedReads): Reply[] {
    const replies: Reply[] = []
    const read = this.reader(batch)
    for (const command of batch.commands) {
      const reply = read(command)
      if (reply === undefined) break
      replies.push(replyBytes(reply) > this.#replyMostBytes ? TOO_LARGE : reply)
    }
    return replies
  }
}
