/**
 * What was learned from others may have been decided in a larger ballot than that of a leader which is out of date. Its
 * index says nothing of the log of that leader: nobody may decide by it what was never chosen.
 */
import { expect, it } from 'vitest'
import type { Effect, Event } from '../../src/consensus/events.ts'
import type { Message } from '../../src/consensus/messages.ts'
import {
  type Replica,
  acceptsCheckpoint,
  createReplica,
  entriesBetween,
  position,
  statusOf,
  step,
} from '../../src/consensus/replica.ts'
import {
  type Ballot,
  type Entry,
  type NodeId,
  EMPTY_STATE,
  configurationId,
  logIndex,
  nodeId,
  volumeId,
} from '../../src/vocabulary.ts'

const configurationOf = (voters: readonly number[]) => ({
  id: configurationId(1),
  voters: voters.map((id) => ({ id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })),
  learners: [],
  preferredLeader: nodeId(0),
})
const ballot = (n: number, node: number): Ballot => ({
  configuration: configurationId(1),
  n,
  priority: 0,
  node: nodeId(node),
})
const entry = (index: number, payload: string): Entry => ({
  kind: 'commands',
  index: logIndex(index),
  payload: Buffer.from(payload),
})
const payloadOf = (one: Entry | undefined): string => (one?.kind === 'commands' ? String(one.payload) : '')
const FIRST = [1, 2, 3, 4, 5].map((index) => entry(index, 'first'))

/** A voter with five decided entries, `more` accepted in `accepted` behind them, and a disk that is asked when. */
class Voter {
  readonly replica: Replica
  readonly effects: Effect[] = []

  constructor(self: number, size: 3 | 5, promise: Ballot, accepted: Ballot, more: readonly Entry[] = []) {
    const state = {
      promise,
      acceptedBallot: accepted,
      decided: logIndex(5),
      configuration: configurationOf([1, 2, 3, 4, 5].slice(0, size)),
      configurationStart: logIndex(0),
    }
    const recovered = { state, first: logIndex(1), entries: [...FIRST, ...more], doubtfulFrom: null }
    this.replica = createReplica({ self: nodeId(self), recovered, now: 0 })
  }

  take(event: Event): void {
    this.effects.push(...step(this.replica, event))
  }

  hear(now: number, from: number, message: Message): void {
    this.take({ kind: 'message', now, from: nodeId(from), message })
  }

  persisted(now: number): void {
    this.take({ kind: 'persisted', now, position: position(this.replica) })
  }

  /** Nobody sees a leader: it becomes a candidate. */
  candidate(...others: number[]): void {
    this.take({ kind: 'tick', now: 10 })
    const answer = { kind: 'heartbeat-reply', configuration: configurationId(1), round: 1, happy: false } as const
    for (const other of others) {
      this.hear(20, other, { ...answer, ballot: ballot(0, other), leader: this.replica.promise })
    }
    for (let now = 30; this.replica.leadership === null && now < 1000; now += 10) this.take({ kind: 'tick', now })
    this.persisted(1000)
  }

  /** Learns from `from` what was decided in `leader`. */
  learn(now: number, from: number, leader: Ballot, one: Entry): void {
    this.hear(now, from, { kind: 'decided-entries', from: one.index, decided: one.index, leader, entries: [one] })
  }

  /** What it has decided behind the first five. */
  get decided(): string[] {
    const last = Math.max(5, ...this.effects.map((effect) => (effect.kind === 'decided' ? effect.index : 0)))
    return entriesBetween(this.replica, logIndex(6), logIndex(last)).map(payloadOf)
  }

  /** What it says to `to` of that kind, the last one. */
  said(to: number, kind: Message['kind']): Message {
    const said = this.effects.flatMap((effect) => (effect.kind === 'send' && effect.to === to ? [effect.message] : []))
    return said.findLast((message) => message.kind === kind)!
  }
}

interface Log {
  readonly accepted: number
  readonly decided?: number
  readonly base: number
  readonly entries?: readonly Entry[]
}
const promise = (to: Ballot, acceptedBallot: Ballot, { accepted, decided = 5, base, entries = [] }: Log): Message => ({
  kind: 'promise',
  ballot: to,
  acceptedBallot,
  decided: logIndex(decided),
  accepted: logIndex(accepted),
  doubtfulFrom: logIndex(0),
  base: logIndex(base),
  entries,
})

/**
 * Ballots: (1, 3) left "old" in entry 6 of node 2 only. In (2, 3), promised by node 1, node 3 put "new" there, alone.
 * Node 1 then takes over with (3, 1), and node 2 promises it, with "old"; that promise is slow. Meanwhile node 3 leads
 * (4, 3) with node 2 and decides "new".
 */
it('a candidate that learns what another leader decided adopts a late promise, and decides nothing by it', () => {
  const one = new Voter(1, 3, ballot(2, 3), ballot(1, 3))
  one.candidate(2)
  expect(one.replica.leadership?.ballot).toEqual(ballot(3, 1))
  one.learn(1010, 3, ballot(4, 3), entry(6, 'new'))
  const late = { accepted: 7, base: 6, entries: [entry(6, 'old'), entry(7, 'old')] }
  one.hear(1020, 2, promise(ballot(3, 1), ballot(1, 3), late))
  one.persisted(1030)
  expect(one.decided.filter((payload) => payload !== 'new')).toEqual([])
})

/**
 * Of five: node 2 holds "old" of (1, 2), node 4 "new" of (2, 4), each alone. Node 1 takes over with (3, 1), and node 2
 * promises it at once. Then node 4 leads (4, 4) with nodes 2 and 5, and decides "new"; node 3 learns it, and only then
 * promises (3, 1).
 */
it('a new leader does not take for decided what one of its voters says is: it may be of a larger ballot', () => {
  const one = new Voter(1, 5, ballot(2, 4), ballot(1, 1))
  one.candidate(2, 3)
  const leads = ballot(3, 1)
  expect(one.replica.leadership?.ballot).toEqual(leads)
  one.hear(1010, 2, promise(leads, ballot(1, 2), { accepted: 6, base: 6, entries: [entry(6, 'old')] }))
  one.hear(1020, 3, promise(leads, ballot(1, 1), { accepted: 6, decided: 6, base: 6, entries: [entry(6, 'new')] }))
  one.persisted(1030)
  expect(one.decided).toEqual([])
})

/**
 * Of five: node 3 holds "old" of (1, 1), which nobody else has by now. While node 1 is the candidate of (3, 1), node 4
 * leads (4, 4) with nodes 2 and 5 and decides "new"; node 1 learns it. It is elected by nodes 2 (before (4, 4)) and 3.
 */
it('a leader says that something is decided only as far as it is in its own ballot', () => {
  const one = new Voter(1, 5, ballot(2, 4), ballot(1, 1))
  const three = new Voter(3, 5, ballot(2, 4), ballot(1, 1), [entry(6, 'old')])
  one.candidate(2, 3)
  const leads = ballot(3, 1)
  three.hear(1010, 1, one.said(3, 'prepare'))
  three.persisted(1010)
  one.learn(1020, 4, ballot(4, 4), entry(6, 'new'))
  one.persisted(1030)
  expect(one.decided).toEqual(['new'])
  one.hear(1040, 2, promise(leads, ballot(1, 1), { accepted: 5, base: 6 }))
  one.hear(1050, 3, three.said(1, 'promise'))
  one.persisted(1060)
  three.hear(1070, 1, one.said(3, 'accept-sync'))
  three.persisted(1080)
  for (const [now, kind] of [
    [1090, 'decide'],
    [1100, 'beacon'],
  ] as const) {
    const message = one.said(3, kind)
    if (message !== undefined) three.hear(now, 1, message)
  }
  expect(three.decided.filter((payload) => payload !== 'new')).toEqual([])
})

it('a node that is brought up by a checkpoint does not wait for what it had accepted in a configuration that is over', () => {
  const leads = ballot(3, 1)
  const three = new Voter(3, 5, ballot(2, 4), ballot(1, 1))
  const log = { decided: logIndex(5), acceptedBallot: ballot(1, 1), accepted: logIndex(5) }
  three.hear(1000, 1, { kind: 'prepare', ballot: leads, ...log })
  const entries = [6, 7, 8, 9].map((index) => entry(index, 'lost'))
  three.hear(1010, 1, { kind: 'accept-sync', ballot: leads, decided: logIndex(5), base: logIndex(6), entries })
  three.persisted(1020)
  expect(statusOf(three.replica).caughtUp).toBe(false)
  // Entry 6 became the stop-sign, and this node a learner, of whom nobody asks anything any more.
  const next = { ...configurationOf([1, 2]), id: configurationId(2), learners: configurationOf([3]).voters }
  three.hear(1030, 2, { kind: 'sealed', index: logIndex(6), next })
  three.take({
    kind: 'checkpoint-installed',
    now: 1040,
    index: logIndex(7),
    configuration: next,
    start: logIndex(6),
  })
  expect(statusOf(three.replica)).toMatchObject({ phase: 'learner', decided: 7, caughtUp: true })
})

it('a node that was told its configuration knows where it began when it comes upon the stop-sign, and not before', () => {
  const told = { ...configurationOf([1, 2]), id: configurationId(2), learners: configurationOf([3]).voters }
  const state = { ...EMPTY_STATE, configuration: told }
  const recovered = { state, first: logIndex(1), entries: [], doubtfulFrom: null }
  const replica = createReplica({ self: nodeId(3), recovered, now: 0 })
  const entries: Entry[] = [entry(1, 'first'), { kind: 'stop-sign', index: logIndex(2), next: told }, entry(3, 'then')]
  const message = {
    kind: 'decided-entries',
    from: logIndex(1),
    decided: logIndex(3),
    leader: ballot(0, 0),
    entries,
  } as const
  const only = { ...message, decided: logIndex(1), entries: entries.slice(0, 1) }
  step(replica, { kind: 'message', now: 10, from: nodeId(1), message: only })
  step(replica, { kind: 'persisted', now: 20, position: position(replica) })
  expect(statusOf(replica)).toMatchObject({ decided: 1, configurationStart: 0, configurationComplete: false })
  step(replica, { kind: 'message', now: 30, from: nodeId(1), message })
  step(replica, { kind: 'persisted', now: 40, position: position(replica) })
  expect(statusOf(replica)).toMatchObject({ configurationStart: 2, configurationComplete: true })
})

it('a node that joins a configuration which names it as a voter has no say in it before it holds its beginning', () => {
  const told = { ...configurationOf([1, 2, 3]), id: configurationId(2) }
  const state = { ...EMPTY_STATE, configuration: told }
  const recovered = { state, first: logIndex(1), entries: [], doubtfulFrom: null }
  const replica = createReplica({ self: nodeId(3), recovered, now: 0 })
  const hear = (now: number, message: Message): Effect[] =>
    step(replica, { kind: 'message', now, from: nodeId(1), message })
  const asks = { ...ballot(1, 1), configuration: told.id }
  const log = { decided: logIndex(0), acceptedBallot: ballot(0, 0), accepted: logIndex(0) }
  expect(hear(10, { kind: 'prepare', ballot: asks, ...log }).filter(({ kind }) => kind === 'persist')).toEqual([])
  // Nor does it refuse a checkpoint from before that, which may be all that there is.
  expect(acceptsCheckpoint(replica, logIndex(1), configurationOf([1, 2]))).toBe(true)
  const entries: Entry[] = [entry(1, 'first'), { kind: 'stop-sign', index: logIndex(2), next: told }]
  const from = logIndex(1)
  hear(20, { kind: 'decided-entries', from, decided: logIndex(2), leader: ballot(0, 0), entries })
  step(replica, { kind: 'persisted', now: 30, position: position(replica) })
  hear(40, { kind: 'prepare', ballot: asks, ...log })
  expect(replica.promise).toEqual(asks)
})

it('a voter that rejoined with a leader that is out of date has not caught up before it has what the next one knows', () => {
  const two = new Voter(2, 5, ballot(1, 1), ballot(1, 1))
  const isReady = (): boolean => statusOf(two.replica).caughtUp
  let now = 0
  const hear = (from: number, message: Message): void => {
    two.hear((now += 10), from, message)
    two.persisted((now += 10))
  }
  const prepare = (of: Ballot, accepted: number): Message => ({
    kind: 'prepare',
    ballot: of,
    decided: logIndex(5),
    acceptedBallot: ballot(1, 1),
    accepted: logIndex(accepted),
  })
  // Nobody else follows node 5 any more; what it has accepted behind the first five was never chosen.
  hear(5, prepare(ballot(2, 5), 5))
  const [old, base] = [ballot(2, 5), logIndex(6)]
  hear(5, { kind: 'accept-sync', ballot: old, decided: logIndex(5), base, entries: [entry(6, 'old')] })
  expect(isReady()).toBe(false)
  hear(3, prepare(ballot(4, 3), 10))
  hear(3, { kind: 'catch-up', ballot: ballot(4, 3), decided: logIndex(10) })
  const chosen = [6, 7, 8, 9, 10].map((index) => entry(index, 'new'))
  const [some, decided] = [chosen.slice(0, 3), logIndex(10)]
  hear(3, { kind: 'decided-entries', from: base, decided, leader: ballot(4, 3), entries: some })
  expect(two.decided).toEqual(['new', 'new', 'new'])
  expect(isReady()).toBe(false)
  const rest = { base: logIndex(9), entries: chosen.slice(3) }
  hear(3, { kind: 'accept-sync', ballot: ballot(4, 3), decided, ...rest })
  expect(two.decided).toHaveLength(5)
  expect(isReady()).toBe(true)
})

it('a node that was removed asks a leader that it has heard of, where those that it knew have left, too', () => {
  const [configuration, promise] = [{ ...configurationOf([2]), id: configurationId(2) }, ballot(1, 1)]
  const state = { promise, acceptedBallot: promise, decided: logIndex(5), configuration }
  const recovered = { state: { ...state, configurationStart: logIndex(5) }, first: logIndex(1), entries: FIRST }
  const replica = createReplica({ self: nodeId(3), recovered: { ...recovered, doubtfulFrom: null }, now: 0 })
  const asked = (from: number, to: number): Set<NodeId> => {
    const effects: Effect[] = []
    for (let now = from; now < to; now += 10) effects.push(...step(replica, { kind: 'tick', now }))
    const sent = effects.filter((effect) => effect.kind === 'send')
    return new Set(sent.filter(({ message }) => message.kind === 'fetch-decided').map((effect) => effect.to))
  }
  expect(asked(10, 5000)).toEqual(new Set([nodeId(2)]))
  const leader = { ...ballot(1, 1), configuration: configurationId(5) }
  const message: Message = { kind: 'decided-entries', from: logIndex(6), decided: logIndex(8), leader, entries: [] }
  step(replica, { kind: 'message', now: 5000, from: nodeId(2), message })
  expect(asked(5010, 10_000)).toContain(nodeId(1))
})

it('a start comes upon the stop-sign in its log although the log leaves memory first', () => {
  const next = { ...configurationOf([1, 2, 3]), id: configurationId(2) }
  const stopSign: Entry = { kind: 'stop-sign', index: logIndex(6), next }
  const [configuration, promise] = [configurationOf([1]), ballot(1, 1)]
  const state = { ...EMPTY_STATE, promise, acceptedBallot: promise, decided: logIndex(6), configuration }
  const recovered = { state, first: logIndex(1), entries: [...FIRST, stopSign], doubtfulFrom: null }
  const options = { keepEntriesBytes: 0 }
  const replica = createReplica({ self: nodeId(2), recovered, options, now: 0 })
  for (const now of [0, 10]) step(replica, { kind: 'trim', now, index: logIndex(6) })
  expect(replica.configuration).toEqual(next)
  expect(replica.log.first).toBe(7)
})
