/**
 * Memory outside the heap: pieces of 1 MiB, handed out in units of 16 bytes. PURE (Buffer is used for its memory
 * alone).
 *
 * A *place* is the number of a first unit. What is given back is handed out again for the same number of units: a
 * list for each number goes through the free stretches themselves (their first four bytes name the next one). Where
 * there is none, the longest free stretches are cut up before a piece is: what grows step by step, and everywhere at
 * once, leaves behind lengths that nobody asks for again. A piece is never moved, and given back to the system when
 * nothing lives in any of them (the first one stays). More units than a piece has are a piece of their own, given back
 * to the system at once.
 */
import { invariant } from '../invariant.ts'

export const UNIT_BYTES = 16
/** Units of a piece, as a power of two: 1 MiB. */
const PIECE_BITS = 16
const PIECE_UNITS = 1 << PIECE_BITS
const PIECE_BYTES = PIECE_UNITS * UNIT_BYTES
/** A place has 32 bits: 64 GiB. */
const PIECES_MAXIMUM = 2 ** 32 / PIECE_UNITS
/** A free stretch of so many may be cut up … */
const LONG_UNITS = 16
/** … when there are so many units in such stretches: 64 KiB. */
const CUT_LEAST_UNITS = 4096
const WORDS_PER_UNIT = UNIT_BYTES / 4
const NOTHING = Buffer.allocUnsafeSlow(0)

export class Slabs {
  #pieces: Buffer[] = []
  #views: DataView[] = []
  #words: Uint32Array[] = []
  /** Of the piece that units are taken from: the first that was never handed out, and how many follow it. */
  #next = 0
  #left = 0
  /** The same of a stretch that was free, and is cut up. */
  #cut = 0
  #cutLeft = 0
  /** By number of units: one more than the first free place of that length, 0: none. */
  #free = new Uint32Array(PIECE_UNITS + 1)
  /** The lengths of which there was ever a free stretch: some hundreds at most. */
  #lengths: number[] = []
  #isListed = new Uint8Array(PIECE_UNITS + 1)
  /** Units in free stretches that are long enough to be cut up. */
  #longUnits = 0
  #live = 0
  /** Numbers of pieces that were given back to the system. */
  readonly #spare: number[] = []

  /** What the pieces take. */
  heldBytes = 0

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

  /** A place for so many units. What is in them means nothing. */
  take(units: number): number {
    invariant(units > 0, 'no units')
    this.#live++
    if (units > PIECE_UNITS) return this.#addPiece(units * UNIT_BYTES)
    if (this.#free[units] !== 0) return this.#takeFree(units)
    if (this.#cutLeft >= units || this.#findStretch(units)) {
      this.#cutLeft -= units
      this.#cut += units
      return this.#cut - units
    }
    if (this.#left < units) {
      if (this.#left > 0) this.#list(this.#next, this.#left)
      this.#next = this.#addPiece(PIECE_BYTES)
      this.#left = PIECE_UNITS
    }
    const place = this.#next
    this.#next += units
    this.#left -= units
    return place
  }

  /** Gives back what `take` gave for so many units. */
  give(place: number, units: number): void {
    if (--this.#live === 0) {
      this.#clear()
    } else if (units > PIECE_UNITS) {
      const number = place >>> PIECE_BITS
      this.#setPiece(number, NOTHING)
      this.#spare.push(number)
    } else {
      this.#list(place, units)
    }
  }

  /** A free stretch of a length of which there is one. */
  #takeFree(units: number): number {
    const place = this.#free[units]! - 1
    this.#free[units] = this.words(place)[this.wordOffset(place)]!
    if (units >= LONG_UNITS) this.#longUnits -= units
    return place
  }

  /** Finds a free stretch of at least so many units to cut up; looks for it only where there is a good deal of them. */
  #findStretch(units: number): boolean {
    if (this.#longUnits < CUT_LEAST_UNITS) return false
    let longest = 0
    for (const length of this.#lengths) if (length > longest && this.#free[length] !== 0) longest = length
    if (longest < units) return false
    if (this.#cutLeft > 0) this.#list(this.#cut, this.#cutLeft)
    this.#cut = this.#takeFree(longest)
    this.#cutLeft = longest
    return true
  }

  #list(place: number, units: number): void {
    if (this.#isListed[units] === 0) {
      this.#isListed[units] = 1
      this.#lengths.push(units)
    }
    this.words(place)[this.wordOffset(place)] = this.#free[units]!
    this.#free[units] = place + 1
    if (units >= LONG_UNITS) this.#longUnits += units
  }

  /** Its first place. */
  #addPiece(bytes: number): number {
    const number = this.#spare.pop() ?? this.#pieces.length
    invariant(number < PIECES_MAXIMUM, 'no more than 64 GiB of short strings in a collection')
    this.#setPiece(number, Buffer.allocUnsafeSlow(bytes))
    return number * PIECE_UNITS
  }

  #setPiece(number: number, piece: Buffer): void {
    this.heldBytes += piece.length - (this.#pieces[number]?.length ?? 0)
    this.#pieces[number] = piece
    this.#views[number] = new DataView(piece.buffer)
    this.#words[number] = new Uint32Array(piece.buffer)
  }

  #clear(): void {
    const kept = this.#pieces[0]!.length === PIECE_BYTES ? 1 : 0
    this.#pieces.length = this.#views.length = this.#words.length = kept
    this.heldBytes = kept * PIECE_BYTES
    this.#spare.length = 0
    this.#next = 0
    this.#left = kept * PIECE_UNITS
    this.#free = new Uint32Array(PIECE_UNITS + 1)
    this.#lengths = []
    this.#isListed = new Uint8Array(PIECE_UNITS + 1)
    this.#longUnits = 0
    this.#cutLeft = 0
  }
}
