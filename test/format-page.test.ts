/**
 * docs/FORMAT.md is right about contents and wires: a reader that was written from the page, and uses no line of
 * src/, reads what the machine writes; the kinds of the tables are those of the code. (The log and checkpoints
 * around the contents: test/storage/format.test.ts.)
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { encodeEntry } from '../src/machine/entry.ts'
import { Driver, checkpointOf, command } from './machine-driver.ts'

const root = join(import.meta.dirname, '..')
const text = (path: string): string => readFileSync(join(root, path), 'utf8')

class Reader {
  readonly bytes: Buffer
  at = 0
  constructor(bytes: Buffer) {
    this.bytes = bytes
  }
  get done(): boolean {
    return this.at === this.bytes.length
  }
  byte(): number {
    return this.bytes.readUInt8(this.at++)
  }
  uint(): number {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.byte()
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return Number(value)
    }
  }
  string(): string {
    const length = this.uint()
    this.at += length
    return this.bytes.toString('latin1', this.at - length, this.at)
  }
  many<T>(read: () => T): T[] {
    return Array.from({ length: this.uint() }, read)
  }
}

const commandOf = (r: Reader): unknown[] => [r.string(), ...r.many(() => r.string())]

function system(r: Reader): unknown[] {
  const kind = r.byte()
  if (kind === 1) return ['open-session', r.uint(), r.uint()]
  if (kind === 2) return ['allot-id', r.string()]
  if (kind === 4) return ['limit-memory', r.uint()]
  throw new Error(`system command ${kind}`)
}

function reply(r: Reader): unknown {
  const tag = r.byte()
  if (tag === 0) return null
  if (tag === 1) return r.uint()
  if (tag === 2) return -1 - r.uint()
  if (tag === 3 || tag === 4 || tag === 5 || tag === 13) return r.string()
  if (tag === 6) return r.many(() => reply(r))
  if (tag === 7) return `${r.string()} ${r.string()}`
  throw new Error(`reply ${tag}`)
}

function record(r: Reader): unknown[] {
  const kind = r.byte()
  const key = r.string()
  const [version, expiry] = [r.uint(), r.uint()]
  const values = [
    null,
    () => r.string(),
    () => r.many(() => [r.string(), r.string()]),
    () => r.many(() => r.string()),
    () => r.many(() => r.string()),
  ]
  return [key, version, expiry, values[kind]!()]
}

/** The bucket of a key, as the page says. */
function bucketOf(key: string): number {
  const u32 = (value: bigint): bigint => value & 0xffffffffn
  let h = 0x811c9dc5n
  for (const byte of Buffer.from(key, 'latin1')) h = u32((h ^ BigInt(byte)) * 0x01000193n)
  h = u32((h ^ (h >> 16n)) * 0x85ebca6bn)
  h = u32((h ^ (h >> 13n)) * 0xc2b2ae35n)
  return Number((h ^ (h >> 16n)) >> 20n)
}

it('an entry is what the page says', () => {
  const payload = encodeEntry(
    1_700_000_000_000,
    [
      { kind: 'open-session', session: { node: 3, incarnation: 300 } },
      { kind: 'limit-memory', maxMemoryBytes: 1 << 20 },
    ],
    [{ session: { node: 3, incarnation: 300 }, acknowledged: 7, first: 8, commands: [command('set', 'k', 'v')] }],
  )
  const r = new Reader(payload)
  expect([r.byte(), r.uint()]).toEqual([1, 1_700_000_000_000])
  expect(r.many(() => system(r))).toEqual([
    ['open-session', 3, 300],
    ['limit-memory', 1 << 20],
  ])
  const block = (): unknown[] => {
    const numbers = [r.uint(), r.uint(), r.uint(), r.uint()]
    return [numbers, r.many(() => commandOf(new Reader(Buffer.from(r.string(), 'latin1'))))]
  }
  expect(r.many(block)).toEqual([[[3, 300, 7, 8], [['', 'set', 'k', 'v']]]])
  expect(r.done).toBe(true)
})

it('a checkpoint is what the page says', () => {
  const driver = new Driver()
  const commands = [
    ['set', 'text', 'long '.repeat(500)],
    ['set', 'due', 'v', 'pxat', '33177117420123'],
    ['hset', 'hash', 'a', '1', 'b', '2'],
    ['sadd', 'set', 'x', 'y'],
    ['rpush', 'list', 'one', 'two', 'one'],
    ['incr', 'text'],
    ['del', 'list', 'none'],
    ['rpush', 'list', 'three'],
  ]
  driver.block(
    1,
    commands.map((words) => command(...words)),
  )
  const r = new Reader(Buffer.concat(checkpointOf(driver.machine)))
  expect([r.byte(), r.byte(), r.uint()]).toEqual([1, 1, driver.machine.applied])
  expect([r.uint(), r.uint()]).toEqual([driver.machine.timeMilliseconds, commands.length])
  expect([r.uint(), r.uint(), r.uint()]).toEqual([0, 0, 0])
  expect(r.many(() => [r.string(), r.uint()])).toEqual([])
  expect(r.many(() => r.uint())).toEqual([])
  const session = (): unknown => {
    const [node, incarnation, next] = [r.uint(), r.uint(), r.uint()]
    r.uint()
    return { node, incarnation, next, replies: r.many(() => [r.uint(), reply(r)]) }
  }
  const [only] = r.many(session) as { next: number; replies: unknown[][] }[]
  expect(only).toMatchObject({ node: 1, incarnation: 1, next: commands.length + 1 })
  expect(only!.replies).toContainEqual([6, 'ERR value is not an integer or out of range'])
  const found: unknown[][] = []
  let buckets = 0
  for (let kind = r.byte(); kind !== 4; kind = r.byte()) {
    const name = r.string()
    expect(name).toBe('')
    if (kind === 2) {
      expect(r.uint()).toBe(0)
      continue
    }
    expect(kind).toBe(3)
    const [bucket] = [r.uint(), r.uint()]
    const records = r.many(() => record(r))
    for (const [key] of records) expect(bucketOf(key as string)).toBe(bucket)
    found.push(...records)
    buckets++
  }
  expect([r.uint(), r.uint()]).toEqual([found.length, buckets])
  expect(r.done).toBe(true)
  expect(Object.fromEntries(found.map(([key, , ...rest]) => [key, rest]))).toEqual({
    text: [0, 'long '.repeat(500)],
    due: [33177117420123, 'v'],
    hash: [
      0,
      [
        ['a', '1'],
        ['b', '2'],
      ],
    ],
    set: [0, ['x', 'y']],
    list: [0, ['three']],
  })
})

it.each([
  ['src/edge/peer/frames.ts', 'Frames of the peer port'],
  ['src/consensus/message-codec.ts', 'Consensus messages'],
  ['src/turn/relay-messages.ts', 'Relay messages'],
])('the kinds of %s are those of the page', (file, heading) => {
  const table = /const KINDS = \{([^}]*)\}/.exec(text(file))![1]!
  const inCode = [...table.matchAll(/'?([a-z-]+)'?: (\d+)/g)].map(([, name, kind]) => `${kind} ${name}`)
  const section = text('docs/FORMAT.md').split(`### ${heading}\n`)[1]!.split('\n### ')[0]!
  const onPage = [...section.matchAll(/^\| (\d+) \| ([a-z-]+) \|/gm)].map(([, kind, name]) => `${kind} ${name}`)
  expect(inCode.length).toBeGreaterThan(5)
  expect(onPage).toEqual(inCode)
})
