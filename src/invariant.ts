/**
 * Assertions for bugs. They stay on in production: a process whose own state contradicts itself
 * must stop before it writes or answers anything else. The world (bytes, files, peers, users)
 * is answered with a `LokiError` instead; nothing that comes from outside may trip an invariant. PURE.
 */

export class InvariantViolation extends Error {
  override name = 'InvariantViolation'
}

/** Throws unless `condition` holds. `message` says what should have been true. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantViolation(message)
}

/** The `default` of an exhaustive switch: the compiler refuses a call with a case left over. */
export function unreachable(value: never): never {
  throw new InvariantViolation(`unreachable: ${JSON.stringify(value)}`)
}
