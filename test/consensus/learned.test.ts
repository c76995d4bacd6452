/**
 * What was learned, and is not durable yet, when a log is replaced: only what is in the log may count as decided.
 */
import { expect, it } from 'vitest'
import type { Effect, Event } from '../../src/consensus/events.ts'
import type { Message } from '../../src/consensus/messages.ts'
import { createReplica, entriesBetween, position, step } from '../../src/consensus/replica.ts'
import { type Entry, configurationId, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'

const configuration = {
  id: configurationId(1),
  voters: [1, 2, 3].map((id) => ({ id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })),
  learners: [],
  preferredLeader: nodeId(0),
}
const ballot = (n: number, node: number) => ({ configuration: configuration.id, n, priority: 0, node: nodeId(node) })
const entry = (index: number, payload: string): Entry => ({
  kind: 'commands',
  index: logIndex(index),
  payload: Buffer.from(payload),
})
const payloadOf = (one: Entry | undefined): string => (one?.kind === 'commands' ? String(one.payload) : '')

/**
 * Ballots: (1, 3) left "old" in entry 6 of node 2 only. In (2, 3), promised by node 1, node 3 put "new" there, alone.
 * Node 1 then takes over with (3, 1), and node 2 promises it, with "old"; that promise is slow. Meanwhile node 3 leads
 * (4, 3) with node 2 and decides "new".
 */
it('a candidate that learns what another leader decided adopts a late promise, and decides nothing by it', () => {
  const state = {
    promise: ballot(2, 3),
    acceptedBallot: ballot(1, 3),
    decided: logIndex(5),
    configuration,
    configurationStart: logIndex(0),
  }
  const entries = [1, 2, 3, 4, 5].map((index) => entry(index, 'first'))
  const recovered = { state, first: logIndex(1), entries, doubtfulFrom: null }
  const replica = createReplica({ self: nodeId(1), recovered, now: 0 })
  const effects: Effect[] = []
  const take = (event: Event): void => void effects.push(...step(replica, event))
  const hear = (now: number, from: number, message: Message): void =>
    take({ kind: 'message', now, from: nodeId(from), message })
  const persisted = (now: number): void => take({ kind: 'persisted', now, position: position(replica) })

  take({ kind: 'tick', now: 10 })
  const answer = { kind: 'heartbeat-reply', configuration: configuration.id, round: 1, happy: false } as const
  hear(20, 2, { ...answer, ballot: ballot(0, 2), leader: ballot(1, 3) })
  for (let now = 30; replica.leadership === null && now < 1000; now += 10) take({ kind: 'tick', now })
  expect(replica.leadership?.ballot).toEqual(ballot(3, 1))
  persisted(1000)

  const leader = ballot(4, 3)
  const learned = entry(6, 'new')
  hear(1010, 3, { kind: 'decided-entries', from: logIndex(6), decided: logIndex(6), leader, entries: [learned] })
  const late = [entry(6, 'old'), entry(7, 'old')]
  const log = { decided: logIndex(5), accepted: logIndex(7), doubtfulFrom: logIndex(0), base: logIndex(6) }
  hear(1020, 2, { kind: 'promise', ballot: ballot(3, 1), acceptedBallot: ballot(1, 3), ...log, entries: late })
  persisted(1030)

  const decided = Math.max(...effects.map((effect) => (effect.kind === 'decided' ? effect.index : 0)))
  const applied = entriesBetween(replica, logIndex(6), logIndex(decided)).map(payloadOf)
  expect(applied.filter((payload) => payload !== 'new')).toEqual([])
})
