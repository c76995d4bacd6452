/**
 * The time that a leader writes into the log, from a wall clock that may be wrong. PURE.
 *
 * The log's own time never goes back (machine.ts), so one clock that leaps ahead would rule for ever: what is due
 * by date would go at once, and then no time to live would end until the true time has come up to the leap.
 *
 * - A leap forward of the wall clock beside the monotonic one is believed only when it has lasted for a while: a
 *   virtual machine that slept is right, a clock that was set by mistake is mostly set back soon.
 * - Where the log is far ahead of the wall clock, its time goes on at the pace of the monotonic clock: times to
 *   live keep their length, whatever the date. A little ahead it waits, as after any change of leader.
 */
const LEAP_MILLISECONDS = 60_000
const BELIEVED_AFTER_MILLISECONDS = 60_000

interface Anchor {
  readonly time: number
  readonly now: number
}

export class LogClock {
  /** The last time that was believed. */
  #believed: Anchor | null = null
  /** Since when the wall clock has been far ahead of what is believed. */
  #leaptAt: number | null = null
  /** Where the log was found far ahead of the wall clock. */
  #ahead: Anchor | null = null

  /** `now`: monotonic. `wall`: since 1970. `log`: the time of the log. All in milliseconds, the result whole. */
  read(now: number, wall: number, log: number): number {
    const time = this.#believe(now, wall)
    if (log - time <= LEAP_MILLISECONDS) this.#ahead = null
    else this.#ahead ??= { time: log, now }
    return Math.floor(this.#ahead ? this.#ahead.time + now - this.#ahead.now : time)
  }

  #believe(now: number, wall: number): number {
    const expected = this.#believed ? this.#believed.time + now - this.#believed.now : wall
    if (wall - expected <= LEAP_MILLISECONDS) this.#leaptAt = null
    else this.#leaptAt ??= now
    const isBelieved = this.#leaptAt === null || now - this.#leaptAt >= BELIEVED_AFTER_MILLISECONDS
    const time = isBelieved ? wall : expected
    this.#believed = { time, now }
    if (isBelieved) this.#leaptAt = null
    return time
  }
}
