/** The options EX, PX, EXAT and PXAT, as SET, GETEX and SETEX take them. PURE. */
import { type Context, NOT_AN_INTEGER } from './command.ts'
import { parseInteger } from './numbers.ts'
import { type ErrorReply, err } from './reply.ts'

/**
 * When a key is due: milliseconds since 1970, at least 1. Null: `option` is none of them. Relative times count
 * from the time of the log. Times beyond 2^53 ms are refused, although Redis takes some of them.
 */
export function parseExpiryOption(
  c: Context,
  commandName: string,
  option: string,
  operand: Uint8Array,
): number | ErrorReply | null {
  const seconds = option === 'EX' || option === 'EXAT'
  if (!seconds && option !== 'PX' && option !== 'PXAT') return null
  const given = parseInteger(operand)
  if (given === null) return NOT_AN_INTEGER
  const base = option === 'EX' || option === 'PX' ? c.store.timeMilliseconds : 0
  const at = Number(given) * (seconds ? 1000 : 1) + base
  return given <= 0 || !Number.isSafeInteger(at) ? invalidExpireTime(commandName) : at
}

export const invalidExpireTime = (commandName: string): ErrorReply =>
  err(`invalid expire time in '${commandName}' command`)
