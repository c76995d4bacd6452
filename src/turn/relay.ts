/**
 * The receiving side of a command: it gets a place in this node's session, travels to the leader, and its
 * reply finds the way back to the connection. PURE.
 *
 * Guarantees, together with machine/sessions:
 * - Every write taken in is applied once, in the order in which it was taken, although leaders change and
 *   messages are lost: everything unanswered is sent again, in order, under the same sequence numbers.
 * - A read is asked again of the next leader until one has confirmed and answered it.
 * - Where the log has ended the session (this node was out of touch for long, or time leapt), a command that was
 *   applied and whose reply is lost is answered OUTCOME_UNKNOWN; every other one goes on in the next session.
 *
 * Commands are kept encoded, as they go into the log, until their reply has come.
 */
import { SharedMemory } from '../bytes.ts'
import type { Origin } from '../front.ts'
import { type Block, type SessionId, encodeCommand } from '../machine/entry.ts'
import { type Arguments, type Reply, argumentBytes, coded } from '../machine/reply.ts'
import { isRefusal } from './read-queue.ts'

export interface RelayLimits {
  readonly outstandingCommands: number
  readonly outstandingBytes: number
  /** Bytes of commands in one block. */
  readonly blockBytes: number
  /** Bytes of commands that were sent and not answered: so many are sent again at a change of leader. Absent: any. */
  readonly inFlightBytes?: number
  readonly resendMilliseconds: number
  readonly resendMostMilliseconds: number
  /** A node that is no voter says so often that its session lives, while nothing else does. Absent: never. */
  readonly sessionKeepAliveMilliseconds?: number
}

/** Most that the length of an argument takes. */
const LENGTH_BYTES = 8

interface Slot {
  readonly origin: Origin
  readonly tag: number
  readonly command: Uint8Array
}

interface PendingRead {
  readonly origins: readonly Origin[]
  readonly tags: readonly number[]
  readonly commands: readonly Arguments[]
  readonly bytes: number
  readonly askedAt: number
  sentAt: number
}

/** Ids of reads for each start of a node, and for how many starts until they come again. Their product is below 2^53. */
const READ_IDS = 2 ** 32
const READ_ID_RANGES = 2 ** 20

/**
 * Sessions that one start of a node may open, one after the other, are numbered from here; each start has more of
 * these numbers than it can use.
 */
const SESSIONS_OF_A_START = 2 ** 16

/** `start` rises with every start of the node on its volume. */
export const firstIncarnation = (start: number): number => start * SESSIONS_OF_A_START

const OUTCOME_UNKNOWN = coded('OUTCOME_UNKNOWN', 'the command was applied, or may have been, and its reply is lost')

/** Reads of one turn under one id. */
export interface ReadBatch {
  readonly id: number
  readonly commands: readonly Arguments[]
}

export class Relay {
  #session: SessionId
  readonly #limits: RelayLimits
  /** Of commands, until they are answered. */
  readonly #memory = new SharedMemory()
  /** Slot of sequence number `#base + position`; null: answered. */
  #slots: (Slot | null)[] = []
  /** Position in `#slots` of the oldest unanswered command: the slots before it are answered. */
  #head = 0
  #base = 1
  /** Sequence number of the next command that has not been sent under the present leader. */
  #nextToSend = 1
  /** Of unanswered commands before it. */
  #inFlightBytes = 0
  #bytes = 0
  /** The largest sequence number that was ever sent. */
  #sent = 0
  /** False until the first reply shows that the session is in the log. */
  #opened = false
  /** Sequence number that the head had when it was looked at last, and since when it has waited for its answer. */
  #headSeen = 0
  #headSince = 0
  #resendAfter: number

  /** When a block was last sent. */
  #spokeAt = 0
  #readOrigins: Origin[] = []
  #readTags: number[] = []
  #readCommands: Arguments[] = []
  /** Of these. */
  #readBytes = 0
  /** Begins anew with every start, in a range of its own: the answer to an earlier start's reads is none to these. */
  #nextReadId: number
  readonly #reads = new Map<number, PendingRead>()
  #outstandingReads = 0

  /** Connections that got a reply in this turn; some more than once. */
  #touched: Origin[] = []

  constructor(session: SessionId, limits: RelayLimits) {
    this.#session = session
    this.#limits = limits
    this.#resendAfter = limits.resendMilliseconds
    this.#nextReadId = (Math.ceil(session.incarnation / SESSIONS_OF_A_START) % READ_ID_RANGES) * READ_IDS + 1
  }

  get session(): SessionId {
    return this.#session
  }

  get #nextSequence(): number {
    return this.#base + this.#slots.length
  }

  /** Commands and reads taken in and not yet answered. */
  get outstanding(): number {
    return this.#slots.length - this.#head + this.#outstandingReads + this.#readCommands.length
  }

  #full(): boolean {
    return this.outstanding >= this.#limits.outstandingCommands || this.#bytes >= this.#limits.outstandingBytes
  }

  /** False: full, nothing was taken. */
  takeWrite(origin: Origin, tag: number, args: Arguments): boolean {
    if (this.#full()) return false
    const encoded = this.#memory.writerFor(argumentBytes(args) + LENGTH_BYTES * (args.length + 2))
    const start = encoded.length
    encodeCommand(encoded, '', args)
    const command = encoded.since(start)
    this.#bytes += command.length
    this.#slots.push({ origin, tag, command })
    return true
  }

  /** False: full, nothing was taken. */
  takeRead(origin: Origin, tag: number, args: Arguments): boolean {
    if (this.#full()) return false
    this.#readOrigins.push(origin)
    this.#readTags.push(tag)
    this.#readCommands.push(args)
    this.#countReads(argumentBytes(args))
    return true
  }

  /** So many bytes of reads more, or fewer, wait to be asked. */
  #countReads(bytes: number): void {
    this.#readBytes += bytes
    this.#bytes += bytes
  }

  /**
   * The next block for the leader, or null if everything was sent. Call until null. `opens` says that the
   * leader should open the session first.
   */
  nextBlock(now: number): { opens: boolean; block: Block } | null {
    // Replies may have been lost between others that came: an answered command ends a block, its number is used up.
    while (this.#slots[this.#nextToSend - this.#base] === null) this.#nextToSend++
    const position = this.#nextToSend - this.#base
    if (position >= this.#slots.length || this.#windowIsFull) return null
    this.#spokeAt = now
    const commands: Uint8Array[] = []
    let bytes = 0
    for (let at = position; at < this.#slots.length && bytes < this.#limits.blockBytes; at++) {
      const slot = this.#slots[at]
      if (!slot) break
      commands.push(slot.command)
      bytes += slot.command.length
    }
    const first = this.#nextToSend
    if (position === this.#head) this.#headWaitsFrom(now)
    this.#nextToSend += commands.length
    this.#inFlightBytes += bytes
    this.#sent = Math.max(this.#sent, this.#nextToSend - 1)
    const acknowledged = this.#base + this.#head - 1
    return { opens: !this.#opened, block: { session: this.session, acknowledged, first, commands } }
  }

  /**
   * For a node that is no voter: a block without commands when the session has been silent for long. Sessions of
   * nodes outside the configuration end by the time of the log, and clients may still be here.
   */
  keepAlive(now: number): Block | null {
    const { sessionKeepAliveMilliseconds = Infinity } = this.#limits
    if (!this.#opened || now - this.#spokeAt < sessionKeepAliveMilliseconds) return null
    this.#spokeAt = now
    const acknowledged = this.#base + this.#head - 1
    return { session: this.session, acknowledged, first: this.nextSequence, commands: [] }
  }

  /** The reads taken since the last call, as one batch, or null. */
  nextReads(now: number): ReadBatch | null {
    if (this.#readCommands.length === 0) return null
    const id = this.#nextReadId++
    const commands = this.#readCommands
    const batch = { origins: this.#readOrigins, tags: this.#readTags, commands, bytes: this.#readBytes }
    this.#reads.set(id, { ...batch, askedAt: now, sentAt: now })
    this.#outstandingReads += commands.length
    this.#readBytes = 0
    this.#readOrigins = []
    this.#readTags = []
    this.#readCommands = []
    return { id, commands }
  }

  /** Everything unanswered must be sent again: there is a new leader, or messages were lost. */
  restart(now: number): readonly ReadBatch[] {
    this.#nextToSend = this.#base + this.#head
    this.#inFlightBytes = 0
    const batches: ReadBatch[] = []
    for (const [id, read] of this.#reads) {
      read.sentAt = now
      batches.push({ id, commands: read.commands })
    }
    return batches
  }

  #headWaitsFrom(now: number): void {
    this.#headSeen = this.#base + this.#head
    this.#headSince = now
  }

  /**
   * Whether something that was sent has waited for its answer for so long that it must be sent again. Doubles the
   * wait. Writes are answered in their order, so the oldest one tells: newer ones that leave all the time behind
   * one that was lost are out of order and must not hide it.
   *
   * `isLeaving`: what was sent stands in line here still. It is not lost before its connection is, and the same again
   * behind it would only make the line longer: the wait begins when it has left.
   */
  overdue(now: number, isLeaving = false): boolean {
    if (isLeaving) {
      this.#headWaitsFrom(now)
      for (const read of this.#reads.values()) read.sentAt = now
      return false
    }
    const head = this.#base + this.#head
    const headIsOut = head < this.#nextToSend && this.#head < this.#slots.length
    if (!headIsOut || head !== this.#headSeen) this.#headWaitsFrom(now)
    const oldestRead = this.#reads.values().next().value
    const since = Math.min(this.#headSince, oldestRead ? oldestRead.sentAt : now)
    if (now - since < this.#resendAfter) return false
    this.#resendAfter = Math.min(this.#resendAfter * 2, this.#limits.resendMostMilliseconds)
    return true
  }

  /** A reply to a write. One that was answered before is ignored. */
  answer(sequence: number, reply: Reply): void {
    const position = sequence - this.#base
    const slot = this.#slots[position]
    if (slot === undefined || slot === null) return
    this.#opened = true
    this.#slots[position] = null
    this.#bytes -= slot.command.length
    if (sequence < this.#nextToSend) this.#inFlightBytes -= slot.command.length
    this.#resendAfter = this.#limits.resendMilliseconds
    slot.origin.reply(slot.tag, reply)
    this.#touch(slot.origin)
    while (this.#head < this.#slots.length && this.#slots[this.#head] === null) this.#head++
    if (this.#nextToSend < this.#base + this.#head) this.#nextToSend = this.#base + this.#head
    if (this.#head === this.#slots.length || this.#head >= 4096) this.#forgetAnswered()
  }

  #forgetAnswered(): void {
    this.#base += this.#head
    this.#slots = this.#head === this.#slots.length ? [] : this.#slots.slice(this.#head)
    this.#head = 0
  }

  /**
   * The log has ended the session and will apply nothing more of it: what is before `next` was applied (0: that is
   * not known of what was sent). What certainly was not goes on, in its order, in a session of its own.
   */
  renew(ended: SessionId, next: number): void {
    if (ended.node !== this.#session.node || ended.incarnation !== this.#session.incarnation) return
    const first = next > 0 ? next : this.#sent + 1
    const kept: Slot[] = []
    for (const [position, slot] of this.#slots.entries()) {
      if (slot === null) continue
      if (this.#base + position >= first) kept.push(slot)
      else {
        this.#bytes -= slot.command.length
        slot.origin.reply(slot.tag, OUTCOME_UNKNOWN)
        this.#touch(slot.origin)
      }
    }
    this.#session = { node: ended.node, incarnation: ended.incarnation + 1 }
    this.#slots = kept
    this.#head = 0
    this.#base = 1
    this.#nextToSend = 1
    this.#inFlightBytes = 0
    this.#sent = 0
    this.#opened = false
    this.#headSeen = 0
  }

  /**
   * Replies to a batch of reads, or to its first ones where all together would be too much for one message: the
   * rest is asked anew. A batch that was answered before is ignored. Gives the time at which it was first asked:
   * the state that answered was the newest at some moment since; null where it was ignored, or nothing was read.
   */
  answerReads(id: number, replies: readonly Reply[]): number | null {
    const asked = this.#reads.get(id)?.commands.length ?? 0
    if (replies.length === 0 || replies.length > asked) return null
    const askedAt = this.#answerReads(id, (at) => replies[at])
    return replies.some(isRefusal) ? null : askedAt
  }

  /**
   * The same from the state of this node: what an origin has no room for is not even read. `read`: undefined, not now;
   * `isRefused`: it reads nothing, and says so.
   */
  readHere(id: number, read: (command: Arguments) => Reply | undefined, isRefused = false): number | null {
    const askedAt = this.#answerReads(id, (_at, command) => read(command))
    return isRefused ? null : askedAt
  }

  #answerReads(id: number, replyTo: (at: number, command: Arguments) => Reply | undefined): number | null {
    const batch = this.#reads.get(id)
    if (!batch) return null
    this.#reads.delete(id)
    this.#outstandingReads -= batch.commands.length
    this.#bytes -= batch.bytes
    this.#resendAfter = this.#limits.resendMilliseconds
    const left: number[] = []
    for (let at = 0; at < batch.commands.length; at++) {
      const command = batch.commands[at]!
      const origin = batch.origins[at]!
      const tag = batch.tags[at]!
      this.#touch(origin)
      if (origin.defers?.(tag, command)) continue
      const reply = replyTo(at, command)
      if (reply === undefined) left.push(at)
      else origin.reply(tag, reply)
    }
    if (left.length > 0) this.#askAnew(batch, left)
    return batch.askedAt
  }

  /** Whether `nextReads` has some. */
  get hasReads(): boolean {
    return this.#readCommands.length > 0
  }

  #askAnew({ origins, tags, commands }: PendingRead, positions: readonly number[]): void {
    this.#readOrigins = [...positions.map((at) => origins[at]!), ...this.#readOrigins]
    this.#readTags = [...positions.map((at) => tags[at]!), ...this.#readTags]
    const left = positions.map((at) => commands[at]!)
    this.#readCommands = [...left, ...this.#readCommands]
    this.#countReads(left.reduce((sum, args) => sum + argumentBytes(args), 0))
  }

  get #windowIsFull(): boolean {
    return this.#inFlightBytes >= (this.#limits.inFlightBytes ?? Infinity)
  }

  /** Whether `nextBlock` has another one: answers have made room for it. */
  get hasMoreToSend(): boolean {
    return !this.#windowIsFull && this.#nextToSend < this.#nextSequence
  }

  #touch(origin: Origin): void {
    if (this.#touched.at(-1) !== origin) this.#touched.push(origin)
  }

  /** Writes out what this turn answered, one write per connection: a second flush has nothing left to write. */
  flush(): void {
    const touched = this.#touched
    this.#touched = []
    for (const origin of touched) origin.flush()
  }

  get nextSequence(): number {
    return this.#nextSequence
  }
}
