/**
 * Which key is due next: a binary heap over (time, collection, key). PURE.
 *
 * The order is total and depends on the content alone, so every replica removes the same keys with the same
 * entry, although their heaps may have grown differently. An item is stale when its record has another time
 * by now; stale items are skipped, and swept once they are the majority.
 */
import { hashOf } from './hash.ts'

export interface Due {
  readonly at: number
  readonly collection: string
  readonly key: string
}

/** Keys are noted in so many parts, each in a Set: one of V8 has no more than 2^24 elements. */
const SWEEP_PARTS = 64

function before(a: Due, b: Due): boolean {
  if (a.at !== b.at) return a.at < b.at
  if (a.collection !== b.collection) return a.collection < b.collection
  return a.key < b.key
}

export class ExpiryHeap {
  #items: Due[] = []

  get size(): number {
    return this.#items.length
  }

  peek(): Due | null {
    return this.#items[0] ?? null
  }

  push(due: Due): void {
    const items = this.#items
    let at = items.length
    items.push(due)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!before(due, items[parent]!)) break
      items[at] = items[parent]!
      at = parent
    }
    items[at] = due
  }

  pop(): void {
    const items = this.#items
    const last = items.pop()
    if (last === undefined || items.length === 0) return
    this.#sink(0, last)
  }

  clear(): void {
    this.#items = []
  }

  /** Keeps the items that `live` accepts, each once. */
  sweep(live: (due: Due) => boolean): void {
    const kept = Array.from({ length: SWEEP_PARTS }, () => new Set<string>())
    this.#items = this.#items.filter((due) => {
      if (!live(due)) return false
      const part = kept[hashOf(due.key) % SWEEP_PARTS]!
      const { size } = part
      return part.add(`${due.collection.length}:${due.collection}${due.key}`).size > size
    })
    for (let at = (this.#items.length >> 1) - 1; at >= 0; at--) this.#sink(at, this.#items[at]!)
  }

  #sink(start: number, due: Due): void {
    const items = this.#items
    let at = start
    for (;;) {
      let child = 2 * at + 1
      if (child >= items.length) break
      if (child + 1 < items.length && before(items[child + 1]!, items[child]!)) child++
      if (!before(items[child]!, due)) break
      items[at] = items[child]!
      at = child
    }
    items[at] = due
  }
}
