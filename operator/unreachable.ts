/** The `default` of an exhaustive switch, as in src/invariant.ts, which the operator does not import. PURE. */
export function unreachable(value: never): never {
  throw new Error(`unreachable: ${JSON.stringify(value)}`)
}
