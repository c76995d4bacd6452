/** Short strings outside the heap: the same as a Map, in the order of hashes, in memory that is used again. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BUCKETS, hashOf } from '../src/machine/hash.ts'
import type { Key } from '../src/machine/packed.ts'
import { ABSENT, SHORT_BYTES, StringTable } from '../src/machine/string-table.ts'

interface Kept {
  readonly value: string
  readonly version: number
  readonly expireAt: number
}

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')

/** What a table holds, in its order. */
function contentOf(table: StringTable): [string, Kept][] {
  const content: [string, Kept][] = []
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    for (let at = 0; at < table.count(bucket); at++) {
      const place = table.placeAt(bucket, at)
      const value = table.value(place).toString('latin1')
      expect(table.valueLength(place)).toBe(value.length)
      expect(table.valueBytes(place).toString('latin1')).toBe(value)
      expect(table.keyBytes(place).toString('latin1')).toBe(table.key(place))
      content.push([table.key(place), { value, version: table.version(place), expireAt: table.expiry(place) }])
    }
  }
  return content
}

function put(table: StringTable, hash: number, key: Key, { value, version, expireAt }: Kept): void {
  const place = table.find(hash, key)
  if (place === ABSENT) table.insert(hash, key, bytes(value), version, expireAt)
  else table.replace(place, hash, key, bytes(value), version, expireAt)
}

/** Few hashes, so that many keys share one; and hashes far from where they should be. */
const hashes = [
  (key: string) => hashOf(key),
  (key: string) => hashOf(key) % 3,
  () => 0xffffffff,
  (key: string) => key.length,
]

test.each(hashes.map((hash, at) => [at, hash] as const))('as a Map does it, with hash function %i', (_, hash) => {
  const key = fc.oneof(
    fc.integer({ min: 0, max: 300 }).map((number) => `key:${number}`),
    fc.constantFrom('', 'a', 'aa', 'b', '\xff', '\0', 'k'.repeat(SHORT_BYTES)),
  )
  const value = fc.oneof(
    fc.string({ unit: 'binary-ascii', maxLength: 30 }),
    fc.integer({ min: 0, max: SHORT_BYTES }).map((length) => 'v'.repeat(length)),
  )
  // As text or as bytes: the same key.
  const step = fc.record({
    remove: fc.boolean(),
    isText: fc.boolean(),
    key,
    value,
    expireAt: fc.constantFrom(0, 1, 1e12),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400, size: 'max' }), (steps) => {
      const table = new StringTable()
      const model = new Map<string, Kept>()
      for (const [version, { remove, isText, key, value, expireAt }] of steps.entries()) {
        const given = isText ? key : bytes(key)
        expect(hashOf(bytes(key))).toBe(hashOf(key))
        const place = table.find(hash(key), given)
        expect(place !== ABSENT).toBe(model.has(key))
        if (!remove) {
          put(table, hash(key), given, { value, version, expireAt })
          model.set(key, { value, version, expireAt })
        } else if (place !== ABSENT) {
          table.remove(place, hash(key), key)
          model.delete(key)
        }
      }
      expect(contentOf(table)).toEqual([...model].sort(([a], [b]) => hash(a) - hash(b) || (a < b ? -1 : 1)))
    }),
    { numRuns: 60 },
  )
})

test('what is given back is used again, and all of it when the last string goes', () => {
  const table = new StringTable()
  const before = process.memoryUsage().arrayBuffers
  const keys = Array.from({ length: 20_000 }, (_, at) => `${at}`)
  for (let round = 0; round < 20; round++) {
    for (const key of keys)
      put(table, hashOf(key), key, { value: 'x'.repeat(100 + round), version: round, expireAt: 0 })
    for (const key of keys) table.remove(table.find(hashOf(key), key), hashOf(key), key)
  }
  // 20,000 strings are some 3 MB; twenty times as much went through.
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024)
  expect(contentOf(table)).toEqual([])
})

test('a string takes its bytes, twelve before them, its part of the index, and what is left of its last unit', () => {
  const table = new StringTable()
  const before = process.memoryUsage().arrayBuffers
  const count = 300_000
  for (let at = 0; at < count; at++) {
    const key = `key:${String(at).padStart(12, '0')}`
    put(table, hashOf(key), key, { value: 'x'.repeat(100), version: at, expireAt: 0 })
  }
  // 12 + 16 + 100 bytes are eight units. The index is eight bytes with room for a quarter more; what it was in before it
  // grew is used for strings.
  expect((process.memoryUsage().arrayBuffers - before) / count).toBeLessThan(8 * 16 + 8 * 1.25 + 4)
  expect(table.count(0)).toBeGreaterThan(0)
})

test('more strings in one bucket than a piece of memory has room for, as somebody may choose them', () => {
  const table = new StringTable()
  const before = process.memoryUsage().arrayBuffers
  const count = 200_000
  const key = (at: number): string => `key ${at}`
  for (let round = 0; round < 2; round++) {
    for (let at = 0; at < count; at++) table.insert(at, key(at), bytes(`${at}`), at, 0)
    expect(table.count(0)).toBe(count)
    for (let at = 0; at < count; at += 997) expect(table.value(table.find(at, key(at))).toString()).toBe(`${at}`)
    for (let at = count - 1; at >= 0; at--) table.remove(table.find(at, key(at)), at, key(at))
  }
  expect(table.count(0)).toBe(0)
  // Indices that were outgrown are given back at once: what is left is one piece, and what no collector has met yet.
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024)
})
