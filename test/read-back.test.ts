/** Entries read back for others: one reading at a time for each, the newest question waits, failures end nothing. */
import { expect, test } from 'vitest'
import { ReadBack } from '../src/read-back.ts'
import { type Entry, logIndex, nodeId } from '../src/vocabulary.ts'

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const [two, three] = [nodeId(2), nodeId(3)]

/** Readings that end when they are told to. */
function bench() {
  const readings: { from: number; end: (error?: Error) => void }[] = []
  const answered: string[] = []
  const readBack = new ReadBack({
    read: ({ from }) =>
      new Promise<readonly Entry[]>((resolve, reject) => {
        readings.push({ from, end: (error) => (error ? reject(error) : resolve([])) })
      }),
    answer: (to, from) => answered.push(`${to}: ${from}`),
    failed: (from, { message }) => answered.push(`${from}: ${message}`),
  })
  const ask = (to: typeof two, from: number): void =>
    readBack.ask(to, { from: logIndex(from), upTo: logIndex(from + 9) })
  return { ask, readings, answered }
}

test('however often a node asks, one reading is under way for it, and the newest question comes next', async () => {
  const { ask, readings, answered } = bench()
  for (let from = 1; from <= 50; from++) ask(two, from)
  ask(three, 7)
  expect(readings.map(({ from }) => from)).toEqual([1, 7])
  readings[0]!.end()
  await settled()
  expect(readings.map(({ from }) => from)).toEqual([1, 7, 50])
  for (const { end } of readings) end()
  await settled()
  expect(answered).toEqual(['2: 1', '3: 7', '2: 50'])
  ask(two, 60)
  expect(readings.at(-1)!.from).toBe(60)
})

test('a reading that fails is told of, and the next question is read', async () => {
  const { ask, readings, answered } = bench()
  ask(two, 1)
  ask(two, 2)
  readings[0]!.end(new Error('gone'))
  await settled()
  readings[1]!.end()
  await settled()
  expect(answered).toEqual(['1: gone', '2: 2'])
})
