/** What waits at the leader: bounded, and never so that a block can never pass. */
import { expect, it } from 'vitest'
import { Inbox } from '../src/inbox.ts'
import { type Block, decodeEntry } from '../src/machine/entry.ts'

const block = (first: number, bytes: number): Block => ({
  session: { node: 1, incarnation: 1 },
  acknowledged: 0,
  first,
  commands: [Buffer.alloc(bytes)],
})
const numbers = (payload: Buffer): number[] => decodeEntry(payload).blocks.map(({ first }) => first)

it('leaves out what is above its bound, and takes it when there is room', () => {
  const inbox = new Inbox({ entryBytes: 1000, forwardedBytes: 500 })
  inbox.admit(false, block(1, 300))
  inbox.admit(false, block(2, 300))
  expect(numbers(inbox.nextEntry(0, []))).toEqual([1])
  inbox.admit(false, block(2, 300))
  expect(numbers(inbox.nextEntry(0, []))).toEqual([2])
  expect(inbox.isEmpty).toBe(true)
})

it('takes a repetition of what waits only once, and anew when that was taken or forgotten', () => {
  const inbox = new Inbox({ entryBytes: 25, forwardedBytes: 10_000 })
  const send = (...firsts: number[]): void => {
    for (const first of firsts) inbox.admit(false, block(first, 10))
  }
  send(1, 2, 3, 1, 2, 3, 4)
  expect(numbers(inbox.nextEntry(0, []))).toEqual([1])
  send(1, 2, 3, 4)
  expect([2, 3, 4, 1].map(() => numbers(inbox.nextEntry(0, [])))).toEqual([[2], [3], [4], [1]])
  expect(inbox.isEmpty).toBe(true)
  send(1, 2)
  inbox.forgetBlocks()
  send(1)
  expect(numbers(inbox.nextEntry(0, []))).toEqual([1])
})

it('lets in what was left out in the middle, and another start of the same node', () => {
  const inbox = new Inbox({ entryBytes: 100_000, forwardedBytes: 100_000 })
  for (const first of [1, 5, 1, 2, 3, 4, 5]) inbox.admit(false, block(first, 10))
  inbox.admit(false, { ...block(1, 10), session: { node: 1, incarnation: 2 } })
  // Behind the gap 5 is refused where it stands; its repetition, behind 4, is not.
  expect(numbers(inbox.nextEntry(0, []))).toEqual([1, 5, 1, 2, 3, 4, 5, 1])
})

it('takes a block that is larger than its bound by itself: left out, it would be sent again for ever', () => {
  const inbox = new Inbox({ entryBytes: 1000, forwardedBytes: 500 })
  inbox.admit(false, block(1, 800))
  inbox.admit(false, block(2, 10))
  expect(numbers(inbox.nextEntry(0, []))).toEqual([1])
  inbox.admit(false, block(2, 10))
  expect(numbers(inbox.nextEntry(0, []))).toEqual([2])
})
