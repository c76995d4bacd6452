/**
 * Byte strings as the store keeps them. PURE (Buffer is used for its encodings and memory alone).
 *
 * Up to `INLINE_BYTES` bytes live in a JavaScript string of one byte a character (latin1): 16 bytes of
 * overhead instead of about 350 for a Buffer. Longer ones live outside the heap in a buffer of their own,
 * never in a piece of a pooled one, which would keep its whole pool alive. Packed bytes are never changed in
 * place: a reply may share them.
 */

export type Packed = string | Buffer

const INLINE_BYTES = 1024

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Any bytes as a string of one character a byte: how keys, fields and members are held. */
export const latin1 = (bytes: Uint8Array): string => bufferOf(bytes).toString('latin1')

/** A key as such a string, or as its bytes: the same key. A string costs more to make than to look it up. */
export type Key = string | Uint8Array

export const keyText = (key: Key): string => (typeof key === 'string' ? key : latin1(key))

/** The bytes of such a string. */
export const latin1Bytes = (text: string): Buffer => Buffer.from(text, 'latin1')

/** A copy of `bytes`, with memory of its own. */
export function pack(bytes: Uint8Array): Packed {
  if (bytes.length <= INLINE_BYTES) return latin1(bytes)
  const own = Buffer.allocUnsafeSlow(bytes.length)
  own.set(bytes)
  return own
}

/** The bytes, to be read only: a long value is not copied. */
export const unpack = (packed: Packed): Buffer => (typeof packed === 'string' ? latin1Bytes(packed) : packed)

/** As `latin1` of the bytes; for short values free. */
export const packedText = (packed: Packed): string => (typeof packed === 'string' ? packed : packed.toString('latin1'))
