/**
 * The commands of one connection on their way to the node: each is looked up, answered here, put into a transaction, or
 * handed on.
 *
 * Guarantees: a connection sees its own writes: a read behind unanswered writes goes through the log after them, and a
 * write behind unanswered reads is held until they are answered. Only a few commands whose answers may be large are in
 * the log at a time. What the node does not take is answered with the reason.
 */
import { LIMITS } from '../../config.ts'
import { type Command, givesAndKeeps, wrongArity } from '../../machine/command.ts'
import { INTERNAL_PREFIX, arityFits, findCommand, unknownCommand } from '../../machine/commands.ts'
import { type Arguments, type Reply, coded, err, isError } from '../../machine/reply.ts'
import type { Front, Origin } from '../../front.ts'
import type { LocalContext } from './commands/context.ts'
import { answerLocally } from './commands/local.ts'
import type { ReplyQueue } from './reply-queue.ts'
import type { Transaction } from './transaction.ts'

/** The connection whose commands these are. */
export interface Line extends Origin {
  /** The node takes no more for a moment. */
  pause(): void
  /** This was its last command. */
  stop(): void
}

interface Held {
  readonly command: Command
  readonly args: Arguments
}

const QUEUED = 'QUEUED'
const EXEC_ARGUMENTS: Arguments = [Buffer.from('exec')]
const OVERLOADED = coded('OVERLOADED', 'the node has too many unanswered commands; try again later')
const SKIPPED = coded('OVERLOADED', 'too much is coming in from all clients; try again later, or send less at a time')

export class Dispatcher {
  readonly #line: Line
  readonly #context: LocalContext
  readonly #front: Front
  readonly #transaction: Transaction
  readonly #queue: ReplyQueue
  /** A command that waits for some before it, see `#mustWait`. */
  #held: Held | null = null
  /** Whether the node takes commands: asked once for all that is taken in at a time. */
  #ready: ReturnType<Front['ready']> | null = null

  constructor(line: Line, context: LocalContext, queue: ReplyQueue) {
    this.#line = line
    this.#context = context
    this.#front = context.front
    this.#transaction = context.client.transaction
    this.#queue = queue
  }

  /** Begins to take in commands. */
  begin(): void {
    this.#ready = null
  }

  /** Nothing is taken while a command is held. */
  get holds(): boolean {
    return this.#held !== null
  }

  /** Whether it need not wait any more. */
  get canGoOn(): boolean {
    return this.#held === null || !this.#mustWait(this.#held.command, this.#held.args)
  }

  /** With what is held. */
  goOn(): void {
    const held = this.#held
    this.#held = null
    if (held === null) return
    if (held.command.name === 'exec') this.#exec(held.command)
    else this.#submit(held.command, held.args)
  }

  /** The connection is gone. */
  forget(): void {
    this.#held = null
    this.#transaction.reset()
  }

  take(args: Arguments): void {
    const command = findCommand(args[0]!)
    if (command === null || command.name.startsWith(INTERNAL_PREFIX)) {
      this.#refuseUnknown(args)
      return
    }
    this.#context.client.lastCommand = command.name
    if (!arityFits(command, args.length)) {
      this.#transaction.spoil()
      this.#queue.answer(wrongArity(command.name))
      return
    }
    if (this.#transaction.isOpen && this.#transaction.queues(command)) this.#addToTransaction(command, args)
    else if (command.kind === 'local') this.#takeLocal(command, args)
    else if (!this.#answerUnready()) this.#takeOn(command, args)
  }

  /** A command that was too much beside all others; `name`: as far as it is known. */
  skipped(name: Uint8Array): void {
    if (findCommand(name)?.name === 'watch') this.#transaction.failWatch()
    this.#transaction.spoil()
    this.#queue.answer(SKIPPED)
  }

  /** A read that was put off. False: it was not taken. */
  askAgain(tag: number, args: Arguments): boolean {
    const taken = this.#front.read(this.#line, tag, args)
    if (!taken) this.#line.pause()
    return taken
  }

  #refuseUnknown(args: Arguments): void {
    this.#transaction.spoil()
    const name = Buffer.from(args[0]!).toString('latin1').toLowerCase()
    // A browser that was made to speak to us: Redis hangs up too, before the body passes for commands.
    if (name === 'post' || name === 'host:') {
      this.#line.stop()
      this.#context.client.socket.destroy()
      return
    }
    this.#queue.answer(unknownCommand(args))
  }

  // ---- answered here ----------------------------------------------------------------------------------------

  #takeLocal(command: Command, args: Arguments): void {
    switch (command.name) {
      case 'multi':
        this.#queue.answer(this.#transaction.begin())
        return
      case 'discard':
        this.#queue.answer(this.#transaction.discard())
        return
      case 'unwatch':
        this.#transaction.unwatch()
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
        this.#line.stop()
        return
      default:
    }
    const { client } = this.#context
    const before = client.protocol
    const reply = answerLocally(this.#context, command, args)
    const { protocol } = client
    this.#queue.answer(reply, protocol === before ? null : { kind: 'protocol', protocol })
  }

  /** Answers with the reason if the node takes no commands. */
  #answerUnready(): boolean {
    this.#ready ??= this.#front.ready()
    const ready = this.#ready
    if (ready.ready) return false
    const prefix = ready.code === 'NO_LEADER' ? 'CLUSTERDOWN' : 'LOADING'
    this.#queue.answer({ kind: 'error', prefix, message: `${ready.code}: ${ready.message}` })
    return true
  }

  // ---- handed on ----------------------------------------------------------------------------------------------

  #takeOn(command: Command, args: Arguments): void {
    if (command.kind === 'read' && this.#answerStale(args)) return
    if (this.#mustWait(command, args)) this.#held = { command, args }
    else this.#submit(command, args)
  }

  #answerStale(args: Arguments): boolean {
    if (!this.#context.client.readonlyMode) return false
    // Not while an answer is on its way that another node's state may have given: it may be newer than the own one.
    if (this.#queue.unansweredWrites > 0 || this.#queue.unansweredReads > 0) return false
    const reply = this.#front.readStale(args)
    if (reply === undefined) return false
    this.#queue.answer(reply)
    return true
  }

  /** A write for the reads before it; who asks for much of the log for others that do. */
  #mustWait(command: Command, args: Arguments): boolean {
    if (command.kind !== 'read' && this.#queue.unansweredReads > 0) return true
    return this.#queue.expectedLargeBytes >= LIMITS.largeInLogBytes && this.#answersLarge(command, args)
  }

  #answersLarge(command: Command, args: Arguments): boolean {
    if (command.kind === 'read') return this.#queue.unansweredWrites > 0
    return command.name === 'exec' ? this.#transaction.answersLarge : givesAndKeeps(command.name, args)
  }

  /** Hands a command to the node: a write, and a read behind writes, through the log. */
  #submit(command: Command, args: Arguments): void {
    const throughLog = command.kind !== 'read' || this.#queue.unansweredWrites > 0
    const tag = this.#queue.open(throughLog ? (this.#answersLarge(command, args) ? 'large' : 'write') : 'read')
    this.#hand(this.#line, tag, args, throughLog)
  }

  #hand(origin: Origin, tag: number, args: Arguments, throughLog: boolean): void {
    if (throughLog ? this.#front.write(origin, tag, args) : this.#front.read(origin, tag, args)) return
    origin.reply(tag, OVERLOADED)
    this.#line.pause()
  }

  // ---- transactions -------------------------------------------------------------------------------------------

  #addToTransaction(command: Command, args: Arguments): void {
    if (command.kind !== 'local' && this.#answerUnready()) {
      this.#transaction.spoil()
      return
    }
    this.#queue.answer(this.#transaction.add(command, args) ?? QUEUED)
  }

  /** WATCH asks for versions; EXEC waits for them as a write waits for reads. */
  #watch(args: Arguments): void {
    if (this.#transaction.isOpen) {
      this.#queue.answer(err('WATCH inside MULTI is not allowed'))
      return
    }
    if (this.#answerUnready()) return this.#transaction.failWatch()
    const request = this.#transaction.watch(args.slice(1))
    if (isError(request)) {
      this.#queue.answer(request)
      return
    }
    const tag = this.#queue.open('read')
    const origin = this.#answeredBy((reply) => this.#transaction.watched(request, reply))
    this.#hand(origin, tag, request.args, this.#queue.unansweredWrites > 0)
  }

  #exec(command: Command): void {
    if (this.#transaction.isOpen && this.#mustWait(command, EXEC_ARGUMENTS)) {
      this.#held = { command, args: EXEC_ARGUMENTS }
      return
    }
    const way = this.#transaction.answersLarge ? 'large' : 'write'
    const step = this.#transaction.finish()
    if (step.kind === 'refused') {
      this.#queue.answer(step.reply)
      return
    }
    if (this.#answerUnready()) return
    const local = (command: Command, args: Arguments): Reply => answerLocally(this.#context, command, args)
    const origin = this.#answeredBy((reply) => step.merge(reply, local))
    this.#hand(origin, this.#queue.open(way), step.args, true)
  }

  /** The line, but what it is answered is made of the reply. */
  #answeredBy(answer: (reply: Reply) => Reply): Origin {
    const line = this.#line
    return { reply: (tag, reply) => line.reply(tag, answer(reply)), flush: () => line.flush() }
  }
}
