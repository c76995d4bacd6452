/**
 * A voter that was told to fetch first is asked for its promise again and again meanwhile. Who has promised takes nothing
 * that was fetched: over a link that takes long it would hardly ever be able to.
 */
import { expect, it } from 'vitest'
import type { Event } from '../../src/consensus/events.ts'
import type { Message } from '../../src/consensus/messages.ts'
import { acceptsCheckpoint, createReplica, position, step } from '../../src/consensus/replica.ts'
import { EMPTY_STATE, configurationId, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'

const configuration = {
  id: configurationId(1),
  voters: [1, 2].map((id) => ({ id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })),
  learners: [],
  preferredLeader: nodeId(0),
}
const ballot = (n: number) => ({ configuration: configuration.id, n, priority: 0, node: nodeId(2) })
const options = { electionTimeoutMilliseconds: 300, resendMilliseconds: 100 }

/** A voter that has promised (1, 2), and was told at 10 that up to 90 is decided and to be fetched. */
function fetching() {
  const recovered = { state: { ...EMPTY_STATE, configuration }, first: logIndex(1), entries: [], doubtfulFrom: null }
  const replica = createReplica({ self: nodeId(1), recovered, options, now: 0 })
  const said: Message[] = []
  const take = (event: Event): void => {
    for (const effect of step(replica, event)) if (effect.kind === 'send') said.push(effect.message)
  }
  const hear = (now: number, message: Message): void => take({ kind: 'message', now, from: nodeId(2), message })
  const prepare = (now: number, n: number): void =>
    hear(now, {
      kind: 'prepare',
      ballot: ballot(n),
      decided: logIndex(90),
      acceptedBallot: ballot(n),
      accepted: logIndex(90),
    })
  prepare(0, 1)
  take({ kind: 'persisted', now: 5, position: position(replica) })
  hear(10, { kind: 'catch-up', ballot: ballot(1), decided: logIndex(90) })
  const promises = (): number => said.filter(({ kind }) => kind === 'promise').length
  expect(promises()).toBe(1)
  return { replica, prepare, promises }
}

it('a voter that fetches is not kept from it by the leader that told it to', () => {
  const { replica, prepare, promises } = fetching()
  for (let now = 100; now < 600; now += 100) {
    prepare(now, 1)
    expect(acceptsCheckpoint(replica, logIndex(90), configuration)).toBe(true)
  }
  expect(promises()).toBe(1)
})

it('but answers after a while, in case that the leader has what it lacks by now, and another leader at once', () => {
  const later = fetching()
  later.prepare(600, 1)
  expect(later.promises()).toBe(2)
  const another = fetching()
  another.prepare(100, 2)
  expect(another.promises()).toBe(2)
})
