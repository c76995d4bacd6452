/** The time of the log: wall clocks leap, times to live keep their length. */
import { describe, expect, it } from 'vitest'
import { LogClock } from '../src/turn/log-clock.ts'

const DAY = 86_400_000
const TODAY = 1_700_000_000_000

/** A leader with a clock of its own, writing its time into the log every second, as the machine takes it. */
class Leader {
  readonly clock = new LogClock()
  now = 0
  /** What its wall clock is off by. */
  off = 0
  log: number
  constructor(log = 0) {
    this.log = log
  }
  run(seconds: number): void {
    for (let each = 0; each < seconds; each++) {
      this.now += 1000
      this.log = Math.max(this.log, this.clock.read(this.now, TODAY + this.now + this.off, this.log))
    }
  }
}

describe('the clock of the log', () => {
  it('is the wall clock while that is well', () => {
    const leader = new Leader()
    leader.run(100)
    expect(leader.log).toBe(TODAY + 100_000)
  })

  it('does not follow a leap that is taken back soon', () => {
    const leader = new Leader()
    leader.run(100)
    leader.off = 3650 * DAY
    leader.run(30)
    leader.off = 0
    leader.run(100)
    expect(leader.log).toBe(TODAY + 230_000)
  })

  it('follows a leap that lasts, as that of a machine that slept', () => {
    const leader = new Leader()
    leader.run(100)
    leader.off = DAY
    leader.run(61)
    expect(leader.log).toBe(TODAY + DAY + 161_000)
  })

  it('takes small steps either way as they come, and never goes back', () => {
    const leader = new Leader()
    leader.run(10)
    leader.off = 5000
    leader.run(1)
    expect(leader.log).toBe(TODAY + 16_000)
    leader.off = 0
    leader.run(1)
    expect(leader.log).toBe(TODAY + 16_000)
    leader.run(5)
    expect(leader.log).toBe(TODAY + 17_000)
  })

  it('goes on at its own pace where a clock that was wrong has left the log years ahead', () => {
    const poisoned = TODAY + 3650 * DAY
    const leader = new Leader(poisoned)
    leader.run(1)
    leader.run(10)
    expect(leader.log).toBe(poisoned + 10_000)
    // The next leader, which has heard of none of this, too.
    const next = new Leader(leader.log)
    next.run(11)
    expect(next.log).toBe(leader.log + 10_000)
  })
})
