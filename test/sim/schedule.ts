/**
 * Virtual time: acts in the order of their time, and of their making where times are equal. PURE.
 */
interface Item {
  readonly at: number
  readonly order: number
  readonly act: () => void
}

/** Acts at one time after which nothing but a circle is left to think of. */
const ACTS_MOST = 200_000

const before = (a: Item, b: Item): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

export class Schedule {
  now = 0
  #heap: Item[] = []
  #made = 0
  #actsNow = 0

  at(time: number, act: () => void): void {
    const heap = this.#heap
    const item = { at: Math.max(time, this.now), order: this.#made++, act }
    let place = heap.push(item) - 1
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!before(item, heap[parent]!)) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = item
  }

  after(milliseconds: number, act: () => void): void {
    this.at(this.now + milliseconds, act)
  }

  /** Does the next act; false when there is none. */
  next(): boolean {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined) return false
    if (heap.length > 0) this.#sift(last)
    this.#actsNow = first.at > this.now ? 0 : this.#actsNow + 1
    if (this.#actsNow > ACTS_MOST) throw new Error('time stands still: one act brings the next, without end')
    this.now = first.at
    first.act()
    return true
  }

  #sift(item: Item): void {
    const heap = this.#heap
    let place = 0
    for (;;) {
      let child = 2 * place + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, item)) break
      heap[place] = heap[child]!
      place = child
    }
    heap[place] = item
  }
}
