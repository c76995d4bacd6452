/**
 * The answers of one connection of a Redis client, from the node to its socket, and their bound.
 *
 * A client that has more than `maxOutputBytes` to take, or anything while all clients together have too much
 * (output-budget.ts), has no room: its reads are deferred, and the connection takes in nothing more. So it holds that
 * much and one reply, and replies to what is in the log already. It is answered on when it has taken half.
 */
import type { Socket } from 'node:net'
import type { Arguments, Reply } from '../../machine/reply.ts'
import { DeferredReads } from './deferred-reads.ts'
import { Output } from '../output.ts'
import type { Consumer, OutputBudget } from './output-budget.ts'
import type { RespEncoder } from './encoder.ts'
import { ReplyQueue } from './reply-queue.ts'

/** Replies of so many bytes are not kept until the end of the turn. */
const EARLY_BYTES = 262_144

export interface AnswersShared {
  readonly encoder: RespEncoder
  readonly budget: OutputBudget
  readonly limits: { readonly maxOutputBytes: number }
}

export class Answers implements Consumer {
  readonly #socket: Socket
  readonly #shared: AnswersShared
  readonly #goOn: () => void
  readonly #output: Output
  readonly #deferred = new DeferredReads()
  readonly queue = new ReplyQueue()
  heldBytes = 0
  silentSince = 0
  /** What was written ends the connection. */
  #ends = false

  /** `goOn` is called when there may be room again. */
  constructor(socket: Socket, shared: AnswersShared, goOn: () => void) {
    this.#socket = socket
    this.#shared = shared
    this.#goOn = goOn
    this.#output = new Output(socket)
    socket.on('drain', () => this.#drained())
  }

  get #unsentBytes(): number {
    return this.#output.bytes + this.queue.waitingBytes
  }

  /** Who takes everything at once is answered on while others do not. */
  #hasRoom(unsentBytes: number): boolean {
    const { budget, limits } = this.#shared
    return budget.isTight ? unsentBytes === 0 && !budget.isExceeded : unsentBytes <= limits.maxOutputBytes
  }

  /** Whether more commands may be taken in; where not, perhaps after `writeOut`. */
  get isOpen(): boolean {
    if (this.#socket.destroyed || this.#deferred.size > 0 || this.queue.waitingBytes >= EARLY_BYTES) return false
    return this.#hasRoom(this.#unsentBytes)
  }

  fill(tag: number, reply: Reply): void {
    if (this.#socket.destroyed) return
    this.queue.fill(tag, reply)
    if (this.queue.waitingBytes < EARLY_BYTES) return
    this.#output.write(this.#encode())
    this.#account()
  }

  /** See `Origin`. */
  defers(tag: number, command: Arguments): boolean {
    if (this.#socket.destroyed) return true
    // In order: none is answered from an older state than one before it. What waits behind it needs no room.
    if (tag === this.queue.oldestUnanswered && this.#hasRoom(this.#output.bytes)) return false
    this.#deferred.add(tag, command)
    return true
  }

  /** Asks what was deferred, once there is room; `ask`: false, it was not taken. */
  askDeferred(ask: (tag: number, args: Arguments) => boolean): void {
    if (this.#deferred.size === 0) return
    const { bytes } = this.#output
    if (!this.#hasRoom(bytes) || bytes > this.#shared.limits.maxOutputBytes / 2) return
    this.#deferred.askAgain(this.queue.unansweredReads - this.#deferred.size, ask)
  }

  #encode(): Uint8Array[] {
    const { encoder } = this.#shared
    if (this.queue.encode(encoder)) this.#ends = true
    return encoder.take()
  }

  /**
   * Writes out what may leave. `last`: where that answers everything it is the last that is said, see
   * `Output.writeLast`. Says whether the connection's end is to follow, or is there already.
   */
  writeOut(last: { readonly mayClose: boolean } | null): 'open' | 'ends' | 'closed' {
    const pieces = this.#encode()
    const isLast = last !== null && pieces.length > 0 && this.queue.inFlight === 0
    const isClosed = isLast && this.#output.writeLast(pieces, last.mayClose)
    if (!isLast) this.#output.write(pieces)
    this.#account()
    if (isClosed) return 'closed'
    return isLast || this.#ends ? 'ends' : 'open'
  }

  /** What was written reaches the client, then the end. */
  end(): void {
    this.#output.end()
  }

  #drained(): void {
    this.silentSince = performance.now()
    this.#output.drained()
    this.#account()
    this.#goOn()
  }

  #account(): void {
    const bytes = this.#unsentBytes + this.#deferred.bytes
    if (bytes === this.heldBytes) return
    if (this.heldBytes === 0) this.silentSince = performance.now()
    this.#shared.budget.count(bytes - this.heldBytes)
    this.heldBytes = bytes
  }

  recount(): void {
    // A socket tells that it is empty only where it was full. What waits for another answer is not there to be taken.
    if (this.#output.bytes === 0) this.silentSince = performance.now()
    this.#account()
  }

  goOn(): void {
    if (this.#deferred.size > 0 || this.#socket.isPaused()) this.#goOn()
  }

  cutOff(): void {
    this.#socket.destroy()
    this.forget()
  }

  /** Nobody takes what is here. */
  forget(): void {
    this.queue.clear()
    this.#output.clear()
    this.#deferred.clear()
    this.#account()
  }

  get address(): string | undefined {
    return this.#socket.remoteAddress
  }
}
