/**
 * Reads a log and checkpoints as docs/FORMAT.md says, and knows nothing else: no line of src/ is used here, so that the page and
 * the program cannot be wrong together.
 */
import { createDecipheriv, hkdfSync } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { crc32, zstdDecompressSync } from 'node:zlib'

export interface ReadLog {
  readonly volume: string
  readonly cluster: string
  readonly node: number
  readonly first: number
  readonly decided: number
  readonly promise: readonly number[]
  readonly accepted: readonly number[]
  readonly configuration: number | null
  /** Index to payload as text. */
  readonly entries: Map<number, string>
}

/** Keys by id. */
export type Keys = Readonly<Record<string, Buffer>>

class Cursor {
  readonly bytes: Buffer
  at: number
  constructor(bytes: Buffer, at = 0) {
    this.bytes = bytes
    this.at = at
  }
  byte(): number {
    return this.bytes.readUInt8(this.at++)
  }
  u32(): number {
    this.at += 4
    return this.bytes.readUInt32LE(this.at - 4)
  }
  uint(): number {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.byte()
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return Number(value)
    }
  }
  text(): string {
    const length = this.uint()
    this.at += length
    return this.bytes.toString('utf8', this.at - length, this.at)
  }
  raw(length: number): Buffer {
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }
  ballot(): number[] {
    return [this.uint(), this.uint(), this.uint(), this.uint()]
  }
  configuration(): number {
    let id = this.uint()
    if (id === 0) {
      this.uint()
      this.uint()
      id = this.uint()
    }
    this.uint()
    for (let group = 0; group < 2; group++) {
      for (let count = this.uint(); count > 0; count--) {
        this.uint()
        this.text()
        this.text()
      }
    }
    return id
  }
}

const withoutCrc = (bytes: Buffer, at: number): number => {
  const copy = Buffer.from(bytes)
  copy.writeUInt32LE(0, at)
  return crc32(copy)
}

interface State {
  promise: number[]
  accepted: number[]
  decided: number
  configuration: number | null
}

function readState(cursor: Cursor): State {
  const promise = cursor.ballot()
  const accepted = cursor.ballot()
  const decided = cursor.uint()
  cursor.uint()
  return { promise, accepted, decided, configuration: cursor.byte() === 1 ? cursor.configuration() : null }
}

type Open = (number: number, sealed: Buffer, authenticated: Buffer) => Buffer

/** A *key need*, and what opens the sealed pieces of its file. */
function readNeed(cursor: Cursor, keys: Keys, purpose: string): Open {
  const id = cursor.text()
  const salt = cursor.raw(16)
  const check = cursor.raw(8)
  const derived = Buffer.from(hkdfSync('sha256', keys[id]!, salt, purpose, 40))
  if (!derived.subarray(32).equals(check)) throw new Error('wrong key')
  return (number, sealed, authenticated) => {
    const nonce = Buffer.alloc(12)
    nonce.writeBigUInt64LE(BigInt(number))
    const decipher = createDecipheriv('aes-256-gcm', derived.subarray(0, 32), nonce)
    decipher.setAAD(authenticated)
    decipher.setAuthTag(sealed.subarray(-16))
    return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()])
  }
}

function readHeader(bytes: Buffer, keys: Keys) {
  const version = bytes.readUInt32LE(8)
  const flags = bytes.readUInt32LE(20)
  if (bytes.toString('latin1', 0, 8) !== 'LOKIWAL\n' || version > 2 || flags > 15) throw new Error('no segment')
  if ((version === 2) !== flags > 1) throw new Error('the version does not go with the flags')
  const size = bytes.readUInt32LE(12)
  const seed = bytes.readUInt32LE(16)
  if (withoutCrc(bytes.subarray(0, size), 16) !== seed) throw new Error('bad header')
  const cursor = new Cursor(bytes, 24)
  const volume = cursor.text()
  const cluster = cursor.text()
  const [timeline, base, first] = [cursor.uint(), cursor.uint(), cursor.uint()]
  cursor.uint()
  const link = { timeline: cursor.uint(), base: cursor.uint(), end: cursor.uint(), check: cursor.u32() }
  const state = readState(cursor)
  const open = (flags & 4) === 0 ? null : readNeed(cursor, keys, 'lokikv segment')
  return { bytes, size, seed, volume, cluster, timeline, base, first, link, state, open, flags }
}

export interface ReadIndex {
  readonly end: number
  readonly check: number
  readonly marks: readonly { readonly first: number; readonly offset: number; readonly previous: number }[]
}

/** The index at the end of a segment, or null. */
export function readIndexOf(bytes: Buffer): ReadIndex | null {
  const size = bytes.readUInt32LE(bytes.length - 4)
  if (size === 0) return null
  const index = Buffer.from(bytes.subarray(bytes.length - size))
  const crc = index.readUInt32LE(12)
  index.writeUInt32LE(0, 12)
  if (index.toString('latin1', 0, 8) !== 'LOKIINDX' || index.readUInt32LE(8) !== 1) throw new Error('no index')
  if (crc32(index, bytes.readUInt32LE(16)) !== crc || size % 512 !== 0) throw new Error('bad index')
  const cursor = new Cursor(index, 16)
  const [end, check, count] = [cursor.uint(), cursor.u32(), cursor.uint()]
  const mark = () => ({ first: cursor.uint(), offset: cursor.uint(), previous: cursor.u32() })
  return { end, check, marks: Array.from({ length: count }, mark) }
}

/** The payload as it was given to the log. */
function plainPayload(segment: ReturnType<typeof readHeader>, at: number, stored: Buffer): Buffer {
  let payload = stored
  if (segment.open !== null) {
    const header = Buffer.from(segment.bytes.subarray(at, at + 24))
    header.writeUInt32LE(0, 8)
    payload = segment.open(at, payload, header)
  }
  if (segment.bytes.readUInt32LE(at + 4) < 0x100) return payload
  if ((segment.flags & 2) === 0) throw new Error('compressed in a segment that has no such frames')
  const cursor = new Cursor(payload)
  const size = cursor.uint()
  const plain = zstdDecompressSync(cursor.raw(cursor.uint()))
  if (plain.length !== size) throw new Error('not as long as it says')
  return plain
}

const larger = (a: number[], b: number[]): number[] => {
  for (let at = 0; at < 4; at++) if (a[at] !== b[at]) return a[at]! > b[at]! ? a : b
  return a
}

class Log {
  entries = new Map<number, string>()
  state: State = { promise: [0, 0, 0, 0], accepted: [0, 0, 0, 0], decided: 0, configuration: null }
  first = 1

  forgetFrom(base: number): void {
    for (const index of Array.from(this.entries.keys())) if (index >= base) this.entries.delete(index)
  }

  readEntries(cursor: Cursor): void {
    for (let count = cursor.uint(); count > 0; count--) {
      const kind = cursor.byte()
      const index = cursor.uint()
      this.entries.set(index, kind === 1 ? cursor.text() : `configuration ${cursor.configuration()}`)
    }
  }

  records(payload: Buffer): void {
    const cursor = new Cursor(payload)
    while (cursor.at < payload.length) {
      const kind = cursor.byte()
      if (kind === 0) return
      if (kind === 1) this.readEntries(cursor)
      else if (kind === 2) this.state.promise = larger(this.state.promise, cursor.ballot())
      else if (kind === 3) {
        this.state.accepted = cursor.ballot()
        this.state.promise = larger(this.state.promise, this.state.accepted)
        this.forgetFrom(cursor.uint())
        this.readEntries(cursor)
      } else if (kind === 4) this.state.decided = Math.max(this.state.decided, cursor.uint())
      else if (kind === 5) {
        cursor.uint()
        this.state.configuration = cursor.configuration()
      } else if (kind === 6) {
        const index = cursor.uint()
        cursor.uint()
        this.state.configuration = cursor.configuration()
        this.forgetFrom(0)
        this.first = index + 1
        this.state.decided = Math.max(this.state.decided, index)
      } else if (kind !== 7) throw new Error(`record ${kind}`)
    }
  }
}

function readFrames(segment: ReturnType<typeof readHeader>, end: number | null, log: Log): void {
  const { bytes, seed, size } = segment
  let [at, previous] = [size, seed]
  while (end === null ? at + 32 <= bytes.length : at < end) {
    const place = Buffer.alloc(8)
    place.writeBigUInt64LE(BigInt(at))
    const frameSeed = crc32(place, seed)
    const length = bytes.readUInt32LE(at)
    const check = bytes.readUInt32LE(at + 28)
    const whole = length > 0 && crc32(bytes.subarray(at, at + 28), frameSeed) === check
    if (!whole || bytes.readUInt32LE(at + 12) !== previous) return
    const padded = Math.ceil(length / 32) * 32
    const payload = Buffer.from(bytes.subarray(at + 32, at + 32 + padded))
    if (crc32(payload, frameSeed) !== bytes.readUInt32LE(at + 24)) return
    const mask = bytes.readUInt32LE(at + 8)
    for (let word = 0; word < padded; word += 4) {
      payload.writeUInt32LE((payload.readUInt32LE(word) ^ mask) >>> 0, word)
    }
    const plain = plainPayload(segment, at, payload.subarray(0, length))
    if ((bytes.readUInt32LE(at + 4) & 0xff) === 1) log.records(plain)
    else log.state = readState(new Cursor(plain))
    previous = check
    at += 32 + padded
  }
}

export interface ReadCheckpoint {
  readonly index: number
  readonly hash: string
  readonly slices: Buffer[]
  readonly sealed: boolean
}

/** Reads the checkpoint in `folder`. */
export function readCheckpoint(folder: string, keys: Keys = {}): ReadCheckpoint {
  let manifest: Buffer = readFileSync(`${folder}/manifest`)
  const data = readFileSync(`${folder}/data`)
  const start = (version: number): Cursor => {
    if (manifest.toString('latin1', 0, 8) !== 'LOKICKPT' || manifest.readUInt32LE(8) !== version)
      throw new Error('none')
    if (withoutCrc(manifest, 12) !== manifest.readUInt32LE(12)) throw new Error('bad manifest')
    return new Cursor(manifest, 16)
  }
  const chunksOf = (cursor: Cursor) =>
    Array.from({ length: cursor.uint() }, () => ({ bytes: cursor.uint(), crc: cursor.u32() }))
  let open: Open | null = null
  let stored: ReturnType<typeof chunksOf> | null = null
  if (manifest.readUInt32LE(8) === 2) {
    const cursor = start(2)
    open = readNeed(cursor, keys, 'lokikv checkpoint')
    stored = chunksOf(cursor)
    manifest = open(Number.MAX_SAFE_INTEGER, cursor.raw(cursor.uint()), Buffer.alloc(0))
  }
  const cursor = start(1)
  cursor.text()
  const index = cursor.uint()
  cursor.uint()
  cursor.configuration()
  const [hash, count, total] = [cursor.text(), cursor.uint(), cursor.uint()]
  const chunks = chunksOf(cursor)
  const slices: Buffer[] = []
  const unpacked: Buffer[] = []
  let at = 0
  for (const [number, { bytes, crc }] of (stored ?? chunks).entries()) {
    const piece = data.subarray(at, at + bytes)
    if (crc32(piece) !== crc) throw new Error('bad chunk')
    const packed = open === null ? piece : open(number, piece, Buffer.alloc(0))
    if (crc32(packed) !== chunks[number]!.crc || packed.length !== chunks[number]!.bytes) throw new Error('other chunk')
    unpacked.push(zstdDecompressSync(packed))
    at += bytes
  }
  const inside = new Cursor(Buffer.concat(unpacked))
  while (inside.at < inside.bytes.length) slices.push(inside.raw(inside.u32()))
  const bytes = slices.reduce((sum, slice) => sum + slice.length, 0)
  if (slices.length !== count || bytes !== total || at !== data.length) throw new Error('another count')
  return { index, hash, slices, sealed: open !== null }
}

/** Reads the WAL volume in `folder`. */
export function readLog(folder: string, keys: Keys = {}): ReadLog {
  const meta = readFileSync(`${folder}/meta`)
  const slots = [meta.subarray(0, 4096), meta.subarray(4096)]
    .filter((slot) => slot.readUInt32LE(12) === withoutCrc(slot, 12))
    .map((slot) => {
      const cursor = new Cursor(slot, 16)
      const sequence = cursor.uint()
      const volume = cursor.text()
      return { sequence, volume, cluster: cursor.text(), node: cursor.uint(), first: cursor.uint() }
    })
    .sort((a, b) => b.sequence - a.sequence)
  const { volume, cluster, node, first } = slots[0]!
  const segments = readdirSync(folder)
    .filter((name) => name.endsWith('.wal'))
    .map((name) => readHeader(readFileSync(`${folder}/${name}`), keys))
    .sort((a, b) => b.timeline - a.timeline || b.base - a.base)
  const chain: typeof segments = []
  for (const segment of segments) {
    const link = chain[0]?.link
    if (!link || (link.timeline === segment.timeline && link.base === segment.base)) chain.unshift(segment)
  }
  const log = new Log()
  log.first = first
  for (const [at, segment] of chain.entries()) {
    log.forgetFrom(segment.base)
    log.first = Math.max(log.first, segment.first)
    log.state = { ...segment.state, decided: Math.max(segment.state.decided, log.state.decided) }
    readFrames(segment, chain[at + 1]?.link.end ?? null, log)
  }
  for (const index of Array.from(log.entries.keys())) if (index < log.first) log.entries.delete(index)
  return { volume, cluster, node, ...log.state, first: log.first, entries: log.entries }
}
