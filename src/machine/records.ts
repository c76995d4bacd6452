/**
 * What a key holds: one record, tagged by its kind, and its encoding in checkpoints. PURE.
 *
 *   record  uint8 kind (1 string), bytes key, uint version, uint expire at (0: never), then by kind:
 *     string   bytes value
 */
import type { ByteReader, ByteWriter } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { type Packed, latin1, latin1Bytes, pack, unpack } from './packed.ts'

interface RecordBase {
  /** Number of the command that last changed the key: what WATCH and conditional writes compare. */
  version: number
  /** Milliseconds since 1970; 0: never. */
  expireAtMilliseconds: number
}

export interface StringRecord extends RecordBase {
  readonly kind: 'string'
  value: Packed
}

export type KeyRecord = StringRecord

/** What a key costs beyond its own bytes and those of its value: record, map slot, headers. Measured. */
const RECORD_BYTES = 136

/** Bytes that a record is taken to occupy: part of the replicated state, so a function of the content alone. */
export function recordBytes(key: string, record: KeyRecord): number {
  return RECORD_BYTES + key.length + record.value.length
}

const KIND_STRING = 1

export function writeRecord(writer: ByteWriter, key: string, record: KeyRecord): void {
  writer.uint8(KIND_STRING).bytes(latin1Bytes(key)).uint(record.version).uint(record.expireAtMilliseconds)
  writer.bytes(unpack(record.value))
}

/** What it gives has memory of its own. */
export function readRecord(reader: ByteReader): { key: string; record: KeyRecord } {
  const kind = reader.uint8()
  const key = latin1(reader.bytes())
  const version = reader.uint()
  const expireAtMilliseconds = reader.uint()
  if (kind !== KIND_STRING) throw new LokiError('FRAME_MALFORMED', `unknown kind of a record ${kind}`)
  return { key, record: { kind: 'string', value: pack(reader.bytes()), version, expireAtMilliseconds } }
}

/** As TYPE tells it. */
export function typeName(record: KeyRecord): string {
  return record.kind
}

/** A record of its own with the same content and expiry. */
export function copyRecord(record: KeyRecord): KeyRecord {
  return { ...record }
}
