/** A list that grows and shrinks at both ends in constant time: a ring in an array whose size is a power of two. PURE. */
import { invariant } from '../invariant.ts'

const LEAST_CAPACITY = 4

export class Deque<T> {
  #ring: (T | undefined)[] = emptyRing(LEAST_CAPACITY)
  #head = 0
  length = 0

  static from<T>(items: Iterable<T>): Deque<T> {
    const deque = new Deque<T>()
    for (const item of items) deque.pushBack(item)
    return deque
  }

  #place(index: number): number {
    return (this.#head + index) & (this.#ring.length - 1)
  }

  /** `index`: 0 to length - 1. */
  at(index: number): T {
    invariant(index >= 0 && index < this.length, `index ${index} of a list of ${this.length}`)
    return this.#ring[this.#place(index)] as T
  }

  set(index: number, item: T): void {
    invariant(index >= 0 && index < this.length, `index ${index} of a list of ${this.length}`)
    this.#ring[this.#place(index)] = item
  }

  pushBack(item: T): void {
    this.#room()
    this.#ring[this.#place(this.length++)] = item
  }

  pushFront(item: T): void {
    this.#room()
    this.#head = this.#place(-1)
    this.#ring[this.#head] = item
    this.length++
  }

  popBack(): T {
    const item = this.at(this.length - 1)
    this.#ring[this.#place(--this.length)] = undefined
    this.#tighten()
    return item
  }

  popFront(): T {
    const item = this.at(0)
    this.#ring[this.#head] = undefined
    this.#head = this.#place(1)
    this.length--
    this.#tighten()
    return item
  }

  *[Symbol.iterator](): Generator<T> {
    for (let i = 0; i < this.length; i++) yield this.at(i)
  }

  #room(): void {
    if (this.length === this.#ring.length) this.#resize(this.#ring.length * 2)
  }

  #tighten(): void {
    if (this.#ring.length > LEAST_CAPACITY && this.length * 4 <= this.#ring.length) this.#resize(this.#ring.length / 2)
  }

  #resize(capacity: number): void {
    const ring = emptyRing<T>(capacity)
    for (let i = 0; i < this.length; i++) ring[i] = this.#ring[this.#place(i)]
    this.#ring = ring
    this.#head = 0
  }
}

function emptyRing<T>(capacity: number): (T | undefined)[] {
  return Array.from<T | undefined>({ length: capacity }).fill(undefined)
}
