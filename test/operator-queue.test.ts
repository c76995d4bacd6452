/** The work queue: one handler a key, nothing forgotten, failures wait longer each time. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { WorkQueue } from '../operator/queue.ts'

const OPTIONS = {
  concurrency: 2,
  leastIntervalMilliseconds: 10,
  backoffLeastMilliseconds: 100,
  backoffMostMilliseconds: 1000,
}

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }))
afterEach(() => void vi.useRealTimers())

describe('the work queue', () => {
  test('adds of one key in one moment are one turn', async () => {
    const worked: string[] = []
    const queue = new WorkQueue(
      (key) => (worked.push(key), Promise.resolve(null)),
      () => {},
      OPTIONS,
    )
    for (const key of ['a', 'a', 'b', 'a']) queue.add(key)
    await vi.advanceTimersByTimeAsync(1)
    expect(worked).toEqual(['a', 'b'])
    expect(queue.size).toBe(0)
  })

  test('a key that is added while it is worked on is worked on once more, never twice at once', async () => {
    let running = 0
    let most = 0
    let turns = 0
    const queue = new WorkQueue(
      async () => {
        turns += 1
        most = Math.max(most, (running += 1))
        await new Promise((resolve) => setTimeout(resolve, 50))
        running -= 1
        return null
      },
      () => {},
      OPTIONS,
    )
    queue.add('a')
    await vi.advanceTimersByTimeAsync(5)
    queue.add('a')
    queue.add('a')
    await vi.advanceTimersByTimeAsync(500)
    expect({ most, turns }).toEqual({ most: 1, turns: 2 })
  })

  test('no more keys at once than allowed, and none is left out', async () => {
    let running = 0
    let most = 0
    const worked = new Set<string>()
    const queue = new WorkQueue(
      async (key) => {
        most = Math.max(most, (running += 1))
        await new Promise((resolve) => setTimeout(resolve, 20))
        running -= 1
        worked.add(key)
        return null
      },
      () => {},
      OPTIONS,
    )
    for (let n = 0; n < 20; n++) queue.add(`key-${n}`)
    await vi.advanceTimersByTimeAsync(1000)
    expect({ most, worked: worked.size }).toEqual({ most: 2, worked: 20 })
  })

  test('the answer says when to look again; an add comes sooner', async () => {
    const times: number[] = []
    const queue = new WorkQueue(
      () => (times.push(performance.now()), Promise.resolve(400)),
      () => {},
      OPTIONS,
    )
    const start = performance.now()
    queue.add('a')
    await vi.advanceTimersByTimeAsync(850)
    expect(times.map((time) => Math.round(time - start))).toEqual([0, 400, 800])
    queue.add('a')
    await vi.advanceTimersByTimeAsync(50)
    expect(times).toHaveLength(4)
    await queue.stop()
  })

  test('failures back off, up to a bound; a success forgets them', async () => {
    let failures = 6
    const times: number[] = []
    const errors: unknown[] = []
    const queue = new WorkQueue(
      () => {
        times.push(performance.now())
        return failures-- > 0 ? Promise.reject(new Error('no')) : Promise.resolve(null)
      },
      (_key, error) => errors.push(error),
      OPTIONS,
    )
    queue.add('a')
    await vi.advanceTimersByTimeAsync(10_000)
    expect(errors).toHaveLength(6)
    const gaps = times.slice(1).map((time, at) => time - (times[at] ?? 0))
    gaps.forEach((gap, at) => {
      const whole = Math.min(1000, 100 * 2 ** at)
      expect(gap).toBeGreaterThanOrEqual(whole / 2 - 1)
      expect(gap).toBeLessThanOrEqual(whole + 1)
    })
    expect(queue.size).toBe(0)
  })

  test('an add does not shorten a backoff that came after it', async () => {
    const queue = new WorkQueue(
      () => {
        queue.add('a')
        return Promise.reject(new Error('no'))
      },
      () => void (turns += 1),
      OPTIONS,
    )
    let turns = 0
    queue.add('a')
    await vi.advanceTimersByTimeAsync(45)
    expect(turns).toBe(1)
    await queue.stop()
  })

  test('stop waits for what is being done and takes nothing more', async () => {
    let done = false
    const queue = new WorkQueue(
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 50))
        done = true
        return 1
      },
      () => {},
      OPTIONS,
    )
    queue.add('a')
    await vi.advanceTimersByTimeAsync(5)
    const stopped = queue.stop()
    queue.add('b')
    await vi.advanceTimersByTimeAsync(200)
    await stopped
    expect(done).toBe(true)
  })
})
