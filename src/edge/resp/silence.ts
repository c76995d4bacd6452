/**
 * Waits until a client has been silent for a while: its connection is to be closed where that disturbs it least.
 */

/** How long a connection must have been silent before a drain closes it. */
const QUIET_MILLISECONDS = 500

export class Silence {
  readonly #lastActiveAt: () => number
  readonly #then: () => void
  #timer: NodeJS.Timeout | null = null

  /** `lastActiveAt`: in monotonic milliseconds. */
  constructor(lastActiveAt: () => number, then: () => void) {
    this.#lastActiveAt = lastActiveAt
    this.#then = then
  }

  get isAwaited(): boolean {
    return this.#timer !== null
  }

  /** Begins, or begins anew. Who has been silent for long needs no further patience. */
  await(): void {
    this.cancel()
    const left = Math.max(0, this.#lastActiveAt() + QUIET_MILLISECONDS - performance.now())
    this.#timer = setTimeout(() => {
      // Timers run before sockets are read: after a freeze of this process a command may already be waiting there.
      setImmediate(() => setImmediate(() => this.#look()))
    }, left)
  }

  #look(): void {
    if (this.#timer === null) return
    if (this.#lastActiveAt() + QUIET_MILLISECONDS > performance.now()) {
      this.await()
      return
    }
    this.#timer = null
    this.#then()
  }

  cancel(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}
