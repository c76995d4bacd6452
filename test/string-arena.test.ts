/** Short strings outside the heap: the same as a Map, in the order of hashes, in memory that is used again. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Slabs } from '../src/machine/slabs.ts'
import { SHORT_BYTES, StringArena } from '../src/machine/string-arena.ts'
import { hashOf } from '../src/machine/store.ts'

interface Kept {
  readonly value: string
  readonly version: number
  readonly expireAt: number
}

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')

/** What an arena holds, in its order. */
function contentOf(arena: StringArena): [string, Kept][] {
  return Array.from({ length: arena.count }, (_, at) => {
    const value = arena.valueAt(at).toString('latin1')
    expect(arena.valueLengthAt(at)).toBe(value.length)
    return [arena.keyAt(at), { value, version: arena.versionAt(at), expireAt: arena.expiryAt(at) }]
  })
}

function put(arena: StringArena, hash: number, key: string, kept: Kept): void {
  const at = arena.find(hash, key)
  if (at >= 0) arena.replace(at, bytes(kept.value), kept.version, kept.expireAt)
  else arena.insert(at, hash, key, bytes(kept.value), kept.version, kept.expireAt)
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
  const step = fc.record({ remove: fc.boolean(), key, value, expireAt: fc.constantFrom(0, 1, 1e12) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400, size: 'max' }), (steps) => {
      const slabs = new Slabs()
      // Two arenas share the memory, as the buckets of a collection do: neither may write over the other.
      const arenas = [new StringArena(slabs), new StringArena(slabs)]
      const models = [new Map<string, Kept>(), new Map<string, Kept>()]
      for (const [version, { remove, key, value, expireAt }] of steps.entries()) {
        const arena = arenas[version % 2]!
        const model = models[version % 2]!
        const at = arena.find(hash(key), key)
        expect(at >= 0).toBe(model.has(key))
        if (!remove) {
          put(arena, hash(key), key, { value, version, expireAt })
          model.set(key, { value, version, expireAt })
        } else if (at >= 0) {
          arena.remove(at)
          model.delete(key)
        }
      }
      for (const [at, arena] of arenas.entries()) {
        const expected = [...models[at]!].sort(([a], [b]) => hash(a) - hash(b) || (a < b ? -1 : 1))
        expect(contentOf(arena)).toEqual(expected)
      }
    }),
    { numRuns: 60 },
  )
})

test('what is given back is used again, and all of it when the last string goes', () => {
  const slabs = new Slabs()
  const arena = new StringArena(slabs)
  const before = process.memoryUsage().arrayBuffers
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 20_000; i++) {
      const key = `${i}`
      put(arena, hashOf(key), key, { value: 'x'.repeat(100 + round), version: i, expireAt: 0 })
    }
    while (arena.count > 0) arena.remove(arena.count - 1)
  }
  // 20,000 strings are some 3 MB; twenty times as much went through.
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * 1024 * 1024)
})
