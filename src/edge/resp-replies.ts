/**
 * The unanswered commands of one connection, and the answers that wait for those before them.
 *
 * A command is a slot, found by its tag; slots are filled in any order and leave from the front. Guarantee:
 * replies leave in the order of the commands, each once; what is to happen with a reply (another protocol, the
 * end of the connection) happens at its place in that order.
 */
import type { Reply } from '../machine/reply.ts'
import type { Protocol, RespEncoder } from './resp-encoder.ts'

/** What happens when a reply leaves, beside its being written. */
export type Departure = { readonly kind: 'protocol'; readonly protocol: Protocol } | { readonly kind: 'close' }

/** How the answer to a command comes about. */
export type Way = 'read' | 'write' | 'local'

const PENDING = Symbol('pending')

/** So many answered slots are kept before the arrays are cut. */
const KEPT_SLOTS = 4096

export class ReplyQueue {
  #replies: (Reply | typeof PENDING)[] = []
  #ways: Way[] = []
  readonly #departures = new Map<number, Departure>()
  #head = 0
  /** Tag of the slot at position 0. */
  #base = 0
  #protocol: Protocol = 2
  unansweredReads = 0
  unansweredWrites = 0
  /** Bytes of bulk replies that wait in slots. */
  waitingBytes = 0

  /** Commands whose replies have not left. */
  get inFlight(): number {
    return this.#replies.length - this.#head
  }

  /** A slot for a command that the node answers; gives its tag. */
  open(way: 'read' | 'write'): number {
    this.#replies.push(PENDING)
    this.#ways.push(way)
    if (way === 'read') this.unansweredReads++
    else this.unansweredWrites++
    return this.#base + this.#replies.length - 1
  }

  /** The answer to a slot that was opened. A second one is ignored. */
  fill(tag: number, reply: Reply): void {
    const position = tag - this.#base
    if (this.#replies[position] !== PENDING) return
    this.#put(position, reply)
    if (this.#ways[position] === 'read') this.unansweredReads--
    else this.unansweredWrites--
  }

  /** A command that is answered at once. */
  answer(reply: Reply, departure: Departure | null = null): void {
    if (departure !== null) this.#departures.set(this.#base + this.#replies.length, departure)
    this.#ways.push('local')
    this.#put(this.#replies.length, reply)
  }

  #put(position: number, reply: Reply): void {
    if (reply instanceof Uint8Array) this.waitingBytes += reply.length
    this.#replies[position] = reply
  }

  /** Encodes the answers that may leave. True: the connection ends after them. */
  encode(encoder: RespEncoder): boolean {
    let ends = false
    while (this.#head < this.#replies.length && !ends) {
      const reply = this.#replies[this.#head]!
      if (reply === PENDING) break
      this.#replies[this.#head] = null
      if (reply instanceof Uint8Array) this.waitingBytes -= reply.length
      if (this.#departures.size > 0) ends = this.#depart(this.#base + this.#head)
      encoder.reply(reply, this.#protocol)
      this.#head++
    }
    if (this.#head === this.#replies.length || this.#head >= KEPT_SLOTS) this.#cut()
    return ends
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
