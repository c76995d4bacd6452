/**
 * How fast leadership moves when the leader's connections close, and that it stays where it is when one of them
 * only blips. In virtual time: what is asserted here does not depend on the machine.
 */
import { describe, expect, it } from 'vitest'
import type { Effect } from '../../src/consensus/events.ts'
import { createReplica, step } from '../../src/consensus/replica.ts'
import { EMPTY_STATE, type NodeId, configurationId, logIndex, nodeId } from '../../src/vocabulary.ts'
import { type Plan, Simulation, member, planOf } from '../sim/simulation.ts'

const ELECTION_MILLISECONDS = 300

/** No faults but those of the test; a network and disks as in one data centre. */
function quietly(seed: number, voters: number): Plan {
  const plan = planOf(seed)
  const rates = Object.fromEntries(Object.keys(plan.rates).map((fault) => [fault, 0])) as Plan['rates']
  return {
    ...plan,
    nodes: voters,
    founders: voters,
    network: { stream: true, lossChance: 0, doubleChance: 0, delayMilliseconds: 2, slowChance: 0 },
    syncMilliseconds: 10,
    rates,
    closedChance: 1,
    blipRate: 0,
    ambushChance: 0,
    clockRateError: 0,
    flexibleChance: 0,
    leaseMilliseconds: 0,
    options: { electionTimeoutMilliseconds: ELECTION_MILLISECONDS, resendMilliseconds: 100 },
  }
}

function started(seed: number, voters: number): Simulation {
  const simulation = new Simulation(quietly(seed, voters))
  simulation.advance(5 * ELECTION_MILLISECONDS)
  expect(simulation.leaders.length).toBe(1)
  return simulation
}

describe('failover', () => {
  it.each([3, 5])('of %i voters: the leader is killed, the next one leads within one election timeout', (voters) => {
    for (let seed = 1; seed <= 60; seed++) {
      const simulation = started(seed, voters)
      for (let left = voters; left > (voters + 1) / 2; left--) {
        const leader = simulation.leaders[0]!
        simulation.propose(leader)
        simulation.kill(leader)
        simulation.advance(ELECTION_MILLISECONDS)
        expect(simulation.leaders.length, `seed ${seed}`).toBe(1)
        simulation.propose(simulation.leaders[0]!)
        simulation.advance(ELECTION_MILLISECONDS)
      }
      expect(simulation.checker.decided.length).toBeGreaterThan((voters - 1) / 2)
    }
  })

  it('no leader is deposed because one of its connections blips, again and again', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const simulation = started(seed, 3)
      const leader = simulation.leaders[0]!
      const { ballot } = leader.replica!.leadership!
      const others = [...simulation.nodes.keys()].filter((id) => id !== leader.id)
      for (let count = 0; count < 20; count++) {
        simulation.blip(others[count % 2]!, leader.id, 5 + ((seed * 7 + count * 13) % 40))
        simulation.advance(150)
        simulation.propose(leader)
      }
      simulation.advance(ELECTION_MILLISECONDS)
      expect(leader.replica!.leadership?.ballot, `seed ${seed}`).toEqual(ballot)
      expect(simulation.checker.decided.length).toBeGreaterThanOrEqual(21)
    }
  })

  it('a leader that one voter cannot reach for long stays, and is not disturbed', () => {
    const simulation = started(1, 3)
    const leader = simulation.leaders[0]!
    const { ballot } = leader.replica!.leadership!
    const other = [...simulation.nodes.keys()].find((id) => id !== leader.id)!
    simulation.blip(other, leader.id, 20 * ELECTION_MILLISECONDS)
    simulation.advance(30 * ELECTION_MILLISECONDS)
    expect(leader.replica!.leadership?.ballot).toEqual(ballot)
  })
})

describe('rounds', () => {
  const configuration = {
    id: configurationId(1),
    voters: [1, 2, 3].map(member),
    learners: [],
    preferredLeader: nodeId(0),
  }

  /** A voter that hears nothing; `act` may tell it something each millisecond. Rounds that it begins, by time. */
  function roundsOf(milliseconds: number, act: (now: number) => 'disconnected' | 'reconnected' | null): number[] {
    const recovered = { state: { ...EMPTY_STATE, configuration }, entries: [], first: logIndex(1), doubtfulFrom: null }
    const options = { electionTimeoutMilliseconds: ELECTION_MILLISECONDS }
    const replica = createReplica({ self: nodeId(1), recovered, options, now: 0 })
    const began: number[] = []
    const take = (now: number, effects: readonly Effect[]): void => {
      const asks = effects.filter((one) => one.kind === 'send' && one.message.kind === 'heartbeat-request')
      if (asks.length > 0) began.push(now)
    }
    const leader: NodeId = nodeId(3)
    const ballot = { configuration: configuration.id, n: 1, priority: 0, node: leader }
    const message = {
      kind: 'prepare',
      ballot,
      decided: logIndex(0),
      acceptedBallot: ballot,
      accepted: logIndex(0),
    } as const
    take(0, step(replica, { kind: 'message', now: 0, from: leader, message }))
    for (let now = 1; now <= milliseconds; now++) {
      const kind = act(now)
      if (kind !== null) take(now, step(replica, { kind, now, peer: leader }))
      if (now % 15 === 0) take(now, step(replica, { kind: 'tick', now }))
    }
    return began
  }

  it('in vain become slower, up to the election timeout', () => {
    const began = roundsOf(10_000, (now) => (now === 3000 ? 'disconnected' : null))
    const after = began.filter((at) => at >= 3000)
    expect(after[0]).toBe(3000)
    const gaps = after.slice(1).map((at, position) => at - after[position]!)
    expect(gaps[0]).toBeLessThan(ELECTION_MILLISECONDS / 3)
    expect(gaps.every((gap, position) => position === 0 || gap >= gaps[position - 1]! - 15)).toBe(true)
    expect(gaps.at(-1)).toBeGreaterThanOrEqual(ELECTION_MILLISECONDS)
  })

  it('are few, however often a connection is lost and made anew', () => {
    const began = roundsOf(10_000, (now) => (now % 4 === 0 ? 'disconnected' : now % 4 === 2 ? 'reconnected' : null))
    // A quick round lasts a sixth of the election timeout; one may follow it when the leader shows itself.
    expect(began.length).toBeLessThanOrEqual((2 * 10_000) / (ELECTION_MILLISECONDS / 6))
    expect(began.length).toBeGreaterThan(10)
  })
})
