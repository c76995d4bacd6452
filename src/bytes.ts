/**
 * Bytes of the vocabulary: one writer and one reader that log, peer frames and entry payloads share, and
 * the encodings of ballot, member, configuration and entry. PURE.
 *
 *   uint      LEB128, 1 to 8 bytes, values 0 to 2^53 - 1
 *   bytes     uint length, then that many bytes
 *   string    bytes, UTF-8
 *   ballot    uint configuration, uint n, uint priority, uint node
 *   member    uint id, string volume, string address
 *   configuration  uint id, uint preferred leader, uint voters, member…, uint learners, member…
 *   entry     uint8 kind (1 commands, 2 stop-sign), uint index, then bytes payload or configuration
 *
 * The writer grows; the reader throws `LokiError('FRAME_MALFORMED')` at the first byte that is not there or
 * does not fit. Readers give views into the buffer they read: copy what must outlive it.
 */
import { LokiError } from './errors.ts'
import {
  type Ballot,
  type Configuration,
  type Entry,
  type Member,
  configurationId,
  logIndex,
  nodeId,
  optionsOf,
  volumeId,
} from './vocabulary.ts'

export class ByteWriter {
  #buffer: Buffer
  length = 0

  constructor(capacity = 1024) {
    // A small one comes from Node's pool: memory of its own costs a microsecond, and more when it is given back.
    this.#buffer = Buffer.allocUnsafe(capacity)
  }

  /** Makes room for `more` bytes. */
  reserve(more: number): void {
    const needed = this.length + more
    if (needed <= this.#buffer.length) return
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2))
    this.#buffer.copy(grown, 0, 0, this.length)
    this.#buffer = grown
  }

  uint8(value: number): this {
    this.reserve(1)
    this.#buffer[this.length++] = value
    return this
  }

  uint32(value: number): this {
    this.reserve(4)
    this.length = this.#buffer.writeUInt32LE(value, this.length)
    return this
  }

  double(value: number): this {
    this.reserve(8)
    this.length = this.#buffer.writeDoubleLE(value, this.length)
    return this
  }

  uint(value: number): this {
    this.reserve(8)
    const buffer = this.#buffer
    let rest = value
    while (rest >= 0x80) {
      buffer[this.length++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    buffer[this.length++] = rest
    return this
  }

  /** The bytes as they are, without a length. */
  raw(bytes: Uint8Array): this {
    this.reserve(bytes.length)
    this.#buffer.set(bytes, this.length)
    this.length += bytes.length
    return this
  }

  bytes(bytes: Uint8Array): this {
    return this.uint(bytes.length).raw(bytes)
  }

  string(text: string): this {
    if (text === '') return this.uint8(0)
    const size = Buffer.byteLength(text)
    this.uint(size)
    this.reserve(size)
    this.length += this.#buffer.write(text, this.length)
    return this
  }

  boolean(value: boolean): this {
    return this.uint8(value ? 1 : 0)
  }

  /** Overwrites four bytes that were written before, at `offset`. */
  patchUint32(offset: number, value: number): void {
    this.#buffer.writeUInt32LE(value, offset)
  }

  /** A view of what was written; valid until the next write or `reset`. */
  view(): Buffer {
    return this.#buffer.subarray(0, this.length)
  }

  /** A view of what was written from `offset` on; valid until `reset`. */
  since(offset: number): Buffer {
    return this.#buffer.subarray(offset, this.length)
  }

  /** A copy of what was written, with memory of its own. */
  finish(): Buffer {
    const copy = Buffer.allocUnsafeSlow(this.length)
    this.#buffer.copy(copy, 0, 0, this.length)
    return copy
  }

  reset(): void {
    this.length = 0
  }
}

const SHARED_BYTES = 65_536

/**
 * Memory for pieces that are kept for a while, written one behind the other: memory of its own for each is slow to make,
 * and in Node's pool a piece of a few bytes would keep all that was beside it. Each keeps the whole; long ones, which
 * would waste the rest of it, do not share.
 */
export class SharedMemory {
  #writer = new ByteWriter(SHARED_BYTES)

  /** Where the next piece goes. One that is larger than said is right, but is copied, and keeps twice as much. */
  writerFor(mostBytes: number): ByteWriter {
    if (mostBytes > SHARED_BYTES / 2) return new ByteWriter(mostBytes)
    if (this.#writer.length + mostBytes > SHARED_BYTES) this.#writer = new ByteWriter(SHARED_BYTES)
    return this.#writer
  }
}

export class ByteReader {
  readonly buffer: Buffer
  offset: number
  readonly end: number

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.offset = offset
    this.end = end
  }

  get remaining(): number {
    return this.end - this.offset
  }

  #need(count: number): void {
    if (count > this.end - this.offset) {
      throw new LokiError('FRAME_MALFORMED', `${count} bytes wanted at offset ${this.offset}, ${this.remaining} left`)
    }
  }

  /** Passes over so many bytes; the offset at which they begin. */
  skip(count: number): number {
    this.#need(count)
    const begin = this.offset
    this.offset += count
    return begin
  }

  uint8(): number {
    if (this.offset >= this.end) this.#need(1)
    return this.buffer[this.offset++]!
  }

  uint32(): number {
    this.#need(4)
    const value = this.buffer.readUInt32LE(this.offset)
    this.offset += 4
    return value
  }

  double(): number {
    this.#need(8)
    const value = this.buffer.readDoubleLE(this.offset)
    this.offset += 8
    return value
  }

  uint(): number {
    // Most are small: lengths, counts, kinds.
    const first = this.offset < this.end ? this.buffer[this.offset]! : 0x80
    if (first < 0x80) {
      this.offset++
      return first
    }
    let value = 0
    let scale = 1
    for (let count = 0; count < 8; count++) {
      const byte = this.uint8()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (value > Number.MAX_SAFE_INTEGER) break
        return value
      }
      scale *= 0x80
    }
    throw new LokiError('FRAME_MALFORMED', `integer too large at offset ${this.offset}`)
  }

  raw(length: number): Buffer {
    this.#need(length)
    const view = this.buffer.subarray(this.offset, this.offset + length)
    this.offset += length
    return view
  }

  bytes(): Buffer {
    return this.raw(this.uint())
  }

  string(): string {
    const length = this.uint()
    return length === 0 ? '' : this.raw(length).toString('utf8')
  }

  boolean(): boolean {
    const value = this.uint8()
    if (value > 1) throw new LokiError('FRAME_MALFORMED', `${value} is no boolean, at offset ${this.offset - 1}`)
    return value === 1
  }
}

export function writeBallot(writer: ByteWriter, ballot: Ballot): void {
  writer.uint(ballot.configuration).uint(ballot.n).uint(ballot.priority).uint(ballot.node)
}

export function readBallot(reader: ByteReader): Ballot {
  return {
    configuration: configurationId(reader.uint()),
    n: reader.uint(),
    priority: reader.uint(),
    node: nodeId(reader.uint()),
  }
}

function writeMembers(writer: ByteWriter, members: readonly Member[]): void {
  writer.uint(members.length)
  for (const member of members) writer.uint(member.id).string(member.volume).string(member.address)
}

function readMembers(reader: ByteReader): Member[] {
  const members: Member[] = []
  for (let left = reader.uint(); left > 0; left--) {
    members.push({ id: nodeId(reader.uint()), volume: volumeId(reader.string()), address: reader.string() })
  }
  return members
}

/** In the place of the id, which is never 0: what a configuration without options does not have comes first. */
const WITH_OPTIONS = 0

export function writeConfiguration(writer: ByteWriter, configuration: Configuration): void {
  const { acceptQuorum = 0, leaseMilliseconds = 0 } = configuration
  if (acceptQuorum > 0 || leaseMilliseconds > 0) writer.uint(WITH_OPTIONS).uint(acceptQuorum).uint(leaseMilliseconds)
  writer.uint(configuration.id).uint(configuration.preferredLeader)
  writeMembers(writer, configuration.voters)
  writeMembers(writer, configuration.learners)
}

export function readConfiguration(reader: ByteReader): Configuration {
  const first = reader.uint()
  if (first !== WITH_OPTIONS) return readMembership(reader, first)
  const acceptQuorum = reader.uint()
  const leaseMilliseconds = reader.uint()
  const membership = readMembership(reader, reader.uint())
  const most = Math.floor(membership.voters.length / 2) + 1
  if (acceptQuorum > most) {
    throw new LokiError('FRAME_MALFORMED', `an accept quorum of ${acceptQuorum}, where ${most} are a majority`)
  }
  return { ...membership, ...optionsOf({ acceptQuorum, leaseMilliseconds }) }
}

function readMembership(reader: ByteReader, id: number): Configuration {
  const preferredLeader = nodeId(reader.uint())
  const voters = readMembers(reader)
  return { id: configurationId(id), preferredLeader, voters, learners: readMembers(reader) }
}

const ENTRY_COMMANDS = 1
const ENTRY_STOP_SIGN = 2

export function writeEntry(writer: ByteWriter, entry: Entry): void {
  if (entry.kind === 'commands') {
    writer.uint8(ENTRY_COMMANDS).uint(entry.index).bytes(entry.payload)
  } else {
    writer.uint8(ENTRY_STOP_SIGN).uint(entry.index)
    writeConfiguration(writer, entry.next)
  }
}

/** The payload of a `commands` entry is a view into the reader's buffer. */
export function readEntry(reader: ByteReader): Entry {
  const kind = reader.uint8()
  const index = logIndex(reader.uint())
  if (kind === ENTRY_COMMANDS) return { kind: 'commands', index, payload: reader.bytes() }
  if (kind === ENTRY_STOP_SIGN) return { kind: 'stop-sign', index, next: readConfiguration(reader) }
  throw new LokiError('FRAME_MALFORMED', `unknown kind of entry ${kind}`)
}
