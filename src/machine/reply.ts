/**
 * What a command answers, independent of any wire protocol, and how nodes send and keep it. PURE.
 *
 *   null                the null of RESP
 *   number, bigint      a signed 64-bit integer
 *   string              a status such as OK
 *   Uint8Array          a bulk string
 *   array               an array of replies
 *   ErrorReply, MapReply, DoubleReply …   tagged objects
 *
 * Bytes between nodes and in checkpoints (`uint`, `bytes`, `string`: see bytes.ts):
 *
 *   reply   uint8 tag, then by tag:
 *     0 null · 1 integer >= 0: uint · 2 integer < 0: uint of (-1 - n) · 3 big integer: string of its digits
 *     4 status: string · 5 bulk: bytes · 6 array: uint n, reply… · 7 error: string prefix, string message
 *     8 map: uint n, (reply, reply)… · 9 double: 8 bytes · 10 boolean: uint8 · 11 null array · 12 set: uint n, reply…
 *     13 text: string
 */
import type { ByteReader, ByteWriter } from '../bytes.ts'
import { ERRORS, type ErrorCode, LokiError } from '../errors.ts'
import { unreachable } from '../invariant.ts'

/** The arguments of a command, its name first. */
export type Arguments = readonly Uint8Array[]

export function argumentBytes(args: Arguments): number {
  let bytes = 0
  for (const arg of args) bytes += arg.length
  return bytes
}

export type Reply = null | number | bigint | string | Uint8Array | readonly Reply[] | TaggedReply

export type TaggedReply =
  /** `prefix` is the error class clients switch on (ERR, WRONGTYPE, …). */
  | { readonly kind: 'error'; readonly prefix: string; readonly message: string }
  | { readonly kind: 'map'; readonly pairs: readonly (readonly [Reply, Reply])[] }
  | { readonly kind: 'double'; readonly value: number }
  | { readonly kind: 'boolean'; readonly value: boolean }
  /** The null of a reply that would have been an array (EXEC); RESP2 has a form of its own for it. */
  | { readonly kind: 'null-array' }
  | { readonly kind: 'set'; readonly items: readonly Reply[] }
  /** Text for people (INFO): a bulk string in RESP2, a verbatim string in RESP3. */
  | { readonly kind: 'text'; readonly text: string }

export type ErrorReply = Extract<TaggedReply, { kind: 'error' }>

export const OK = 'OK'

/** An error of the general class, as most of Redis's are. */
export const err = (message: string): ErrorReply => ({ kind: 'error', prefix: 'ERR', message })

/** What a row of errors.ts says. */
export const explained = (code: ErrorCode): string => `${ERRORS[code].what}; ${ERRORS[code].todo}`

/** An error that Redis has not, by its code. */
export const coded = (code: ErrorCode, message = explained(code)): ErrorReply => ({
  kind: 'error',
  prefix: 'LOKI',
  message: `${code}: ${message}`,
})

export function isError(value: unknown): value is ErrorReply {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'error'
}

/** About what a reply takes on its way; cheap. */
export function replyBytes(reply: Reply): number {
  if (reply === null || typeof reply !== 'object') return typeof reply === 'string' ? reply.length + 4 : 16
  if (reply instanceof Uint8Array) return reply.length + 8
  const sum = (items: readonly Reply[]): number => items.reduce<number>((bytes, item) => bytes + replyBytes(item), 8)
  if (Array.isArray(reply)) return sum(reply as readonly Reply[])
  const tagged = reply as TaggedReply
  if (tagged.kind === 'map') return sum(tagged.pairs.flat())
  if (tagged.kind === 'set') return sum(tagged.items)
  if (tagged.kind === 'text') return tagged.text.length + 8
  return tagged.kind === 'error' ? tagged.message.length + 16 : 16
}

const TAG_NULL = 0
const TAG_POSITIVE = 1
const TAG_NEGATIVE = 2
const TAG_BIG = 3
const TAG_STATUS = 4
const TAG_BULK = 5
const TAG_ARRAY = 6
const TAG_ERROR = 7
const TAG_MAP = 8
const TAG_DOUBLE = 9
const TAG_BOOLEAN = 10
const TAG_NULL_ARRAY = 11
const TAG_SET = 12
const TAG_TEXT = 13

/** Deepest nesting that is read: a reply of EXEC holds replies that hold arrays of arrays. */
const MAX_DEPTH = 16

export function encodeReply(writer: ByteWriter, reply: Reply): void {
  if (reply === null) writer.uint8(TAG_NULL)
  else if (typeof reply === 'number') encodeInteger(writer, reply)
  else if (typeof reply === 'bigint') writer.uint8(TAG_BIG).string(reply.toString())
  else if (typeof reply === 'string') writer.uint8(TAG_STATUS).string(reply)
  else if (reply instanceof Uint8Array) writer.uint8(TAG_BULK).bytes(reply)
  else if (Array.isArray(reply)) encodeItems(writer, TAG_ARRAY, reply as readonly Reply[])
  else encodeTagged(writer, reply as TaggedReply)
}

function encodeInteger(writer: ByteWriter, value: number): void {
  if (!Number.isSafeInteger(value)) writer.uint8(TAG_BIG).string(BigInt(value).toString())
  else if (value >= 0) writer.uint8(TAG_POSITIVE).uint(value)
  else writer.uint8(TAG_NEGATIVE).uint(-1 - value)
}

function encodeItems(writer: ByteWriter, tag: number, items: readonly Reply[]): void {
  writer.uint8(tag).uint(items.length)
  for (const item of items) encodeReply(writer, item)
}

function encodeTagged(writer: ByteWriter, reply: TaggedReply): void {
  switch (reply.kind) {
    case 'error':
      writer.uint8(TAG_ERROR).string(reply.prefix).string(reply.message)
      return
    case 'map':
      writer.uint8(TAG_MAP).uint(reply.pairs.length)
      for (const [key, value] of reply.pairs) {
        encodeReply(writer, key)
        encodeReply(writer, value)
      }
      return
    case 'double':
      writer.uint8(TAG_DOUBLE).double(reply.value)
      return
    case 'boolean':
      writer.uint8(TAG_BOOLEAN).boolean(reply.value)
      return
    case 'null-array':
      writer.uint8(TAG_NULL_ARRAY)
      return
    case 'set':
      encodeItems(writer, TAG_SET, reply.items)
      return
    case 'text':
      writer.uint8(TAG_TEXT).string(reply.text)
      return
    default:
      unreachable(reply)
  }
}

/** The bytes of bulk strings are copied: a reply outlives the frame that brought it. */
export function decodeReply(reader: ByteReader, depth = 0): Reply {
  if (depth > MAX_DEPTH) throw new LokiError('FRAME_MALFORMED', `a reply nested deeper than ${MAX_DEPTH}`)
  const tag = reader.uint8()
  switch (tag) {
    case TAG_NULL:
      return null
    case TAG_POSITIVE:
      return reader.uint()
    case TAG_NEGATIVE:
      return -1 - reader.uint()
    case TAG_BIG:
      return decodeBig(reader)
    case TAG_STATUS:
      return reader.string()
    case TAG_BULK:
      return Buffer.from(reader.bytes())
    case TAG_ARRAY:
      return decodeItems(reader, depth)
    case TAG_ERROR:
      return { kind: 'error', prefix: reader.string(), message: reader.string() }
    case TAG_MAP:
      return { kind: 'map', pairs: decodePairs(reader, depth) }
    case TAG_DOUBLE:
      return { kind: 'double', value: reader.double() }
    case TAG_BOOLEAN:
      return { kind: 'boolean', value: reader.boolean() }
    case TAG_NULL_ARRAY:
      return { kind: 'null-array' }
    case TAG_SET:
      return { kind: 'set', items: decodeItems(reader, depth) }
    case TAG_TEXT:
      return { kind: 'text', text: reader.string() }
    default:
      throw new LokiError('FRAME_MALFORMED', `unknown tag of a reply ${tag}`)
  }
}

function decodeBig(reader: ByteReader): bigint {
  const digits = reader.string()
  if (!/^-?\d{1,20}$/.test(digits)) throw new LokiError('FRAME_MALFORMED', 'a big integer that is none')
  return BigInt(digits)
}

function decodeItems(reader: ByteReader, depth: number): Reply[] {
  const items: Reply[] = []
  for (let left = reader.uint(); left > 0; left--) items.push(decodeReply(reader, depth + 1))
  return items
}

function decodePairs(reader: ByteReader, depth: number): [Reply, Reply][] {
  const pairs: [Reply, Reply][] = []
  for (let left = reader.uint(); left > 0; left--) {
    pairs.push([decodeReply(reader, depth + 1), decodeReply(reader, depth + 1)])
  }
  return pairs
}
