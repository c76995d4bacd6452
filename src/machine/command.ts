/**
 * What a command is: a row of the table in commands.ts. PURE: types, and the errors many commands share.
 *
 * `kind` says where it runs: `write` and `read` in the machine (a read also inside the log, when it follows
 * writes of its connection), `local` in the edge, which alone knows the connection and the node.
 */
import { latin1 } from './packed.ts'
import { type Arguments, type ErrorReply, type Reply, coded, err, explained } from './reply.ts'
import type { Collection, Store } from './store.ts'

/** What a command may see and change. Time and versions are the store's; `draw` is the only chance there is. */
export interface Context {
  readonly store: Store
  readonly collection: Collection
  /** A number below 2^32, the same on every replica for a command of the log. */
  readonly draw: number
  /** Runs another command in the same step (EXEC); a read only where it `mayRead`. */
  run(args: Arguments, mayRead: boolean): Reply
}

export type Flag =
  | 'write'
  | 'readonly'
  | 'denyoom'
  | 'admin'
  | 'fast'
  | 'loading'
  | 'stale'
  | 'noscript'
  | 'no_auth'
  | 'blocking'
  | 'movablekeys'

export interface Command {
  /** Lower case, as COMMAND tells it. */
  readonly name: string
  /** Number of arguments with the name; negative: at least so many. */
  readonly arity: number
  readonly kind: 'write' | 'read' | 'local'
  readonly flags: readonly Flag[]
  /** Position of the first key, of the last (negative: from the end), and the step; all 0: no keys. */
  readonly keys: readonly [first: number, last: number, step: number]
  readonly group: string
  readonly summary: string
  readonly execute: ((context: Context, args: Arguments) => Reply) | null
}

export const WRONG_TYPE: ErrorReply = {
  kind: 'error',
  prefix: 'WRONGTYPE',
  message: 'Operation against a key holding the wrong kind of value',
}
export const SYNTAX_ERROR = err('syntax error')
export const NOT_AN_INTEGER = err('value is not an integer or out of range')
export const OUT_OF_MEMORY: ErrorReply = {
  kind: 'error',
  prefix: 'OOM',
  message: "command not allowed when used memory > 'maxmemory'.",
}

export const REPLY_TOO_LARGE = coded('REPLY_TOO_LARGE')

/** In place of the reply of a write in a transaction, where that is too much. */
export const REPLY_NOT_KEPT = coded('REPLY_TOO_LARGE', `it was applied, but ${explained('REPLY_TOO_LARGE')}`)

const GIVING: ReadonlySet<string> = new Set(['getex', 'lmove', 'rpoplpush'])

/** Whether a write gives what it leaves in the store: of one byte asked for it may answer the longest value, for ever. */
export const givesAndKeeps = (name: string, args: Arguments): boolean =>
  GIVING.has(name) || (name === 'set' && args.length > 3 && args.slice(3).some(isGet))

const isGet = (arg: Uint8Array): boolean => arg.length === 3 && latin1(arg).toUpperCase() === 'GET'

export const wrongArity = (name: string): ErrorReply => err(`wrong number of arguments for '${name}' command`)
