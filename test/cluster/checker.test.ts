/**
 * The checker is checked: it accepts what a linearizable store produces, refuses what one cannot produce, and agrees
 * with the exhaustive search on small histories, good and bad alike.
 */
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Action, type Operation, apply, checkHistory, exhaustive, explainVerdict } from './checker.ts'

/** What is drawn of one operation: what it does, when it is sent, and how it overlaps the others. */
interface Draw {
  readonly kind: Action['kind']
  readonly client: number
  readonly before: number
  readonly after: number
  readonly fate: number
}

const draw: fc.Arbitrary<Draw> = fc.record({
  kind: fc.constantFrom<Action['kind']>('get', 'get', 'set', 'set-if-absent', 'delete', 'increment'),
  client: fc.nat(4),
  before: fc.nat(6),
  after: fc.nat(6),
  fate: fc.nat(9),
})

const action = (kind: Action['kind'], value: string): Action =>
  kind === 'set' || kind === 'set-if-absent' ? { kind, value } : { kind }

/**
 * A history of a linearizable store: operation i takes effect at time 10 i, is sent up to 60 before and answered up
 * to 60 after. One in ten loses its reply, and of those every second one never took effect.
 */
function linearizableHistory(draws: readonly Draw[], counters = false): Operation[] {
  let state: string | null = null
  return draws.map((each, position): Operation => {
    const kind = counters && each.kind.startsWith('set') ? 'increment' : each.kind
    const act = action(counters ? kind : kind === 'increment' ? 'get' : kind, `v${position}`)
    const lost = each.fate === 0
    const result = lost && each.before % 2 === 0 ? { state, outcome: null } : apply(state, act)
    state = result.state
    const at = position * 10
    return {
      client: `c${each.client}`,
      key: 'k',
      action: act,
      invoked: at - each.before * 10 - 1,
      completed: lost ? Infinity : at + each.after * 10 + 1,
      outcome: lost ? null : result.outcome,
    }
  })
}

const operation = (
  act: Action,
  outcome: Operation['outcome'],
  invoked: number,
  completed: number,
  key = 'k',
): Operation => ({ client: 'c', key, action: act, invoked, completed, outcome })
const set = (value: string): Action => ({ kind: 'set', value })
const get: Action = { kind: 'get' }
const increment: Action = { kind: 'increment' }

describe('histories of a linearizable store are accepted', () => {
  test('registers', () => {
    fc.assert(
      fc.property(fc.array(draw, { maxLength: 400 }), (draws) => {
        const verdict = checkHistory(linearizableHistory(draws))
        expect(explainVerdict(verdict)).toMatch(/^linearizable/)
      }),
      { numRuns: 150 },
    )
  })

  test('counters', () => {
    fc.assert(
      fc.property(fc.array(draw, { maxLength: 400 }), (draws) => {
        const verdict = checkHistory(linearizableHistory(draws, true))
        expect(explainVerdict(verdict)).toMatch(/^linearizable/)
      }),
      { numRuns: 150 },
    )
  })
})

describe('what no linearizable store answers is refused', () => {
  const long = fc.array(draw, { minLength: 20, maxLength: 300 })

  test('a value that nobody wrote', () => {
    fc.assert(
      fc.property(long, fc.nat(), (draws, at) => {
        const history = linearizableHistory(draws)
        const time = (at % draws.length) * 10
        history.push(operation(get, 'never written', time, time + 15))
        expect(checkHistory(history).kind).toBe('violation')
      }),
      { numRuns: 100 },
    )
  })

  test('an acknowledged write that is lost, a read that goes back in time', () => {
    fc.assert(
      fc.property(long, (draws) => {
        const history = linearizableHistory(draws)
        const end = draws.length * 10 + 1000
        history.push(operation(set('first'), true, end, end + 1), operation(set('second'), true, end + 2, end + 3))
        const honest = [...history, operation(get, 'second', end + 4, end + 5)]
        // An unknown DEL may still come; without one, nothing can have taken the value away.
        const mayBeGone = history.some((each) => each.completed === Infinity && each.action.kind === 'delete')
        const gone = operation(get, null, end + 4, end + 5)
        const possible = mayBeGone ? ['linearizable', 'violation'] : ['violation']
        expect(possible).toContain(checkHistory([...history, gone]).kind)
        expect(checkHistory(honest).kind).toBe('linearizable')
        expect(checkHistory([...history, operation(get, 'first', end + 4, end + 5)]).kind).toBe('violation')
      }),
      { numRuns: 100 },
    )
  })

  test('two increments that give the same number', () => {
    fc.assert(
      fc.property(long, fc.nat(), (draws, at) => {
        const history = linearizableHistory(draws, true).filter((each) => each.action.kind !== 'delete')
        const before = checkHistory(history).kind
        const increments = history.filter((each) => each.action.kind === 'increment' && each.completed < Infinity)
        const twice = increments[at % Math.max(1, increments.length)]
        fc.pre(before === 'linearizable' && twice !== undefined)
        const { invoked, completed, outcome } = twice
        history.push(operation(increment, outcome, invoked, completed))
        expect(checkHistory(history).kind).toBe('violation')
      }),
      { numRuns: 100 },
    )
  })
})

test('agrees with the exhaustive search, whatever was answered', () => {
  let good = 0
  let bad = 0
  const small = fc.array(fc.record({ draw, answer: fc.nat(11), value: fc.nat(2) }), { maxLength: 7 })
  fc.assert(
    fc.property(small, fc.boolean(), (rows, counters) => {
      const honest = linearizableHistory(
        rows.map((row) => row.draw),
        counters,
      )
      // Some answers are replaced by others that could be true, some values are written twice.
      const history = honest.map((each, position): Operation => {
        const row = rows[position]!
        const answers: Operation['outcome'][] = [null, 'v0', 'v1', 'v2', 1, 2, true, false, 0]
        const act = 'value' in each.action && row.value === 0 ? { ...each.action, value: 'v1' } : each.action
        return { ...each, action: act, outcome: row.answer < 9 && row.value > 0 ? answers[row.answer]! : each.outcome }
      })
      const expected = exhaustive(history)
      if (expected) good++
      else bad++
      expect(checkHistory(history).kind).toBe(expected ? 'linearizable' : 'violation')
    }),
    { numRuns: 20_000 },
  )
  // The comparison means something only when both answers are frequent.
  expect(good).toBeGreaterThan(400)
  expect(bad).toBeGreaterThan(400)
})

test('an unknown outcome may happen late, once, or never', () => {
  const lost = operation(set('a'), null, 0, Infinity)
  const later = operation(set('b'), true, 10, 20)
  expect(checkHistory([lost, later, operation(get, 'b', 30, 40)]).kind).toBe('linearizable')
  expect(checkHistory([lost, later, operation(get, 'a', 30, 40)]).kind).toBe('linearizable')
  const twice = [operation(get, 'a', 30, 40), operation(get, 'b', 50, 60), operation(get, 'a', 70, 80)]
  expect(checkHistory([lost, later, ...twice]).kind).toBe('violation')
  const before = operation(get, 'a', -20, -10)
  expect(checkHistory([lost, before]).kind).toBe('violation')
})

test('keys are checked apart, and the bad one is named', () => {
  const history = [operation(set('x'), true, 0, 1, 'good'), operation(get, 'y', 2, 3, 'bad')]
  expect(checkHistory(history)).toMatchObject({ kind: 'violation', key: 'bad' })
})

test('ten clients at once on one key with many unknown outcomes are decided quickly', () => {
  const draws = Array.from({ length: 20_000 }, (_, position): Draw => {
    const mixed = Math.imul(position + 1, 0x9e3779b1) >>> 0
    const kinds: Action['kind'][] = ['get', 'set', 'get', 'delete', 'set-if-absent']
    return {
      kind: kinds[mixed % 5]!,
      client: mixed % 16,
      before: (mixed >>> 8) % 5,
      after: (mixed >>> 12) % 5,
      fate: (mixed >>> 16) % 400 === 0 ? 0 : 1,
    }
  })
  const verdict = checkHistory(linearizableHistory(draws))
  expect(explainVerdict(verdict)).toMatch(/^linearizable/)
})
