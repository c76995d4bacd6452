/**
 * The unanswered commands of one connection, and the answers that wait for those before them.
 *
 * A command is a slot, found by its tag; slots are filled in any order and leave from the front. Guarantee:
 * replies leave in the order of the commands, each once; what is to happen with a reply (another protocol, the
 * end of the connection) happens at its place in that order.
 */
import { type Reply, replyBytes } from '../../machine/reply.ts'
import type { Protocol, RespEncoder } from './encoder.ts'

/** What happens when a reply leaves, beside its being written. */
export type Departure = { readonly kind: 'protocol'; readonly protocol: Protocol } | { readonly kind: 'close' }

/** How the answer to a command comes about; `large`: a write in the log whose reply may be large. */
export type Way = 'read' | 'write' | 'large' | 'local'

const PENDING = Symbol('pending')

const FIRST_EXPECTED_BYTES = 262_144
const LEAST_EXPECTED_BYTES = 16_384

/** So many answered slots are kept before the arrays are cut. */
const KEPT_SLOTS = 4096

export class ReplyQueue {
  #replies: (Reply | typeof PENDING)[] = []
  #ways: Way[] = []
  readonly #departures = new Map<number, Departure>()
  #head = 0
  /** Tag of the slot at position 0. */
  #base = 0
  /** Before this tag everything is answered. */
  #answered = 0
  #protocol: Protocol = 2
  unansweredReads = 0
  unansweredWrites = 0
  /** Among the writes. */
  unansweredLarge = 0
  /** What the next large reply is expected to take: much at first, then about what the last ones took. */
  #expectedBytes = FIRST_EXPECTED_BYTES
  /** About what the replies that wait in slots take. */
  waitingBytes = 0

  /** Commands whose replies have not left. */
  get inFlight(): number {
    return this.#replies.length - this.#head
  }

  /** Tag of the oldest command that is not answered. */
  get oldestUnanswered(): number {
    let position = Math.max(this.#head, this.#answered - this.#base)
    while (position < this.#replies.length && this.#replies[position] !== PENDING) position++
    this.#answered = this.#base + position
    return this.#answered
  }

  /** A slot for a command that the node answers; gives its tag. */
  open(way: 'read' | 'write' | 'large'): number {
    this.#replies.push(PENDING)
    this.#ways.push(way)
    this.#count(way, 1)
    return this.#base + this.#replies.length - 1
  }

  /** The answer to a slot that was opened. A second one is ignored. */
  fill(tag: number, reply: Reply): void {
    const position = tag - this.#base
    if (this.#replies[position] !== PENDING) return
    const bytes = this.#put(position, reply)
    const way = this.#ways[position]!
    this.#count(way, -1)
    if (way !== 'write') this.#expectedBytes = Math.max(bytes, this.#expectedBytes / 2, LEAST_EXPECTED_BYTES)
  }

  /** What the large replies that are to come are expected to take. */
  get expectedLargeBytes(): number {
    return this.unansweredLarge * this.#expectedBytes
  }

  #count(way: Way, more: number): void {
    if (way === 'read') this.unansweredReads += more
    else this.unansweredWrites += more
    if (way === 'large') this.unansweredLarge += more
  }

  /** A command that is answered at once. */
  answer(reply: Reply, departure: Departure | null = null): void {
    if (departure !== null) this.#departures.set(this.#base + this.#replies.length, departure)
    this.#ways.push('local')
    this.#put(this.#replies.length, reply)
  }

  /** Bytes of it; small ones do not count. */
  #put(position: number, reply: Reply): number {
    this.#replies[position] = reply
    if (typeof reply !== 'object' || reply === null) return 0
    const bytes = replyBytes(reply)
    this.waitingBytes += bytes
    return bytes
  }

  /** Encodes the answers that may leave. True: the connection ends after them. */
  encode(encoder: RespEncoder): boolean {
    let ends = false
    while (this.#head < this.#replies.length && !ends) {
      const reply = this.#replies[this.#head]!
      if (reply === PENDING) break
      this.#replies[this.#head] = null
      if (typeof reply === 'object' && reply !== null) this.waitingBytes -= replyBytes(reply)
      if (this.#departures.size > 0) ends = this.#depart(this.#base + this.#head)
      encoder.reply(reply, this.#protocol)
      this.#head++
    }
    if (this.#head === this.#replies.length || this.#head >= KEPT_SLOTS) this.#cut()
    return ends
  }

  /** The connection is gone. */
  clear(): void {
    this.#base += this.#replies.length
    this.#replies = []
    this.#ways = []
    this.#head = 0
    this.waitingBytes = 0
  }

  #depart(tag: number): boolean {
    const departure = this.#departures.get(tag)
    if (departure === undefined) return false
    this.#departures.delete(tag)
    if (departure.kind === 'protocol') this.#protocol = departure.protocol
    return departure.kind === 'close'
  }

  #cut(): void {
    if (this.#head === 0) return
    this.#base += this.#head
    this.#replies = this.#replies.slice(this.#head)
    this.#ways = this.#ways.slice(this.#head)
    this.#head = 0
  }
}
