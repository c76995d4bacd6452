/**
 * MULTI/EXEC as the log knows it: one command that carries commands. PURE.
 *
 *   loki.exec <number of watched keys> (<key> <version>)… <command>…      commands as encodeCommand wrote them
 *
 * The edge collects what stands between MULTI and EXEC; here it is one step that either finds every watched key
 * in the version that WATCH saw, or does nothing.
 */
import { ByteReader, ByteWriter } from '../bytes.ts'
import { type Command, type Context, REPLY_NOT_KEPT, givesAndKeeps } from './command.ts'
import { decodeCommand, encodeCommand } from './entry.ts'
import { parseSafeInteger } from './numbers.ts'
import { latin1, latin1Bytes } from './packed.ts'
import { type Arguments, type Reply, err, replyBytes } from './reply.ts'

/**
 * Every node makes the reply of a transaction and keeps it until it is delivered, in its checkpoints too. Beyond this
 * nothing more is read in it; what it writes is written all the same, but not answered with what stays where it was.
 */
const MOST_REPLY_BYTES = 64 * 1024 * 1024

export const EXEC_COMMAND = 'loki.exec'

export interface WatchedKey {
  readonly key: Uint8Array
  /** What `loki.versions` answered. */
  readonly version: number
}

/** The command that the edge sends through the log for EXEC. */
export function encodeTransaction(watched: readonly WatchedKey[], commands: readonly Arguments[]): Uint8Array[] {
  const args: Uint8Array[] = [latin1Bytes(EXEC_COMMAND), latin1Bytes(String(watched.length))]
  for (const { key, version } of watched) args.push(key, latin1Bytes(String(version)))
  for (const command of commands) {
    const writer = new ByteWriter(64 + command.reduce((sum, arg) => sum + arg.length + 8, 0))
    encodeCommand(writer, '', command)
    args.push(writer.finish())
  }
  return args
}

/** The commands inside, where `args` is a well-formed transaction. */
function commandsOf(args: Arguments, watched: number): Uint8Array[][] {
  return args.slice(2 + 2 * watched).map((bytes) => decodeCommand(new ByteReader(bytes)).args)
}

/** The commands of what `encodeTransaction` made. */
export const transactionCommands = (args: Arguments): Uint8Array[][] =>
  commandsOf(args, parseSafeInteger(args[1]!) ?? 0)

/** What a write takes away is in its reply alone, and no more than there was. */
const isTooMuch = (inner: Arguments, reply: Reply): boolean =>
  replyBytes(reply) > replyBytes(REPLY_NOT_KEPT) &&
  inner.length > 0 &&
  givesAndKeeps(latin1(inner[0]!).toLowerCase(), inner)

function exec(c: Context, args: Arguments): Reply {
  const watched = parseSafeInteger(args[1]!)
  if (watched === null || watched < 0 || 2 + 2 * watched > args.length) return err('malformed transaction')
  for (let i = 2; i < 2 + 2 * watched; i += 2) {
    const version = parseSafeInteger(args[i + 1]!)
    if (c.collection.versionOf(latin1(args[i]!)) !== version) return { kind: 'null-array' }
  }
  // All are decoded before the first one runs: a transaction that is malformed changes nothing.
  const commands = commandsOf(args, watched)
  const nested = commands.some((inner) => inner.length > 0 && latin1(inner[0]!).toLowerCase() === EXEC_COMMAND)
  if (nested) return err('a transaction inside a transaction')
  let bytes = 0
  return commands.map((inner) => {
    const isFull = bytes >= MOST_REPLY_BYTES
    const reply = c.run(inner, !isFull)
    const kept = isFull && isTooMuch(inner, reply) ? REPLY_NOT_KEPT : reply
    bytes += replyBytes(kept)
    return kept
  })
}

export const TRANSACTION_COMMANDS: readonly Command[] = [
  {
    name: EXEC_COMMAND,
    arity: -2,
    kind: 'write',
    flags: ['write'],
    keys: [0, 0, 0],
    group: 'transactions',
    summary: 'Executes all commands in a transaction.',
    execute: exec,
  },
]
