/**
 * The collections and what is common to them: time, memory, expiry, versions, checkpoints. PURE.
 *
 * A collection is a hash map in `BUCKETS` buckets, chosen by the first bits of a 32-bit hash over the key's
 * bytes. Buckets are the unit of copy-on-write: whoever changes one calls `Collection.#bucketForChange` first,
 * and a running checkpoint writes it before the change (see checkpoint.ts). The order of hashes is the order of
 * SCAN, so a cursor is a hash and means the same on every node.
 *
 * Invariants: `usedBytes` is the sum of `recordBytes` over all records, `keys` their number (keys that are due
 * and not yet removed included); every record with an expiry has an item in the heap.
 */
import { ExpiryHeap } from './expiry.ts'
import type { Packed } from './packed.ts'
import { type KeyRecord, recordBytes } from './records.ts'

export const BUCKET_BITS = 12
export const BUCKETS = 1 << BUCKET_BITS
const HASH_SHIFT = 32 - BUCKET_BITS

/** FNV-1a with a final mix (MurmurHash3's), over one character a byte: 0 to 2^32 - 1. Part of the format. */
export function hashOf(key: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

export const bucketOf = (key: string): number => hashOf(key) >>> HASH_SHIFT

export interface Bucket {
  readonly records: Map<string, KeyRecord>
  /** Version of an absent key: at least that of the last key removed here. */
  removedVersion: number
  /** Checkpoints up to this number hold the bucket as it was, or do not need it. */
  epoch: number
}

/** A running checkpoint, as the store sees it. */
export interface BucketWriter {
  write(collection: Collection, index: number, bucket: Bucket): void
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
  checkpoint: BucketWriter | null = null

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
  buckets: (Bucket | null)[] = emptyBuckets()
  /** Version of absent keys in buckets that do not exist: that of the last `clear`. */
  clearedVersion = 0
  keys = 0
  usedBytes = 0
  expiring = 0

  constructor(store: Store, name: string) {
    this.store = store
    this.name = name
  }

  /** The record of a key, due or not. */
  peek(key: string): KeyRecord | null {
    return this.buckets[bucketOf(key)]?.records.get(key) ?? null
  }

  isLive(record: KeyRecord): boolean {
    return record.expireAtMilliseconds === 0 || record.expireAtMilliseconds > this.store.timeMilliseconds
  }

  /** The record of a key that is there and not due. Call `willChange` before changing it. */
  find(key: string): KeyRecord | null {
    const record = this.peek(key)
    return record !== null && this.isLive(record) ? record : null
  }

  /** Version of a key, absent ones included: it changes whenever the key has changed (for an absent one, at times when it has not). */
  versionOf(key: string): number {
    const bucket = this.buckets[bucketOf(key)]
    if (!bucket) return -this.clearedVersion
    const record = bucket.records.get(key)
    if (record === undefined) return -bucket.removedVersion
    return this.isLive(record) ? record.version : -record.version
  }

  /** Puts a record in the place of what was there. */
  put(key: string, record: KeyRecord): void {
    const bucket = this.#bucketForChange(bucketOf(key))
    const before = bucket.records.get(key)
    if (before === undefined) this.#count(key, record, 1)
    else {
      this.#count(key, before, -1)
      this.#count(key, record, 1)
    }
    record.version = this.store.version
    bucket.records.set(key, record)
    if (record.expireAtMilliseconds !== 0 && record.expireAtMilliseconds !== before?.expireAtMilliseconds) {
      this.store.noteExpiry(this.name, key, record.expireAtMilliseconds)
    }
  }

  /** As `put` of a string that never expires; one that is there and is such is changed in place. */
  putString(key: string, value: Packed): void {
    const bucket = this.#bucketForChange(bucketOf(key))
    const record = bucket.records.get(key)
    if (record?.kind !== 'string' || record.expireAtMilliseconds !== 0) {
      this.put(key, { kind: 'string', value, version: 0, expireAtMilliseconds: 0 })
      return
    }
    const more = value.length - record.value.length
    this.usedBytes += more
    this.store.usedBytes += more
    record.value = value
    record.version = this.store.version
  }

  /** Must be called before a record is changed in place, then `changed` after it. */
  willChange(key: string, record: KeyRecord): void {
    this.#bucketForChange(bucketOf(key))
    this.#count(key, record, -1)
  }

  changed(key: string, record: KeyRecord): void {
    this.#count(key, record, 1)
    record.version = this.store.version
  }

  /** `at`: milliseconds since 1970, 0: never. */
  setExpiry(key: string, record: KeyRecord, at: number): void {
    const before = record.expireAtMilliseconds
    this.willChange(key, record)
    record.expireAtMilliseconds = at
    this.changed(key, record)
    if (at !== 0 && at !== before) this.store.noteExpiry(this.name, key, at)
  }

  /** Removes a key; whether it was there and not due. */
  remove(key: string): boolean {
    const record = this.peek(key)
    if (record === null) return false
    const live = this.isLive(record)
    this.removeRecord(key)
    return live
  }

  removeRecord(key: string): void {
    const bucket = this.#bucketForChange(bucketOf(key))
    const record = bucket.records.get(key)
    if (record === undefined) return
    this.#count(key, record, -1)
    bucket.records.delete(key)
    bucket.removedVersion = this.store.version
  }

  /** Empties the collection by swapping its root: a running checkpoint keeps the old one. */
  clear(): void {
    this.store.keys -= this.keys
    this.store.usedBytes -= this.usedBytes
    this.store.expiring -= this.expiring
    this.keys = 0
    this.usedBytes = 0
    this.expiring = 0
    this.buckets = emptyBuckets()
    this.clearedVersion = this.store.version
  }

  /** Takes a bucket from a checkpoint. */
  load(index: number, removedVersion: number, records: Map<string, KeyRecord>): void {
    this.buckets[index] = { records, removedVersion, epoch: this.store.epoch }
    for (const [key, record] of records) {
      this.#count(key, record, 1)
      if (record.expireAtMilliseconds !== 0) this.store.noteExpiry(this.name, key, record.expireAtMilliseconds)
    }
  }

  #bucketForChange(index: number): Bucket {
    const bucket = this.buckets[index]
    const { store } = this
    if (!bucket) {
      const made = { records: new Map<string, KeyRecord>(), removedVersion: this.clearedVersion, epoch: store.epoch }
      this.buckets[index] = made
      return made
    }
    if (bucket.epoch < store.epoch) {
      store.checkpoint?.write(this, index, bucket)
      bucket.epoch = store.epoch
    }
    return bucket
  }

  #count(key: string, record: KeyRecord, sign: 1 | -1): void {
    const bytes = sign * recordBytes(key, record)
    const expiring = record.expireAtMilliseconds === 0 ? 0 : sign
    this.keys += sign
    this.usedBytes += bytes
    this.expiring += expiring
    this.store.keys += sign
    this.store.usedBytes += bytes
    this.store.expiring += expiring
  }
}

function emptyBuckets(): (Bucket | null)[] {
  return Array.from<Bucket | null>({ length: BUCKETS }).fill(null)
}
