/** Replies for other nodes: in order, in bounded messages, each under the session that it belongs to. */
import { expect, it } from 'vitest'
import { OwedReplies } from '../src/turn/owed-replies.ts'
import type { RelayMessage } from '../src/turn/relay-messages.ts'
import { logIndex } from '../src/vocabulary.ts'

type Replies = Extract<RelayMessage, { kind: 'replies' }>

function released(owed: OwedReplies): [to: number, Replies][] {
  const all: [number, Replies][] = []
  owed.release(logIndex(7), (to, message) => all.push([to, message as Replies]))
  return all
}

it('gathers the replies of a turn by node, once', () => {
  const owed = new OwedReplies(1000)
  const [two, three] = [
    { node: 2, incarnation: 1 },
    { node: 3, incarnation: 1 },
  ]
  owed.owe(two, 1, 'OK')
  owed.owe(three, 1, 'OK')
  owed.owe(two, 2, 5)
  const of = (sequence: number, reply: string | number) => ({ sequence, reply })
  expect(released(owed)).toEqual([
    [2, { kind: 'replies', session: two, index: 7, replies: [of(1, 'OK'), of(2, 5)] }],
    [3, { kind: 'replies', session: three, index: 7, replies: [of(1, 'OK')] }],
  ])
  expect(released(owed)).toEqual([])
})

it('keeps messages below their bound, and one reply passes whatever its size', () => {
  const owed = new OwedReplies(250)
  const session = { node: 2, incarnation: 1 }
  for (const [at, size] of [100, 100, 100, 1000, 10].entries()) owed.owe(session, at + 1, Buffer.alloc(size))
  const sequences = released(owed).map(([, { replies }]) => replies.map(({ sequence }) => sequence))
  expect(sequences).toEqual([[1, 2], [3], [4], [5]])
})

it('says so where a reply is larger than a message may be: its node would ask for it for ever', () => {
  const owed = new OwedReplies(250, 500)
  const session = { node: 2, incarnation: 1 }
  for (const [at, size] of [100, 1000, 10, 400].entries()) owed.owe(session, at + 1, Buffer.alloc(size))
  const replies = released(owed).flatMap(([, message]) => message.replies)
  expect(replies.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4])
  expect(replies[1]!.reply).toMatchObject({ kind: 'error', message: expect.stringContaining('was applied') as string })
  expect(replies[3]!.reply).toHaveLength(400)
})

it('never mixes two starts of a node, whose numbers are the same', () => {
  const owed = new OwedReplies(1000)
  owed.owe({ node: 2, incarnation: 1 }, 1, 'old')
  owed.owe({ node: 2, incarnation: 2 }, 1, 'new')
  const said = released(owed).map(([, { session, replies }]) => [session.incarnation, replies[0]!.reply])
  expect(said).toEqual([
    [1, 'old'],
    [2, 'new'],
  ])
})
