/** A large message on a slow link: heartbeats stand in line behind it, and that it moves is a sign of life. */
import { expect, test } from 'vitest'
import { createReplica, isLeader, step } from '../../src/consensus/replica.ts'
import type { Effect } from '../../src/consensus/events.ts'
import type { Message } from '../../src/consensus/messages.ts'
import { ZERO_BALLOT, configurationId, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'

const TICK_MILLISECONDS = 10
const configuration = {
  id: configurationId(1),
  voters: [1, 2, 3].map((id) => ({ id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })),
  learners: [],
  preferredLeader: nodeId(0),
}
const ballotOf = (node: number) => ({ ...ZERO_BALLOT, configuration: configurationId(1), n: 1, node: nodeId(node) })

/** Voter 2, to whom 3 answers all the time, and 1 leads; `moves`: what comes from 1, or goes to it, moves. */
function voter(moves: (now: number) => boolean): { pass: (milliseconds: number) => void; prepares: () => number } {
  const state = {
    promise: ballotOf(1),
    acceptedBallot: ballotOf(1),
    decided: logIndex(0),
    configuration,
    configurationStart: logIndex(0),
  }
  const recovered = { state, first: logIndex(1), entries: [], doubtfulFrom: null }
  const replica = createReplica({ self: nodeId(2), recovered, now: 0 })
  let now = 0
  let prepares = 0
  const hear = (from: number, message: Message): void =>
    perform(step(replica, { kind: 'message', now, from: nodeId(from), message }))
  function perform(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.kind !== 'send') continue
      if (effect.message.kind === 'prepare') prepares++
      if (effect.message.kind !== 'heartbeat-request') continue
      const { round } = effect.message
      // 1 answers in the first two rounds; 3 sees nobody.
      const reply = { kind: 'heartbeat-reply' as const, configuration: configuration.id, round }
      if (effect.to === 1 && round < 3) hear(1, { ...reply, ballot: ballotOf(1), leader: ballotOf(1), happy: true })
      if (effect.to === 3) hear(3, { ...reply, ballot: { ...ballotOf(3), n: 0 }, leader: ballotOf(1), happy: false })
    }
  }
  return {
    pass(milliseconds) {
      for (const end = now + milliseconds; now < end;) {
        now += TICK_MILLISECONDS
        if (moves(now)) perform(step(replica, { kind: 'moving', now, peer: nodeId(1) }))
        perform(step(replica, { kind: 'tick', now }))
      }
      expect(isLeader(replica)).toBe(false)
    },
    prepares: () => prepares,
  }
}

test('a voter deposes no leader while bytes of it come, and does when they stop', () => {
  const patient = voter((now) => now < 20_000)
  patient.pass(20_000)
  expect(patient.prepares()).toBe(0)
  patient.pass(3000)
  expect(patient.prepares()).toBeGreaterThan(0)
})

test('where nothing moves, and no answer comes, it takes over', () => {
  const alert = voter(() => false)
  alert.pass(5000)
  expect(alert.prepares()).toBeGreaterThan(0)
})
