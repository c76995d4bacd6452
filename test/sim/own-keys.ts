/**
 * Keys that one connection alone writes: a counter, and a register that says what was there before. What such a
 * connection does happens in its order, each command once; so every reply can be foretold, and a command that counted
 * twice or got the reply of another shows. PURE.
 *
 * A command whose outcome is unknown was applied in its place, or never; the replies behind it must fit one of the two.
 */
import type { Reply } from '../../src/machine/reply.ts'
import { Violation } from './checker.ts'
import type { Random } from './random.ts'

type Action = { readonly kind: 'count' } | { readonly kind: 'swap'; readonly value: string } | { readonly kind: 'look' }

interface Done {
  readonly action: Action
  /** `unknown`: the node said so. */
  outcome: 'none yet' | 'unknown' | { readonly reply: Reply }
}

/** What may be there: a number and a text. */
interface State {
  readonly count: number
  readonly text: string | null
}

export class OwnKeys {
  readonly #name: string
  /** In the order in which they were taken in; those that were looked at are gone. */
  #done: Done[] = []
  #states: readonly State[] = [{ count: 0, text: null }]

  constructor(name: string) {
    this.#name = name
  }

  choose(random: Random, value: string): Action {
    const kind = random.integer(0, 2)
    return kind === 0 ? { kind: 'count' } : kind === 1 ? { kind: 'swap', value } : { kind: 'look' }
  }

  wordsOf(action: Action): string[] {
    if (action.kind === 'count') return ['INCR', `count ${this.#name}`]
    return action.kind === 'swap' ? ['GETSET', `own ${this.#name}`, action.value] : ['GET', `own ${this.#name}`]
  }

  /** The command was taken in; call what this gives with its reply, `undefined` where the outcome is unknown. */
  took(action: Action): (reply: Reply | undefined) => void {
    const done: Done = { action, outcome: 'none yet' }
    this.#done.push(done)
    return (reply) => {
      done.outcome = reply === undefined ? 'unknown' : { reply }
      this.#look()
    }
  }

  /** Looks at the commands up to the first that is not answered. */
  #look(): void {
    const end = this.#done.findIndex(({ outcome }) => outcome === 'none yet')
    for (const done of this.#done.splice(0, end < 0 ? this.#done.length : end)) this.#judge(done)
  }

  #judge({ action, outcome }: Done): void {
    if (outcome === 'none yet') return
    const after = this.#states.map((state) => ({ state: apply(state, action), reply: replyTo(state, action) }))
    if (outcome === 'unknown') {
      this.#states = distinct([...this.#states, ...after.map(({ state }) => state)])
      return
    }
    const seen = plain(outcome.reply)
    this.#states = after.filter(({ reply }) => reply === seen).map(({ state }) => state)
    if (this.#states.length > 0) return
    const expected = after.map(({ reply }) => JSON.stringify(reply)).join(' or ')
    const what = this.wordsOf(action).join(' ')
    throw new Violation(`exactly once: ${this.#name}: ${what} gives ${JSON.stringify(seen)}, expected ${expected}`)
  }
}

function apply(state: State, action: Action): State {
  if (action.kind === 'count') return { ...state, count: state.count + 1 }
  return action.kind === 'swap' ? { ...state, text: action.value } : state
}

const replyTo = (state: State, action: Action): number | string | null =>
  action.kind === 'count' ? state.count + 1 : state.text

const plain = (reply: Reply): Reply => (reply instanceof Uint8Array ? Buffer.from(reply).toString() : reply)

const distinct = (states: readonly State[]): State[] =>
  states.filter((one, at) => at === states.findIndex(({ count, text }) => count === one.count && text === one.text))
