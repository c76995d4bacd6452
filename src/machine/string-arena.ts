/**
 * The short strings of one bucket: keys and values outside the heap, in the order of their hashes. PURE (Buffer is
 * used for its memory and encodings alone).
 *
 * Why: a million strings as objects in a `Map` are some 400 MB that the garbage collector walks through, and every
 * look-up waits for memory several times. Here a string costs its bytes and about 45 more, none of which the
 * collector sees, and a look-up touches its place in `#hashes` and the record.
 *
 *   #hashes   hash of each string, sorted; of equal ones the smaller key first
 *   #places   where its record is in the slabs (slabs.ts)
 *   record    u16 key length, u16 value length, u16 units, u16 nothing, f64 version, f64 expire at (0: never),
 *             key, value, rest of the units
 *
 * A value that fits the units of the record takes the place of the one before it; otherwise the record gets new ones.
 *
 * The order of strings is a function of the content alone: every replica tells them in the same order.
 */
import { type Slabs, UNIT_BYTES } from './slabs.ts'

/** Longest key and longest value that are kept here. */
export const SHORT_BYTES = 1024

const HEADER_BYTES = 24
const VALUE_LENGTH = 2
const UNITS = 4
const VERSION = 8
const EXPIRY = 16
const LEAST_STRINGS = 4
/** Hashes of a bucket differ in the bits below this one: they say where among the sorted ones a hash should be. */
const HASHES_PER_BUCKET = 2 ** 20
/** How far from there it is looked for before the whole is searched. */
const NEAR = 16

export class StringArena {
  count = 0
  readonly #slabs: Slabs
  #hashes = new Uint32Array(LEAST_STRINGS)
  #places = new Uint32Array(LEAST_STRINGS)

  constructor(slabs: Slabs) {
    this.#slabs = slabs
  }

  /** Where the string of that key is; where it is not: -1 - where it belongs. */
  find(hash: number, key: string): number {
    let low = 0
    let high = this.count
    const hashes = this.#hashes
    const near = Math.floor(((hash & (HASHES_PER_BUCKET - 1)) * high) / HASHES_PER_BUCKET)
    const below = near - NEAR
    const above = near + NEAR
    if (below > 0 && hashes[below]! < hash) low = below
    if (above < high && hashes[above]! > hash) high = above
    while (low < high) {
      const middle = (low + high) >>> 1
      const other = hashes[middle]!
      const order = other === hash ? this.#compareKey(middle, key) : other - hash
      if (order === 0) return middle
      if (order < 0) low = middle + 1
      else high = middle
    }
    return -1 - low
  }

  keyAt(at: number): string {
    return this.keyBytesAt(at).toString('latin1')
  }

  valueLengthAt(at: number): number {
    return this.#field(at, VALUE_LENGTH)
  }

  versionAt(at: number): number {
    const place = this.#places[at]!
    return this.#slabs.view(place).getFloat64(this.#slabs.offset(place) + VERSION, true)
  }

  expiryAt(at: number): number {
    const place = this.#places[at]!
    return this.#slabs.view(place).getFloat64(this.#slabs.offset(place) + EXPIRY, true)
  }

  /** A view of the key's bytes, valid until the next change. */
  keyBytesAt(at: number): Buffer {
    const place = this.#places[at]!
    const start = this.#slabs.offset(place) + HEADER_BYTES
    return this.#slabs.bytes(place).subarray(start, start + this.#field(at, 0))
  }

  /** A view of the value's bytes, valid until the next change. */
  valueBytesAt(at: number): Buffer {
    const place = this.#places[at]!
    const start = this.#slabs.offset(place) + HEADER_BYTES + this.#field(at, 0)
    return this.#slabs.bytes(place).subarray(start, start + this.#field(at, VALUE_LENGTH))
  }

  /** A copy of the value. */
  valueAt(at: number): Buffer {
    return Buffer.from(this.valueBytesAt(at))
  }

  /** Adds a string where `find` said that it belongs. Key and value are at most `SHORT_BYTES` long. */
  insert(found: number, hash: number, key: string, value: Uint8Array, version: number, expireAt: number): void {
    const at = -1 - found
    this.#makeRoomForOneMore()
    this.#hashes.copyWithin(at + 1, at, this.count)
    this.#places.copyWithin(at + 1, at, this.count)
    this.count++
    this.#hashes[at] = hash
    this.#places[at] = this.#record(key, value)
    this.#stamp(at, version, expireAt)
  }

  /** Changes the string at a place. `value` is no view of what is here. */
  replace(at: number, value: Uint8Array, version: number, expireAt: number): void {
    const place = this.#places[at]!
    const start = this.#slabs.offset(place)
    const view = this.#slabs.view(place)
    const units = view.getUint16(start + UNITS, true)
    const head = HEADER_BYTES + view.getUint16(start, true)
    if (head + value.length <= units * UNIT_BYTES) {
      view.setUint16(start + VALUE_LENGTH, value.length, true)
      this.#slabs.bytes(place).set(value, start + head)
    } else {
      this.#places[at] = this.#record(this.keyAt(at), value)
      this.#slabs.give(place, units)
    }
    this.#stamp(at, version, expireAt)
  }

  remove(at: number): void {
    this.#slabs.give(this.#places[at]!, this.#field(at, UNITS))
    this.#hashes.copyWithin(at, at + 1, this.count)
    this.#places.copyWithin(at, at + 1, this.count)
    this.count--
  }

  /** One of the short numbers of a record. */
  #field(at: number, field: number): number {
    const place = this.#places[at]!
    return this.#slabs.view(place).getUint16(this.#slabs.offset(place) + field, true)
  }

  #stamp(at: number, version: number, expireAt: number): void {
    const place = this.#places[at]!
    const start = this.#slabs.offset(place)
    const view = this.#slabs.view(place)
    view.setFloat64(start + VERSION, version, true)
    view.setFloat64(start + EXPIRY, expireAt, true)
  }

  /** Negative: the key at that place is smaller than this one. */
  #compareKey(at: number, key: string): number {
    const place = this.#places[at]!
    const bytes = this.#slabs.bytes(place)
    const start = this.#slabs.offset(place)
    const length = this.#field(at, 0)
    const common = Math.min(length, key.length)
    for (let i = 0; i < common; i++) {
      const order = bytes[start + HEADER_BYTES + i]! - key.charCodeAt(i)
      if (order !== 0) return order
    }
    return length - key.length
  }

  /** Writes a record but for version and expiry; where. */
  #record(key: string, value: Uint8Array): number {
    const units = Math.ceil((HEADER_BYTES + key.length + value.length) / UNIT_BYTES)
    const place = this.#slabs.take(units)
    const start = this.#slabs.offset(place)
    const view = this.#slabs.view(place)
    const bytes = this.#slabs.bytes(place)
    view.setUint16(start, key.length, true)
    view.setUint16(start + VALUE_LENGTH, value.length, true)
    view.setUint16(start + UNITS, units, true)
    bytes.write(key, start + HEADER_BYTES, 'latin1')
    bytes.set(value, start + HEADER_BYTES + key.length)
    return place
  }

  #makeRoomForOneMore(): void {
    if (this.count < this.#hashes.length) return
    const capacity = this.count + Math.max(LEAST_STRINGS, this.count >>> 2)
    const hashes = new Uint32Array(capacity)
    const places = new Uint32Array(capacity)
    hashes.set(this.#hashes)
    places.set(this.#places)
    this.#hashes = hashes
    this.#places = places
  }
}
