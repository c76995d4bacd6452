/**
 * A node that learns faster than its disk writes, or than it applies (the shell then tells it later what is durable): it
 * stops asking before too much waits, and goes on when that has become less.
 */
import { expect, test } from 'vitest'
import type { Effect, Event } from '../../src/consensus/events.ts'
import { createReplica, position, step } from '../../src/consensus/replica.ts'
import { type Entry, ZERO_BALLOT, configurationId, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'

const OPTIONS = { maxUndecidedBytes: 100_000, fetchSegmentEntries: 16, maxBatchBytes: 50_000 }
const ENTRIES = 4000
/** What was asked for when the bound was met may come: so many stretches at a time. */
const WINDOWS = 8

const configuration = {
  id: configurationId(1),
  voters: [1, 2, 3].map((id) => ({ id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })),
  learners: [],
  preferredLeader: nodeId(0),
}

/** A node that is to join, and others that have everything; `answer` delivers what it has asked for. */
class Learner {
  readonly #replica
  readonly #bytes: number
  #now = 0
  #asked: { to: number; from: number; upTo: number }[] = []
  received = 0
  decided = 0

  constructor(bytes: number) {
    const state = {
      promise: ZERO_BALLOT,
      acceptedBallot: ZERO_BALLOT,
      decided: logIndex(0),
      configuration,
      configurationStart: logIndex(0),
    }
    const recovered = { state, first: logIndex(1), entries: [], doubtfulFrom: null }
    this.#replica = createReplica({ self: nodeId(4), recovered, now: 0, options: OPTIONS })
    this.#bytes = bytes
  }

  #take(event: Event): void {
    for (const effect of step(this.#replica, event)) this.#perform(effect)
  }

  #perform(effect: Effect): void {
    if (effect.kind === 'decided') this.decided = effect.index
    if (effect.kind !== 'send' || effect.message.kind !== 'fetch-decided') return
    this.#asked.push({ to: effect.to, from: effect.message.from, upTo: effect.message.upTo })
  }

  /** Some time passes, and everything that was asked for comes. */
  answer(): void {
    this.#take({ kind: 'tick', now: (this.#now += 15) })
    for (const { to, from, upTo } of this.#asked.splice(0)) {
      const entries: Entry[] = []
      for (let index = from; index <= Math.min(upTo, ENTRIES); index++) {
        entries.push({ kind: 'commands', index: logIndex(index), payload: new Uint8Array(this.#bytes) })
      }
      this.received = Math.max(this.received, entries.at(-1)?.index ?? 0)
      const message = { kind: 'decided-entries', from: logIndex(from), decided: logIndex(ENTRIES), entries } as const
      const event = { kind: 'message', now: this.#now, from: nodeId(to) } as const
      this.#take({ ...event, message: { ...message, leader: ZERO_BALLOT } })
    }
  }

  persisted(): void {
    this.#take({ kind: 'persisted', now: this.#now, position: position(this.#replica) })
  }
}

test.each([
  ['of large entries so many bytes', 5000, (100_000 + WINDOWS * 16 * 5000) / 5000],
  ['of small ones so many', 1, 3 * WINDOWS * 16],
])('%s may wait', (_what, bytes, most) => {
  const learner = new Learner(bytes)
  for (let round = 0; round < 200; round++) learner.answer()
  expect(learner.received).toBeGreaterThan(0)
  expect(learner.received).toBeLessThanOrEqual(most)
  expect(learner.decided).toBe(0)
  for (let round = 0; round < 1000 && learner.decided < ENTRIES; round++) {
    learner.persisted()
    const { decided } = learner
    learner.answer()
    expect(learner.received - decided).toBeLessThanOrEqual(most)
  }
  expect(learner.decided).toBe(ENTRIES)
})
