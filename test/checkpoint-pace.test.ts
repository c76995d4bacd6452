/** Checkpoints of several nodes do not fall together, and give way where processors are short. */
import { expect, test } from 'vitest'
import { checkpointPauses, pauseMilliseconds, shareOfDue } from '../src/node/checkpoint-pace.ts'

test('never later than the settings say, and never much earlier', () => {
  expect(shareOfDue(0)).toBe(0.6)
  expect(shareOfDue(0.5)).toBeCloseTo(0.8)
  expect(shareOfDue(1)).toBe(1)
})

test('the pause grows with what was waited for a processor, up to a bound', () => {
  expect(pauseMilliseconds(0)).toBe(1)
  expect(pauseMilliseconds(2)).toBe(9)
  expect(pauseMilliseconds(1000)).toBe(20)
})

test('pauses end', async () => {
  const pause = checkpointPauses()
  expect([await pause(), await pause()]).toEqual([undefined, undefined])
})
