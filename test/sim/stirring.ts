/**
 * Time in a world with promises in it: after an act that settled one (`stir`), everything that follows from it comes to
 * its end before time goes on.
 */
import type { Schedule } from './schedule.ts'

export class Stirring {
  readonly #schedule: Schedule
  #stirred = false
  #failure: { readonly error: unknown } | null = null

  constructor(schedule: Schedule) {
    this.#schedule = schedule
  }

  /** A promise was settled, or will be by what is under way. */
  stir(): void {
    this.#stirred = true
  }

  /** `until` throws it; the first one only. */
  fail(error: unknown): void {
    this.#failure ??= { error }
  }

  /** Lets everything happen up to `time`. */
  async until(time: number): Promise<void> {
    const reached = { yet: false }
    this.#schedule.at(time, () => {
      reached.yet = true
    })
    while (!reached.yet && this.#schedule.next()) {
      if (this.#stirred) {
        this.#stirred = false
        await new Promise((resolve) => setImmediate(resolve))
      }
      if (this.#failure) throw this.#failure.error
    }
  }
}
