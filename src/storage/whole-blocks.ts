/**
 * Appended writes as writes of whole blocks, which a disk takes past the page cache. PURE.
 *
 * The block in which a write begins is written again from its start, with the bytes that are there, and the one in which
 * it ends up to its end, with zeros. So nothing changes but what was to be written: behind the end of what is appended
 * a file has zeros, or nothing. It gets longer by less than a block. (The page cache writes whole pages, too.)
 *
 * Only for appends: once a write does not begin where the one before ended, nothing is known of what is around it, and
 * none is widened any more.
 */

/** No disk has larger sectors, and no page of the cache is smaller. */
export const BLOCK_BYTES = 4096

/** Where in the file the blocks begin, and how long they are: multiples of `BLOCK_BYTES`. */
export interface Blocks {
  readonly offset: number
  readonly length: number
}

export class WholeBlocks {
  /** Where the last write ended; null: one was not behind the one before. A file begins empty. */
  #end: number | null = 0
  /** From the start of its block up to `#end`. */
  readonly #front = Buffer.alloc(BLOCK_BYTES)

  /**
   * Puts the blocks of a write into `into`, and writes there nothing but them. Null where they are not known or do not
   * fit: then it is made as it is. Either way the next write is behind it.
   */
  append(bytes: Uint8Array, offset: number, into: Uint8Array): Blocks | null {
    if (offset !== this.#end) {
      this.#end = null
      return null
    }
    const inFront = offset % BLOCK_BYTES
    const end = inFront + bytes.length
    const length = Math.ceil(end / BLOCK_BYTES) * BLOCK_BYTES
    const fits = length <= into.length
    if (fits) {
      into.set(this.#front.subarray(0, inFront))
      into.set(bytes, inFront)
      into.fill(0, end, length)
    }
    this.#remember(bytes, inFront, end)
    this.#end = offset + bytes.length
    return fits ? { offset: offset - inFront, length } : null
  }

  /** Keeps the last block of bytes that go from `from` to `end`, counted from the start of the first block. */
  #remember(bytes: Uint8Array, from: number, end: number): void {
    const last = end - (end % BLOCK_BYTES)
    if (from >= last) this.#front.set(bytes, from)
    else this.#front.set(bytes.subarray(last - from))
  }
}
