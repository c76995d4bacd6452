/**
 * What a collection holds, until it is emptied: short strings in a table outside the heap, everything else as records
 * on it. PURE. In 4096 buckets, which checkpoints write one by one: what is kept for each is here.
 */
import { BUCKETS, HASH_SHIFT } from './hash.ts'
import { type Key, keyText } from './packed.ts'
import { type KeyRecord, isShort } from './records.ts'
import { ABSENT, StringTable } from './string-table.ts'

/** What a key is, without its value. */
export interface KeyHead {
  readonly key: string
  readonly kind: KeyRecord['kind']
  readonly expireAtMilliseconds: number
}

/** The bytes with memory of their own: a view would keep alive what it is a view of. */
const owned = (bytes: Uint8Array): Uint8Array =>
  bytes.buffer.byteLength === bytes.length ? bytes : new Uint8Array(bytes)

export class Buckets {
  /** Strings whose key and value are short. */
  #table = new StringTable()
  /** While a sparse table is replaced: that one, which has the buckets from `#copied` on. */
  #sparse: StringTable | null = null
  #copied = 0
  /** By bucket: everything else; null where there is nothing else. */
  readonly others: (Map<string, KeyRecord> | null)[] = Array.from<null>({ length: BUCKETS }).fill(null)
  /** Version at which the collection was emptied: that of absent keys where none was removed since. */
  readonly clearedVersion: number
  /** By bucket: version of absent keys, at least that of the last key removed there. */
  readonly removedVersions: Float64Array
  /** By bucket: checkpoints up to this number hold it as it was, or do not need it. */
  readonly epochs: Uint32Array

  constructor(clearedVersion: number, epoch: number) {
    this.clearedVersion = clearedVersion
    this.removedVersions = new Float64Array(BUCKETS).fill(clearedVersion)
    this.epochs = new Uint32Array(BUCKETS).fill(epoch)
  }

  /** The table that has the short strings of a bucket, until the next `tidy`. */
  strings(bucket: number): StringTable {
    return this.#sparse !== null && bucket >= this.#copied ? this.#sparse : this.#table
  }

  /**
   * Behind every change: where most of a table's memory is free stretches that are of no use, it is replaced, a bucket
   * with each change. No limit of memory would mean much otherwise: strings that grow leave their old places behind.
   */
  tidy(): void {
    if (this.#sparse !== null) {
      this.#sparse.copyBucket(this.#copied, this.#table)
      if (++this.#copied === BUCKETS) this.#sparse = null
    } else if (this.#table.isSparse) {
      this.#sparse = this.#table
      this.#table = new StringTable()
      this.#copied = 0
    }
  }

  /** Keys in a bucket. */
  size(bucket: number): number {
    return this.strings(bucket).count(bucket) + (this.others[bucket]?.size ?? 0)
  }

  /** Whether there is anything to say of a bucket. */
  hasNews(bucket: number): boolean {
    return this.size(bucket) > 0 || this.removedVersions[bucket] !== this.clearedVersion
  }

  /** The keys of a bucket in the order in which a checkpoint tells them. */
  *heads(bucket: number): Generator<KeyHead> {
    const strings = this.strings(bucket)
    for (let at = 0; at < strings.count(bucket); at++) {
      const place = strings.placeAt(bucket, at)
      yield { key: strings.key(place), kind: 'string', expireAtMilliseconds: strings.expiry(place) }
    }
    for (const [key, { kind, expireAtMilliseconds }] of this.others[bucket] ?? []) {
      yield { key, kind, expireAtMilliseconds }
    }
  }

  /** The record of a key; of a short string it is a copy. */
  get(hash: number, key: Key): KeyRecord | null {
    const strings = this.strings(hash >>> HASH_SHIFT)
    const place = strings.find(hash, key)
    if (place === ABSENT) return this.others[hash >>> HASH_SHIFT]?.get(keyText(key)) ?? null
    return {
      kind: 'string',
      value: strings.value(place),
      version: strings.version(place),
      expireAtMilliseconds: strings.expiry(place),
    }
  }

  /** Puts a record in the place of what was there. */
  set(hash: number, key: string, record: KeyRecord): void {
    const bucket = hash >>> HASH_SHIFT
    const strings = this.strings(bucket)
    const place = strings.find(hash, key)
    if (record.kind === 'string' && isShort(key, record.value.length)) {
      const { value, version, expireAtMilliseconds } = record
      if (place !== ABSENT) strings.replace(place, hash, key, value, version, expireAtMilliseconds)
      else {
        this.#removeOther(bucket, key)
        strings.insert(hash, key, value, version, expireAtMilliseconds)
      }
      return
    }
    if (place !== ABSENT) strings.remove(place, hash, key)
    const others = (this.others[bucket] ??= new Map())
    others.set(key, record.kind === 'string' ? { ...record, value: owned(record.value) } : record)
  }

  /** Removes a key that is there. */
  remove(hash: number, key: string): void {
    const strings = this.strings(hash >>> HASH_SHIFT)
    const place = strings.find(hash, key)
    if (place === ABSENT) this.#removeOther(hash >>> HASH_SHIFT, key)
    else strings.remove(place, hash, key)
  }

  #removeOther(bucket: number, key: string): void {
    const others = this.others[bucket]
    if (others?.delete(key) && others.size === 0) this.others[bucket] = null
  }
}
