/**
 * A checkpoint of the machine: taken in slices while the store goes on, and read back. PURE.
 *
 * A checkpoint is a sequence of chunks (storage compresses them and guards each with a CRC), each a sequence of
 * sections:
 *
 *   section     uint8 kind, then by kind:
 *     1 header      uint8 version (1), uint applied index, uint time, uint commands, uint max memory,
 *                   uint last id, uint adopted configuration,
 *                   uint ids, (string volume, uint id)…, uint members, uint member…, sessions (sessions.ts)
 *     2 collection  string name, uint cleared version
 *     3 bucket      string collection, uint index, uint removed version, uint records, record… (records.ts)
 *     4 end         uint keys, uint buckets
 *
 * The header is first, the end last. What a checkpoint holds is the state at its start: before a key changes whose
 * bucket has not been written yet, what was there is kept (`keep`): of short strings the one that changes (what is
 * newer than the start is known by its version, so that each is kept once), of everything else the whole of the bucket,
 * in its order. Emptying a collection swaps its root.
 * Readers throw `LokiError('FRAME_MALFORMED')`.
 */
import { ByteReader, ByteWriter } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { invariant } from '../invariant.ts'
import { type VolumeId, logIndex, volumeId } from '../vocabulary.ts'
import { Buckets } from './buckets.ts'
import { BUCKETS, HASH_SHIFT } from './hash.ts'
import type { Key } from './packed.ts'
import type { KeyRecord } from './records.ts'
import { readRecord, readStringInBytes, writeRecord, writeString } from './records.ts'
import { readSessions, writeSessions } from './sessions.ts'
import type { MachineState } from './state.ts'
import { Collection } from './store.ts'
import { type StringInBytes, ABSENT } from './string-table.ts'

const VERSION = 1
export const SECTION_HEADER = 1
export const SECTION_COLLECTION = 2
export const SECTION_BUCKET = 3
const SECTION_END = 4

/** A chunk is handed out when it has about this size. A bucket is never split, so a chunk may be larger. */
const CHUNK_BYTES = 65_536
/** Room for what is kept of a bucket, at first. */
const KEPT_BYTES = 256
/** Records that one call of `next` writes at most, beyond its last bucket: about a millisecond. */
const SLICE_RECORDS = 2000

/** What has changed in a bucket since the start, as it was. */
interface Kept {
  readonly removedVersion: number
  /** Encoded: all that is no short string, then short strings that are gone or newer by now. */
  readonly records: ByteWriter
  count: number
}

interface Root {
  readonly collection: Collection
  readonly buckets: Buckets
}

export class CheckpointWriter {
  readonly #state: MachineState
  readonly #epoch: number
  readonly #roots: Root[] = []
  /** Keys at the start, and the newest version of any. */
  readonly #keys: number
  readonly #version: number
  readonly #kept = new Map<Buckets, Map<number, Kept>>()
  #bucketsWritten = 0
  #out = new ByteWriter(CHUNK_BYTES * 2)
  /** What is in `#out` was handed out. */
  #isTaken = false
  #root = 0
  #bucket = 0
  #finished = false

  /** Starts at the state as it is now; a checkpoint that was running is abandoned. */
  constructor(state: MachineState) {
    const { store } = state
    this.#state = state
    this.#epoch = ++store.epoch
    store.checkpoint = this
    writeHeader(this.#out, state)
    for (const collection of store.collections.values()) {
      writeCollection(this.#out, collection)
      this.#roots.push({ collection, buckets: collection.buckets })
    }
    this.#keys = store.keys
    this.#version = store.version
  }

  /** The next chunk, valid until the next call (empty, where all that it met is newer), or null after the last one. */
  next(): Buffer | null {
    if (this.#finished) return null
    invariant(this.#state.store.checkpoint === this, 'a checkpoint that was abandoned goes on')
    if (this.#isTaken) this.#out.reset()
    this.#isTaken = true
    let records = 0
    while (this.#out.length < CHUNK_BYTES && records < SLICE_RECORDS) {
      const root = this.#roots[this.#root]
      if (root === undefined) {
        this.#finish()
        break
      }
      const { collection, buckets } = root
      const bucket = this.#bucket
      if (buckets.epochs[bucket]! < this.#epoch) {
        records += buckets.size(bucket)
        this.#write(collection, buckets, bucket)
        buckets.epochs[bucket] = this.#epoch
      }
      this.#advance()
    }
    return this.#out.view()
  }

  /** Ends a checkpoint that nobody will finish, so that the store stops writing for it. */
  abandon(): void {
    this.#finished = true
    if (this.#state.store.checkpoint === this) this.#state.store.checkpoint = null
  }

  /** Called by the store before it changes a key whose bucket this checkpoint has not written. */
  keep(buckets: Buckets, hash: number, key: Key): void {
    const kept = this.#keptOf(buckets, hash >>> HASH_SHIFT)
    const strings = buckets.strings(hash >>> HASH_SHIFT)
    const place = strings.find(hash, key)
    if (place === ABSENT || strings.version(place) > this.#version) return
    writeString(kept.records, strings, place)
    kept.count++
  }

  #keptOf(buckets: Buckets, bucket: number): Kept {
    let ofBuckets = this.#kept.get(buckets)
    if (ofBuckets === undefined) this.#kept.set(buckets, (ofBuckets = new Map<number, Kept>()))
    const known = ofBuckets.get(bucket)
    if (known !== undefined) return known
    const others = buckets.others[bucket] ?? new Map<string, KeyRecord>()
    const removedVersion = buckets.removedVersions[bucket]!
    const kept = { removedVersion, records: new ByteWriter(KEPT_BYTES), count: others.size }
    for (const [key, record] of others) writeRecord(kept.records, key, record)
    ofBuckets.set(bucket, kept)
    return kept
  }

  #write(collection: Collection, buckets: Buckets, bucket: number): void {
    const ofBuckets = this.#kept.get(buckets)
    const kept = ofBuckets?.get(bucket)
    if (kept === undefined) {
      if (!buckets.hasNews(bucket)) return
      writeBucket(this.#out, collection.name, buckets, bucket)
    } else {
      ofBuckets!.delete(bucket)
      if (!this.#writeAsItWas(collection.name, buckets, bucket, kept)) return
    }
    this.#bucketsWritten++
  }

  /** False where there was nothing to say of the bucket. */
  #writeAsItWas(collection: string, buckets: Buckets, bucket: number, kept: Kept): boolean {
    const strings = buckets.strings(bucket)
    let count = kept.count
    for (let at = 0; at < strings.count(bucket); at++) {
      if (strings.version(strings.placeAt(bucket, at)) <= this.#version) count++
    }
    if (count === 0 && kept.removedVersion === buckets.clearedVersion) return false
    const out = this.#out
    out.uint8(SECTION_BUCKET).string(collection).uint(bucket).uint(kept.removedVersion).uint(count)
    for (let at = 0; at < strings.count(bucket); at++) {
      const place = strings.placeAt(bucket, at)
      if (strings.version(place) <= this.#version) writeString(out, strings, place)
    }
    out.raw(kept.records.view())
    return true
  }

  #advance(): void {
    if (++this.#bucket < BUCKETS) return
    this.#bucket = 0
    this.#root++
  }

  #finish(): void {
    this.#out.uint8(SECTION_END).uint(this.#keys).uint(this.#bucketsWritten)
    this.#finished = true
    this.#state.store.checkpoint = null
  }
}

/** The whole state in one canonical sequence of pieces, each valid until the next: for the hash of a state. */
export function* serialize(state: MachineState): Generator<Buffer> {
  const out = new ByteWriter(CHUNK_BYTES)
  writeHeader(out, state)
  for (const collection of [...state.store.collections.values()].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    writeCollection(out, collection)
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      if (!collection.buckets.hasNews(bucket)) continue
      writeBucket(out, collection.name, collection.buckets, bucket)
      yield out.view()
      out.reset()
    }
  }
  yield out.view()
}

function writeHeader(out: ByteWriter, state: MachineState): void {
  out.uint8(SECTION_HEADER).uint8(VERSION).uint(state.applied).uint(state.store.timeMilliseconds)
  out.uint(state.store.version).uint(state.maxMemoryBytes).uint(state.lastId).uint(state.adoptedConfigurationId)
  out.uint(state.ids.size)
  for (const [volume, id] of [...state.ids].sort(([, a], [, b]) => a - b)) out.string(volume).uint(id)
  out.uint(state.members.size)
  for (const member of [...state.members].sort((a, b) => a - b)) out.uint(member)
  writeSessions(out, state.sessions)
}

function writeCollection(out: ByteWriter, collection: Collection): void {
  out.uint8(SECTION_COLLECTION).string(collection.name).uint(collection.buckets.clearedVersion)
}

function writeBucket(out: ByteWriter, collection: string, buckets: Buckets, bucket: number): void {
  const { others, removedVersions } = buckets
  const strings = buckets.strings(bucket)
  out.uint8(SECTION_BUCKET).string(collection).uint(bucket).uint(removedVersions[bucket]!).uint(buckets.size(bucket))
  for (let at = 0; at < strings.count(bucket); at++) writeString(out, strings, strings.placeAt(bucket, at))
  for (const [key, record] of others[bucket] ?? []) writeRecord(out, key, record)
}

const malformed = (what: string): LokiError => new LokiError('FRAME_MALFORMED', `checkpoint: ${what}`)

/** Fills an empty state chunk by chunk, in the order in which they were written. */
export class CheckpointReader {
  readonly #state: MachineState
  #phase: 'start' | 'middle' | 'end' = 'start'
  /** One for all of them. */
  readonly #string: StringInBytes = {
    bytes: Buffer.alloc(0),
    key: 0,
    keyLength: 0,
    value: 0,
    valueLength: 0,
    version: 0,
    expireAtMilliseconds: 0,
  }
  #buckets = 0

  constructor(state: MachineState) {
    this.#state = state
  }

  /** The chunk may be changed after the call. */
  add(chunk: Uint8Array): void {
    const reader = new ByteReader(chunk)
    while (reader.remaining > 0) this.#section(reader)
  }

  /** Throws unless the checkpoint is whole. */
  finish(): void {
    if (this.#phase !== 'end') throw malformed('it ends early')
  }

  #section(reader: ByteReader): void {
    const kind = reader.uint8()
    if (this.#phase === 'end') throw malformed('something after its end')
    if ((kind === SECTION_HEADER) !== (this.#phase === 'start')) throw malformed('the header is not first')
    if (kind === SECTION_HEADER) {
      this.#phase = 'middle'
      readHeader(reader, this.#state)
    } else if (kind === SECTION_COLLECTION) this.#collection(reader)
    else if (kind === SECTION_BUCKET) this.#bucket(reader)
    else if (kind === SECTION_END) this.#end(reader)
    else throw malformed(`unknown kind of a section ${kind}`)
  }

  #collection(reader: ByteReader): void {
    const { store } = this.#state
    const name = reader.string()
    const collection = store.collections.get(name) ?? new Collection(store, name)
    collection.buckets = new Buckets(reader.uint(), store.epoch)
    store.collections.set(name, collection)
  }

  #bucket(reader: ByteReader): void {
    const name = reader.string()
    const collection = this.#state.store.collections.get(name)
    const index = reader.uint()
    const removedVersion = reader.uint()
    if (!collection || index >= BUCKETS) throw malformed(`no bucket ${index} of collection '${name}'`)
    if (collection.buckets.hasNews(index)) throw malformed(`bucket ${index} of collection '${name}' twice`)
    const { buckets } = collection
    buckets.removedVersions[index] = removedVersion
    const count = reader.uint()
    // A count that is damaged must not take memory: a record has five bytes at least.
    buckets.strings(index).reserve(index, Math.min(count, reader.remaining / 5))
    for (let left = count; left > 0; left--) {
      const begin = reader.offset
      if (readStringInBytes(reader, this.#string) && collection.loadString(index, this.#string)) continue
      reader.offset = begin
      const { key, record } = readRecord(reader)
      if (!collection.load(index, key, record)) throw malformed(`a key in the wrong bucket ${index}, or twice`)
    }
    this.#buckets++
  }

  #end(reader: ByteReader): void {
    this.#phase = 'end'
    const keys = reader.uint()
    const buckets = reader.uint()
    const { store } = this.#state
    if (keys !== store.keys) throw malformed(`${keys} keys expected, ${store.keys} found`)
    if (buckets !== this.#buckets) throw malformed(`${buckets} buckets expected, ${this.#buckets} found`)
  }
}

/** The section behind its kind byte: everything but the collections. Throws `FRAME_MALFORMED`. */
export function readHeader(reader: ByteReader, state: MachineState): void {
  const version = reader.uint8()
  if (version !== VERSION) throw malformed(`unknown version ${version}`)
  state.applied = logIndex(reader.uint())
  state.store.timeMilliseconds = reader.uint()
  state.store.version = reader.uint()
  state.maxMemoryBytes = reader.uint()
  state.lastId = reader.uint()
  state.adoptedConfigurationId = reader.uint()
  const ids = new Map<VolumeId, number>()
  for (let left = reader.uint(); left > 0; left--) ids.set(volumeId(reader.string()), reader.uint())
  state.ids = ids
  const members = new Set<number>()
  for (let left = reader.uint(); left > 0; left--) members.add(reader.uint())
  state.members = members
  state.sessions = readSessions(reader)
}
