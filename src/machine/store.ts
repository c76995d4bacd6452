/**
 * The collections and what is common to them: time, memory, expiry, versions, checkpoints. PURE.
 *
 * A collection is a hash map in `BUCKETS` buckets, chosen by the first bits of a 32-bit hash over the key's
 * bytes. Short strings of a bucket are in its arena (string-arena.ts), everything else is a record on the heap.
 * Buckets are the unit of copy-on-write: whoever changes one calls `Collection.#bucketForChange` first, and a
 * running checkpoint writes it before the change (see checkpoint.ts). The order of hashes is the order of SCAN, so
 * a cursor is a hash and means the same on every node.
 *
 * Invariants: `usedBytes` is the sum of `recordBytes` over all records, `keys` their number (keys that are due
 * and not yet removed included); every record with an expiry has an item in the heap.
 */
import { ExpiryHeap } from './expiry.ts'
import { type AggregateRecord, type KeyRecord, isShort, recordBytes, stringBytes } from './records.ts'
import { Slabs } from './slabs.ts'
import { SHORT_BYTES, StringArena } from './string-arena.ts'

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
  /** Strings whose key and value are short. */
  readonly strings: StringArena
  /** Everything else. */
  readonly others: Map<string, KeyRecord>
  /** Version of an absent key: at least that of the last key removed here. */
  removedVersion: number
  /** Checkpoints up to this number hold the bucket as it was, or do not need it. */
  epoch: number
}

/** What a key is, without its value. */
export interface KeyHead {
  readonly key: string
  readonly kind: KeyRecord['kind']
  readonly expireAtMilliseconds: number
}

export const sizeOfBucket = (bucket: Bucket): number => bucket.strings.count + bucket.others.size

/** The keys of a bucket in the order in which a checkpoint tells them. */
export function* headsOf(bucket: Bucket): Generator<KeyHead> {
  const { strings } = bucket
  for (let at = 0; at < strings.count; at++) {
    yield { key: strings.keyAt(at), kind: 'string', expireAtMilliseconds: strings.expiryAt(at) }
  }
  for (const [key, { kind, expireAtMilliseconds }] of bucket.others) yield { key, kind, expireAtMilliseconds }
}

/** The bytes with memory of their own: a view would keep alive what it is a view of. */
const owned = (bytes: Uint8Array): Uint8Array =>
  bytes.buffer.byteLength === bytes.length ? bytes : new Uint8Array(bytes)

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
  /** Of the strings of all buckets. */
  #slabs = new Slabs()
  /** Version of absent keys in buckets that do not exist: that of the last `clear`. */
  clearedVersion = 0
  keys = 0
  usedBytes = 0
  expiring = 0

  constructor(store: Store, name: string) {
    this.store = store
    this.name = name
  }

  /** The record of a key, due or not; of a short string it is a copy. */
  peek(key: string): KeyRecord | null {
    const hash = hashOf(key)
    const bucket = this.buckets[hash >>> HASH_SHIFT]
    if (!bucket) return null
    const { strings } = bucket
    const at = strings.find(hash, key)
    if (at < 0) return bucket.others.get(key) ?? null
    const [version, expireAtMilliseconds] = [strings.versionAt(at), strings.expiryAt(at)]
    return { kind: 'string', value: strings.valueAt(at), version, expireAtMilliseconds }
  }

  isLive(record: { readonly expireAtMilliseconds: number }): boolean {
    return record.expireAtMilliseconds === 0 || record.expireAtMilliseconds > this.store.timeMilliseconds
  }

  /** The record of a key that is there and not due. Call `willChange` before changing it in place. */
  find(key: string): KeyRecord | null {
    const record = this.peek(key)
    return record !== null && this.isLive(record) ? record : null
  }

  /** Version of a key, absent ones included: it changes whenever the key has changed (for an absent one, at times when it has not). */
  versionOf(key: string): number {
    const bucket = this.buckets[bucketOf(key)]
    if (!bucket) return -this.clearedVersion
    const record = this.peek(key)
    if (record === null) return -bucket.removedVersion
    return this.isLive(record) ? record.version : -record.version
  }

  /** Puts a record in the place of what was there, with the version of the present command. */
  put(key: string, record: KeyRecord): void {
    record.version = this.store.version
    const hash = hashOf(key)
    const before = this.#set(this.#bucketForChange(hash >>> HASH_SHIFT), hash, key, record)
    const at = record.expireAtMilliseconds
    if (at !== 0 && at !== before) this.store.noteExpiry(this.name, key, at)
  }

  /** As `put` of a string that never expires: the shortest way for the commonest of writes. */
  putString(key: string, value: Uint8Array): void {
    const hash = hashOf(key)
    const { strings } = this.#bucketForChange(hash >>> HASH_SHIFT)
    const at = value.length <= SHORT_BYTES ? strings.find(hash, key) : -1
    if (at < 0 || strings.expiryAt(at) !== 0) {
      this.put(key, { kind: 'string', value, version: 0, expireAtMilliseconds: 0 })
      return
    }
    const more = value.length - strings.valueLengthAt(at)
    this.usedBytes += more
    this.store.usedBytes += more
    strings.replace(at, value, this.store.version, 0)
  }

  /** Puts a record into its bucket; the expiry of what was there, 0 where it had none. */
  #set(bucket: Bucket, hash: number, key: string, record: KeyRecord): number {
    const { strings, others } = bucket
    const at = strings.find(hash, key)
    const other = at < 0 && others.size > 0 ? others.get(key) : undefined
    const before = at >= 0 ? strings.expiryAt(at) : (other?.expireAtMilliseconds ?? 0)
    if (at >= 0) this.#countString(key, strings.valueLengthAt(at), before, -1)
    else if (other) this.#count(key, other, -1)
    this.#count(key, record, 1)
    if (record.kind !== 'string' || !isShort(key, record.value.length)) {
      if (at >= 0) strings.remove(at)
      others.set(key, record.kind === 'string' ? { ...record, value: owned(record.value) } : record)
      return before
    }
    const { value, version, expireAtMilliseconds } = record
    if (at >= 0) strings.replace(at, value, version, expireAtMilliseconds)
    else {
      others.delete(key)
      strings.insert(at, hash, key, value, version, expireAtMilliseconds)
    }
    return before
  }

  /** Must be called before a hash, list or set is changed in place, then `changed` after it. */
  willChange(key: string, record: AggregateRecord): void {
    this.#bucketForChange(bucketOf(key))
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
    const record = this.peek(key)
    if (record === null) return false
    this.removeRecord(key)
    return this.isLive(record)
  }

  removeRecord(key: string): void {
    const hash = hashOf(key)
    const bucket = this.#bucketForChange(hash >>> HASH_SHIFT)
    const { strings, others } = bucket
    const at = strings.find(hash, key)
    const other = others.get(key)
    if (at >= 0) {
      this.#countString(key, strings.valueLengthAt(at), strings.expiryAt(at), -1)
      strings.remove(at)
    } else if (other) {
      this.#count(key, other, -1)
      others.delete(key)
    } else return
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
    this.#slabs = new Slabs()
    this.clearedVersion = this.store.version
  }

  /** Begins a bucket that comes from a checkpoint; `load` fills it. */
  beginBucket(index: number, removedVersion: number): Bucket {
    const strings = new StringArena(this.#slabs)
    const bucket = { strings, others: new Map<string, KeyRecord>(), removedVersion, epoch: this.store.epoch }
    this.buckets[index] = bucket
    return bucket
  }

  /** Puts a record of a checkpoint into its bucket, with the version it has. False: it belongs elsewhere, or is there. */
  load(index: number, key: string, record: KeyRecord): boolean {
    const hash = hashOf(key)
    const bucket = this.buckets[index]
    if (hash >>> HASH_SHIFT !== index || !bucket) return false
    const keys = this.keys
    this.#set(bucket, hash, key, record)
    if (record.expireAtMilliseconds !== 0) this.store.noteExpiry(this.name, key, record.expireAtMilliseconds)
    return this.keys > keys
  }

  #bucketForChange(index: number): Bucket {
    const bucket = this.buckets[index]
    const { store } = this
    if (!bucket) {
      return this.beginBucket(index, this.clearedVersion)
    }
    if (bucket.epoch < store.epoch) {
      store.checkpoint?.write(this, index, bucket)
      bucket.epoch = store.epoch
    }
    return bucket
  }

  #count(key: string, record: KeyRecord, sign: 1 | -1): void {
    this.#countBytes(recordBytes(key, record), record.expireAtMilliseconds, sign)
  }

  #countString(key: string, length: number, expireAtMilliseconds: number, sign: 1 | -1): void {
    this.#countBytes(stringBytes(key, length, expireAtMilliseconds), expireAtMilliseconds, sign)
  }

  #countBytes(size: number, expireAtMilliseconds: number, sign: 1 | -1): void {
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

function emptyBuckets(): (Bucket | null)[] {
  return Array.from<Bucket | null>({ length: BUCKETS }).fill(null)
}
