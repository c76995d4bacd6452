/**
 * Replies -> bytes of RESP2 or RESP3.
 *
 *             RESP2                         RESP3
 *   null      "$-1" CRLF                    "_" CRLF
 *   null array "*-1" CRLF                   "_" CRLF
 *   integer   ":" digits CRLF               same (a bigint too: it fits 64 bits)
 *   status    "+" text CRLF                 same
 *   bulk      "$" length CRLF bytes CRLF    same
 *   array     "*" count CRLF items          same
 *   error     "-" prefix " " message CRLF   same
 *   map       an array of keys and values   "%" pairs CRLF keys and values
 *   set       an array                      "~" count CRLF items
 *   double    a bulk string                 "," text CRLF
 *   boolean   ":1" or ":0"                  "#t" or "#f" CRLF
 *   text      a bulk string                 "=" length+4 CRLF "txt:" bytes CRLF
 *
 * Long bulk strings are not copied: `take` gives the pieces in order.
 */
import { unreachable } from '../../invariant.ts'
import type { Reply, TaggedReply } from '../../machine/reply.ts'

export type Protocol = 2 | 3

/** A bulk string at least this long becomes a piece of its own. */
const LARGE_BYTES = 16_384
/** Replies share memory of this size; small, because a slow client may keep all of it. */
const CHUNK_BYTES = 16_384

const OK_BYTES = Buffer.from('+OK\r\n')
const LINE_END = Buffer.from('\r\n')
const NULL_BYTES = Buffer.from('_\r\n')
const NULL_BULK_BYTES = Buffer.from('$-1\r\n')
const DOLLAR = 0x24
const COLON = 0x3a
/** Bytes up to so many are copied here: a call of the system's own copy is dearer. */
const SHORT_BYTES = 16

export class RespEncoder {
  /** Filled once, piece behind piece: sockets may still hold what lies before `#start`. */
  #buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  /** Where the piece that is being written starts. */
  #start = 0
  #length = 0
  #pieces: Uint8Array[] = []

  /** What was encoded since the last call, in pieces that stay as they are. */
  take(): Uint8Array[] {
    this.#cut()
    const pieces = this.#pieces
    this.#pieces = []
    return pieces
  }

  reply(reply: Reply, protocol: Protocol): void {
    if (reply === 'OK') this.#raw(OK_BYTES)
    else if (reply === null) this.#raw(protocol === 3 ? NULL_BYTES : NULL_BULK_BYTES)
    else if (typeof reply === 'string') this.#ascii(`+${oneLine(reply)}\r\n`)
    else if (typeof reply === 'number' && reply >= 0 && Number.isSafeInteger(reply)) this.#head(COLON, reply)
    else if (typeof reply === 'number' || typeof reply === 'bigint') this.#ascii(`:${reply}\r\n`)
    else if (reply instanceof Uint8Array) this.#bulk(reply)
    else if (Array.isArray(reply)) this.#items('*', reply as readonly Reply[], protocol)
    else this.#tagged(reply as TaggedReply, protocol)
  }

  #tagged(reply: TaggedReply, protocol: Protocol): void {
    switch (reply.kind) {
      case 'error':
        this.#text(`-${reply.prefix} ${oneLine(reply.message)}\r\n`)
        return
      case 'map':
        this.#ascii(protocol === 3 ? `%${reply.pairs.length}\r\n` : `*${2 * reply.pairs.length}\r\n`)
        for (const [key, value] of reply.pairs) {
          this.reply(key, protocol)
          this.reply(value, protocol)
        }
        return
      case 'double':
        if (protocol === 3) this.#ascii(`,${doubleText(reply.value)}\r\n`)
        else this.#bulk(Buffer.from(doubleText(reply.value)))
        return
      case 'boolean':
        if (protocol === 3) this.#ascii(reply.value ? '#t\r\n' : '#f\r\n')
        else this.#ascii(reply.value ? ':1\r\n' : ':0\r\n')
        return
      case 'null-array':
        this.#ascii(protocol === 3 ? '_\r\n' : '*-1\r\n')
        return
      case 'set':
        this.#items(protocol === 3 ? '~' : '*', reply.items, protocol)
        return
      case 'text':
        if (protocol === 3) this.#ascii(`=${Buffer.byteLength(reply.text) + 4}\r\ntxt:`)
        else this.#ascii(`$${Buffer.byteLength(reply.text)}\r\n`)
        this.#text(`${reply.text}\r\n`)
        return
      default:
        unreachable(reply)
    }
  }

  #items(mark: string, items: readonly Reply[], protocol: Protocol): void {
    this.#ascii(`${mark}${items.length}\r\n`)
    for (const item of items) this.reply(item, protocol)
  }

  #bulk(bytes: Uint8Array): void {
    this.#head(DOLLAR, bytes.length)
    if (bytes.length >= LARGE_BYTES) {
      this.#cut()
      this.#pieces.push(bytes)
    } else {
      this.#raw(bytes)
    }
    this.#raw(LINE_END)
  }

  #raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length)
    if (bytes.length > SHORT_BYTES) this.#buffer.set(bytes, this.#length)
    else for (let at = 0; at < bytes.length; at++) this.#buffer[this.#length + at] = bytes[at]!
    this.#length += bytes.length
  }

  /** A mark and a number that is not negative, without a text of them: most replies begin so. */
  #head(mark: number, count: number): void {
    let digits = 1
    for (let rest = count; rest >= 10; rest = Math.floor(rest / 10)) digits++
    this.#reserve(1 + digits + LINE_END.length)
    this.#buffer[this.#length++] = mark
    this.#length += digits
    for (let at = this.#length, rest = count; digits > 0; digits--, rest = Math.floor(rest / 10)) {
      this.#buffer[--at] = 0x30 + (rest % 10)
    }
    this.#raw(LINE_END)
  }

  /** Characters below 128 only. */
  #ascii(text: string): void {
    this.#reserve(text.length)
    this.#length += this.#buffer.write(text, this.#length, 'latin1')
  }

  #text(text: string): void {
    this.#reserve(Buffer.byteLength(text))
    this.#length += this.#buffer.write(text, this.#length)
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#buffer.length) return
    this.#cut()
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, more))
    this.#start = 0
    this.#length = 0
  }

  /** Ends a piece. */
  #cut(): void {
    if (this.#length === this.#start) return
    this.#pieces.push(this.#buffer.subarray(this.#start, this.#length))
    this.#start = this.#length
  }
}

/** A line end inside would end the reply. */
const oneLine = (text: string): string => (/[\r\n]/.test(text) ? text.replace(/[\r\n]/g, ' ') : text)

export function doubleText(value: number): string {
  if (value === Infinity) return 'inf'
  if (value === -Infinity) return '-inf'
  if (Number.isNaN(value)) return 'nan'
  return String(value)
}
