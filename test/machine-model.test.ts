/**
 * The machine against a model: random commands on a few keys, with time going on, restarts through checkpoints,
 * and checkpoints in slices while commands go on. The model is a plain map and knows nothing of buckets, records
 * or heaps.
 */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Machine } from '../src/machine/machine.ts'
import { Driver, OPTIONS, checkpointOf, command } from './machine-driver.ts'

/** What the commands below mean, in the simplest words. Values are strings of one character a byte. */
class Model {
  time = 1_000_000
  readonly #entries = new Map<string, { value: string; expireAt: number | null }>()

  #live(key: string): { value: string; expireAt: number | null } | null {
    const entry = this.#entries.get(key)
    return entry !== undefined && (entry.expireAt === null || entry.expireAt > this.time) ? entry : null
  }

  get keys(): string[] {
    return [...this.#entries.keys()].filter((key) => this.#live(key) !== null)
  }

  #assign(key: string, value: string, expireAt: number | null): void {
    this.#entries.set(key, { value, expireAt })
  }

  run(words: readonly string[]): unknown {
    const [name = '', key = '', a = '', b = ''] = words
    const now = this.#live(key)
    switch (name) {
      case 'GET':
        return now?.value ?? null
      case 'SET':
        return this.#set(words)
      case 'SETNX':
        if (now === null) this.#assign(key, a, null)
        return now === null ? 1 : 0
      case 'GETDEL':
        this.#entries.delete(key)
        return now?.value ?? null
      case 'GETSET':
        this.#assign(key, a, null)
        return now?.value ?? null
      case 'DEL': {
        const count = words.slice(1).filter((key) => this.#live(key) !== null && this.#entries.delete(key)).length
        return count
      }
      case 'EXISTS':
        return words.slice(1).filter((key) => this.#live(key) !== null).length
      case 'APPEND':
        this.#assign(key, (now?.value ?? '') + a, now?.expireAt ?? null)
        return (now?.value.length ?? 0) + a.length
      case 'STRLEN':
        return now?.value.length ?? 0
      case 'INCRBY': {
        const before = now?.value ?? '0'
        if (!/^(0|-?[1-9]\d{0,18})$/.test(before)) return 'ERR value is not an integer or out of range'
        const sum = BigInt(before) + BigInt(a)
        if (BigInt.asIntN(64, BigInt(before)) !== BigInt(before)) return 'ERR value is not an integer or out of range'
        if (BigInt.asIntN(64, sum) !== sum) return 'ERR increment or decrement would overflow'
        this.#assign(key, sum.toString(), now?.expireAt ?? null)
        return Number.isSafeInteger(Number(sum)) ? Number(sum) : sum
      }
      case 'MSET':
        for (let i = 1; i < words.length; i += 2) this.#assign(words[i]!, words[i + 1]!, null)
        return 'OK'
      case 'MGET':
        return words.slice(1).map((key) => this.#live(key)?.value ?? null)
      case 'PEXPIRE':
        return this.#expire(key, this.time + Number(a))
      case 'PERSIST':
        if (now === null || now.expireAt === null) return 0
        now.expireAt = null
        return 1
      case 'PTTL':
        return now === null ? -2 : now.expireAt === null ? -1 : now.expireAt - this.time
      case 'RENAME':
        if (now === null) return 'ERR no such key'
        this.#entries.delete(key)
        this.#assign(a, now.value, now.expireAt)
        return 'OK'
      case 'SETRANGE': {
        const before = now?.value ?? ''
        const offset = Number(a)
        if (b === '') return before.length
        const padded = before.padEnd(offset, '\0')
        this.#assign(key, padded.slice(0, offset) + b + padded.slice(offset + b.length), now?.expireAt ?? null)
        return this.#live(key)!.value.length
      }
      case 'DBSIZE':
        return this.keys.length
      case 'FLUSHALL':
        this.#entries.clear()
        return 'OK'
      default:
        throw new Error(`the model knows no ${name}`)
    }
  }

  #expire(key: string, at: number): number {
    const entry = this.#live(key)
    if (entry === null) return 0
    if (at <= this.time) this.#entries.delete(key)
    else entry.expireAt = at
    return 1
  }

  #set([, key = '', value = '', option = '', operand = '']: readonly string[]): unknown {
    const now = this.#live(key)
    if (option === 'NX' && now !== null) return null
    if (option === 'XX' && now === null) return null
    const expireAt =
      option === 'PX' ? this.time + Number(operand) : option === 'KEEPTTL' ? (now?.expireAt ?? null) : null
    this.#assign(key, value, expireAt)
    return option === 'GET' ? (now?.value ?? null) : 'OK'
  }
}

const key = fc.constantFrom('a', 'b', 'c', 'd', '', '\0\xff\r\n', 'a long key '.repeat(20))
const value = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('', '0', '-1', '41', '9223372036854775807', '007', 'x', '\xff\0') },
  {
    weight: 1,
    arbitrary: fc.integer({ min: 1000, max: 1100 }).map((length) => 'long'.repeat(length).slice(0, length)),
  },
)
const delta = fc.constantFrom('1', '-1', '9223372036854775807', '-9223372036854775808', '123456789012345')
const milliseconds = fc.integer({ min: 1, max: 3000 }).map(String)

const words: fc.Arbitrary<readonly string[]> = fc.oneof(
  fc.tuple(fc.constantFrom('GET', 'GETDEL', 'STRLEN', 'PTTL', 'PERSIST'), key),
  fc.tuple(fc.constant('SET'), key, value),
  fc.tuple(fc.constant('SET'), key, value, fc.constantFrom('NX', 'XX', 'GET', 'KEEPTTL')),
  fc.tuple(fc.constant('SET'), key, value, fc.constant('PX'), milliseconds),
  fc.tuple(fc.constantFrom('SETNX', 'GETSET', 'APPEND'), key, value),
  fc.tuple(fc.constantFrom('DEL', 'EXISTS', 'MGET'), key, key),
  fc.tuple(fc.constant('MSET'), key, value, key, value),
  fc.tuple(fc.constant('INCRBY'), key, delta),
  fc.tuple(fc.constant('PEXPIRE'), key, fc.integer({ min: -5, max: 3000 }).map(String)),
  fc.tuple(fc.constant('RENAME'), key, key),
  fc.tuple(fc.constant('SETRANGE'), key, fc.integer({ min: 0, max: 20 }).map(String), value),
  { weight: 1, arbitrary: fc.constantFrom(['DBSIZE'] as const, ['FLUSHALL'] as const) },
)

type Step = { do: 'command'; words: readonly string[] } | { do: 'wait'; for: number } | { do: 'restart' }

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 20, arbitrary: words.map((words) => ({ do: 'command', words }) as const) },
    { weight: 3, arbitrary: fc.integer({ min: 0, max: 2500 }).map((time) => ({ do: 'wait', for: time }) as const) },
    { weight: 1, arbitrary: fc.constant({ do: 'restart' } as const) },
  ),
  { maxLength: 60 },
)

/** One step, and its answer if it is a command. */
function perform(driver: Driver, step: Step): unknown {
  if (step.do === 'command') return driver.run(...step.words)
  if (step.do === 'wait') driver.advance(step.for)
  else driver.restart()
  return null
}

function compare(driver: Driver, model: Model): void {
  expect((driver.read('KEYS', '*') as string[]).sort()).toEqual(model.keys.sort())
  for (const key of model.keys) {
    expect(driver.read('GET', key)).toBe(model.run(['GET', key]))
    expect(driver.read('PTTL', key)).toBe(model.run(['PTTL', key]))
  }
}

describe('the machine', () => {
  it('answers as a plain map would, through waits and restarts', () => {
    fc.assert(
      fc.property(steps, (steps) => {
        const driver = new Driver()
        const model = new Model()
        for (const step of steps) {
          if (step.do === 'wait') model.time += step.for
          const expected = step.do === 'command' ? model.run(step.words) : null
          expect(perform(driver, step)).toEqual(expected)
        }
        compare(driver, model)
      }),
      { numRuns: 400 },
    )
  })

  it('is the same on a replica that was restored anywhere on the way', () => {
    fc.assert(
      fc.property(steps, fc.nat(60), (steps, at) => {
        const straight = new Driver()
        const restored = new Driver()
        for (const [number, step] of steps.entries()) {
          if (number === at) restored.restart()
          for (const driver of [straight, restored]) {
            if (step.do === 'wait') driver.advance(step.for)
            else if (step.do === 'command') driver.run(...step.words)
          }
        }
        expect(restored.machine.hash()).toBe(straight.machine.hash())
        expect(restored.machine.usedMemoryBytes).toBe(straight.machine.usedMemoryBytes)
        expect(restored.machine.nextExpiryMilliseconds()).toBe(straight.machine.nextExpiryMilliseconds())
        expect(restored.read('KEYS', '*')).toEqual(straight.read('KEYS', '*'))
      }),
      { numRuns: 200 },
    )
  })

  it('a checkpoint in slices, while commands go on, holds the state at its start', () => {
    fc.assert(
      fc.property(steps, steps, fc.nat(2000), (before, during, filler) => {
        const driver = new Driver()
        for (let i = 0; i < filler; i += 100) {
          const commands = Array.from({ length: 100 }, (_, j) => command('SET', `filler${i + j}`, 'v'.repeat(50)))
          driver.block(driver.next, commands)
          driver.next += 100
        }
        const run = (step: Step): void => {
          if (step.do === 'wait') driver.advance(step.for)
          else if (step.do === 'command') driver.run(...step.words)
        }
        before.forEach(run)
        const hash = driver.machine.hash()
        const { applied } = driver.machine
        const checkpoint = driver.machine.beginCheckpoint()
        const chunks: Buffer[] = []
        for (const [at, step] of during.entries()) {
          run(step)
          // Most of what happens meets buckets that are still to be written.
          const chunk = at % 8 === 7 ? checkpoint.next() : null
          if (chunk !== null) chunks.push(Buffer.from(chunk))
        }
        for (let chunk = checkpoint.next(); chunk !== null; chunk = checkpoint.next()) chunks.push(Buffer.from(chunk))
        const restored = Machine.restore(OPTIONS, chunks)
        expect(restored.hash()).toBe(hash)
        expect(restored.applied).toBe(applied)
        // And the next checkpoint holds what has happened since.
        const after = driver.machine.hash()
        expect(Machine.restore(OPTIONS, checkpointOf(driver.machine)).hash()).toBe(after)
      }),
      { numRuns: 60 },
    )
  })
})

describe('exactly once', () => {
  it('any delivery of blocks, doubled, late and with gaps, is the same as once and in order', () => {
    const total = 30
    const delivery = fc.array(fc.tuple(fc.integer({ min: 1, max: total }), fc.integer({ min: 1, max: 8 })), {
      maxLength: 60,
    })
    fc.assert(
      fc.property(delivery, fc.boolean(), (delivery, restart) => {
        const commands = Array.from({ length: total }, (_, i) => command('APPEND', 'k', String.fromCharCode(65 + i)))
        const driver = new Driver()
        const answers = new Map<number, unknown>()
        const deliver = (first: number, count: number): void => {
          const slice = commands.slice(first - 1, first - 1 + count)
          for (const { sequence, reply, duplicate } of driver.block(first, slice, 0)) {
            expect(duplicate).toBe(answers.has(sequence))
            if (!answers.has(sequence)) answers.set(sequence, reply)
            expect(reply).toBe(answers.get(sequence))
          }
          if (restart && first % 7 === 0) driver.restart()
        }
        for (const [first, count] of delivery) deliver(first, count)
        deliver(1, total)
        expect([...answers.values()]).toEqual(Array.from({ length: total }, (_, i) => i + 1))
        expect(driver.read('GET', 'k')).toBe(
          Array.from({ length: total }, (_, i) => String.fromCharCode(65 + i)).join(''),
        )
        expect(driver.machine.nextSequence(driver.session)).toBe(total + 1)
      }),
      { numRuns: 200 },
    )
  })
})
