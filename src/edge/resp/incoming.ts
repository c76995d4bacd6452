/**
 * Commands of all clients of a node that are coming in and not whole, bounded. One may be as long as a command may be
 * (decoder.ts), and a node has not as much memory as clients. What is short does not count.
 *
 * - While more than `mostBytes` are here, a command that grows is skipped: the rest of it is read and forgotten, and
 *   when it has come to its end it is refused.
 * - So that those who send nothing more do not keep the room for ever, the one that has been silent for longest, and
 *   for `stallMilliseconds` at least, is cut off then.
 */
import { LokiError } from '../../errors.ts'
import { coded } from '../../machine/reply.ts'
import type { Log } from './output-budget.ts'

/** A connection, as far as this is concerned. */
export interface Sender {
  /** Its `heldBytes`: bytes of a command that are here. */
  readonly decoder: { readonly heldBytes: number }
  /** When anything came last, in milliseconds since 1970. */
  readonly lastActiveAt: number
  destroy(): void
}

export interface IncomingBounds {
  readonly mostBytes: number
  readonly stallMilliseconds: number
}

/** Answers to what was not taken in: a command that was skipped, and one too many. */
export const SKIPPED = coded(
  'OVERLOADED',
  'too much is coming in from all clients; try again later, or send less at a time',
)
export const OVERLOADED = coded('OVERLOADED', 'the node has too many unanswered commands; try again later')

export class Incoming {
  readonly #bounds: IncomingBounds
  readonly #senders: () => Iterable<Sender>
  readonly #log: Log
  /** Bytes that all of them have here. */
  heldBytes = 0

  constructor(bounds: IncomingBounds, senders: () => Iterable<Sender> = () => [], log: Log = () => undefined) {
    this.#bounds = bounds
    this.#senders = senders
    this.#log = log
  }

  get isTight(): boolean {
    return this.heldBytes > this.#bounds.mostBytes
  }

  /** A command was skipped. */
  skipped(): void {
    let silent: Sender | null = null
    for (const sender of this.#senders()) {
      if (sender.decoder.heldBytes > 0 && sender.lastActiveAt < (silent?.lastActiveAt ?? Infinity)) silent = sender
    }
    const { stallMilliseconds } = this.#bounds
    if (silent === null || Date.now() - silent.lastActiveAt < stallMilliseconds) return
    const why = `it has sent nothing more of a command for ${stallMilliseconds} ms while too much is coming in`
    const { code, message } = new LokiError('OVERLOADED', why)
    this.#log('a client was cut off', { code, reason: message, bytes: silent.decoder.heldBytes })
    silent.destroy()
  }
}
