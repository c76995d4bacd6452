/**
 * The short strings of a collection: keys and values outside the heap, in the order of their hashes. PURE (Buffer is
 * used for its memory and encodings alone).
 *
 * Why: a million strings as objects in a `Map` are some 240 MB that the garbage collector walks through, and a look-up
 * waits for memory at every step from object to object. Here a string costs its bytes and about 30 more, none of which
 * the collector sees, and a look-up waits for two lines of memory: its part of the index, and the record.
 *
 *   index of a bucket   for each string (u32 hash, u32 place), sorted by hash; of equal ones the smaller key first
 *   record              u32 head (bits 0 to 10: key length, 11 to 21: value length, 22 to 29: units, 30: expires),
 *                       f64 version, f64 expire at where it expires, key, value, rest of the units
 *
 * Both are in slabs (slabs.ts); a record is named by its place. A value that fits the units of the record takes the
 * place of the one before it; otherwise the record gets new ones.
 *
 * The order of strings is a function of the content alone: every replica tells them in the same order.
 */
import { BUCKETS, HASH_SHIFT } from './hash.ts'
import type { Key } from './packed.ts'
import { Slabs, UNIT_BYTES } from './slabs.ts'

/** Longest key and longest value that are kept here. */
export const SHORT_BYTES = 1024
/** No place. */
export const ABSENT = -1

const VERSION = 4
const EXPIRY = 12
/** What is before the key. */
const HEADER_BYTES = 12
const EXPIRING_HEADER_BYTES = 20

/** Of a head: 1024 has eleven bits, and so have lengths; the units of two of them have eight. */
const LENGTH_BITS = 11
const LENGTH_MASK = 2 ** LENGTH_BITS - 1
const UNITS_SHIFT = 2 * LENGTH_BITS
const UNITS_MASK = 0xff
const EXPIRES = 1 << 30

const keyLengthOf = (head: number): number => head & LENGTH_MASK
const valueLengthOf = (head: number): number => (head >>> LENGTH_BITS) & LENGTH_MASK
const unitsOf = (head: number): number => (head >>> UNITS_SHIFT) & UNITS_MASK
const headerBytesOf = (head: number): number => ((head & EXPIRES) === 0 ? HEADER_BYTES : EXPIRING_HEADER_BYTES)

const headOf = (keyLength: number, valueLength: number, units: number, expireAt: number): number =>
  keyLength | (valueLength << LENGTH_BITS) | (units << UNITS_SHIFT) | (expireAt === 0 ? 0 : EXPIRES)

const recordBytes = (keyLength: number, valueLength: number, expireAt: number): number =>
  (expireAt === 0 ? HEADER_BYTES : EXPIRING_HEADER_BYTES) + keyLength + valueLength

/** What is known of the index of a bucket: three numbers each. */
const FIELDS = 3
const PLACE = 0
const CAPACITY = 1
const COUNT = 2
const ENTRY_WORDS = 2
const ENTRIES_PER_UNIT = UNIT_BYTES / 4 / ENTRY_WORDS
const LEAST_CAPACITY = 4
/** Below so much, memory that nothing is in is not looked at. */
const SPARSE_LEAST_BYTES = 16 * 1024 * 1024
/** Room that is made beforehand, at most. */
const MOST_RESERVED = 65_536

/** Hashes of a bucket are spread over so many: where among them a hash is says about where in the index it is. */
const HASHES_PER_BUCKET = 2 ** HASH_SHIFT
/** How far from there it is looked for before the whole index is searched. */
const NEAR = 16

/** What a string takes with nothing between it and the next. */
const neededBytes = (keyLength: number, valueLength: number, expireAt: number): number =>
  recordBytes(keyLength, valueLength, expireAt) + 4 * ENTRY_WORDS

/** A string in the bytes of a checkpoint: where key and value are, and what goes with them. */
export interface StringInBytes {
  bytes: Buffer
  key: number
  keyLength: number
  value: number
  valueLength: number
  version: number
  expireAtMilliseconds: number
}

export class StringTable {
  readonly #slabs = new Slabs()
  readonly #buckets = new Uint32Array(FIELDS * BUCKETS)
  /** What the strings would take with nothing between them. */
  #neededBytes = 0

  /** Whether most of the memory is free stretches of lengths that nobody asks for, or room that strings outgrew. */
  get isSparse(): boolean {
    return this.#slabs.heldBytes > 2 * this.#neededBytes + SPARSE_LEAST_BYTES
  }

  /** Copies the strings of a bucket into a table that has none of it, as closely as they fit. */
  copyBucket(bucket: number, table: StringTable): void {
    table.reserve(bucket, this.count(bucket))
    const region = this.#buckets[FIELDS * bucket + PLACE]!
    const hashAt = this.count(bucket) === 0 ? 0 : this.#slabs.wordOffset(region)
    for (let at = 0; at < this.count(bucket); at++) {
      const hash = this.#slabs.words(region)[hashAt + ENTRY_WORDS * at]!
      const place = this.placeAt(bucket, at)
      table.insert(hash, this.key(place), this.valueBytes(place), this.version(place), this.expiry(place))
    }
  }

  /** Strings in a bucket. */
  count(bucket: number): number {
    return this.#buckets[FIELDS * bucket + COUNT]!
  }

  /** Place of the string at a position below `count(bucket)`. */
  placeAt(bucket: number, at: number): number {
    const region = this.#buckets[FIELDS * bucket + PLACE]!
    return this.#slabs.words(region)[this.#slabs.wordOffset(region) + ENTRY_WORDS * at + 1]!
  }

  /** Place of the string of that key, or ABSENT. */
  find(hash: number, key: Key): number {
    const at = this.#search(hash, key)
    return at < 0 ? ABSENT : this.placeAt(hash >>> HASH_SHIFT, at)
  }

  key(place: number): string {
    const head = this.#head(place)
    const start = this.#slabs.offset(place) + headerBytesOf(head)
    return this.#slabs.bytes(place).toString('latin1', start, start + keyLengthOf(head))
  }

  /** A view of the key's bytes, valid until the next change. */
  keyBytes(place: number): Buffer {
    const head = this.#head(place)
    const start = this.#slabs.offset(place) + headerBytesOf(head)
    return this.#slabs.bytes(place).subarray(start, start + keyLengthOf(head))
  }

  valueLength(place: number): number {
    return valueLengthOf(this.#head(place))
  }

  /** A view of the value's bytes, valid until the next change. */
  valueBytes(place: number): Buffer {
    const head = this.#head(place)
    const start = this.#slabs.offset(place) + headerBytesOf(head) + keyLengthOf(head)
    return this.#slabs.bytes(place).subarray(start, start + valueLengthOf(head))
  }

  /** A copy of the value. */
  value(place: number): Buffer {
    const head = this.#head(place)
    const start = this.#slabs.offset(place) + headerBytesOf(head) + keyLengthOf(head)
    const length = valueLengthOf(head)
    const copy = Buffer.allocUnsafe(length)
    this.#slabs.bytes(place).copy(copy, 0, start, start + length)
    return copy
  }

  version(place: number): number {
    return this.#slabs.view(place).getFloat64(this.#slabs.offset(place) + VERSION, true)
  }

  /** 0: never. */
  expiry(place: number): number {
    if ((this.#head(place) & EXPIRES) === 0) return 0
    return this.#slabs.view(place).getFloat64(this.#slabs.offset(place) + EXPIRY, true)
  }

  /** Adds a string that is not there. Key and value are at most `SHORT_BYTES` long. */
  insert(hash: number, key: Key, value: Uint8Array, version: number, expireAt: number): void {
    const bucket = hash >>> HASH_SHIFT
    const at = -1 - this.#search(hash, key)
    this.#makeRoomForOneMore(bucket)
    const place = this.#record(key, value, version, expireAt)
    this.#neededBytes += neededBytes(key.length, value.length, expireAt)
    const region = this.#buckets[FIELDS * bucket + PLACE]!
    const words = this.#slabs.words(region)
    const start = this.#slabs.wordOffset(region)
    const count = this.#buckets[FIELDS * bucket + COUNT]!++
    const entry = start + ENTRY_WORDS * at
    words.copyWithin(entry + ENTRY_WORDS, entry, start + ENTRY_WORDS * count)
    words[entry] = hash
    words[entry + 1] = place
  }

  /** Makes room for so many strings in an empty bucket. */
  reserve(bucket: number, strings: number): void {
    const fields = FIELDS * bucket
    if (strings === 0 || this.#buckets[fields + CAPACITY] !== 0) return
    const capacity = Math.max(LEAST_CAPACITY, (Math.min(strings, MOST_RESERVED) + 1) & ~1)
    this.#buckets[fields + PLACE] = this.#slabs.take(capacity / ENTRIES_PER_UNIT)
    this.#buckets[fields + CAPACITY] = capacity
  }

  /** As `insert`, where the hash is larger than all in its bucket; otherwise false, and nothing happens. */
  append(hash: number, string: StringInBytes): boolean {
    const bucket = hash >>> HASH_SHIFT
    const fields = FIELDS * bucket
    const count = this.#buckets[fields + COUNT]!
    if (count > 0) {
      const region = this.#buckets[fields + PLACE]!
      const last = this.#slabs.wordOffset(region) + ENTRY_WORDS * (count - 1)
      if (this.#slabs.words(region)[last]! >= hash) return false
    }
    this.#makeRoomForOneMore(bucket)
    const { bytes, key, keyLength, value, valueLength, version, expireAtMilliseconds } = string
    this.#neededBytes += neededBytes(keyLength, valueLength, expireAtMilliseconds)
    const units = Math.ceil(recordBytes(keyLength, valueLength, expireAtMilliseconds) / UNIT_BYTES)
    const place = this.#slabs.take(units)
    const head = headOf(keyLength, valueLength, units, expireAtMilliseconds)
    this.#stamp(place, head, version, expireAtMilliseconds)
    const start = this.#slabs.offset(place) + headerBytesOf(head)
    const piece = this.#slabs.bytes(place)
    bytes.copy(piece, start, key, key + keyLength)
    bytes.copy(piece, start + keyLength, value, value + valueLength)
    const region = this.#buckets[fields + PLACE]!
    const entry = this.#slabs.wordOffset(region) + ENTRY_WORDS * count
    const words = this.#slabs.words(region)
    words[entry] = hash
    words[entry + 1] = place
    this.#buckets[fields + COUNT] = count + 1
    return true
  }

  /** Changes the string at a place, which is that of `hash` and `key`. `value` is no view of what is here. */
  replace(place: number, hash: number, key: Key, value: Uint8Array, version: number, expireAt: number): void {
    const before = this.#head(place)
    const units = unitsOf(before)
    this.#neededBytes -= neededBytes(key.length, valueLengthOf(before), this.expiry(place))
    this.#neededBytes += neededBytes(key.length, value.length, expireAt)
    if (recordBytes(key.length, value.length, expireAt) <= units * UNIT_BYTES) {
      const head = headOf(key.length, value.length, units, expireAt)
      if (headerBytesOf(head) !== headerBytesOf(before)) this.#write(place, units, key, value, version, expireAt)
      else {
        // The usual one: the key stays where it is.
        this.#stamp(place, head, version, expireAt)
        this.#slabs.bytes(place).set(value, this.#slabs.offset(place) + headerBytesOf(head) + key.length)
      }
      return
    }
    const moved = this.#record(key, value, version, expireAt)
    const region = this.#buckets[FIELDS * (hash >>> HASH_SHIFT) + PLACE]!
    const entry = this.#slabs.wordOffset(region) + ENTRY_WORDS * this.#search(hash, key)
    this.#slabs.words(region)[entry + 1] = moved
    this.#slabs.give(place, units)
  }

  /** Removes the string at a place, which is that of `hash` and `key`. */
  remove(place: number, hash: number, key: string): void {
    const bucket = hash >>> HASH_SHIFT
    const region = this.#buckets[FIELDS * bucket + PLACE]!
    const start = this.#slabs.wordOffset(region)
    const entry = start + ENTRY_WORDS * this.#search(hash, key)
    const count = this.#buckets[FIELDS * bucket + COUNT]!--
    const head = this.#head(place)
    this.#neededBytes -= neededBytes(key.length, valueLengthOf(head), this.expiry(place))
    this.#slabs.words(region).copyWithin(entry, entry + ENTRY_WORDS, start + ENTRY_WORDS * count)
    if (count === 1) {
      this.#slabs.give(region, this.#buckets[FIELDS * bucket + CAPACITY]! / ENTRIES_PER_UNIT)
      this.#buckets[FIELDS * bucket + CAPACITY] = 0
    }
    this.#slabs.give(place, unitsOf(head))
  }

  /** Position in its bucket of that key; where it is not: -1 - the position where it belongs. */
  #search(hash: number, key: Key): number {
    const bucket = hash >>> HASH_SHIFT
    let low = 0
    let high = this.#buckets[FIELDS * bucket + COUNT]!
    if (high === 0) return -1
    const region = this.#buckets[FIELDS * bucket + PLACE]!
    const words = this.#slabs.words(region)
    const start = this.#slabs.wordOffset(region)
    const near = Math.floor(((hash & (HASHES_PER_BUCKET - 1)) * high) / HASHES_PER_BUCKET)
    const below = near - NEAR
    const above = near + NEAR
    if (below > 0 && words[start + ENTRY_WORDS * below]! < hash) low = below
    if (above < high && words[start + ENTRY_WORDS * above]! > hash) high = above
    while (low < high) {
      const middle = (low + high) >>> 1
      const entry = start + ENTRY_WORDS * middle
      const other = words[entry]!
      const order = other === hash ? this.#compareKey(words[entry + 1]!, key) : other - hash
      if (order === 0) return middle
      if (order < 0) low = middle + 1
      else high = middle
    }
    return -1 - low
  }

  /** Negative: the key at that place is smaller than this one. */
  #compareKey(place: number, key: Key): number {
    const bytes = this.#slabs.bytes(place)
    const head = this.#head(place)
    const start = this.#slabs.offset(place) + headerBytesOf(head)
    const length = keyLengthOf(head)
    const common = Math.min(length, key.length)
    for (let i = 0; i < common; i++) {
      const order = bytes[start + i]! - (typeof key === 'string' ? key.charCodeAt(i) : key[i]!)
      if (order !== 0) return order
    }
    return length - key.length
  }

  #head(place: number): number {
    return this.#slabs.view(place).getUint32(this.#slabs.offset(place), true)
  }

  /** What is before the key. */
  #stamp(place: number, head: number, version: number, expireAt: number): void {
    const start = this.#slabs.offset(place)
    const view = this.#slabs.view(place)
    view.setUint32(start, head, true)
    view.setFloat64(start + VERSION, version, true)
    if (expireAt !== 0) view.setFloat64(start + EXPIRY, expireAt, true)
  }

  /** Writes a record to units of its own; where. */
  #record(key: Key, value: Uint8Array, version: number, expireAt: number): number {
    const units = Math.ceil(recordBytes(key.length, value.length, expireAt) / UNIT_BYTES)
    const place = this.#slabs.take(units)
    this.#write(place, units, key, value, version, expireAt)
    return place
  }

  #write(place: number, units: number, key: Key, value: Uint8Array, version: number, expireAt: number): void {
    const head = headOf(key.length, value.length, units, expireAt)
    this.#stamp(place, head, version, expireAt)
    const bytes = this.#slabs.bytes(place)
    const start = this.#slabs.offset(place) + headerBytesOf(head)
    if (typeof key === 'string') bytes.write(key, start, 'latin1')
    else bytes.set(key, start)
    bytes.set(value, start + key.length)
  }

  #makeRoomForOneMore(bucket: number): void {
    const fields = FIELDS * bucket
    const count = this.#buckets[fields + COUNT]!
    const before = this.#buckets[fields + CAPACITY]!
    if (count < before) return
    // A quarter more: regions of the same few lengths are used again by other buckets.
    const capacity = before < 2 * LEAST_CAPACITY ? before + LEAST_CAPACITY : (before + (before >>> 2) + 1) & ~1
    const region = this.#slabs.take(capacity / ENTRIES_PER_UNIT)
    if (before > 0) {
      const old = this.#buckets[fields + PLACE]!
      const from = this.#slabs.wordOffset(old)
      const entries = this.#slabs.words(old).subarray(from, from + ENTRY_WORDS * count)
      this.#slabs.words(region).set(entries, this.#slabs.wordOffset(region))
      this.#slabs.give(old, before / ENTRIES_PER_UNIT)
    }
    this.#buckets[fields + PLACE] = region
    this.#buckets[fields + CAPACITY] = capacity
  }
}
