/**
 * RESP2 replies as the load generator needs them: where one ends, and whether it is an error or a number; nothing is
 * made of the rest. The generator shares the machine with what it measures, so it must cost little.
 *
 * Guarantees: the same replies whatever pieces the bytes come in; the bytes may be overwritten after `push`.
 */

/** A reply: the text of an error, the value of an integer, or null for everything else. */
export type Scanned = { readonly error: string } | number | null

const LF = 10
const EMPTY = Buffer.alloc(0)

export class ReplyScanner {
  /** The beginning of a reply that is not whole. */
  #kept: Buffer = EMPTY
  readonly #take: (reply: Scanned) => void

  constructor(take: (reply: Scanned) => void) {
    this.#take = take
  }

  push(bytes: Buffer): void {
    const all = this.#kept.length === 0 ? bytes : Buffer.concat([this.#kept, bytes])
    let at = 0
    while (at < all.length) {
      const end = endOf(all, at)
      if (end < 0) break
      this.#take(scan(all, at, end))
      at = end
    }
    this.#kept = at === all.length ? EMPTY : Buffer.from(all.subarray(at))
  }
}

/** Where the reply that begins at `at` ends; -1: it is not whole. Throws for bytes that are no RESP2. */
function endOf(bytes: Buffer, at: number): number {
  const lineEnd = bytes.indexOf(LF, at) + 1
  if (lineEnd === 0) return -1
  const kind = bytes[at]
  if (kind === 43 || kind === 45 || kind === 58) return lineEnd // + - :
  if (kind !== 36 && kind !== 42) throw new Error(`no RESP2 reply begins with byte ${kind}`) // $ *
  const length = Number(bytes.toString('latin1', at + 1, lineEnd - 2))
  if (length < 0) return lineEnd
  if (kind === 36) return lineEnd + length + 2 <= bytes.length ? lineEnd + length + 2 : -1
  let end = lineEnd
  for (let left = length; left > 0 && end >= 0; left--) end = end < bytes.length ? endOf(bytes, end) : -1
  return end
}

function scan(bytes: Buffer, at: number, end: number): Scanned {
  const kind = bytes[at]
  if (kind === 45) return { error: bytes.toString('utf8', at + 1, end - 2) }
  return kind === 58 ? Number(bytes.toString('latin1', at + 1, end - 2)) : null
}
