/**
 * What V8 refuses: a Map or a Set of more than 2^24 elements, a text of 512 MiB. Where a command meets that in the log
 * it would end every replica, at each start again. Here Map and Set are made to refuse much earlier.
 */
import { afterEach, describe, expect, it, vi } from 'vitest'
import { ExpiryHeap } from '../src/machine/expiry.ts'
import { Driver } from './machine-driver.ts'

const MOST = 2 ** 24
const TOO_MANY = `ERR a key holds at most ${MOST} elements`

afterEach(() => void vi.unstubAllGlobals())

/** From here on a new Map, or Set, has room for so many elements; `claims`: it says that it has so many more. */
function leaveRoomFor(room: number, claims: number, kind: 'Map' | 'Set' | 'both' = 'both'): void {
  const Maps = globalThis.Map
  const Sets = globalThis.Set
  class SmallMap<K, V> extends Maps<K, V> {
    override get size(): number {
      return super.size + claims
    }
    override set(key: K, value: V): this {
      if (super.size >= room && !this.has(key)) throw new RangeError('Map maximum size exceeded')
      return super.set(key, value)
    }
  }
  class SmallSet<T> extends Sets<T> {
    override get size(): number {
      return super.size + claims
    }
    override add(value: T): this {
      if (super.size >= room && !this.has(value)) throw new RangeError('Set maximum size exceeded')
      return super.add(value)
    }
  }
  if (kind !== 'Set') vi.stubGlobal('Map', SmallMap)
  if (kind !== 'Map') vi.stubGlobal('Set', SmallSet)
}

/** A machine whose hashes (`Map`) or sets have room for three elements each. */
function nearlyFull(kind: 'Map' | 'Set'): (...words: string[]) => unknown {
  const driver = new Driver()
  leaveRoomFor(3, MOST - 3, kind)
  return (...words) => driver.run(...words)
}

describe('as many elements as a Set or a Map of V8 holds', () => {
  it('SADD, SMOVE and unions are refused above it, before anything has changed', () => {
    const run = nearlyFull('Set')
    expect(run('SADD', 's', 'a', 'b', 'c')).toBe(3)
    expect(run('SADD', 's', 'a', 'd')).toBe(TOO_MANY)
    expect(run('SADD', 's', 'a', 'b')).toBe(0)
    expect(run('SISMEMBER', 's', 'd')).toBe(0)
    expect(run('SADD', 'other', 'd')).toBe(1)
    expect(run('SMOVE', 'other', 's', 'd')).toBe(TOO_MANY)
    expect(run('SISMEMBER', 'other', 'd')).toBe(1)
    expect(run('SUNION', 's', 'other')).toBe(TOO_MANY)
    expect(run('SUNIONSTORE', 'to', 's', 'other')).toBe(TOO_MANY)
    expect(run('EXISTS', 'to')).toBe(0)
    expect(run('SREM', 's', 'a')).toBe(1)
    expect(run('SADD', 's', 'd')).toBe(1)
  })

  it('HSET and its relatives are refused above it; fields that are there are changed', () => {
    const run = nearlyFull('Map')
    expect(run('HSET', 'h', 'a', '1', 'b', '2')).toBe(2)
    expect(run('HSET', 'h', 'c', '3', 'd', '4')).toBe(TOO_MANY)
    expect(run('HGET', 'h', 'c')).toBeNull()
    expect(run('HSET', 'h', 'c', '3', 'c', '4')).toBe(1)
    expect(run('HSET', 'h', 'a', '5', 'b', '6', 'c', '7')).toBe(0)
    expect(run('HMSET', 'h', 'd', '1')).toBe(TOO_MANY)
    expect(run('HSETNX', 'h', 'd', '1')).toBe(TOO_MANY)
    expect(run('HINCRBY', 'h', 'd', '1')).toBe(TOO_MANY)
    expect(run('HINCRBYFLOAT', 'h', 'd', '1')).toBe(TOO_MANY)
    expect(run('HINCRBY', 'h', 'a', '1')).toBe(6)
    expect(run('HINCRBYFLOAT', 'h', 'a', '1')).toBe('7')
    expect(run('HDEL', 'h', 'b')).toBe(1)
    expect(run('HSETNX', 'h', 'd', '1')).toBe(1)
  })

  it('more keys than that may have a time to live', () => {
    leaveRoomFor(1000, 0)
    const heap = new ExpiryHeap()
    for (let at = 20_000; at > 0; at--) {
      heap.push({ at, collection: '', key: String(at) })
      heap.push({ at, collection: '', key: String(at) })
    }
    heap.sweep(({ at }) => at > 100)
    expect(heap.size).toBe(19_900)
    expect(heap.peek()?.at).toBe(101)
  })
})

it('a string that is too long for a text is no number', () => {
  const driver = new Driver()
  expect(driver.run('SETRANGE', 's', '536870911', 'x')).toBe(536_870_912)
  expect(driver.run('INCRBYFLOAT', 's', '1')).toBe('ERR value is not a valid float')
  expect(driver.run('INCR', 's')).toBe('ERR value is not an integer or out of range')
  expect(driver.run('STRLEN', 's')).toBe(536_870_912)
})
