/** In line only while the disk is quick; never for long when it is not. */
import { expect, test } from 'vitest'
import { INLINE_BYTES_MAXIMUM, SyncPace } from '../../src/storage/sync-pace.ts'

/** Lets `count` writes happen on a disk that takes `milliseconds`; gives how many were in line. */
function writes(pace: SyncPace, count: number, milliseconds: number): number {
  let inline = 0
  for (let write = 0; write < count; write++) {
    if (pace.next(1000) !== 'inline') continue
    inline++
    pace.took(milliseconds)
  }
  return inline
}

test('a quick disk is written in line after a few probes', () => {
  const pace = new SyncPace('auto')
  expect(writes(pace, 256, 0.13)).toBe(4)
  expect(pace.mode).toBe('inline')
  expect(writes(pace, 1000, 0.13)).toBe(1000)
})

test('a slow disk is probed ever more rarely', () => {
  const pace = new SyncPace('auto')
  expect(writes(pace, 100_000, 20)).toBeLessThan(25)
  expect(pace.mode).toBe('pool')
})

test('one long freeze, or a slow average, ends it at once', () => {
  for (const [slow, allowed] of [
    [9, 1],
    [1.2, 40],
  ] as const) {
    const pace = new SyncPace('auto')
    writes(pace, 500, 0.13)
    expect(pace.mode).toBe('inline')
    expect(writes(pace, 200, slow)).toBeLessThanOrEqual(allowed + 3)
    expect(pace.mode).toBe('pool')
  }
})

test('a disk that becomes quick again is found out', () => {
  const pace = new SyncPace('auto')
  writes(pace, 10_000, 20)
  writes(pace, 200_000, 0.1)
  expect(pace.mode).toBe('inline')
})

test('settings and large writes', () => {
  expect(writes(new SyncPace('pool'), 1000, 0.1)).toBe(0)
  expect(writes(new SyncPace('inline'), 1000, 50)).toBe(1000)
  const pace = new SyncPace('inline')
  expect(pace.next(INLINE_BYTES_MAXIMUM + 1)).toBe('pool')
})
