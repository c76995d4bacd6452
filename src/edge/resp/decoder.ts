/**
 * Bytes of a Redis client -> commands, as they come in. Guarantees: the same commands whatever pieces the bytes
 * arrive in; arguments are views into a copy of what was received where they lie in one piece; nothing is parsed twice
 * but a line that was not whole.
 *
 *   command   "*" count CRLF, then count times: "$" length CRLF, that many bytes, CRLF
 *   inline    words separated by spaces, "…" with escapes and '…' for words with spaces, LF or CRLF
 *
 * Texts of errors are Redis's. After an error nothing more is decoded: the bytes that follow mean nothing.
 */
import type { Arguments } from '../../machine/reply.ts'
import { Incoming } from './incoming.ts'
import { ProtocolError, splitInline } from './inline.ts'

export interface DecoderLimits {
  /** Longest argument. */
  readonly maxValueBytes: number
  /** Longest command, all arguments together. */
  readonly maxCommandBytes: number
}

/** Longest inline command or length line, as in Redis. */
export const MAX_LINE_BYTES = 65_536
/** Most arguments of a command, as in Redis. */
export const MAX_ARGUMENTS = 1_048_576
/**
 * An argument longer than this that has not come whole gets a buffer of its own at once, and a command of which more is
 * here counts among all that come in.
 */
const LARGE_BYTES = 65_536

/** About what an argument takes beside its bytes. */
export const AROUND_BYTES = 128

/** Of most lengths; they are read without looking for the end of the line first. */
const SHORT_DIGITS = 7

const CR = 0x0d
const LF = 0x0a
const STAR = 0x2a
const DOLLAR = 0x24
const MINUS = 0x2d

/** More than any command has. */
const LONGEST_NAME_BYTES = 64
const EMPTY = Buffer.alloc(0)
const ANY = { mostBytes: Infinity, stallMilliseconds: Infinity }

export class RespDecoder {
  readonly #limits: DecoderLimits
  #buffer: Buffer = EMPTY
  #offset = 0
  /** Where the search for the end of the line at `#offset` goes on. */
  #searched = 0
  /** Arguments of the command that is coming in; how many are left (0: between commands). */
  #args: Uint8Array[] = []
  #left = 0
  #commandBytes = 0
  /** Length of the argument that is coming in, -1: its length line has not been read. */
  #bulkLength = -1
  /** A large argument that is coming in, and how much of it (with its CRLF) is there. */
  #large: Buffer | null = null
  #largeFilled = 0
  readonly #incoming: Incoming
  /** What of the command that is coming in counts there. */
  #held = 0
  /** It is too much: it is skipped; how much of the present argument was. */
  #skips = false
  #skipped = 0
  /** Of the command that was skipped last, as far as it was known then. */
  skippedName: Uint8Array = EMPTY

  constructor(limits: DecoderLimits, incoming = new Incoming(ANY)) {
    this.#limits = limits
    this.#incoming = incoming
  }

  get heldBytes(): number {
    return this.#held
  }

  /** Nothing more comes. */
  end(): void {
    this.#hold(0)
  }

  /** Whether everything that came in was part of a command that `next` gave. */
  get isEmpty(): boolean {
    return this.#offset >= this.#buffer.length && this.#left === 0
  }

  /** Takes a copy of the bytes. */
  push(chunk: Buffer): void {
    let rest = chunk
    if (this.#large !== null) {
      const count = Math.min(rest.length, this.#large.length - this.#largeFilled)
      rest.copy(this.#large, this.#largeFilled, 0, count)
      this.#largeFilled += count
      rest = rest.subarray(count)
    }
    if (rest.length === 0) return
    if (this.#offset >= this.#buffer.length) {
      this.#buffer = Buffer.from(rest)
      this.#searched = 0
    } else {
      const kept = this.#buffer.length - this.#offset
      this.#searched = Math.max(0, this.#searched - this.#offset)
      this.#buffer = Buffer.concat([this.#buffer.subarray(this.#offset), rest], kept + rest.length)
    }
    this.#offset = 0
  }

  /**
   * The next whole command, never an empty one; `skipped`: one was too much beside all others that come in; null: more
   * bytes are needed. Throws `ProtocolError`.
   */
  next(): Arguments | 'skipped' | null {
    for (;;) {
      if (this.#left > 0) return this.#readArguments()
      if (this.#offset >= this.#buffer.length) {
        // A connection that falls silent keeps nothing of what came last.
        this.#buffer = EMPTY
        this.#offset = 0
        return null
      }
      if (this.#buffer[this.#offset] !== STAR) {
        const words = this.#readInline()
        if (words === null || words.length > 0) return words
        continue
      }
      const count = this.#readLength('too big mbulk count string', 'invalid multibulk length')
      if (count === null) return null
      if (count > MAX_ARGUMENTS) throw new ProtocolError('invalid multibulk length')
      if (count <= 0) continue
      this.#left = count
      this.#args = []
      this.#commandBytes = 0
    }
  }

  #readArguments(): Arguments | 'skipped' | null {
    while (this.#left > 0) {
      if (this.#bulkLength < 0 && !this.#readBulkLength()) return this.#wait()
      const bulk = this.#skips ? this.#skipBulk() : this.#readBulk()
      if (bulk === null) return this.#wait()
      if (!this.#skips) this.#args.push(bulk)
      this.#bulkLength = -1
      this.#left--
    }
    this.#hold(0)
    const args = this.#args
    this.#args = []
    if (!this.#skips) return args
    this.#skips = false
    return 'skipped'
  }

  /** More bytes are needed for the command that is coming in. */
  #wait(): null {
    if (this.#skips) return null
    const whole = this.#commandBytes - Math.max(this.#bulkLength, 0) + AROUND_BYTES * this.#args.length
    const here = whole + (this.#large === null ? 0 : this.#largeFilled)
    this.#hold(here > LARGE_BYTES ? here : 0)
    if (this.#held > 0 && this.#incoming.isTight) this.#skip()
    return null
  }

  #hold(bytes: number): void {
    if (bytes === this.#held) return
    this.#incoming.heldBytes += bytes - this.#held
    this.#held = bytes
  }

  #skip(): void {
    this.#skips = true
    this.#skipped = this.#large === null ? 0 : this.#largeFilled
    this.#large = null
    // With memory of its own: what it lies in is long.
    this.skippedName = Uint8Array.from(this.#args[0]?.subarray(0, LONGEST_NAME_BYTES) ?? EMPTY)
    this.#args = []
    this.#hold(0)
    this.#incoming.skipped()
  }

  /** Null: the present argument goes on. */
  #skipBulk(): Uint8Array | null {
    const count = Math.min(this.#buffer.length - this.#offset, this.#bulkLength + 2 - this.#skipped)
    this.#offset += count
    this.#skipped += count
    if (this.#skipped < this.#bulkLength + 2) return null
    this.#skipped = 0
    return EMPTY
  }

  #readBulkLength(): boolean {
    if (this.#offset >= this.#buffer.length) return false
    const mark = this.#buffer[this.#offset]!
    if (mark !== DOLLAR) throw new ProtocolError(`expected '$', got '${shown(mark)}'`)
    const length = this.#readLength('too big bulk count string', 'invalid bulk length')
    if (length === null) return false
    if (length < 0 || length > this.#limits.maxValueBytes) throw new ProtocolError('invalid bulk length')
    this.#commandBytes += length
    if (this.#commandBytes > this.#limits.maxCommandBytes) throw new ProtocolError('too big request')
    this.#bulkLength = length
    return true
  }

  /** The bytes of the present argument, its CRLF consumed. */
  #readBulk(): Uint8Array | null {
    const length = this.#bulkLength
    if (this.#large !== null) {
      if (this.#largeFilled < this.#large.length) return null
      const whole = this.#large.subarray(0, length)
      this.#large = null
      return whole
    }
    const start = this.#offset
    const available = this.#buffer.length - start
    if (available >= length + 2) {
      this.#offset = start + length + 2
      return this.#buffer.subarray(start, start + length)
    }
    if (length > LARGE_BYTES) {
      this.#large = Buffer.allocUnsafeSlow(length + 2)
      this.#largeFilled = this.#buffer.copy(this.#large, 0, start)
      this.#offset = this.#buffer.length
    }
    return null
  }

  /** The number on the line whose first byte is its mark; null: the line is not whole. */
  #readLength(tooLong: string, invalid: string): number | null {
    const short = this.#readShortLength()
    return short < 0 ? this.#readAnyLength(tooLong, invalid) : short
  }

  /** Nearly every such line: a few digits, CR and LF, all of them here. -1: it is another. */
  #readShortLength(): number {
    const buffer = this.#buffer
    const first = this.#offset + 1
    const end = Math.min(first + SHORT_DIGITS, buffer.length - 2)
    let at = first
    let value = 0
    for (; at < end; at++) {
      const digit = buffer[at]! - 0x30
      if (digit < 0 || digit > 9) break
      value = value * 10 + digit
    }
    if (at === first || buffer[at] !== CR || buffer[at + 1] !== LF) return -1
    this.#offset = at + 2
    return value
  }

  #readAnyLength(tooLong: string, invalid: string): number | null {
    const end = this.#lineEnd(tooLong)
    if (end < 0) return null
    const buffer = this.#buffer
    const stop = buffer[end - 1] === CR ? end - 1 : end
    let at = this.#offset + 1
    const negative = buffer[at] === MINUS
    if (negative) at++
    if (at >= stop || stop - at > 10) throw new ProtocolError(invalid)
    let value = 0
    for (; at < stop; at++) {
      const digit = buffer[at]! - 0x30
      if (digit < 0 || digit > 9) throw new ProtocolError(invalid)
      value = value * 10 + digit
    }
    this.#offset = end + 1
    return negative ? -value : value
  }

  /** Position of the LF that ends the line at `#offset`, or -1. */
  #lineEnd(tooLong: string): number {
    const end = this.#buffer.indexOf(LF, Math.max(this.#offset, this.#searched))
    const length = (end < 0 ? this.#buffer.length : end) - this.#offset
    if (length > MAX_LINE_BYTES) throw new ProtocolError(tooLong)
    if (end < 0) this.#searched = this.#buffer.length
    return end
  }

  #readInline(): Arguments | null {
    const end = this.#lineEnd('too big inline request')
    if (end < 0) return null
    const stop = end > this.#offset && this.#buffer[end - 1] === CR ? end - 1 : end
    const line = this.#buffer.toString('latin1', this.#offset, stop)
    this.#offset = end + 1
    return splitInline(line)
  }
}

const shown = (byte: number): string => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '?')
