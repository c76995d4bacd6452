/** Which bucket a key is in, and where in the order of SCAN. PURE; part of the format. */
import type { Key } from './packed.ts'

const BUCKET_BITS = 12
export const BUCKETS = 1 << BUCKET_BITS
/** Hashes of one bucket differ in so many bits, the lowest ones. */
export const HASH_SHIFT = 32 - BUCKET_BITS

/** FNV-1a with a final mix (MurmurHash3's), over one character a byte: 0 to 2^32 - 1. */
export function hashOf(key: Key): number {
  if (typeof key !== 'string') return hashOfBytes(key, 0, key.length)
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  return mixed(hash)
}

function mixed(fnv: number): number {
  let hash = Math.imul(fnv ^ (fnv >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** As `hashOf` of the key that these bytes are. */
export function hashOfBytes(bytes: Uint8Array, from: number, to: number): number {
  let hash = 0x811c9dc5
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
  return mixed(hash)
}

export const bucketOf = (key: string): number => hashOf(key) >>> HASH_SHIFT
