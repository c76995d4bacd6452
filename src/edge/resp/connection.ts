/**
 * One connection of a Redis client.
 *
 * Guarantees
 * - Replies leave in the order of the commands, whatever order they come in; one write per turn.
 * - A connection sees its own writes: a read behind unanswered writes goes through the log after them, and a
 *   write behind unanswered reads waits here until they are answered.
 * - Back-pressure: with too many unanswered commands, or too much output that the client does not take (see
 *   answers.ts), nothing more is decoded or read, and reads that were taken in are deferred. What is in the log is
 *   answered all the same: only a few commands whose answers may be large are there at a time.
 * - `drain`: everything that was read is answered, then the connection is closed; what a client sends after
 *   that is not executed. RESP cannot announce a close, so the end comes right behind a last answer, while the
 *   client has nothing more to send, or after a silence: a command and our end cross on the wire hardly ever.
 */
import type { Socket } from 'node:net'
import { LIMITS } from '../../config.ts'
import type { Command } from '../../machine/command.ts'
import { INTERNAL_PREFIX, arityFits, findCommand, unknownCommand } from '../../machine/commands.ts'
import { givesAndKeeps, wrongArity } from '../../machine/command.ts'
import { type Arguments, type Reply, err, isError } from '../../machine/reply.ts'
import type { Front, Origin } from '../front.ts'
import { type Incoming, OVERLOADED, SKIPPED } from './incoming.ts'
import { Answers, type AnswersShared } from './answers.ts'
import { ProtocolError, RespDecoder } from './decoder.ts'
import type { Protocol } from './encoder.ts'
import type { ReplyQueue } from './reply-queue.ts'
import { answerLocally } from './commands/local.ts'
import type { Clients } from './commands/local.ts'
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
}

interface Asked {
  readonly command: Command
  readonly args: Arguments
}

const QUEUED = 'QUEUED'

/** As Redis's tcp-keepalive. */
const KEEP_ALIVE_MILLISECONDS = 300_000
/** After a refusal for overload the connection takes in nothing for so long: refusing must not be all that the node does. */
const REFUSAL_PAUSE_MILLISECONDS = 20

export class Connection implements Origin {
  readonly id: number
  readonly socket: Socket
  readonly transaction: Transaction
  /** Protocol of the replies that are decided now; that of those that leave may still be the one before. */
  protocol: Protocol = 2
  name = ''
  libraryName = ''
  libraryVersion = ''
  readonlyMode = false
  lastCommand = ''
  readonly connectedAt = Date.now()
  lastActiveAt = Date.now()

  readonly #shared: Shared
  readonly decoder: RespDecoder
  readonly answers: Answers
  readonly #queue: ReplyQueue
  /** A command that waits for some before it, see `#mustWait`. */
  #held: Asked | null = null
  /** Whether the node takes commands: asked once for all that is taken in at a time. */
  #ready: ReturnType<Front['ready']> | null = null
  #pumping = false
  /** A command was refused for overload a moment ago. */
  #refusal: NodeJS.Timeout | null = null
  /** Nothing more is decoded: QUIT, a protocol error, the end of a drain. */
  #finishing = false
  #ended = false
  #draining = false
  /** Has sent a command before the one before was answered. */
  #pipelines = false
  readonly #silence = new Silence(
    () => this.lastActiveAt,
    () => this.#regulate(),
  )
  #inputEnded = false
  /** The time of a drain is over: nothing more is read. */
  #inputStopped = false

  constructor(id: number, socket: Socket, shared: Shared) {
    this.id = id
    this.socket = socket
    this.#shared = shared
    this.decoder = new RespDecoder(shared.limits, shared.incoming)
    this.transaction = new Transaction(shared.queues)
    socket.setNoDelay(true)
    // A client whose machine is gone is noticed some day.
    socket.setKeepAlive(true, KEEP_ALIVE_MILLISECONDS)
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    this.answers = new Answers(socket, shared, () => this.#pump())
    this.#queue = this.answers.queue
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
    if (this.#held !== null || this.#moreDecoded) return false
    return this.#inputStopped || this.decoder.isEmpty
  }

  // ---- Origin ---------------------------------------------------------------------------------------------

  reply(tag: number, reply: Reply): void {
    this.answers.fill(tag, reply)
  }

  defers(tag: number, command: Arguments): boolean {
    return this.answers.defers(tag, command)
  }

  flush(): void {
    this.#pump()
  }

  // ---- input ----------------------------------------------------------------------------------------------

  #onData(chunk: Buffer): void {
    // What comes after our own end cannot be answered: it is read only so that the end arrives in good order.
    if (this.#finishing || this.#inputStopped) return
    this.lastActiveAt = Date.now()
    if (this.#silence.isAwaited) this.#silence.await()
    this.decoder.push(chunk)
    this.#pump()
  }

  #onEnd(): void {
    this.#inputEnded = true
    this.#pump()
  }

  #onClose(): void {
    this.#finishing = true
    this.#held = null
    this.decoder.end()
    this.answers.forget()
    this.transaction.reset()
    this.#silence.cancel()
    if (this.#refusal !== null) clearTimeout(this.#refusal)
    this.#shared.clients.delete(this)
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
        this.#askDeferred()
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
    if (this.#held !== null) return !this.#mustWait(this.#held)
    return this.#moreDecoded
  }

  /** A write for the reads before it; who asks for much of the log for others that do. */
  #mustWait(asked: Asked): boolean {
    if (asked.command.kind !== 'read' && this.#queue.unansweredReads > 0) return true
    return this.#queue.expectedLargeBytes >= LIMITS.largeInLogBytes && this.#answersLarge(asked)
  }

  #answersLarge({ command, args }: Asked): boolean {
    if (command.kind === 'read') return this.#queue.unansweredWrites > 0
    return command.name === 'exec' ? this.transaction.answersLarge : givesAndKeeps(command.name, args)
  }

  /** Whether `#takeIn` stopped although the decoder may hold another command. */
  #moreDecoded = false

  #takeIn(): void {
    this.#moreDecoded = false
    this.#ready = null
    while (!this.#isBlocked()) {
      if (this.#held !== null) {
        const held = this.#held
        if (this.#mustWait(held)) return
        this.#held = null
        if (held.command.name === 'exec') this.#exec(held.command)
        else this.#submit(held)
        continue
      }
      const args = this.#decode()
      if (args === null) return
      this.#handle(args)
    }
    this.#moreDecoded = !this.decoder.isEmpty
  }

  #decode(): Arguments | 'skipped' | null {
    try {
      return this.decoder.next()
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      this.#queue.answer(err(`Protocol error: ${error.message}`), { kind: 'close' })
      this.#finishing = true
      return null
    }
  }

  // ---- commands -------------------------------------------------------------------------------------------

  #handle(args: Arguments | 'skipped'): void {
    this.#shared.commandsProcessed++
    if (this.#queue.inFlight > 0) this.#pipelines = true
    if (args === 'skipped') {
      if (findCommand(this.decoder.skippedName)?.name === 'watch') this.transaction.failWatch()
      this.transaction.spoil()
      this.#queue.answer(SKIPPED)
      return
    }
    const command = findCommand(args[0]!)
    if (command === null || command.name.startsWith(INTERNAL_PREFIX)) {
      this.#refuseUnknown(args)
      return
    }
    this.lastCommand = command.name
    if (!arityFits(command, args.length)) {
      this.transaction.spoil()
      this.#queue.answer(wrongArity(command.name))
      return
    }
    if (this.transaction.isOpen && this.transaction.queues(command)) {
      this.#addToTransaction(command, args)
      return
    }
    if (command.kind === 'local') this.#handleLocal(command, args)
    else if (command.kind === 'read') this.#handleRead(command, args)
    else this.#handleWrite(command, args)
  }

  #refuseUnknown(args: Arguments): void {
    this.transaction.spoil()
    const name = Buffer.from(args[0]!).toString('latin1').toLowerCase()
    // A browser that was made to speak to us: Redis hangs up too, before the body passes for commands.
    if (name === 'post' || name === 'host:') {
      this.#finishing = true
      this.socket.destroy()
      return
    }
    this.#queue.answer(unknownCommand(args))
  }

  #addToTransaction(command: Command, args: Arguments): void {
    if (command.kind !== 'local' && this.#answerUnready()) {
      this.transaction.spoil()
      return
    }
    const refusal = this.transaction.add(command, args)
    this.#queue.answer(refusal ?? QUEUED)
  }

  #handleLocal(command: Command, args: Arguments): void {
    switch (command.name) {
      case 'multi':
        this.#queue.answer(this.transaction.begin())
        return
      case 'discard':
        this.#queue.answer(this.transaction.discard())
        return
      case 'unwatch':
        this.transaction.unwatch()
        this.#queue.answer('OK')
        return
      case 'watch':
        this.#watch(args)
        return
      case 'exec':
        this.#exec(command)
        return
      case 'quit':
        this.#queue.answer('OK', { kind: 'close' })
        this.#finishing = true
        return
      default:
    }
    const before = this.protocol
    const reply = answerLocally({ connection: this, front: this.#shared.front, shared: this.#shared }, command, args)
    const changed = this.protocol !== before
    this.#queue.answer(reply, changed ? { kind: 'protocol', protocol: this.protocol } : null)
  }

  #handleRead(command: Command, args: Arguments): void {
    if (this.#answerUnready()) return
    // Not while an answer is on its way that another node's state may have given: it may be newer than the own one.
    if (this.readonlyMode && this.#queue.unansweredWrites === 0 && this.#queue.unansweredReads === 0) {
      const reply = this.#shared.front.readStale(args)
      if (reply !== undefined) {
        this.#queue.answer(reply)
        return
      }
    }
    this.#submitInTurn(command, args)
  }

  #handleWrite(command: Command, args: Arguments): void {
    if (!this.#answerUnready()) this.#submitInTurn(command, args)
  }

  #submitInTurn(command: Command, args: Arguments): void {
    const asked = { command, args }
    if (this.#mustWait(asked)) this.#held = asked
    else this.#submit(asked)
  }

  /** Hands a command to the node: a write, and a read behind writes, through the log. */
  #submit(asked: Asked): void {
    const { command, args } = asked
    const { front } = this.#shared
    const throughLog = command.kind !== 'read' || this.#queue.unansweredWrites > 0
    const tag = this.#queue.open(throughLog ? (this.#answersLarge(asked) ? 'large' : 'write') : 'read')
    const taken = throughLog ? front.write(this, tag, args) : front.read(this, tag, args)
    if (!taken) this.#refuse(this, tag)
  }

  #refuse(origin: Origin, tag: number): void {
    origin.reply(tag, OVERLOADED)
    this.#pause()
  }

  #pause(): void {
    this.#refusal ??= setTimeout(() => {
      this.#refusal = null
      this.#pump()
    }, REFUSAL_PAUSE_MILLISECONDS)
  }

  /** WATCH asks for versions; EXEC waits for them as a write waits for reads. */
  #watch(args: Arguments): void {
    if (this.transaction.isOpen) {
      this.#queue.answer(err('WATCH inside MULTI is not allowed'))
      return
    }
    if (this.#answerUnready()) return this.transaction.failWatch()
    const request = this.transaction.watch(args.slice(1))
    if (isError(request)) {
      this.#queue.answer(request)
      return
    }
    const tag = this.#queue.open('read')
    const { front } = this.#shared
    const origin: Origin = {
      reply: (_tag, reply) => this.reply(tag, this.transaction.watched(request, reply)),
      flush: () => this.flush(),
    }
    const throughLog = this.#queue.unansweredWrites > 0
    const taken = throughLog ? front.write(origin, tag, request.args) : front.read(origin, tag, request.args)
    if (!taken) this.#refuse(origin, tag)
  }

  #exec(command: Command): void {
    const asked = { command, args: EXEC_ARGUMENTS }
    if (this.transaction.isOpen && this.#mustWait(asked)) {
      this.#held = asked
      return
    }
    const way = this.transaction.answersLarge ? 'large' : 'write'
    const step = this.transaction.finish()
    if (step.kind === 'refused') {
      this.#queue.answer(step.reply)
      return
    }
    if (this.#answerUnready()) return
    const tag = this.#queue.open(way)
    const localContext = { connection: this, front: this.#shared.front, shared: this.#shared }
    const origin: Origin = {
      reply: (_tag, reply) =>
        this.reply(
          tag,
          step.merge(reply, (command, args) => answerLocally(localContext, command, args)),
        ),
      flush: () => this.flush(),
    }
    if (!this.#shared.front.write(origin, tag, step.args)) this.#refuse(origin, tag)
  }

  /** Answers with the reason if the node takes no commands. */
  #answerUnready(): boolean {
    this.#ready ??= this.#shared.front.ready()
    const ready = this.#ready
    if (ready.ready) return false
    const prefix = ready.code === 'NO_LEADER' ? 'CLUSTERDOWN' : 'LOADING'
    this.#queue.answer({ kind: 'error', prefix, message: `${ready.code}: ${ready.message}` })
    return true
  }

  // ---- output ---------------------------------------------------------------------------------------------

  #writeOut(): void {
    const isLast = this.#draining && this.#hasNothingMore
    const state = this.answers.writeOut(isLast ? { mayClose: !this.#pipelines } : null)
    if (state === 'ends') this.#end()
    if (state === 'closed') this.#ended = this.#finishing = true
  }

  /** Reads that were put off are taken in anew before anything else is. */
  #askDeferred(): void {
    if (this.#refusal !== null) return
    this.answers.askDeferred((tag, args) => {
      const taken = this.#shared.front.read(this, tag, args)
      if (!taken) this.#pause()
      return taken
    })
  }

  // ---- end ------------------------------------------------------------------------------------------------

  /** Reads from the socket exactly while more commands may be taken in. */
  #regulate(): void {
    if (this.#ended) return
    const waits = this.#inputStopped || (!this.#finishing && (this.#isBlocked() || this.#held !== null))
    if (waits && !this.socket.isPaused()) this.socket.pause()
    else if (!waits && this.socket.isPaused()) this.socket.resume()
    if (this.#inputEnded && this.#queue.inFlight === 0 && this.#held === null && !this.#moreDecoded) this.#end()
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
    this.socket.destroy()
  }

  /** Our last word: what was written reaches the client, then the end. */
  #end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#finishing = true
    this.socket.resume()
    this.answers.end()
  }
}

const EXEC_ARGUMENTS: Arguments = [Buffer.from('exec')]
