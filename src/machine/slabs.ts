/**
 * Memory outside the heap: pieces of 1 MiB, handed out in units of 16 bytes. PURE (Buffer is used for its memory
 * alone).
 *
 * A *place* is the number of a first unit. What is given back is handed out again for the same number of units: a
 * list for each number goes through the free stretches themselves (their first four bytes name the next one). A piece
 * is never moved, and given back to the system when nothing lives in any of them (the first one stays).
 */
import { invariant } from '../invariant.ts'

export const UNIT_BYTES = 16
/** Units of a piece, as a power of two: 1 MiB. */
const PIECE_BITS = 16
const PIECE_UNITS = 1 << PIECE_BITS
const PIECE_BYTES = PIECE_UNITS * UNIT_BYTES
const WORDS_PER_UNIT = UNIT_BYTES / 4

export class Slabs {
  #pieces: Buffer[] = []
  #views: DataView[] = []
  #words: Uint32Array[] = []
  /** Behind the last unit that was ever handed out. */
  #end = 0
  /** By number of units: one more than the first free place of that length, 0: none. */
  #free = new Uint32Array(PIECE_UNITS + 1)
  #live = 0

  /** The piece that a place is in, as bytes. */
  bytes(place: number): Buffer {
    return this.#pieces[place >>> PIECE_BITS]!
  }

  /** Where in its piece a place is, in bytes. */
  offset(place: number): number {
    return (place & (PIECE_UNITS - 1)) * UNIT_BYTES
  }

  view(place: number): DataView {
    return this.#views[place >>> PIECE_BITS]!
  }

  /** The piece as words of four bytes, in the byte order of the machine. */
  words(place: number): Uint32Array {
    return this.#words[place >>> PIECE_BITS]!
  }

  /** Where in its piece a place is, in words. */
  wordOffset(place: number): number {
    return (place & (PIECE_UNITS - 1)) * WORDS_PER_UNIT
  }

  /** A place for so many units, a piece at most. What is in them means nothing. */
  take(units: number): number {
    invariant(units > 0 && units <= PIECE_UNITS, `${units} units do not fit into a piece`)
    this.#live++
    const free = this.#free[units]! - 1
    if (free >= 0) {
      this.#free[units] = this.words(free)[this.wordOffset(free)]!
      return free
    }
    const left = this.#pieces.length * PIECE_UNITS - this.#end
    if (left < units) {
      if (left > 0) this.#list(this.#end, left)
      this.#end = this.#pieces.length * PIECE_UNITS
      const piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
      this.#pieces.push(piece)
      this.#views.push(new DataView(piece.buffer))
      this.#words.push(new Uint32Array(piece.buffer))
    }
    const place = this.#end
    this.#end += units
    return place
  }

  /** Gives back what `take` gave for so many units. */
  give(place: number, units: number): void {
    if (--this.#live > 0) {
      this.#list(place, units)
      return
    }
    this.#pieces.length = this.#views.length = this.#words.length = 1
    this.#end = 0
    this.#free = new Uint32Array(PIECE_UNITS + 1)
  }

  #list(place: number, units: number): void {
    this.words(place)[this.wordOffset(place)] = this.#free[units]!
    this.#free[units] = place + 1
  }
}
