/**
 * Memory outside the heap for short records: pieces of 1 MiB, handed out in units of 16 bytes. PURE (Buffer is used
 * for its memory alone).
 *
 * A *place* is the number of a record's first unit. What is given back is handed out again to records of the same
 * number of units: a list for each number goes through the free records themselves (the first four bytes name the
 * next one). A piece is never moved and never given back to the system while anything lives; the last record that
 * goes takes all pieces but the first with it.
 */

export const UNIT_BYTES = 16
/** Units of a piece, as a power of two: 1 MiB. */
const PIECE_BITS = 16
const PIECE_UNITS = 1 << PIECE_BITS
const PIECE_BYTES = PIECE_UNITS * UNIT_BYTES
/** Longest record, in units. */
const MOST_UNITS = 256
const NONE = 0xffffffff

export class Slabs {
  #pieces: Buffer[] = []
  #views: DataView[] = []
  /** Behind the last unit that was ever handed out. */
  #end = 0
  /** By number of units: the first free record of that length. */
  #free = new Uint32Array(MOST_UNITS + 1).fill(NONE)
  #live = 0

  /** The piece that a place is in. */
  bytes(place: number): Buffer {
    return this.#pieces[place >>> PIECE_BITS]!
  }

  view(place: number): DataView {
    return this.#views[place >>> PIECE_BITS]!
  }

  /** Where in its piece a place is, in bytes. */
  offset(place: number): number {
    return (place & (PIECE_UNITS - 1)) * UNIT_BYTES
  }

  /** A place for a record of so many units. What is in it means nothing. */
  take(units: number): number {
    this.#live++
    const free = this.#free[units]!
    if (free !== NONE) {
      this.#free[units] = this.view(free).getUint32(this.offset(free), true)
      return free
    }
    const left = this.#pieces.length * PIECE_UNITS - this.#end
    if (left < units) {
      if (left > 0) this.#list(this.#end, left)
      this.#end = this.#pieces.length * PIECE_UNITS
      const piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
      this.#pieces.push(piece)
      this.#views.push(new DataView(piece.buffer, piece.byteOffset, PIECE_BYTES))
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
    this.#pieces.length = 1
    this.#views.length = 1
    this.#end = 0
    this.#free.fill(NONE)
  }

  #list(place: number, units: number): void {
    this.view(place).setUint32(this.offset(place), this.#free[units]!, true)
    this.#free[units] = place
  }
}
