/**
 * Leases where messages come late: what a network may do that a story, in which everything arrives in order, does
 * not show. Times are milliseconds of each node's own clock.
 */
import { describe, expect, it } from 'vitest'
import type { Effect, Event } from '../../src/consensus/events.ts'
import type { Message } from '../../src/consensus/messages.ts'
import { type Replica, createReplica, position, step } from '../../src/consensus/replica.ts'
import {
  type DurableState,
  type RecoveredLog,
  EMPTY_STATE,
  ZERO_BALLOT,
  configurationId,
  logIndex,
  nodeId,
  volumeId,
} from '../../src/vocabulary.ts'

const LEASE_MILLISECONDS = 200
const configuration = {
  id: configurationId(1),
  voters: [1, 2, 3].map((id) => ({ id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })),
  learners: [],
  preferredLeader: nodeId(0),
  leaseMilliseconds: LEASE_MILLISECONDS,
}
const ballotOf = (n: number, node: number) => ({
  configuration: configurationId(1),
  n,
  priority: 0,
  node: nodeId(node),
})
const index = logIndex

/** A replica whose disk is quick; `said` is what it has sent since it was asked last. */
class Voter {
  readonly replica: Replica
  readonly said: { to: number; message: Message }[] = []
  readonly ready: number[] = []

  constructor(
    id: number,
    state: DurableState = { ...EMPTY_STATE, configuration },
    doubtfulFrom: RecoveredLog['doubtfulFrom'] = null,
  ) {
    const recovered = { state, first: index(1), entries: [], doubtfulFrom, promiseLost: doubtfulFrom !== null }
    this.replica = createReplica({ self: nodeId(id), recovered, now: 0 })
  }

  do(event: Event): void {
    let effects: Effect[] = step(this.replica, event)
    while (effects.length > 0) {
      const persists = effects.some(({ kind }) => kind === 'persist')
      for (const effect of effects) {
        if (effect.kind === 'send') this.said.push({ to: effect.to, message: effect.message })
        else if (effect.kind === 'read-ready') this.ready.push(effect.id)
      }
      const { now } = event
      effects = persists ? step(this.replica, { kind: 'persisted', now, position: position(this.replica) }) : []
    }
  }

  hear(now: number, from: number, message: Message): void {
    this.do({ kind: 'message', now, from: nodeId(from), message })
  }

  kinds(): string[] {
    return this.said.splice(0).map(({ to, message }) => `${message.kind} to ${to}`)
  }
}

const prepare = (n: number, node: number): Message => {
  const ballot = ballotOf(n, node)
  return { kind: 'prepare', ballot, decided: index(0), acceptedBallot: ZERO_BALLOT, accepted: index(0) }
}
const acceptSync = (n: number, node: number): Message => {
  const ballot = ballotOf(n, node)
  return { kind: 'accept-sync', ballot, decided: index(0), base: index(1), entries: [] }
}
const lease = (kind: 'lease-request' | 'lease-grant' | 'lease-release', ballot: number, sent: number): Message => ({
  kind,
  ballot: ballotOf(ballot, 3),
  sent,
})

/** Follows node 3 in ballot 1, a second after its start. */
function follower(): Voter {
  const voter = new Voter(1)
  voter.hear(1000, 3, prepare(1, 3))
  voter.hear(1000, 3, acceptSync(1, 3))
  voter.said.splice(0)
  return voter
}

/** Node 3 leads ballot 2 with node 1, which has everything. */
function leader(): Voter {
  const voter = new Voter(3)
  voter.hear(1000, 1, prepare(1, 1))
  voter.hear(1000, 1, acceptSync(1, 1))
  voter.hear(1000, 1, { kind: 'take-over', ballot: ballotOf(1, 1) })
  const promise = { kind: 'promise', ballot: ballotOf(2, 3), acceptedBallot: ballotOf(1, 1) } as const
  const log = { decided: index(0), accepted: index(0), doubtfulFrom: index(0), base: index(1), entries: [] }
  voter.hear(1000, 1, { ...promise, ...log })
  voter.hear(1000, 1, { kind: 'accepted', ballot: ballotOf(2, 3), index: index(1) })
  voter.said.splice(0)
  return voter
}

describe('a follower', () => {
  it('grants nothing and promises nothing to anybody for one lease after its start', () => {
    const voter = new Voter(1)
    voter.hear(100, 2, prepare(7, 2))
    expect(voter.kinds()).toEqual([])
    voter.do({ kind: 'tick', now: 200 })
    expect(voter.kinds().filter((kind) => kind.startsWith('promise'))).toEqual([])
    voter.do({ kind: 'tick', now: 225 })
    expect(voter.kinds()).toContain('promise to 2')
  })

  it('grants nothing before that time either: what it may have granted is not known, and no release could end it', () => {
    const restarted = { ...EMPTY_STATE, configuration, promise: ballotOf(1, 3) }
    const voter = new Voter(1, restarted)
    voter.hear(10, 3, prepare(1, 3))
    voter.hear(10, 3, acceptSync(1, 3))
    voter.said.splice(0)
    voter.hear(100, 3, lease('lease-request', 1, 5000))
    expect(voter.kinds()).toEqual([])
    voter.hear(230, 3, lease('lease-request', 1, 5130))
    expect(voter.kinds()).toEqual(['lease-grant to 3'])
    voter.hear(240, 3, lease('lease-release', 1, 5140))
    voter.hear(241, 2, prepare(7, 2))
    expect(voter.kinds()).toEqual(['promise to 2'])
  })

  it('grants and promises nothing in a configuration that rot had taken: it may have granted there', () => {
    const { leaseMilliseconds: _, ...before } = configuration
    const state = { ...EMPTY_STATE, configuration: before, promise: ballotOf(1, 1) }
    const voter = new Voter(1, state, index(1))
    const next = { ...configuration, id: configurationId(2) }
    voter.hear(100, 3, { kind: 'sealed', index: index(1), next })
    const leader = { ...ballotOf(1, 3), configuration: next.id }
    const stopSign = { kind: 'stop-sign', index: index(1), next } as const
    voter.hear(101, 3, { kind: 'decided-entries', from: index(1), decided: index(1), leader, entries: [stopSign] })
    for (const id of [2, 3]) {
      voter.hear(102, id, { kind: 'tell-promise', configuration: next.id, start: 0, promise: leader })
    }
    voter.said.splice(0)
    const late = { ...ballotOf(7, 2), configuration: next.id }
    voter.hear(110, 2, { ...prepare(7, 2), ballot: late } as Message)
    voter.do({ kind: 'tick', now: 320 })
    expect(voter.kinds().filter((kind) => kind.startsWith('promise'))).toEqual([])
    voter.do({ kind: 'tick', now: 330 })
    expect(voter.kinds()).toContain('promise to 2')
  })

  it('stays bound for longer than the lease, by the error of two clocks, and then answers who waits', () => {
    const voter = follower()
    voter.hear(2000, 3, lease('lease-request', 1, 5000))
    expect(voter.kinds()).toEqual(['lease-grant to 3'])
    voter.hear(2001, 2, prepare(7, 2))
    for (const now of [2150, 2220]) {
      voter.do({ kind: 'tick', now })
      expect(voter.kinds().filter((kind) => kind.startsWith('promise'))).toEqual([])
    }
    voter.do({ kind: 'tick', now: 2222 })
    expect(voter.kinds()).toContain('promise to 2')
  })

  it('a release that comes late does not take back what was granted since', () => {
    const voter = follower()
    voter.hear(2000, 3, lease('lease-request', 1, 5000))
    voter.hear(2050, 3, lease('lease-request', 1, 5050))
    voter.hear(2060, 3, lease('lease-release', 1, 5010))
    voter.said.splice(0)
    voter.hear(2061, 2, prepare(7, 2))
    expect(voter.kinds()).toEqual([])
    voter.hear(2062, 3, lease('lease-release', 1, 5050))
    expect(voter.kinds()).toEqual(['promise to 2'])
  })

  it('promises to the holder itself: who prepares anew has given up its older ballot', () => {
    const voter = follower()
    voter.hear(2000, 3, lease('lease-request', 1, 5000))
    voter.said.splice(0)
    voter.hear(2001, 3, prepare(9, 3))
    expect(voter.kinds()).toEqual(['promise to 3'])
  })
})

describe('a leader', () => {
  it('reads alone from the send time of what was granted on, however late the grant comes', () => {
    const voter = leader()
    voter.do({ kind: 'tick', now: 2000 })
    expect(voter.kinds()).toContain('lease-request to 1')
    voter.hear(2150, 1, lease('lease-grant', 2, 2000))
    voter.do({ kind: 'read', now: 2199, id: 1 })
    expect(voter.ready).toEqual([1])
    expect(voter.kinds()).toEqual([])
    voter.do({ kind: 'read', now: 2200, id: 2 })
    expect(voter.ready).toEqual([1])
    expect(voter.kinds()).toEqual(['read-probe to 1', 'read-probe to 2'])
  })

  it('a grant from before it handed over does not count when it comes after', () => {
    const voter = leader()
    voter.do({ kind: 'tick', now: 2000 })
    voter.hear(2005, 1, { kind: 'accepted', ballot: ballotOf(2, 3), index: index(1) })
    voter.do({ kind: 'transfer', now: 2010, to: nodeId(1) })
    const said = voter.kinds()
    expect(said.filter((kind) => /release|take-over/.test(kind))).toEqual([
      'lease-release to 1',
      'lease-release to 2',
      'take-over to 1',
    ])
    voter.hear(2020, 1, lease('lease-grant', 2, 2000))
    voter.hear(2020, 2, lease('lease-grant', 2, 2000))
    voter.do({ kind: 'read', now: 2021, id: 1 })
    expect(voter.ready).toEqual([])
    // The target does not come: leases begin anew.
    voter.do({ kind: 'tick', now: 2700 })
    voter.do({ kind: 'tick', now: 2800 })
    voter.hear(2801, 1, lease('lease-grant', 2, 2800))
    expect(voter.ready).toEqual([1])
  })
})
