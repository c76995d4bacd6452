/**
 * A keyed work queue: each key is worked on by one handler at a time, however often it is added; a key that is
 * added meanwhile is worked on once more. Failures back off exponentially with jitter, each key for itself; no
 * key is worked on more often than `leastIntervalMilliseconds` allows, and no more than `concurrency` at once.
 */

export interface QueueOptions {
  readonly concurrency: number
  readonly leastIntervalMilliseconds: number
  readonly backoffLeastMilliseconds: number
  readonly backoffMostMilliseconds: number
}

export const QUEUE_DEFAULTS: QueueOptions = {
  concurrency: 8,
  leastIntervalMilliseconds: 50,
  backoffLeastMilliseconds: 200,
  backoffMostMilliseconds: 30_000,
}

/** Works on a key; gives back when to work on it again at the latest, in milliseconds, or null: when it is added. */
export type Handler = (key: string) => Promise<number | null>

interface KeyState {
  running: boolean
  /** Added while it was running. */
  again: boolean
  failures: number
  startedAt: number
  /** When it is due, in milliseconds of the monotonic clock; Infinity: not. */
  dueAt: number
  timer: NodeJS.Timeout | null
}

export class WorkQueue {
  readonly #handler: Handler
  readonly #onError: (key: string, error: unknown) => void
  readonly #options: QueueOptions
  readonly #keys = new Map<string, KeyState>()
  readonly #waiting = new Set<string>()
  #running = 0
  #stopped = false
  #idle: (() => void) | null = null

  constructor(handler: Handler, onError: (key: string, error: unknown) => void, options = QUEUE_DEFAULTS) {
    this.#handler = handler
    this.#onError = onError
    this.#options = options
  }

  /** Keys that are known: running, due or waiting for their time. */
  get size(): number {
    return this.#keys.size
  }

  /** Has the key worked on after `delayMilliseconds`, or sooner if it is due sooner. */
  add(key: string, delayMilliseconds = 0): void {
    if (this.#stopped) return
    const state = this.#stateOf(key)
    if (state.running && delayMilliseconds === 0) {
      state.again = true
      return
    }
    const earliest = state.startedAt + this.#options.leastIntervalMilliseconds
    const dueAt = Math.max(performance.now() + delayMilliseconds, earliest)
    if (dueAt >= state.dueAt) return
    state.dueAt = dueAt
    if (state.timer !== null) clearTimeout(state.timer)
    state.timer = setTimeout(() => this.#due(key, state), Math.max(0, dueAt - performance.now()))
  }

  /** Takes no more keys and resolves when those in work are done. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const state of this.#keys.values()) if (state.timer !== null) clearTimeout(state.timer)
    this.#waiting.clear()
    if (this.#running > 0) await new Promise<void>((resolve) => (this.#idle = resolve))
  }

  #stateOf(key: string): KeyState {
    const known = this.#keys.get(key)
    if (known) return known
    const state: KeyState = {
      running: false,
      again: false,
      failures: 0,
      startedAt: -Infinity,
      dueAt: Infinity,
      timer: null,
    }
    this.#keys.set(key, state)
    return state
  }

  #due(key: string, state: KeyState): void {
    state.timer = null
    state.dueAt = Infinity
    if (state.running) state.again = true
    else this.#waiting.add(key)
    this.#pump()
  }

  #pump(): void {
    for (const key of this.#waiting) {
      if (this.#running >= this.#options.concurrency) return
      this.#waiting.delete(key)
      void this.#work(key, this.#stateOf(key))
    }
  }

  async #work(key: string, state: KeyState): Promise<void> {
    state.running = true
    state.startedAt = performance.now()
    this.#running += 1
    let next: number | null
    let failed = false
    try {
      next = await this.#handler(key)
      state.failures = 0
    } catch (error) {
      this.#onError(key, error)
      next = this.#backoff(state)
      failed = true
    }
    state.running = false
    this.#running -= 1
    if (this.#stopped) {
      if (this.#running === 0) this.#idle?.()
      return
    }
    const again = state.again
    state.again = false
    if (again && !failed) this.add(key)
    else if (next !== null) this.add(key, next)
    else if (state.timer === null) this.#keys.delete(key)
    this.#pump()
  }

  #backoff(state: KeyState): number {
    const { backoffLeastMilliseconds: least, backoffMostMilliseconds: most } = this.#options
    const whole = Math.min(most, least * 2 ** Math.min(state.failures, 30))
    state.failures += 1
    return whole * (0.5 + Math.random() / 2)
  }
}
