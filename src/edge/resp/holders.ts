/**
 * Connections that hold some of what all of a node share, and who of them gives way where they hold too much: whoever
 * has been silent for longest, so that those who send or take something, however slowly, go on.
 */
import { type ErrorCode, LokiError } from '../../errors.ts'

export interface Holder {
  readonly heldBytes: number
  /** Since when it has done nothing to hold less (monotonic milliseconds). */
  readonly silentSince: number
  readonly address: string | undefined
  cutOff(): void
}

export type Log = (message: string, fields: Record<string, unknown>) => void

/** Of those that hold anything. */
export function longestSilent<One extends Holder>(holders: Iterable<One>): One | null {
  let found: One | null = null
  for (const holder of holders) {
    if (holder.heldBytes > 0 && holder.silentSince < (found?.silentSince ?? Infinity)) found = holder
  }
  return found
}

export function cutOff(holder: Holder, code: ErrorCode, why: string, log: Log): void {
  const { heldBytes: bytes, address } = holder
  log('a client was cut off', { code, reason: new LokiError(code, why).message, bytes, address })
  holder.cutOff()
}
