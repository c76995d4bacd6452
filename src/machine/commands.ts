/** The table of all commands, and how one is found. PURE. */
import type { Command } from './command.ts'
import { HASH_COMMANDS } from './hashes.ts'
import { KEY_COMMANDS } from './keys.ts'
import { LIST_COMMANDS } from './lists.ts'
import { LOCAL_COMMANDS } from './local-commands.ts'
import { latin1 } from './packed.ts'
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

const byName = new Map<string, Command>()
for (const command of COMMANDS) {
  byName.set(command.name, command)
  byName.set(command.name.toUpperCase(), command)
}

/** The command of that name in any case, or null. */
export function findCommand(name: Uint8Array): Command | null {
  if (name.length > MAX_NAME_BYTES) return null
  const text = latin1(name)
  return byName.get(text) ?? byName.get(text.toLowerCase()) ?? null
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
