/**
 * One connection of a Redis client: when it is read, when commands are taken from what came (dispatcher.ts says what
 * becomes of them), when replies leave, how it ends.
 *
 * Guarantees
 * - Replies leave in the order of the commands, whatever order they come in; one write per turn.
 * - Back-pressure: with too many unanswered commands, or too much output that the client does not take (see
 *   answers.ts), nothing more is decoded or read, and reads that were taken in are deferred. What is in the log is
 *   answered all the same.
 * - `drain`: everything that was read is answered, then the connection is closed; what a client sends after
 *   that is not executed. RESP cannot announce a close, so the end comes right behind a last answer, while the
 *   client has nothing more to send, or after a silence: a command and our end cross on the wire hardly ever.
 */
import type { Socket } from 'node:net'
import { type Arguments, type Reply, err } from '../../machine/reply.ts'
import type { Front } from '../../front.ts'
import { Answers, type AnswersShared } from './answers.ts'
import { Client, type Clients } from './client.ts'
import { RespDecoder } from './decoder.ts'
import { Dispatcher, type Line } from './dispatcher.ts'
import type { Holder } from './holders.ts'
import type { Incoming } from './incoming.ts'
import { ProtocolError } from './inline.ts'
import type { ReplyQueue } from './reply-queue.ts'
import { Silence } from './silence.ts'
import { type Queues, Transaction } from './transaction.ts'

export interface ConnectionLimits {
  readonly maxValueBytes: number
  readonly maxCommandBytes: number
  /** Commands of one connection that may be unanswered. */
  readonly maxPipelinedCommands: number
  /** Output that the client has not taken. */
  readonly maxOutputBytes: number
}

/** What connections of a server share. */
export interface Shared extends AnswersShared {
  readonly front: Front
  readonly limits: ConnectionLimits
  readonly incoming: Incoming
  readonly clients: Clients
  readonly queues: Queues
  commandsProcessed: number
  closed(connection: Connection): void
}

/** As Redis's tcp-keepalive. */
const KEEP_ALIVE_MILLISECONDS = 300_000
/** After a refusal for overload the connection takes in nothing for so long: refusing must not be all that the node does. */
const REFUSAL_PAUSE_MILLISECONDS = 20

export class Connection implements Line, Holder {
  readonly client: Client
  readonly answers: Answers
  readonly #socket: Socket
  readonly #shared: Shared
  readonly #decoder: RespDecoder
  readonly #queue: ReplyQueue
  readonly #dispatcher: Dispatcher
  readonly #askAgain = (tag: number, args: Arguments): boolean => this.#dispatcher.askAgain(tag, args)
  #pumping = false
  /** Whether `#takeIn` stopped although the decoder may hold another command. */
  #moreDecoded = false
  /** A command was refused for overload a moment ago. */
  #refusal: NodeJS.Timeout | null = null
  /** Nothing more is decoded: QUIT, a protocol error, the end of a drain. */
  #finishing = false
  #ended = false
  #draining = false
  /** Has sent a command before the one before was answered. */
  #pipelines = false
  readonly #silence = new Silence(
    () => this.silentSince,
    () => this.#regulate(),
  )
  #inputEnded = false
  /** The time of a drain is over: nothing more is read. */
  #inputStopped = false

  constructor(id: number, socket: Socket, shared: Shared) {
    this.#socket = socket
    this.#shared = shared
    this.client = new Client(id, socket, new Transaction(shared.queues))
    this.#decoder = new RespDecoder(shared.limits, shared.incoming)
    this.answers = new Answers(socket, shared, () => this.#pump())
    this.#queue = this.answers.queue
    const { client } = this
    const { clients, front, limits } = shared
    this.#dispatcher = new Dispatcher(
      this,
      { client, clients, front, maxValueBytes: limits.maxValueBytes },
      this.#queue,
    )
    socket.setNoDelay(true)
    // A client whose machine is gone is noticed some day.
    socket.setKeepAlive(true, KEEP_ALIVE_MILLISECONDS)
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('end', () => this.#onEnd())
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#onClose())
  }

  /** Whether nothing that was read is unanswered. */
  get #isIdle(): boolean {
    return this.#queue.inFlight === 0 && this.#hasNothingMore
  }

  /** Nothing was read behind what was taken in. A command of which only a part came does not count at the end of a drain. */
  get #hasNothingMore(): boolean {
    if (this.#dispatcher.holds || this.#moreDecoded) return false
    return this.#inputStopped || this.#decoder.isEmpty
  }

  // ---- Line: what comes of commands ---------------------------------------------------------------------------

  reply(tag: number, reply: Reply): void {
    this.answers.fill(tag, reply)
  }

  defers(tag: number, command: Arguments): boolean {
    return this.answers.defers(tag, command)
  }

  flush(): void {
    this.#pump()
  }

  pause(): void {
    this.#refusal ??= setTimeout(() => {
      this.#refusal = null
      this.#pump()
    }, REFUSAL_PAUSE_MILLISECONDS)
  }

  stop(): void {
    this.#finishing = true
  }

  // ---- Holder of a command that is coming in ------------------------------------------------------------------

  get heldBytes(): number {
    return this.#decoder.heldBytes
  }

  get silentSince(): number {
    return this.client.lastActiveAt
  }

  get address(): string | undefined {
    return this.#socket.remoteAddress
  }

  cutOff(): void {
    this.destroy()
  }

  // ---- input ----------------------------------------------------------------------------------------------

  #onData(chunk: Buffer): void {
    // What comes after our own end cannot be answered: it is read only so that the end arrives in good order.
    if (this.#finishing || this.#inputStopped) return
    this.client.lastActiveAt = performance.now()
    if (this.#silence.isAwaited) this.#silence.await()
    this.#decoder.push(chunk)
    this.#pump()
  }

  #onEnd(): void {
    this.#inputEnded = true
    this.#pump()
  }

  #onClose(): void {
    this.#finishing = true
    this.#decoder.end()
    this.answers.forget()
    this.#dispatcher.forget()
    this.#silence.cancel()
    if (this.#refusal !== null) clearTimeout(this.#refusal)
    this.#shared.closed(this)
  }

  #isBlocked(): boolean {
    return (
      this.#finishing ||
      this.#refusal !== null ||
      this.#queue.inFlight >= this.#shared.limits.maxPipelinedCommands ||
      !this.answers.isOpen
    )
  }

  /** Decodes and takes in as much as may be, writes out what is answered. */
  #pump(): void {
    if (this.#pumping || this.#ended) return
    this.#pumping = true
    try {
      // Replies that leave make room for commands, which may be answered at once.
      do {
        // Reads that were put off are taken in anew before anything else is.
        if (this.#refusal === null) this.answers.askDeferred(this.#askAgain)
        this.#takeIn()
        this.#writeOut()
      } while (this.#canTakeMore())
    } finally {
      this.#pumping = false
    }
    this.#regulate()
  }

  #canTakeMore(): boolean {
    if (this.#isBlocked()) return false
    return this.#dispatcher.holds ? this.#dispatcher.canGoOn : this.#moreDecoded
  }

  #takeIn(): void {
    const dispatcher = this.#dispatcher
    this.#moreDecoded = false
    dispatcher.begin()
    while (!this.#isBlocked()) {
      if (dispatcher.holds) {
        if (!dispatcher.canGoOn) return
        dispatcher.goOn()
        continue
      }
      const args = this.#decode()
      if (args === null) return
      this.#shared.commandsProcessed++
      if (this.#queue.inFlight > 0) this.#pipelines = true
      if (args === 'skipped') dispatcher.skipped(this.#decoder.skippedName)
      else dispatcher.take(args)
    }
    this.#moreDecoded = !this.#decoder.isEmpty
  }

  #decode(): Arguments | 'skipped' | null {
    try {
      return this.#decoder.next()
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      this.#queue.answer(err(`Protocol error: ${error.message}`), { kind: 'close' })
      this.#finishing = true
      return null
    }
  }

  // ---- output ---------------------------------------------------------------------------------------------

  #writeOut(): void {
    const isLast = this.#draining && this.#hasNothingMore
    const state = this.answers.writeOut(isLast ? { mayClose: !this.#pipelines } : null)
    if (state === 'ends') this.#end()
    if (state === 'closed') this.#ended = this.#finishing = true
  }

  // ---- end ------------------------------------------------------------------------------------------------

  /** Reads from the socket exactly while more commands may be taken in. */
  #regulate(): void {
    if (this.#ended) return
    const waits = this.#inputStopped || (!this.#finishing && (this.#isBlocked() || this.#dispatcher.holds))
    if (waits && !this.#socket.isPaused()) this.#socket.pause()
    else if (!waits && this.#socket.isPaused()) this.#socket.resume()
    if (this.#inputEnded && this.#queue.inFlight === 0 && !this.#dispatcher.holds && !this.#moreDecoded) this.#end()
    else if (this.#draining && !this.#silence.isAwaited && this.#isIdle) this.#end()
  }

  /** Closes as soon as everything that was read is answered and the client is silent for a moment. */
  drain(): void {
    if (this.#draining) return
    this.#draining = true
    this.#silence.await()
  }

  /**
   * The time of a drain is over for a client that is never without an unanswered command: what was read is answered,
   * nothing more is read. Where nothing is unanswered the end comes with the next answer or with silence.
   */
  finish(): void {
    this.#draining = true
    if (this.#isIdle && this.#silence.isAwaited) return
    this.#silence.cancel()
    this.#inputStopped = true
    this.#pump()
  }

  destroy(): void {
    this.#socket.destroy()
  }

  /** Our last word: what was written reaches the client, then the end. */
  #end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#finishing = true
    this.#socket.resume()
    this.answers.end()
  }
}
