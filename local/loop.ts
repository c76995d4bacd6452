/**
 * A control loop: looks at the state whenever something it cares for has changed, and makes it so. It guarantees
 * that turns of one loop never overlap, that a change during a turn leads to another turn, and that a turn that
 * failed is tried again. Loops are level-triggered: a turn looks at what is, not at what has happened.
 */
import { Failure } from './failure.ts'
import type { Registry } from './registry.ts'

const RETRY_MILLISECONDS = 500

export class Loop {
  readonly #turn: () => void | Promise<void>
  readonly #unsubscribe: () => void
  #scheduled = false
  #running = false
  #again = false
  #stopped = false
  #retry: NodeJS.Timeout | null = null

  /** `resources`: keys of what it cares for; `turn`: one look at the state. */
  constructor(registry: Registry, resources: readonly string[], turn: () => void | Promise<void>) {
    this.#turn = turn
    this.#unsubscribe = registry.store.subscribe((change) => {
      if (resources.includes(change.resource)) this.wake()
    })
    this.wake()
  }

  /** Asks for a turn soon. */
  wake(): void {
    if (this.#stopped) return
    if (this.#running) this.#again = true
    else if (!this.#scheduled) {
      this.#scheduled = true
      setImmediate(() => void this.#run())
    }
  }

  /** Asks for a turn after some time. */
  wakeAfter(milliseconds: number): void {
    if (this.#retry !== null || this.#stopped) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      this.wake()
    }, milliseconds)
  }

  async #run(): Promise<void> {
    this.#scheduled = false
    if (this.#stopped) return
    this.#running = true
    try {
      await this.#turn()
    } catch (error) {
      // A refusal is part of life (something else was faster); anything else is told.
      if (!(error instanceof Failure)) console.error(error)
      this.wakeAfter(RETRY_MILLISECONDS)
    }
    this.#running = false
    if (this.#again) {
      this.#again = false
      this.wake()
    }
  }

  stop(): void {
    this.#stopped = true
    this.#unsubscribe()
    if (this.#retry !== null) clearTimeout(this.#retry)
  }
}
