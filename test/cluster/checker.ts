/**
 * A linearizability checker for recorded concurrent histories of keys that hold a string, a counter or nothing.
 * PURE. Linearizability is local (Herlihy, Wing 1990), so every key is checked by itself; the search is that of
 * Wing and Gong (1993) with the memory of Lowe (2017), as in Porcupine: a set of operations already placed, together
 * with the state it led to, is never explored twice.
 *
 * An operation whose outcome is unknown (its connection died) may have happened at any time after it was sent, or
 * never. Three sound shortcuts keep real histories cheap; the cross-check against `exhaustive` tests them:
 * 1. an operation that fits now and changes nothing (a read, a refused SET NX) is placed at once, without branching;
 * 2. of unknown operations that do the same, only the oldest is tried: the others can only stand where it can;
 * 3. a value that only one write can bring is not left while reads of it are still to be placed.
 */
import { unreachable } from '../../src/invariant.ts'

/** What a client did to a key. Values that are set are unique in a history, so that a read names its write. */
export type Action =
  | { readonly kind: 'get' }
  | { readonly kind: 'set'; readonly value: string }
  | { readonly kind: 'set-if-absent'; readonly value: string }
  | { readonly kind: 'delete' }
  | { readonly kind: 'increment' }

/**
 * What came back: of `get` the value or null; of `set` true; of `set-if-absent` whether it was set; of `delete` the
 * number of keys that went; of `increment` the new number.
 */
export type Outcome = string | number | boolean | null

export interface Operation {
  readonly client: string
  readonly key: string
  readonly action: Action
  /** Time of sending and of the reply, in any unit, on one clock. */
  readonly invoked: number
  /** Infinity: the outcome is unknown, and `outcome` means nothing. */
  readonly completed: number
  readonly outcome: Outcome
}

export type Verdict =
  | { readonly kind: 'linearizable'; readonly operations: number }
  /** `placed`: the longest order that was found; `stuck`: what could not be placed after it. */
  | {
      readonly kind: 'violation'
      readonly key: string
      readonly placed: readonly Operation[]
      readonly stuck: readonly Operation[]
    }
  /** The search was given up after `steps`: neither good nor bad. A test must treat it as a failure. */
  | { readonly kind: 'undecided'; readonly key: string; readonly steps: number }

/** The value of a key, or null when it is not there. */
type State = string | null

/** The state after `action`, and what it answers. An increment of what is no integer answers null. */
export function apply(state: State, action: Action): { readonly state: State; readonly outcome: Outcome } {
  switch (action.kind) {
    case 'get':
      return { state, outcome: state }
    case 'set':
      return { state: action.value, outcome: true }
    case 'set-if-absent':
      return state === null ? { state: action.value, outcome: true } : { state, outcome: false }
    case 'delete':
      return { state: null, outcome: state === null ? 0 : 1 }
    case 'increment': {
      const number = Number(state ?? '0')
      if (!Number.isSafeInteger(number)) return { state, outcome: null }
      return { state: String(number + 1), outcome: number + 1 }
    }
    default:
      return unreachable(action)
  }
}

const isUnknown = (operation: Operation): boolean => operation.completed === Infinity

/** Whether the whole history is linearizable; every key starts with `initial`. The first bad key decides. */
export function checkHistory(history: readonly Operation[], stepLimit = 2_000_000, initial: State = null): Verdict {
  const byKey = new Map<string, Operation[]>()
  for (const operation of history) {
    const list = byKey.get(operation.key)
    if (list) list.push(operation)
    else byKey.set(operation.key, [operation])
  }
  let undecided: Verdict | null = null
  for (const [key, operations] of byKey) {
    const verdict = new KeySearch(key, operations, initial).run(stepLimit)
    if (verdict.kind === 'violation') return verdict
    if (verdict.kind === 'undecided') undecided ??= verdict
  }
  return undecided ?? { kind: 'linearizable', operations: history.length }
}

/** One operation in the doubly linked list of those that are still to be placed. */
interface Item {
  readonly operation: Operation
  readonly index: number
  /** The number of operations that are the same act, if its outcome is unknown; -1 otherwise. */
  readonly sameAct: number
  /** When it must have happened: its own reply, or for a write the first reply of a read of its value. */
  readonly deadline: number
  next: Item | null
  previous: Item | null
}

/** A placed operation: how to take it back, and which others could stand in its place. */
interface Step {
  readonly item: Item
  readonly before: State
  readonly alternatives: Item[]
}

/** The search for one key. Lives for one `run`. */
class KeySearch {
  readonly #key: string
  readonly #head: Item
  /** Operations with a known outcome that are still to be placed. */
  #knownLeft = 0
  /** For each value: reads of it (known outcome) that are still to be placed; writes that can bring it, likewise. */
  readonly #readsLeft = new Map<string, number>()
  readonly #writesLeft = new Map<string, number>()
  #valuesNameWrites = true
  readonly #seen = new Set<string>()
  readonly #steps: Step[] = []
  #state: State
  /** Index of the last operation (by time of sending) that was placed at each depth. */
  readonly #highest: number[] = []

  constructor(key: string, operations: readonly Operation[], initial: State) {
    this.#key = key
    this.#state = initial
    // A read with an unknown outcome constrains nothing.
    const relevant = operations.filter((operation) => !(isUnknown(operation) && operation.action.kind === 'get'))
    relevant.sort((a, b) => a.invoked - b.invoked)
    this.#head = { operation: NOTHING, index: -1, sameAct: -1, deadline: 0, next: null, previous: null }
    const firstRead = new Map<Outcome, number>()
    for (const { action, outcome, completed } of relevant) {
      if (action.kind === 'get') firstRead.set(outcome, Math.min(completed, firstRead.get(outcome) ?? LATEST))
    }
    const acts = new Map<string, number>()
    let tail = this.#head
    for (const [index, operation] of relevant.entries()) {
      let sameAct = -1
      if (isUnknown(operation)) {
        const act = JSON.stringify(operation.action)
        sameAct = acts.get(act) ?? acts.size
        acts.set(act, sameAct)
      }
      const read = 'value' in operation.action ? firstRead.get(operation.action.value) : undefined
      const deadline = Math.min(operation.completed, read ?? LATEST, LATEST)
      const item: Item = { operation, index, sameAct, deadline, next: null, previous: tail }
      tail.next = item
      tail = item
      this.#count(operation, 1)
    }
  }

  #count(operation: Operation, change: number): void {
    const { action, outcome } = operation
    if (!isUnknown(operation)) this.#knownLeft += change
    switch (action.kind) {
      case 'get':
        if (typeof outcome === 'string') add(this.#readsLeft, outcome, change)
        break
      case 'set':
      case 'set-if-absent':
        if (isUnknown(operation) || outcome !== false) add(this.#writesLeft, action.value, change)
        break
      case 'increment':
        this.#valuesNameWrites = false
        break
      case 'delete':
        break
    }
  }

  run(stepLimit: number): Verdict {
    let longest: Operation[] = []
    let stuck: Operation[] = []
    let steps = 0
    let candidates = this.#candidates()
    for (;;) {
      if (this.#knownLeft === 0) return { kind: 'linearizable', operations: this.#steps.length }
      if (++steps > stepLimit) return { kind: 'undecided', key: this.#key, steps: stepLimit }
      const item = candidates.shift()
      if (item) {
        const before = this.#state
        this.#place(item)
        this.#steps.push({ item, before, alternatives: candidates })
        candidates = this.#isNew() ? this.#candidates() : []
        continue
      }
      if (this.#steps.length > longest.length || stuck.length === 0) {
        longest = this.#steps.map((step) => step.item.operation)
        stuck = this.#eligible().map((each) => each.operation)
      }
      const step = this.#steps.pop()
      if (!step) return { kind: 'violation', key: this.#key, placed: longest, stuck }
      this.#takeBack(step)
      candidates = step.alternatives
    }
  }

  /** Operations that nothing still to be placed precedes in real time, oldest first. */
  #eligible(): Item[] {
    const found: Item[] = []
    let firstCompletion = Infinity
    for (let item = this.#head.next; item && item.operation.invoked <= firstCompletion; item = item.next) {
      found.push(item)
      firstCompletion = Math.min(firstCompletion, item.operation.completed)
    }
    return found
  }

  /** What may be placed next, the most promising first. */
  #candidates(): Item[] {
    const found: Item[] = []
    const tried = new Set<number>()
    for (const item of this.#eligible()) {
      const { operation } = item
      if (isUnknown(operation)) {
        if (tried.has(item.sameAct)) continue
        tried.add(item.sameAct)
      }
      const { state, outcome } = apply(this.#state, operation.action)
      if (!isUnknown(operation)) {
        if (outcome !== operation.outcome) continue
        // Shortcut 1. A SET of the value that is there already is no read: later it may change something.
        if (state === this.#state && operation.action.kind !== 'set') return [item]
      } else if (state === this.#state) continue
      if (state !== this.#state && this.#leavesReads(operation)) continue
      found.push(item)
    }
    return found.sort((a, b) => a.deadline - b.deadline || a.index - b.index)
  }

  /** Shortcut 3: reads of the present value are left, and no other write can bring it again. */
  #leavesReads(by: Operation): boolean {
    const value = this.#state
    if (value === null || !this.#valuesNameWrites || (this.#readsLeft.get(value) ?? 0) === 0) return false
    const bringsItself = 'value' in by.action && by.action.value === value
    return !bringsItself && (this.#writesLeft.get(value) ?? 0) === 0
  }

  #place(item: Item): void {
    this.#state = apply(this.#state, item.operation.action).state
    this.#count(item.operation, -1)
    if (item.previous) item.previous.next = item.next
    if (item.next) item.next.previous = item.previous
    this.#highest.push(Math.max(this.#highest.at(-1) ?? -1, item.index))
  }

  #takeBack(step: Step): void {
    const { item } = step
    this.#state = step.before
    this.#count(item.operation, 1)
    if (item.previous) item.previous.next = item
    if (item.next) item.next.previous = item
    this.#highest.pop()
  }

  /** Whether this set of placed operations with this state is met for the first time. */
  #isNew(): boolean {
    // Everything up to `highest` is placed, but for these: together they name the set exactly.
    const highest = this.#highest.at(-1) ?? -1
    let signature = `${highest}`
    for (let item = this.#head.next; item && item.index < highest; item = item.next) signature += `,${item.index}`
    signature += this.#state === null ? '-' : `=${this.#state}`
    if (this.#seen.has(signature)) return false
    this.#seen.add(signature)
    return true
  }
}

/** Later than every reply, and finite, so that differences can be compared. */
const LATEST = Number.MAX_SAFE_INTEGER

const NOTHING: Operation = {
  client: '',
  key: '',
  action: { kind: 'get' },
  invoked: -Infinity,
  completed: Infinity,
  outcome: null,
}

function add(counts: Map<string, number>, value: string, change: number): void {
  counts.set(value, (counts.get(value) ?? 0) + change)
}

/** The same question by trying every order, for small histories of one key: the measure of the checker. */
export function exhaustive(history: readonly Operation[], initial: State = null): boolean {
  const search = (left: readonly Operation[], state: State): boolean => {
    if (left.every(isUnknown)) return true
    return left.some((operation) => {
      if (left.some((other) => other.completed < operation.invoked)) return false
      const next = apply(state, operation.action)
      if (!isUnknown(operation) && next.outcome !== operation.outcome) return false
      return search(
        left.filter((other) => other !== operation),
        next.state,
      )
    })
  }
  return search(history, initial)
}

/** A verdict as a person reads it. */
export function explainVerdict(verdict: Verdict): string {
  switch (verdict.kind) {
    case 'linearizable':
      return `linearizable (${verdict.operations} operations)`
    case 'undecided':
      return `undecided: ${verdict.steps} steps were not enough for key ${verdict.key}`
    case 'violation': {
      const line = (operation: Operation): string =>
        `  ${operation.invoked.toFixed(3)}–${operation.completed.toFixed(3)} ${operation.client}: ` +
        `${JSON.stringify(operation.action)} -> ${isUnknown(operation) ? 'unknown' : JSON.stringify(operation.outcome)}`
      return [
        `not linearizable: key ${verdict.key}; ${verdict.placed.length} operations fit, the last of them:`,
        ...verdict.placed.slice(-8).map(line),
        'none of these fits next:',
        ...verdict.stuck.slice(0, 16).map(line),
      ].join('\n')
    }
    default:
      return unreachable(verdict)
  }
}
