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

it('takes a block that is larger than its bound by itself: left out, it would be sent again for ever', () => {
  const inbox = new Inbox({ entryBytes: 1000, forwardedBytes: 500 })
  inbox.admit(false, block(1, 800))
  inbox.admit(false, block(2, 10))
  expect(numbers(inbox.nextEntry(0, []))).toEqual([1])
  inbox.admit(false, block(2, 10))
  expect(numbers(inbox.nextEntry(0, []))).toEqual([2])
})
