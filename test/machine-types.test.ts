/* oxlint-disable vitest/no-conditional-expect -- the property is checked at every step, whatever it is */
/** Hashes, lists and sets: random commands against plain arrays and maps, and the words of Redis. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Deque } from '../src/machine/deque.ts'
import { Machine } from '../src/machine/machine.ts'
import { Driver, OPTIONS } from './machine-driver.ts'

type Value = { hash: Map<string, string> } | { list: string[] } | { set: string[] }
const WRONG = 'WRONGTYPE Operation against a key holding the wrong kind of value'

/** The commands below in the simplest words. */
class Model {
  readonly values = new Map<string, Value>()

  run([name = '', key = '', ...rest]: readonly string[]): unknown {
    if (name === 'DEL') return this.values.delete(key) ? 1 : 0
    const kind = name.startsWith('H') ? 'hash' : name.startsWith('S') ? 'set' : 'list'
    const empty: Value =
      kind === 'hash' ? { hash: new Map<string, string>() } : kind === 'set' ? { set: [] } : { list: [] }
    const value = this.values.get(key) ?? empty
    if (!(kind in value)) return WRONG
    this.values.set(key, value)
    const answer =
      'hash' in value
        ? this.#hash(value.hash, name, rest)
        : 'set' in value
          ? this.#set(value.set, name, rest)
          : this.#list(value.list, name, rest)
    const size = 'hash' in value ? value.hash.size : 'set' in value ? value.set.length : value.list.length
    if (size === 0) this.values.delete(key)
    return answer
  }

  #hash(hash: Map<string, string>, name: string, [field = '', value = '']: string[]): unknown {
    const before = hash.get(field)
    if (name === 'HSET') hash.set(field, value)
    if (name === 'HSET') return before === undefined ? 1 : 0
    if (name === 'HGET') return before ?? null
    if (name === 'HDEL') return hash.delete(field) ? 1 : 0
    if (name === 'HLEN') return hash.size
    return [...hash.keys()]
  }

  #set(set: string[], name: string, [member = '']: string[]): unknown {
    const at = set.indexOf(member)
    if (name === 'SADD' && at < 0) set.push(member)
    if (name === 'SADD') return at < 0 ? 1 : 0
    if (name === 'SREM' && at >= 0) set.splice(at, 1)
    if (name === 'SREM' || name === 'SISMEMBER') return at >= 0 ? 1 : 0
    return set.length
  }

  #list(list: string[], name: string, [a = '', b = '']: string[]): unknown {
    switch (name) {
      case 'LPUSH':
        return list.unshift(a)
      case 'RPUSH':
        return list.push(a)
      case 'LPOP':
        return list.shift() ?? null
      case 'RPOP':
        return list.pop() ?? null
      case 'LRANGE':
        return list.slice(Number(a), Number(b) === -1 ? undefined : Number(b) + 1)
      case 'LREM': {
        const count = Number(a)
        const found = list.flatMap((item, i) => (item === b ? [i] : []))
        const gone = count === 0 ? found : count > 0 ? found.slice(0, count) : found.slice(count)
        const kept = list.filter((_, i) => !gone.includes(i))
        list.splice(0, list.length, ...kept)
        return gone.length
      }
      case 'LTRIM': {
        const kept = list.slice(Number(a), Number(b) === -1 ? undefined : Number(b) + 1)
        list.splice(0, list.length, ...kept)
        return 'OK'
      }
      default:
        return list.length
    }
  }
}

const key = fc.constantFrom('a', 'b', 'c', 'd')
const element = fc.constantFrom('x', 'y', '', '\xff\0', 'long'.repeat(300))
const range = fc.constantFrom('0', '1', '-1', '-2', '2')
const words: fc.Arbitrary<readonly string[]> = fc.oneof(
  fc.tuple(fc.constant('HSET'), key, element, element),
  fc
    .tuple(fc.constantFrom('HGET', 'HDEL', 'HLEN', 'HKEYS'), key, element)
    .map(([name, key, field]) => (name === 'HLEN' || name === 'HKEYS' ? [name, key] : [name, key, field])),
  fc.tuple(fc.constantFrom('SADD', 'SREM', 'SISMEMBER'), key, element),
  fc.tuple(fc.constantFrom('SCARD', 'LLEN', 'LPOP', 'RPOP', 'DEL'), key),
  fc.tuple(fc.constantFrom('LPUSH', 'RPUSH'), key, element),
  fc.tuple(fc.constant('LRANGE'), key, fc.constantFrom('0', '1', '-2'), fc.constantFrom('-1', '1', '2')),
  fc.tuple(fc.constant('LTRIM'), key, fc.constantFrom('0', '1', '-2'), fc.constantFrom('-1', '1', '2')),
  fc.tuple(fc.constant('LREM'), key, range, element),
)

describe('hashes, lists and sets', () => {
  it('answer as plain ones would, through restarts and checkpoints in slices; nothing is left of what is deleted', () => {
    fc.assert(
      fc.property(fc.array(words, { maxLength: 80 }), fc.nat(80), fc.nat(80), (commands, restartAt, checkpointAt) => {
        const driver = new Driver()
        const model = new Model()
        let hash = driver.machine.hash()
        let checkpoint = driver.machine.beginCheckpoint()
        for (const [number, command] of commands.entries()) {
          if (number === restartAt) driver.restart()
          if (number === restartAt || number === checkpointAt) {
            hash = driver.machine.hash()
            checkpoint = driver.machine.beginCheckpoint()
          }
          expect(driver.run(...command)).toEqual(model.run(command))
        }
        expect((driver.read('KEYS', '*') as string[]).sort()).toEqual([...model.values.keys()].sort())
        const chunks: Buffer[] = []
        for (let chunk = checkpoint.next(); chunk !== null; chunk = checkpoint.next()) chunks.push(Buffer.from(chunk))
        expect(Machine.restore(OPTIONS, chunks).hash()).toBe(hash)
        for (const key of model.values.keys()) driver.run('DEL', key)
        expect(driver.machine.usedMemoryBytes).toBe(0)
      }),
      { numRuns: 300 },
    )
  })

  it('a deque is an array', () => {
    const step = fc.tuple(fc.constantFrom('pushBack', 'pushFront', 'popBack', 'popFront', 'set'), fc.nat(1000))
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const deque = new Deque<number>()
        const array: number[] = []
        for (const [what, value] of steps) {
          const empty = array.length === 0
          if (what === 'pushBack') array.push(value)
          if (what === 'pushBack') deque.pushBack(value)
          if (what === 'pushFront') array.unshift(value)
          if (what === 'pushFront') deque.pushFront(value)
          if (what === 'popBack') expect(empty ? undefined : deque.popBack()).toBe(array.pop())
          if (what === 'popFront') expect(empty ? undefined : deque.popFront()).toBe(array.shift())
          if (what === 'set' && !empty) array[value % array.length] = value
          if (what === 'set' && !empty) deque.set(value % array.length, value)
        }
        expect([...deque]).toEqual(array)
      }),
    )
  })

  const cases: [string, unknown][] = [
    ['HSET h a 1 b 2', 2],
    ['HSET h a', "ERR wrong number of arguments for 'hset' command"],
    ['HSET h a 1 b', "ERR wrong number of arguments for 'hset' command"],
    ['HMSET h c 3', 'OK'],
    ['HSETNX h a 9', 0],
    ['HMGET h a x c', ['1', null, '3']],
    ['HINCRBY h a 5', 6],
    ['HINCRBYFLOAT h a 0.5', '6.5'],
    ['HINCRBY h a 1', 'ERR hash value is not an integer'],
    ['HVALS h', ['6.5', '2', '3']],
    ['HSCAN h 0 MATCH [ab]', ['0', ['a', '6.5', 'b', '2']]],
    ['HSTRLEN h a', 3],
    ['GET h', WRONG],
    ['INCR h', WRONG],
    ['LPUSH h x', WRONG],
    ['TYPE h', 'hash'],
    ['HDEL h a b c d', 3],
    ['EXISTS h', 0],
    ['RPUSH l a b c b', 4],
    ['LPUSHX none x', 0],
    ['LINSERT l BEFORE b x', 5],
    ['LINSERT l AFTER none x', -1],
    ['LRANGE l 0 -1', ['a', 'x', 'b', 'c', 'b']],
    ['LPOS l b', 2],
    ['LPOS l b RANK -1', 4],
    ['LPOS l b COUNT 0', [2, 4]],
    ['LSET l -1 z', 'OK'],
    ['LSET l 9 z', 'ERR index out of range'],
    ['LSET none 0 z', 'ERR no such key'],
    ['LINDEX l -1', 'z'],
    ['LMOVE l m LEFT RIGHT', 'a'],
    ['RPOPLPUSH l m', 'z'],
    ['LRANGE m 0 -1', ['z', 'a']],
    ['LMOVE m m LEFT RIGHT', 'z'],
    ['LPOP m 5', ['a', 'z']],
    ['LPOP m', null],
    ['LPOP l -1', 'ERR value is out of range, must be positive'],
    ['EXPIRE l 100', 1],
    ['RENAME l renamed', 'OK'],
    ['TTL renamed', 100],
    ['COPY renamed l', 1],
    ['LPUSH l only-here', 4],
    ['LLEN renamed', 3],
    ['SADD s a b c', 3],
    ['SADD t b c d', 3],
    ['SMISMEMBER s a x', [1, 0]],
    ['SINTERSTORE u s t', 2],
    ['SUNIONSTORE u s t', 4],
    ['SDIFFSTORE u s t', 1],
    ['SINTERCARD 2 s t LIMIT 1', 1],
    ['SMOVE s t a', 1],
    ['SCARD t', 4],
    ['SSCAN t 0', ['0', ['b', 'c', 'd', 'a']]],
    ['SDIFFSTORE u none', 0],
    ['EXISTS u', 0],
    ['SCAN 0 TYPE set COUNT 100', ['0', expect.any(Array)]],
  ]

  it('use the words of Redis', () => {
    const d = new Driver()
    expect(cases.map(([words]) => [words, d.run(...words.split(' '))])).toEqual(cases)
    const popped = d.run('SPOP', 't', '10') as { items: Uint8Array[] }
    expect(popped.items.map((item) => Buffer.from(item).toString()).sort()).toEqual(['a', 'b', 'c', 'd'])
    expect(d.run('SPOP', 't')).toBeNull()
    d.run('SADD', 'r', '1', '2', '3')
    expect(new Set(d.run('SRANDMEMBER', 'r', '5') as string[]).size).toBe(3)
    expect(d.run('SRANDMEMBER', 'r', '-5')).toHaveLength(5)
  })
})
