/**
 * MULTI, EXEC and WATCH of one connection: collects commands until EXEC makes one of them (machine/transactions.ts).
 *
 * Commands that only the edge can answer (PING, CLIENT, …) keep their place: they are answered when EXEC's reply
 * comes, and put between the others' replies.
 */
import { LIMITS } from '../../config.ts'
import type { ErrorCode } from '../../errors.ts'
import { type Command, givesAndKeeps } from '../../machine/command.ts'
import { VERSIONS_COMMAND } from '../../machine/keys.ts'
import { type Arguments, type ErrorReply, type Reply, coded, err, isError } from '../../machine/reply.ts'
import { type WatchedKey, encodeTransaction } from '../../machine/transactions.ts'
import { AROUND_BYTES } from './decoder.ts'

const bytesOf = (args: Arguments): number => args.reduce((sum, arg) => sum + arg.length + AROUND_BYTES, 0)

/** What is between MULTI and EXEC on all connections of a server, and the keys that they watch. */
export interface Queues {
  queuedBytes: number
}

export interface WatchRequest {
  /** The command that asks for the versions. */
  readonly args: Arguments
  readonly keys: readonly Uint8Array[]
}

export type ExecStep =
  | { readonly kind: 'refused'; readonly reply: Reply }
  | {
      readonly kind: 'run'
      readonly args: Arguments
      /** EXEC's reply from the reply of the log, and the replies of local commands in their places. */
      merge(reply: Reply, local: (command: Command, args: Arguments) => Reply): Reply
    }

interface Queued {
  readonly command: Command
  readonly args: Arguments
}

export class Transaction {
  readonly #all: Queues
  #open = false
  #spoiled = false
  #queued: Queued[] = []
  #bytes = 0
  #watched: WatchedKey[] = []
  /** Of these keys, and of those whose versions have not come; and how many they are. */
  #watchedBytes = 0
  #watchedKeys = 0
  /** Rises with every UNWATCH, so that versions that come late are not taken for new ones. */
  #watchRound = 0
  #watchFailed = false
  readonly #rounds = new WeakMap<WatchRequest, number>()

  constructor(all: Queues) {
    this.#all = all
  }

  get isOpen(): boolean {
    return this.#open
  }

  /** Whether the reply of EXEC may be large. */
  get answersLarge(): boolean {
    return this.#queued.some(({ command, args }) => command.kind === 'read' || givesAndKeeps(command.name, args))
  }

  /** Whether an open transaction queues this command. */
  queues(command: Command): boolean {
    return !['multi', 'exec', 'discard', 'watch', 'quit', 'reset'].includes(command.name)
  }

  begin(): Reply {
    if (this.#open) return err('MULTI calls can not be nested')
    this.#open = true
    return 'OK'
  }

  /** A command was refused while the transaction was open: EXEC will refuse too. */
  spoil(): void {
    if (this.#open) this.#spoiled = true
  }

  /** Null: queued; otherwise why not. */
  add(command: Command, args: Arguments): Reply {
    const bytes = bytesOf(args)
    if (this.#queued.length >= LIMITS.transactionCommands || this.#bytes + bytes > LIMITS.transactionBytes) {
      return this.#refuse('TRANSACTION_TOO_LARGE')
    }
    if (this.#all.queuedBytes + bytes > LIMITS.transactionBytesOfAll) return this.#refuse('OVERLOADED')
    if (command.name === 'hello' || command.name === 'wait') {
      this.#spoiled = true
      return err(`Command '${command.name}' not allowed inside a transaction`)
    }
    this.#queued.push({ command, args })
    this.#count(bytes)
    return null
  }

  /** EXEC will refuse, too: what was queued is not kept for it. */
  #refuse(code: ErrorCode): Reply {
    this.#spoiled = true
    this.#drop()
    return coded(code)
  }

  #count(bytes: number): void {
    this.#bytes += bytes
    this.#all.queuedBytes += bytes
  }

  #drop(): void {
    this.#queued = []
    this.#count(-this.#bytes)
  }

  discard(): Reply {
    if (!this.#open) return err('DISCARD without MULTI')
    this.reset()
    return 'OK'
  }

  /** Back to no transaction and no watched keys. */
  reset(): void {
    this.#open = false
    this.#spoiled = false
    this.#drop()
    this.unwatch()
  }

  unwatch(): void {
    this.#watched = []
    this.#all.queuedBytes -= this.#watchedBytes
    this.#watchedBytes = 0
    this.#watchedKeys = 0
    this.#watchFailed = false
    this.#watchRound++
  }

  /** Or why not: they become part of the entry that EXEC makes, and wait here until then. */
  watch(keys: readonly Uint8Array[]): WatchRequest | ErrorReply {
    const bytes = bytesOf(keys)
    const isTooMuch = this.#watchedKeys + keys.length > LIMITS.transactionCommands
    if (isTooMuch || this.#watchedBytes + bytes > LIMITS.transactionBytes) {
      return this.#refuseWatch('TRANSACTION_TOO_LARGE')
    }
    if (this.#all.queuedBytes + bytes > LIMITS.transactionBytesOfAll) return this.#refuseWatch('OVERLOADED')
    this.#watchedKeys += keys.length
    this.#watchedBytes += bytes
    this.#all.queuedBytes += bytes
    // The bytes outlive the command: they get memory of their own.
    const own = keys.map((key) => Buffer.from(key))
    const request = { args: [Buffer.from(VERSIONS_COMMAND), ...own], keys: own }
    this.#rounds.set(request, this.#watchRound)
    return request
  }

  #refuseWatch(code: ErrorCode): ErrorReply {
    this.failWatch()
    return coded(code)
  }

  /** A WATCH was refused: an EXEC that was to be guarded by it must not run. */
  failWatch(): void {
    this.#watchFailed = true
  }

  /** The versions have come; gives WATCH's reply. */
  watched(request: WatchRequest, reply: Reply): Reply {
    if (this.#rounds.get(request) !== this.#watchRound) return 'OK'
    if (!Array.isArray(reply)) {
      this.#watchFailed = true
      return reply
    }
    for (const [index, key] of request.keys.entries()) this.#watched.push({ key, version: reply[index] as number })
    return 'OK'
  }

  finish(): ExecStep {
    if (!this.#open) return { kind: 'refused', reply: err('EXEC without MULTI') }
    const queued = this.#queued
    const watched = this.#watched
    const refused = this.#spoiled || this.#watchFailed
    this.reset()
    if (refused) {
      const message = 'Transaction discarded because of previous errors.'
      return { kind: 'refused', reply: { kind: 'error', prefix: 'EXECABORT', message } }
    }
    const logged = queued.filter(({ command }) => command.kind !== 'local').map(({ args }) => args)
    return {
      kind: 'run',
      args: encodeTransaction(watched, logged),
      merge(reply, local) {
        if (!Array.isArray(reply) || isError(reply)) return reply
        let next = 0
        return queued.map(({ command, args }) => (command.kind === 'local' ? local(command, args) : reply[next++]))
      },
    }
  }
}
