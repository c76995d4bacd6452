/** What waits at the leader: bounded, taken once, and never so that a block can never pass. */
import { describe, expect, it } from 'vitest'
import { Inbox } from '../src/turn/inbox.ts'
import { type Block, decodeEntry } from '../src/machine/entry.ts'
import { logIndex } from '../src/vocabulary.ts'

const LIMITS = { entryBytes: 100_000, forwardedBytes: 100_000 }

const block = (first: number, bytes: number, count = 1, incarnation = 1): Block => ({
  session: { node: 1, incarnation },
  acknowledged: 0,
  first,
  commands: Array.from({ length: count }, () => Buffer.alloc(bytes)),
})

/** A leader of which only the inbox is there: its entries get the indices 1, 2, 3, … */
class Leader {
  readonly inbox: Inbox
  #index = 0

  constructor(limits: ConstructorParameters<typeof Inbox>[0] = LIMITS) {
    this.inbox = new Inbox(limits)
  }

  send(...firsts: number[]): void {
    for (const first of firsts) this.inbox.admit(false, block(first, 10))
  }

  /** First numbers of the blocks in the next entry. */
  propose(): number[] {
    return decodeEntry(this.inbox.nextEntry(logIndex(++this.#index), 0, [])).blocks.map(({ first }) => first)
  }

  /** Numbers of all commands in the next entry. */
  proposeAll(): number[] {
    const { blocks } = decodeEntry(this.inbox.nextEntry(logIndex(++this.#index), 0, []))
    return blocks.flatMap(({ first, commands }) => commands.map((_, at) => first + at))
  }

  apply(index: number): void {
    this.inbox.applied(logIndex(index))
  }
}

it('leaves out what is above its bound, and takes it when there is room', () => {
  const leader = new Leader({ entryBytes: 1000, forwardedBytes: 500 })
  leader.inbox.admit(false, block(1, 300))
  leader.inbox.admit(false, block(2, 300))
  expect(leader.propose()).toEqual([1])
  leader.inbox.admit(false, block(2, 300))
  expect(leader.propose()).toEqual([2])
  expect(leader.inbox.isEmpty).toBe(true)
})

it('takes a block that is larger than its bound by itself: left out, it would be sent again for ever', () => {
  const leader = new Leader({ entryBytes: 1000, forwardedBytes: 500 })
  leader.inbox.admit(false, block(1, 800))
  leader.inbox.admit(false, block(2, 10))
  expect(leader.propose()).toEqual([1])
  leader.inbox.admit(false, block(2, 10))
  expect(leader.propose()).toEqual([2])
})

describe('a repetition', () => {
  it('is taken only once while it waits, or is proposed and not applied', () => {
    const leader = new Leader({ entryBytes: 25, forwardedBytes: 10_000 })
    leader.send(1, 2, 3, 1, 2, 3, 4)
    expect(leader.propose()).toEqual([1])
    leader.send(1, 2, 3, 4, 5)
    expect([2, 3, 4, 5].map(() => leader.propose())).toEqual([[2], [3], [4], [5]])
    expect(leader.inbox.isEmpty).toBe(true)
    for (let times = 0; times < 1000; times++) leader.send(1, 2, 3, 4, 5)
    expect(leader.inbox.isEmpty).toBe(true)
  })

  it('is taken anew when the entry that had it is applied, whatever came of it', () => {
    const leader = new Leader()
    leader.send(1)
    leader.propose()
    leader.send(2)
    leader.propose()
    leader.apply(1)
    leader.send(1, 2)
    expect(leader.propose()).toEqual([1, 2])
    leader.send(1, 2)
    leader.apply(2)
    leader.send(1, 2)
    expect(leader.inbox.isEmpty).toBe(true)
    leader.apply(3)
    leader.send(2)
    expect(leader.propose()).toEqual([2])
  })

  it('is taken anew where the leader has changed: the log may have been cut', () => {
    const leader = new Leader()
    leader.send(1, 2)
    leader.propose()
    leader.send(3)
    leader.inbox.forgetBlocks()
    expect(leader.inbox.isEmpty).toBe(true)
    leader.send(1, 2, 3)
    expect(leader.propose()).toEqual([1, 2, 3])
  })

  it('of which some is new: that is taken', () => {
    const leader = new Leader()
    leader.inbox.admit(false, block(1, 10, 3))
    leader.inbox.admit(false, block(2, 10, 4))
    expect(leader.proposeAll()).toEqual([1, 2, 3, 4, 5])
    leader.inbox.admit(false, block(1, 10, 6))
    expect(leader.proposeAll()).toEqual([6])
    leader.apply(1)
    leader.inbox.admit(false, block(4, 10, 4))
    // 4 and 5 were refused, or their answer was lost: who asks again is the judge of that.
    expect(leader.proposeAll()).toEqual([4, 5, 6, 7])
  })

  it('of another start of the same node is none', () => {
    const leader = new Leader()
    leader.send(1, 2)
    leader.propose()
    leader.inbox.admit(false, block(1, 10, 1, 2))
    expect(leader.propose()).toEqual([1])
  })
})

describe('behind a gap', () => {
  it('what comes is refused where it stands: it is taken again behind what was missing', () => {
    const leader = new Leader()
    leader.send(1, 5, 1, 2, 3, 4, 5)
    expect(leader.propose()).toEqual([1, 5, 2, 3, 4, 5])
    leader.send(9, 6, 7, 8)
    leader.propose()
    leader.send(9)
    expect(leader.propose()).toEqual([9])
  })

  it('where the first of all was missing, everything is taken again behind it', () => {
    const leader = new Leader()
    leader.send(5, 6)
    expect(leader.propose()).toEqual([5, 6])
    leader.send(3, 4, 5, 6)
    expect(leader.propose()).toEqual([3, 4, 5, 6])
  })
})

it('any mixture of losses, repetitions and slow entries (seed 5): every command is applied, and the log has few twice', () => {
  // A machine that applies in order only, and a node that sends everything unanswered again, long before the answer.
  let state = 5
  const chance = (one: number): boolean => (state = (state * 48_271) % 2_147_483_647) % one === 0
  const leader = new Leader({ entryBytes: 200, forwardedBytes: 20_000 })
  const log: number[][] = []
  let [applied, next, asked, carried] = [0, 1, 1, 0]
  for (let turn = 0; turn < 20_000; turn++) {
    if (asked - next < 200) asked++
    for (let first = turn % 40 === 0 ? next : asked - 1; first < asked; first++) {
      if (!chance(5000)) leader.send(first)
    }
    if (chance(2000)) leader.inbox.forgetBlocks()
    if (!leader.inbox.isEmpty) log.push(leader.proposeAll())
    // The last 30 entries are not decided yet.
    for (; applied < log.length - 30; applied++) {
      for (const number of log[applied]!) {
        carried++
        if (number === next) next++
      }
    }
    leader.apply(applied)
  }
  expect(next).toBeGreaterThan(15_000)
  expect(asked - next).toBeLessThanOrEqual(200)
  expect(carried / next).toBeLessThan(1.2)
})

it('entries keep no memory that anything else was in, and what they say stays as it is', () => {
  const inbox = new Inbox(LIMITS)
  const payloads: Buffer[] = []
  for (let index = 1; index <= 2000; index++) {
    // Each 50th is too long to share anything.
    inbox.admit(false, block(index, index % 50 === 0 ? 40_000 : 20))
    payloads.push(inbox.nextEntry(logIndex(index), index, []))
    // As answers to reads take it.
    for (let reads = 0; reads < 8; reads++) Buffer.allocUnsafe(10_000).fill(0xff)
  }
  for (const [at, payload] of payloads.entries()) {
    const { time, blocks } = decodeEntry(payload)
    expect([time, blocks.map(({ first }) => first)]).toEqual([at + 1, [at + 1]])
  }
  const kept = new Set(payloads.map(({ buffer }) => buffer))
  const keptBytes = [...kept].reduce((sum, { byteLength }) => sum + byteLength, 0)
  const payloadBytes = payloads.reduce((sum, { length }) => sum + length, 0)
  expect(keptBytes).toBeLessThan(2 * payloadBytes)
})
