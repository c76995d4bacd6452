/**
 * Remembers which objects were written as they are wanted, only so that the same is not written every turn: a
 * memory that saves requests and decides nothing. Whatever changes outside is written anew: at once when a
 * watch tells of it, and in any case after a while.
 */
import type { KubeObject } from './resource.ts'

const VALID_MILLISECONDS = 300_000

interface Entry {
  readonly fingerprint: string
  readonly version: string
  readonly atMilliseconds: number
}

/** Changes of the status of an object do not count, where it has a generation. */
export const versionOf = (metadata: KubeObject['metadata']): string =>
  `${metadata.uid ?? ''}:${metadata.generation ?? metadata.resourceVersion ?? ''}`

export class Applied {
  readonly #entries = new Map<string, Entry>()

  /** Whether this very content was written not long ago. */
  holds(path: string, fingerprint: string): boolean {
    const entry = this.#entries.get(path)
    return entry?.fingerprint === fingerprint && performance.now() - entry.atMilliseconds < VALID_MILLISECONDS
  }

  knows(path: string): boolean {
    return this.#entries.has(path)
  }

  note(path: string, fingerprint: string, metadata: KubeObject['metadata']): void {
    this.#entries.set(path, { fingerprint, version: versionOf(metadata), atMilliseconds: performance.now() })
  }

  /** A watch or a reading has seen the object: true if it is not as it was written. `null`: it is gone. */
  seen(path: string, metadata: KubeObject['metadata'] | null): boolean {
    const entry = this.#entries.get(path)
    if (entry === undefined || (metadata !== null && versionOf(metadata) === entry.version)) return false
    this.#entries.delete(path)
    return true
  }
}
