/**
 * What a key holds: one record, tagged by its kind, and its encoding in checkpoints. PURE.
 *
 *   record  uint8 kind, bytes key, uint version, uint expire at (0: never), then by kind:
 *     1 string   bytes value
 *     2 hash     uint fields, (bytes field, bytes value)…
 *     3 set      uint members, bytes member…
 *     4 list     uint items, bytes item…
 *
 * Fields and members keep their order: replies tell it. Records of other kinds than string are never empty.
 */
import type { ByteReader, ByteWriter } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { unreachable } from '../invariant.ts'
import { Deque } from './deque.ts'
import { type Key, type Packed, latin1, latin1Bytes, pack, unpack } from './packed.ts'
import { SHORT_BYTES, type StringInBytes, type StringTable } from './string-table.ts'

interface RecordBase {
  /** Number of the command that last changed the key: what WATCH and conditional writes compare. */
  version: number
  /** Milliseconds since 1970; 0: never. */
  expireAtMilliseconds: number
}

interface AggregateBase extends RecordBase {
  /** What the elements are taken to occupy: kept up to date by whoever changes them. */
  elementBytes: number
}

export interface StringRecord extends RecordBase {
  readonly kind: 'string'
  /** Never changed in place: a reply may share it. */
  readonly value: Uint8Array
}

export interface HashRecord extends AggregateBase {
  readonly kind: 'hash'
  readonly fields: Map<string, Packed>
}

export interface SetRecord extends AggregateBase {
  readonly kind: 'set'
  readonly members: Set<string>
}

export interface ListRecord extends AggregateBase {
  readonly kind: 'list'
  items: Deque<Packed>
}

export type AggregateRecord = HashRecord | SetRecord | ListRecord
export type KeyRecord = StringRecord | AggregateRecord

/** What a key costs beyond its own bytes and those of its value: record, map slot, headers. Measured. */
const RECORD_BYTES = 136
/**
 * As above, of a short string: its head, index, what is left of its units. It takes some twelve bytes less by now, but
 * members of two versions must agree on what is used, or one refuses what the other takes.
 */
const SHORT_STRING_BYTES = 48
/** What an expiry costs: its item in the heap, and the time as a number of its own. */
const EXPIRY_BYTES = 64
/** What the elements of other kinds cost beyond their bytes. */
const FIELD_BYTES = 96
const MEMBER_BYTES = 64
const ITEM_BYTES = 40

export const fieldBytes = (field: string, value: Packed): number => FIELD_BYTES + field.length + value.length
export const memberBytes = (member: string): number => MEMBER_BYTES + member.length
export const itemBytes = (item: Packed): number => ITEM_BYTES + item.length

/** Bytes that a record is taken to occupy: part of the replicated state, so a function of the content alone. */
export function recordBytes(key: string, record: KeyRecord): number {
  const overhead = record.kind === 'string' && isShort(key, record.value.length) ? SHORT_STRING_BYTES : RECORD_BYTES
  const expiry = record.expireAtMilliseconds === 0 ? 0 : EXPIRY_BYTES
  return overhead + expiry + key.length + (record.kind === 'string' ? record.value.length : record.elementBytes)
}

/** As `recordBytes` of a short string with a key and a value of those lengths. */
export const shortStringBytes = (keyLength: number, valueLength: number, expireAtMilliseconds: number): number =>
  SHORT_STRING_BYTES + (expireAtMilliseconds === 0 ? 0 : EXPIRY_BYTES) + keyLength + valueLength

/** Whether a string with a value of that length belongs into the table of its collection. */
export const isShort = (key: Key, length: number): boolean => length <= SHORT_BYTES && key.length <= SHORT_BYTES

/** As TYPE tells it. */
export const typeName = (record: KeyRecord): string => record.kind

const BASE = { version: 0, expireAtMilliseconds: 0 }

export const emptyHash = (): HashRecord => ({ kind: 'hash', fields: new Map(), elementBytes: 0, ...BASE })
export const emptySet = (): SetRecord => ({ kind: 'set', members: new Set(), elementBytes: 0, ...BASE })
export const emptyList = (): ListRecord => ({ kind: 'list', items: new Deque(), elementBytes: 0, ...BASE })

/** Number of elements. */
export function sizeOf(record: AggregateRecord): number {
  switch (record.kind) {
    case 'hash':
      return record.fields.size
    case 'set':
      return record.members.size
    case 'list':
      return record.items.length
    default:
      return unreachable(record)
  }
}

/** A record of its own with the same content and expiry. */
export function copyRecord(record: KeyRecord): KeyRecord {
  switch (record.kind) {
    case 'string':
      return { ...record }
    case 'hash':
      return { ...record, fields: new Map(record.fields) }
    case 'set':
      return { ...record, members: new Set(record.members) }
    case 'list':
      return { ...record, items: Deque.from(record.items) }
    default:
      return unreachable(record)
  }
}

const KIND_STRING = 1
const KIND_HASH = 2
const KIND_SET = 3
const KIND_LIST = 4
const KINDS = { string: KIND_STRING, hash: KIND_HASH, set: KIND_SET, list: KIND_LIST } as const

export function writeRecord(writer: ByteWriter, key: string, record: KeyRecord): void {
  writer.uint8(KINDS[record.kind]).bytes(latin1Bytes(key)).uint(record.version).uint(record.expireAtMilliseconds)
  switch (record.kind) {
    case 'string':
      writer.bytes(record.value)
      return
    case 'hash':
      writer.uint(record.fields.size)
      for (const [field, value] of record.fields) writer.bytes(latin1Bytes(field)).bytes(unpack(value))
      return
    case 'set':
      writer.uint(record.members.size)
      for (const member of record.members) writer.bytes(latin1Bytes(member))
      return
    case 'list':
      writer.uint(record.items.length)
      for (const item of record.items) writer.bytes(unpack(item))
      return
    default:
      unreachable(record)
  }
}

/** As `writeRecord` of a string of a table. */
export function writeString(writer: ByteWriter, strings: StringTable, place: number): void {
  writer.uint8(KIND_STRING).bytes(strings.keyBytes(place)).uint(strings.version(place)).uint(strings.expiry(place))
  writer.bytes(strings.valueBytes(place))
}

/** Reads the next record where it is a string, without a copy of its bytes; false, and nothing is read, where not. */
export function readStringInBytes(reader: ByteReader, into: StringInBytes): boolean {
  if (reader.remaining === 0 || reader.buffer[reader.offset] !== KIND_STRING) return false
  reader.offset++
  into.bytes = reader.buffer
  into.keyLength = reader.uint()
  into.key = reader.skip(into.keyLength)
  into.version = reader.uint()
  into.expireAtMilliseconds = reader.uint()
  into.valueLength = reader.uint()
  into.value = reader.skip(into.valueLength)
  return true
}

/** What it gives has memory of its own. */
export function readRecord(reader: ByteReader): { key: string; record: KeyRecord } {
  const kind = reader.uint8()
  const key = latin1(reader.bytes())
  const base = { version: reader.uint(), expireAtMilliseconds: reader.uint() }
  switch (kind) {
    case KIND_STRING:
      return { key, record: { kind: 'string', value: Buffer.from(reader.bytes()), ...base } }
    case KIND_HASH:
      return { key, record: readHash(reader, base) }
    case KIND_SET:
      return { key, record: readSet(reader, base) }
    case KIND_LIST:
      return { key, record: readList(reader, base) }
    default:
      throw new LokiError('FRAME_MALFORMED', `unknown kind of a record ${kind}`)
  }
}

function readHash(reader: ByteReader, base: RecordBase): HashRecord {
  const record = { ...emptyHash(), ...base }
  for (let left = reader.uint(); left > 0; left--) {
    const field = latin1(reader.bytes())
    const value = pack(reader.bytes())
    record.fields.set(field, value)
    record.elementBytes += fieldBytes(field, value)
  }
  return record
}

function readSet(reader: ByteReader, base: RecordBase): SetRecord {
  const record = { ...emptySet(), ...base }
  for (let left = reader.uint(); left > 0; left--) {
    const member = latin1(reader.bytes())
    record.members.add(member)
    record.elementBytes += memberBytes(member)
  }
  return record
}

function readList(reader: ByteReader, base: RecordBase): ListRecord {
  const record = { ...emptyList(), ...base }
  for (let left = reader.uint(); left > 0; left--) {
    const item = pack(reader.bytes())
    record.items.pushBack(item)
    record.elementBytes += itemBytes(item)
  }
  return record
}
