/** A node asks for decided entries that are no longer in memory: they are read back, or told where they are. */
import { describe, expect, it } from 'vitest'
import type { Effect } from '../../src/consensus/events.ts'
import { type Replica, createReplica, step } from '../../src/consensus/replica.ts'
import { type Entry, type RecoveredLog, configurationId, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'

const configuration = {
  id: configurationId(1),
  voters: [1, 2, 3].map((id) => ({ id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })),
  learners: [],
  preferredLeader: nodeId(0),
}
const ballot = { configuration: configuration.id, n: 1, priority: 0, node: nodeId(3) }
const entry = (index: number): Entry => ({ kind: 'commands', index: logIndex(index), payload: Buffer.alloc(100) })
const entries = (from: number, to: number): Entry[] =>
  Array.from({ length: to - from + 1 }, (_, at) => entry(from + at))

const DECIDED = logIndex(10)

/** Ten of the entries are decided. */
const recovered = (all: readonly Entry[]): RecoveredLog => ({
  state: {
    promise: ballot,
    acceptedBallot: ballot,
    decided: DECIDED,
    configuration,
    configurationStart: logIndex(0),
  },
  first: logIndex(1),
  entries: all,
  doubtfulFrom: null,
})

/** Ten entries are decided, two more accepted; of the decided ones the last five stay in memory. */
function trimmed(readsLog: boolean): Replica {
  const replica = createReplica({
    self: nodeId(1),
    recovered: recovered(entries(1, 12)),
    now: 0,
    options: { keepEntriesBytes: 0, readsLog },
  })
  step(replica, { kind: 'trim', now: 1, index: logIndex(5) })
  expect(replica.log.first).toBe(6)
  return replica
}

function ask(replica: Replica, from: number, upTo: number): Effect[] {
  const message = { kind: 'fetch-decided', from: logIndex(from), upTo: logIndex(upTo), decided: logIndex(0) } as const
  return step(replica, { kind: 'message', now: 2, from: nodeId(2), message })
}

const sent = (effects: readonly Effect[]) =>
  effects.flatMap((effect) => (effect.kind === 'send' && effect.to === nodeId(2) ? [effect.message] : []))

it('what stays of the segments that a start has read keeps none of them in memory', () => {
  const segment = Buffer.alloc(16 * 1024 * 1024)
  const views = entries(1, 12).map((one, at): Entry => {
    const payload = segment.subarray(at * 1000, at * 1000 + 100).fill(at)
    return one.kind === 'commands' ? { ...one, payload } : one
  })
  const replica = createReplica({
    self: nodeId(1),
    recovered: recovered(views),
    now: 0,
    options: { keepEntriesBytes: 0 },
  })
  step(replica, { kind: 'trim', now: 1, index: logIndex(5) })
  const kept = replica.log.entries.map((one) => (one.kind === 'commands' ? one.payload : new Uint8Array()))
  expect(kept.map((payload) => [payload.length, payload[0], payload[99]])).toEqual(
    [5, 6, 7, 8, 9, 10, 11].map((at) => [100, at, at]),
  )
  for (const { buffer } of kept) expect(buffer.byteLength).toBeLessThan(1024 * 1024)
})

describe('decided entries below those in memory', () => {
  it('are asked of storage, never beyond what is decided, and what storage has is sent', () => {
    const replica = trimmed(true)
    const effects = ask(replica, 3, 12)
    expect(effects).toEqual([{ kind: 'read-log', to: 2, from: 3, upTo: 10 }])
    const answer = { kind: 'log-read', now: 3, to: nodeId(2), from: logIndex(3), first: logIndex(1) } as const
    const [message, ...more] = sent(step(replica, { ...answer, entries: entries(3, 8) }))
    expect(more).toEqual([])
    expect(message).toMatchObject({ kind: 'decided-entries', from: 3, decided: 10, entries: entries(3, 8) })
    expect(replica.migration.sentBytes).toBeGreaterThan(600)
  })

  it('that storage has let go of are in a checkpoint that reaches to its first one', () => {
    const replica = trimmed(true)
    ask(replica, 3, 12)
    const answer = { kind: 'log-read', now: 3, to: nodeId(2), from: logIndex(3), first: logIndex(5) } as const
    expect(sent(step(replica, { ...answer, entries: [] }))).toEqual([
      { kind: 'no-longer-here', first: 5, decided: DECIDED },
    ])
  })

  it('that storage should have and cannot read are not answered: who asked asks another', () => {
    const replica = trimmed(true)
    ask(replica, 3, 12)
    const answer = { kind: 'log-read', now: 3, to: nodeId(2), from: logIndex(3), first: logIndex(3) } as const
    expect(sent(step(replica, { ...answer, entries: [] }))).toEqual([])
  })

  it('are in a checkpoint where storage reads nothing back', () => {
    expect(sent(ask(trimmed(false), 3, 12))).toEqual([{ kind: 'no-longer-here', first: 6, decided: DECIDED }])
  })

  it('are sent from memory where they are there', () => {
    const effects = ask(trimmed(true), 6, 12)
    expect(effects).toHaveLength(1)
    expect(sent(effects)).toMatchObject([{ kind: 'decided-entries', from: 6, entries: entries(6, 10) }])
  })
})
