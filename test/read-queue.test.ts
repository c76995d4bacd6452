/** Reads between their arrival at the leader and the state that may answer them. */
import { expect, it } from 'vitest'
import { ReadQueue } from '../src/turn/read-queue.ts'
import { logIndex, nodeId } from '../src/vocabulary.ts'

const batch = (id: number) => ({ from: nodeId(1), id, commands: [] })

it('asks again where a key that was due when they were asked came with what was applied since', () => {
  const queue = new ReadQueue()
  queue.arrive(batch(1))
  queue.confirm(queue.ask(logIndex(0), 1000), logIndex(5))
  queue.arrive(batch(2))
  queue.confirm(queue.ask(logIndex(0), 1200), logIndex(9))
  // Not applied yet: nothing is known of the keys that it brings.
  expect(queue.postpone(logIndex(4), 900)).toBe(false)
  expect(queue.postpone(logIndex(5), 1001)).toBe(false)
  expect(queue.postpone(logIndex(5), 1000)).toBe(true)
  expect(queue.hasArrived).toBe(true)
  expect(queue.next(logIndex(5))).toBe(null)
  // The second group is answered; the first one asks anew, and what was due is gone by then.
  expect(queue.next(logIndex(9))).toEqual(batch(2))
  queue.confirm(queue.ask(logIndex(10), 1300), logIndex(9))
  expect(queue.postpone(logIndex(10), Infinity)).toBe(false)
  expect(queue.next(logIndex(9))).toBe(null)
  expect(queue.next(logIndex(10))).toEqual(batch(1))
})

it('takes what waits only once, and anew when it was answered or forgotten', () => {
  const queue = new ReadQueue()
  const arrives = (id: number): boolean => {
    const before = queue.hasArrived
    queue.arrive(batch(id))
    return queue.hasArrived && !before
  }
  expect(arrives(1)).toBe(true)
  const asked = queue.ask(logIndex(0), 0)
  expect(arrives(1)).toBe(false)
  // Leadership is lost: whoever asked asks again, and it may be this node all the same.
  queue.fail(asked)
  expect(arrives(1)).toBe(true)
  queue.forgetArrived()
  expect(arrives(1)).toBe(true)
  queue.confirm(queue.ask(logIndex(0), 0), logIndex(3))
  expect(arrives(1)).toBe(false)
  expect(queue.next(logIndex(3))).toEqual(batch(1))
  // The answer may have been lost.
  expect(arrives(1)).toBe(true)
  queue.forgetArrived()
  queue.arrive({ ...batch(1), from: nodeId(2) })
  expect(queue.hasArrived).toBe(true)
})

it('leaves out nodes that are behind, and says what is ready whether they are or not', () => {
  const queue = new ReadQueue()
  const of = (node: number, id: number) => ({ ...batch(id), from: nodeId(node) })
  for (const each of [of(2, 1), of(3, 1), of(2, 2)]) queue.arrive(each)
  queue.confirm(queue.ask(logIndex(0), 0), logIndex(3))
  queue.arrive(of(3, 2))
  queue.confirm(queue.ask(logIndex(0), 0), logIndex(4))
  const isBehind = (node: number) => node === 2
  expect(queue.next(logIndex(3), isBehind)).toEqual(of(3, 1))
  expect(queue.next(logIndex(3), isBehind)).toBe(null)
  expect(queue.isReady(logIndex(3))).toBe(true)
  expect(queue.next(logIndex(4), isBehind)).toEqual(of(3, 2))
  expect(queue.next(logIndex(4))).toEqual(of(2, 1))
  expect(queue.next(logIndex(4))).toEqual(of(2, 2))
  expect(queue.isReady(logIndex(4))).toBe(false)
})

it('forgets what waits for an entry that another leadership may not have, and keeps what does not', () => {
  const queue = new ReadQueue()
  queue.arrive(batch(1))
  queue.confirm(queue.ask(logIndex(0), 0), logIndex(5))
  queue.arrive(batch(2))
  queue.confirm(queue.ask(logIndex(7), 0), logIndex(5))
  queue.forgetUndecided(logIndex(5))
  expect(queue.next(logIndex(9))).toEqual(batch(1))
  expect(queue.next(logIndex(9))).toBe(null)
  queue.arrive(batch(2))
  expect(queue.hasArrived).toBe(true)
})

it('gives up what waits where nothing was answered for long, once for all of it', () => {
  const queue = new ReadQueue()
  const next = (applied: number) => queue.next(logIndex(applied))
  queue.giveUp(0)
  for (const id of [1, 2, 3]) {
    queue.arrive(batch(id))
    if (id === 1) queue.confirm(queue.ask(logIndex(9), 0), logIndex(5))
    if (id === 2) queue.ask(logIndex(9), 0)
  }
  // One confirmed and not applied, one not confirmed, one not asked.
  queue.giveUp(1000)
  queue.giveUp(3900)
  expect(next(8)).toBe(null)
  // An answer begins it anew.
  expect(next(9)).toEqual(batch(1))
  queue.giveUp(4100)
  queue.giveUp(7000)
  expect(next(9)).toBe(null)
  queue.giveUp(7200)
  const refusal = { kind: 'error', prefix: 'LOKI', message: expect.stringMatching(/^DISK_FULL: /) as string }
  expect([next(0), next(0), next(0)]).toEqual([{ ...batch(2), refusal }, { ...batch(3), refusal }, null])
  expect(queue.hasArrived).toBe(false)
  // What was asked before is confirmed later, and nobody waits for it.
  queue.confirm(2, logIndex(9))
  expect(next(9)).toBe(null)
})

it('what waited for an earlier leadership makes nothing wait for long in this one', () => {
  const queue = new ReadQueue()
  for (const lose of [() => queue.fail(queue.ask(logIndex(0), 0)), () => queue.forgetArrived()]) {
    queue.arrive(batch(1))
    queue.giveUp(0)
    lose()
    queue.arrive(batch(2))
    queue.giveUp(60_000)
    expect(queue.next(logIndex(0))).toBe(null)
    queue.giveUp(63_000)
    expect(queue.next(logIndex(0))).toMatchObject({ id: 2, refusal: { prefix: 'LOKI' } })
  }
})
