/**
 * Full disks: a voter without room lags and holds nobody up; when room returns it has everything; and while too few
 * have room everybody knows.
 */
import { expect, test } from 'vitest'
import { isShortOfRoom, statusOf } from '../../src/consensus/replica.ts'
import { nodeId } from '../../src/vocabulary.ts'
import { planOf } from '../sim/plan.ts'
import { Simulation } from '../sim/simulation.ts'

function cluster(): Simulation {
  const calm = planOf(7)
  const simulation = new Simulation({
    ...calm,
    nodes: 3,
    founders: 3,
    blipRate: 0,
    network: { ...calm.network, lossChance: 0, doubleChance: 0, slowChance: 0 },
    rules: {},
  } as typeof calm)
  simulation.advance(1000)
  return simulation
}

const leaderOf = (simulation: Simulation) => simulation.leaders[0]!
const decidedOf = (simulation: Simulation): number => simulation.checker.decided.length

function load(simulation: Simulation, entries: number): void {
  for (let count = 0; count < entries; count++) {
    const leader = leaderOf(simulation)
    if (leader !== undefined) simulation.propose(leader)
    simulation.advance(20)
  }
}

test('one follower without room: it takes nothing more, the others decide, and it comes back when it has room', () => {
  const simulation = cluster()
  const leader = leaderOf(simulation)
  const full = [...simulation.nodes.values()].find((node) => node !== leader)!
  load(simulation, 5)
  simulation.step(full, { kind: 'room', now: 0, room: 'none' })
  simulation.advance(200)
  const before = full.disk.image.log.entries.length
  const decided = decidedOf(simulation)
  load(simulation, 60)
  expect(decidedOf(simulation)).toBeGreaterThan(decided + 40)
  expect(full.disk.image.log.entries.length).toBe(before)
  // It does not lead either, whoever goes.
  expect(statusOf(full.replica!).role).toBe('follower')
  expect([...simulation.nodes.values()].some((node) => isShortOfRoom(node.replica!))).toBe(false)
  simulation.step(full, { kind: 'room', now: 0, room: 'enough' })
  load(simulation, 5)
  simulation.advance(2000)
  expect(full.applied).toBe(decidedOf(simulation))
})

test('a follower without room that is restarted stays out until it has room', () => {
  const simulation = cluster()
  const leader = leaderOf(simulation)
  const full = [...simulation.nodes.values()].find((node) => node !== leader)!
  load(simulation, 5)
  simulation.kill(full)
  load(simulation, 20)
  simulation.restart(full)
  simulation.step(full, { kind: 'room', now: 0, room: 'none' })
  const { applied } = full
  load(simulation, 20)
  expect(full.applied).toBe(applied)
  simulation.step(full, { kind: 'room', now: 0, room: 'little' })
  simulation.advance(3000)
  expect(full.applied).toBe(decidedOf(simulation))
})

test('where fewer than a quorum have room, all of them know, and know when it is over', () => {
  const simulation = cluster()
  const [a, b] = [simulation.nodes.get(nodeId(1))!, simulation.nodes.get(nodeId(2))!]
  simulation.step(a, { kind: 'room', now: 0, room: 'little' })
  simulation.advance(1000)
  const short = (): boolean[] => [...simulation.nodes.values()].map((node) => isShortOfRoom(node.replica!))
  expect(short()).toEqual([false, false, false])
  simulation.step(b, { kind: 'room', now: 0, room: 'little' })
  simulation.advance(1000)
  expect(short()).toEqual([true, true, true])
  // What is logged in spite of it (deletes) is still decided.
  const decided = decidedOf(simulation)
  load(simulation, 5)
  expect(decidedOf(simulation)).toBeGreaterThan(decided)
  simulation.step(a, { kind: 'room', now: 0, room: 'enough' })
  simulation.advance(1000)
  expect(short()).toEqual([false, false, false])
})

test('where nobody has room somebody leads, and reads are answered', () => {
  const simulation = cluster()
  load(simulation, 5)
  simulation.advance(500)
  for (const node of simulation.nodes.values()) simulation.step(node, { kind: 'room', now: 0, room: 'none' })
  simulation.advance(1000)
  const old = leaderOf(simulation)
  simulation.kill(old)
  simulation.advance(2000)
  const leader = leaderOf(simulation)
  expect(leader).toBeDefined()
  expect(leader.id).not.toBe(old.id)
  simulation.checker.asks(leader, 1)
  simulation.step(leader, { kind: 'read', now: 0, id: 1 })
  simulation.advance(500)
  // Answered: the checker has looked at the index, and nothing waits.
  expect(leader.replica!.reads).toEqual([])
  expect(statusOf(leader.replica!).role).toBe('leader')
})

test('it is for a voter that has room to lead', () => {
  const simulation = cluster()
  load(simulation, 5)
  const old = leaderOf(simulation)
  const [full, other] = [...simulation.nodes.values()].filter((node) => node !== old)
  simulation.step(full!, { kind: 'room', now: 0, room: 'none' })
  simulation.advance(1000)
  simulation.kill(old)
  simulation.advance(3000)
  expect(leaderOf(simulation).id).toBe(other!.id)
})
