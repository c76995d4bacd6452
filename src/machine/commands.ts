/** The table of all commands, and how one is found. PURE. */
import type { Command } from './command.ts'
import { HASH_COMMANDS } from './hashes.ts'
import { KEY_COMMANDS } from './keys.ts'
import { LIST_COMMANDS } from './lists.ts'
import { LOCAL_COMMANDS } from './local-commands.ts'
import { type Arguments, type ErrorReply, err } from './reply.ts'
import { SET_COMMANDS } from './sets.ts'
import { STRING_COMMANDS } from './strings.ts'
import { EXEC_COMMAND, TRANSACTION_COMMANDS, transactionCommands } from './transactions.ts'

/** Names that begin so are between nodes and never a client's. */
export const INTERNAL_PREFIX = 'loki.'

export const COMMANDS: readonly Command[] = [
  ...STRING_COMMANDS,
  ...KEY_COMMANDS,
  ...HASH_COMMANDS,
  ...LIST_COMMANDS,
  ...SET_COMMANDS,
  ...LOCAL_COMMANDS,
  ...TRANSACTION_COMMANDS,
]

const MAX_NAME_BYTES = 32

interface Named {
  /** In small letters. */
  readonly letters: Uint8Array
  readonly command: Command
}

const HASHES = 1024
/**
 * By a hash of the name. A name is looked up several times for each command, at every node: as bytes, because to make a
 * string of them is dearer than all the rest.
 */
const byHash: readonly Named[][] = Array.from({ length: HASHES }, () => [])
for (const command of COMMANDS) {
  const letters = Buffer.from(command.name, 'latin1')
  byHash[hashOf(letters)]!.push({ letters, command })
}

/** The same for small and for capital letters. */
function hashOf(name: Uint8Array): number {
  let hash = 0
  for (let i = 0; i < name.length; i++) hash = (31 * hash + (name[i]! | 0x20)) & (HASHES - 1)
  return hash
}

const small = (byte: number): number => (byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte)

function isNamed(letters: Uint8Array, name: Uint8Array): boolean {
  if (letters.length !== name.length) return false
  for (let i = 0; i < name.length; i++) if (letters[i] !== small(name[i]!)) return false
  return true
}

/** The command of that name in any case, or null. */
export function findCommand(name: Uint8Array): Command | null {
  if (name.length > MAX_NAME_BYTES) return null
  for (const { letters, command } of byHash[hashOf(name)]!) if (isNamed(letters, name)) return command
  return null
}

/** Whether a command may make the data larger; a transaction does where one of its commands does. */
export function mayGrow(args: Arguments): boolean {
  const command = args.length > 0 ? findCommand(args[0]!) : null
  if (command?.name === EXEC_COMMAND) return transactionCommands(args).some(mayGrow)
  return command?.flags.includes('denyoom') ?? false
}

export const arityFits = (command: Command, count: number): boolean =>
  command.arity >= 0 ? count === command.arity : count >= -command.arity

const SHOWN_BYTES = 128

/** As Redis says it: the name, and the arguments as far as 128 bytes go. */
export function unknownCommand(args: Arguments): ErrorReply {
  let shown = ''
  for (let i = 1; i < args.length && shown.length < SHOWN_BYTES; i++) {
    shown += `'${printable(args[i]!, SHOWN_BYTES - shown.length)}' `
  }
  return err(`unknown command '${printable(args[0]!, SHOWN_BYTES)}', with args beginning with: ${shown}`)
}

/** Line ends would end the error: they become spaces, as in Redis. */
export function printable(bytes: Uint8Array, limit: number): string {
  return Buffer.from(bytes.subarray(0, limit))
    .toString('utf8')
    .replace(/[\r\n]/g, ' ')
}
