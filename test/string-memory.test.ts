/**
 * The memory of short strings follows what is there: where strings of one length give way to longer ones again and
 * again, a sparse table is replaced bucket by bucket, and nobody sees it: not a read, not a running checkpoint.
 */
import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { CheckpointReader, CheckpointWriter } from '../src/machine/checkpoint.ts'
import { type MachineState, emptyState } from '../src/machine/state.ts'

const MIB = 1024 * 1024
const ROUNDS = 8
const BYTES_A_ROUND = 16 * MIB

/** Equal for equal content; a diff of so much would help nobody. */
function digestOf(content: ReadonlyMap<string, string>): string {
  const hash = createHash('sha256')
  for (const key of [...content.keys()].sort()) hash.update(`${key}=${content.get(key)};`)
  return `${content.size} keys, ${hash.digest('hex')}`
}

const contentOf = (state: MachineState): Map<string, string> => {
  const content = new Map<string, string>()
  const { buckets } = state.store.defaultCollection
  for (let bucket = 0; bucket < 4096; bucket++) {
    for (const { key } of buckets.heads(bucket)) {
      const record = state.store.defaultCollection.peek(key)
      content.set(key, record?.kind === 'string' ? Buffer.from(record.value).toString('latin1') : 'none')
    }
  }
  return content
}

test('strings that give way to longer ones, under a checkpoint', () => {
  const state = emptyState()
  const { store } = state
  const collection = store.defaultCollection
  const model = new Map<string, string>()
  const before = process.memoryUsage().arrayBuffers
  let most = 0
  for (let round = 0; round < ROUNDS; round++) {
    const size = 200 + 64 * round
    const keys = Array.from({ length: Math.floor(BYTES_A_ROUND / (size + 48)) }, (_, at) => `${round}:${at}`)
    for (const key of keys) {
      const value = key.padEnd(size, '.')
      store.version++
      collection.putString(key, Buffer.from(value))
      model.set(key, value)
    }
    most = Math.max(most, process.memoryUsage().arrayBuffers - before)
    let writer: CheckpointWriter | null = null
    let atStart = new Map<string, string>()
    const copy = emptyState()
    const reader = new CheckpointReader(copy)
    for (const [at, key] of keys.entries()) {
      // In the last round, a checkpoint begins just before the table becomes sparse.
      if (round === ROUNDS - 1 && at === Math.floor(keys.length / 2)) {
        atStart = new Map(model)
        writer = new CheckpointWriter(state)
      }
      store.version++
      if (at % 100 === 0) {
        collection.putString(key, Buffer.from('short'))
        model.set(key, 'short')
      } else {
        collection.remove(key)
        model.delete(key)
      }
      const chunk = at % 20 === 0 ? (writer?.next() ?? null) : null
      if (chunk !== null) reader.add(chunk)
    }
    for (let chunk = writer?.next(); chunk; chunk = writer?.next()) reader.add(chunk)
    if (writer !== null) {
      reader.finish()
      expect(digestOf(contentOf(copy))).toBe(digestOf(atStart))
    }
  }
  expect(digestOf(contentOf(state))).toBe(digestOf(model))
  expect(store.keys).toBe(model.size)
  // All of the rounds are 128 MiB. What a collector has not met yet is in it.
  expect(most).toBeLessThan(5.5 * BYTES_A_ROUND)
})
