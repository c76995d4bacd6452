/** What the commands that the edge answers itself may know, and words that several of them use. */
import { printable } from '../../../machine/commands.ts'
import { type Arguments, type Reply, err } from '../../../machine/reply.ts'
import type { Front } from '../../../front.ts'
import type { Client, Clients } from '../client.ts'

export interface LocalContext {
  /** Who asks. */
  readonly client: Client
  readonly clients: Clients
  readonly front: Front
  readonly maxValueBytes: number
}

export const bulk = (text: string): Uint8Array => Buffer.from(text)

/** In capitals; '' where there is none. */
export const word = (bytes: Uint8Array | undefined): string =>
  bytes === undefined ? '' : Buffer.from(bytes).toString('latin1').toUpperCase()

/** Printable characters without spaces, as Redis asks for. */
export const isCleanName = (name: string): boolean => /^[!-~]*$/.test(name)

export function unknownSubcommand(command: string, args: Arguments): Reply {
  return err(`unknown subcommand '${printable(args[1]!, 128)}'. Try ${command} HELP.`)
}
