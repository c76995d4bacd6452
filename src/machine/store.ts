/**
 * The collections and what is common to them: time, memory, expiry, versions, checkpoints. PURE.
 *
 * A collection is a hash map in buckets, chosen by the first bits of a 32-bit hash over the key's bytes (hash.ts,
 * buckets.ts). Whoever changes a key calls `Collection.#willChange` first, and a running checkpoint that has not written
 * the bucket yet keeps what was there (see checkpoint.ts). The order of hashes is the order of SCAN, so a cursor is a
 * hash and means the same on every node.
 *
 * Invariants: `usedBytes` is the sum of `recordBytes` over all records, `keys` their number (keys that are due
 * and not yet removed included); every record with an expiry has an item in the heap.
 */
import { Buckets } from './buckets.ts'
import { ExpiryHeap } from './expiry.ts'
import { HASH_SHIFT, bucketOf, hashOf, hashOfBytes } from './hash.ts'
import { type Key, keyText } from './packed.ts'
import type { AggregateRecord, KeyRecord } from './records.ts'
import { isShort, recordBytes, shortStringBytes } from './records.ts'
import { type StringInBytes, ABSENT, SHORT_BYTES } from './string-table.ts'

/** A running checkpoint, as the store sees it. */
export interface BeforeImages {
  keep(buckets: Buckets, hash: number, key: Key): void
}

export class Store {
  timeMilliseconds = 0
  /** Number of the command that is being applied: the version of what it changes. */
  version = 0
  usedBytes = 0
  keys = 0
  readonly collections = new Map<string, Collection>()
  readonly expiry = new ExpiryHeap()
  /** Records with an expiry. */
  expiring = 0
  /** Number of the newest checkpoint. */
  epoch = 0
  checkpoint: BeforeImages | null = null

  constructor() {
    this.collections.set('', new Collection(this, ''))
  }

  get defaultCollection(): Collection {
    return this.collections.get('')!
  }

  clearAll(): void {
    for (const collection of this.collections.values()) collection.clear()
    this.expiry.clear()
  }

  /** Earliest time at which a key is due, or null; it may lie in the past. */
  nextExpiry(): number | null {
    for (;;) {
      const due = this.expiry.peek()
      if (due === null) return null
      if (this.#isCurrent(due)) return due.at
      this.expiry.pop()
    }
  }

  /** Removes up to `limit` keys that are due, in the heap's total order. */
  removeDue(limit: number): void {
    for (let left = limit; left > 0; left--) {
      const at = this.nextExpiry()
      if (at === null || at > this.timeMilliseconds) return
      const due = this.expiry.peek()!
      this.expiry.pop()
      this.collections.get(due.collection)!.removeRecord(due.key)
    }
  }

  noteExpiry(collection: string, key: string, at: number): void {
    this.expiry.push({ at, collection, key })
    if (this.expiry.size > 2 * this.expiring + 64) this.expiry.sweep((due) => this.#isCurrent(due))
  }

  #isCurrent(due: { at: number; collection: string; key: string }): boolean {
    return this.collections.get(due.collection)?.peek(due.key)?.expireAtMilliseconds === due.at
  }
}

export class Collection {
  readonly store: Store
  readonly name: string
  buckets: Buckets
  keys = 0
  usedBytes = 0
  expiring = 0

  constructor(store: Store, name: string) {
    this.store = store
    this.name = name
    this.buckets = new Buckets(0, store.epoch)
  }

  /** The record of a key, due or not; of a short string it is a copy. */
  peek(key: Key): KeyRecord | null {
    return this.buckets.get(hashOf(key), key)
  }

  isLive(record: { readonly expireAtMilliseconds: number }): boolean {
    return record.expireAtMilliseconds === 0 || record.expireAtMilliseconds > this.store.timeMilliseconds
  }

  /** The record of a key that is there and not due. Call `willChange` before changing it in place. */
  find(key: Key): KeyRecord | null {
    const record = this.peek(key)
    return record !== null && this.isLive(record) ? record : null
  }

  /** Version of a key, absent ones included: it changes whenever the key has changed (for an absent one, at times when it has not). */
  versionOf(key: string): number {
    const record = this.peek(key)
    if (record === null) return -this.buckets.removedVersions[bucketOf(key)]!
    return this.isLive(record) ? record.version : -record.version
  }

  /** Puts a record in the place of what was there, with the version of the present command. */
  put(key: string, record: KeyRecord): void {
    record.version = this.store.version
    const hash = hashOf(key)
    this.#willChange(hash, key)
    const before = this.buckets.get(hash, key)
    if (before !== null) this.#count(key, before, -1)
    this.#count(key, record, 1)
    this.buckets.set(hash, key, record)
    this.buckets.tidy()
    const at = record.expireAtMilliseconds
    if (at !== 0 && at !== before?.expireAtMilliseconds) this.store.noteExpiry(this.name, key, at)
  }

  /** As `put` of a string that never expires: the shortest way for the commonest of writes. */
  putString(key: Key, value: Uint8Array): void {
    const hash = hashOf(key)
    const bucket = hash >>> HASH_SHIFT
    const strings = this.buckets.strings(bucket)
    const place = strings.find(hash, key)
    const isPlain = place === ABSENT ? !this.buckets.others[bucket]?.has(keyText(key)) : strings.expiry(place) === 0
    if (!isPlain || !isShort(key, value.length)) {
      this.put(keyText(key), { kind: 'string', value, version: 0, expireAtMilliseconds: 0 })
      return
    }
    this.#willChange(hash, key)
    if (place === ABSENT) {
      this.#add(shortStringBytes(key.length, value.length, 0), 0, 1)
      strings.insert(hash, key, value, this.store.version, 0)
    } else {
      const more = value.length - strings.valueLength(place)
      this.usedBytes += more
      this.store.usedBytes += more
      strings.replace(place, hash, key, value, this.store.version, 0)
    }
    this.buckets.tidy()
  }

  /** Must be called before a hash, list or set is changed in place, then `changed` after it. */
  willChange(key: string, record: AggregateRecord): void {
    this.#willChange(hashOf(key), key)
    this.#count(key, record, -1)
  }

  changed(key: string, record: AggregateRecord): void {
    this.#count(key, record, 1)
    record.version = this.store.version
  }

  /** `at`: milliseconds since 1970, 0: never. */
  setExpiry(key: string, record: KeyRecord, at: number): void {
    if (record.kind === 'string') {
      this.put(key, { ...record, expireAtMilliseconds: at })
      return
    }
    const before = record.expireAtMilliseconds
    this.willChange(key, record)
    record.expireAtMilliseconds = at
    this.changed(key, record)
    if (at !== 0 && at !== before) this.store.noteExpiry(this.name, key, at)
  }

  /** Removes a key; whether it was there and not due. */
  remove(key: string): boolean {
    const removed = this.removeRecord(key)
    return removed !== null && this.isLive(removed)
  }

  /** Removes a key, due or not; what it was. */
  removeRecord(key: string): KeyRecord | null {
    const hash = hashOf(key)
    const record = this.buckets.get(hash, key)
    if (record === null) return null
    this.#willChange(hash, key)
    this.#count(key, record, -1)
    this.buckets.remove(hash, key)
    this.buckets.tidy()
    this.buckets.removedVersions[hash >>> HASH_SHIFT] = this.store.version
    return record
  }

  /** Empties the collection by swapping its root: a running checkpoint keeps the old one. */
  clear(): void {
    this.store.keys -= this.keys
    this.store.usedBytes -= this.usedBytes
    this.store.expiring -= this.expiring
    this.keys = 0
    this.usedBytes = 0
    this.expiring = 0
    this.buckets = new Buckets(this.store.version, this.store.epoch)
  }

  /** Puts a record of a checkpoint into its bucket, with the version it has. False: it belongs elsewhere, or is there. */
  load(bucket: number, key: string, record: KeyRecord): boolean {
    const hash = hashOf(key)
    if (hash >>> HASH_SHIFT !== bucket || this.buckets.get(hash, key) !== null) return false
    this.buckets.set(hash, key, record)
    this.#count(key, record, 1)
    if (record.expireAtMilliseconds !== 0) this.store.noteExpiry(this.name, key, record.expireAtMilliseconds)
    return true
  }

  /**
   * As `load` of a short string, without an object for it. False, and nothing happens, where it does not come in the
   * order in which a checkpoint has the strings of a bucket: `load` says whether that is wrong.
   */
  loadString(bucket: number, string: StringInBytes): boolean {
    const { bytes, key, keyLength, valueLength, expireAtMilliseconds } = string
    if (keyLength > SHORT_BYTES || valueLength > SHORT_BYTES || this.buckets.others[bucket] !== null) return false
    const hash = hashOfBytes(bytes, key, key + keyLength)
    if (hash >>> HASH_SHIFT !== bucket || !this.buckets.strings(bucket).append(hash, string)) return false
    this.#add(shortStringBytes(keyLength, valueLength, expireAtMilliseconds), expireAtMilliseconds, 1)
    if (expireAtMilliseconds !== 0) {
      this.store.noteExpiry(this.name, bytes.toString('latin1', key, key + keyLength), expireAtMilliseconds)
    }
    return true
  }

  #willChange(hash: number, key: Key): void {
    const { store, buckets } = this
    const bucket = hash >>> HASH_SHIFT
    if (buckets.epochs[bucket]! >= store.epoch) return
    if (store.checkpoint === null) buckets.epochs[bucket] = store.epoch
    else store.checkpoint.keep(buckets, hash, key)
  }

  #count(key: string, record: KeyRecord, sign: 1 | -1): void {
    this.#add(recordBytes(key, record), record.expireAtMilliseconds, sign)
  }

  #add(size: number, expireAtMilliseconds: number, sign: 1 | -1): void {
    const bytes = sign * size
    const expiring = expireAtMilliseconds === 0 ? 0 : sign
    this.keys += sign
    this.usedBytes += bytes
    this.expiring += expiring
    this.store.keys += sign
    this.store.usedBytes += bytes
    this.store.expiring += expiring
  }
}
