/**
 * Networks that are neither whole nor cleanly cut, on real processes under load: the three scenarios of the
 * Omni-Paxos paper (quorum loss, constrained election, chained), bytes that pass one way only, and connections that
 * break and crawl at random. Somebody who reaches a quorum leads, and what clients saw is the history of one store.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { RespReply } from '../../bench/resp-client.ts'
import { type Cluster, eventually, withCluster } from './harness.ts'
import type { NodeProcess } from './process.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

const LOAD = 200
const ELECTION_TIMEOUT_MILLISECONDS = 300
/** So long somebody must lead on: who would be outbid would be so by then. */
const ELECTION_TIMEOUTS = 8
const BUSY = { connectionsPerTarget: 3, thinkMilliseconds: 2 }

const pairsOf = (hub: number, others: readonly number[]): [number, number][] => others.map((other) => [hub, other])

/** Waits until this node leads; what it answers to a write then. */
async function leads(cluster: Cluster, node: NodeProcess): Promise<RespReply> {
  await eventually(`${node.name} leads`, async () => (await node.admin.status()).role === 'leader')
  return cluster.command(node, 'SET', 'led-by', node.name)
}

/** How often this node has seen another leader than before. */
async function leaderChanges(node: NodeProcess): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${node.ports.admin}/metrics`)).text()
  return Number(/^lokikv_leader_changes_total(?:\{.*\})? (\d+)$/m.exec(metrics)![1])
}

/** The network is whole again: the load goes on, everybody catches up; what is wrong with the recording. */
async function settle(cluster: Cluster, recorder: Recorder, ordinals: readonly number[]): Promise<string[]> {
  cluster.links.heal()
  await untilAnswered(recorder, LOAD)
  await Promise.all(ordinals.map((ordinal) => cluster.waitUntilCaughtUp(cluster.node(ordinal))))
  const recording = await finish(cluster, recorder, ordinals)
  return problemsOf(recording)
}

test('quorum loss: all links but those of one node are cut, and that node leads', async () => {
  await withCluster(5, { linked: 5 }, async (cluster) => {
    const { node: leader } = await cluster.leader()
    const [hub, ...others] = cluster.running.filter((node) => node !== leader)
    // Clients of the hub: the others reach a leader through it, and are part of every quorum.
    const recorder = new Recorder(cluster.targets(0, 1, 2, 3, 4), BUSY)
    await untilAnswered(recorder, LOAD)
    // The leader is alive, and connected to the hub: only the hub reaches a quorum.
    cluster.links.only(...pairsOf(hub!.ordinal, [leader.ordinal, ...others.map((node) => node.ordinal)]))
    expect(await leads(cluster, hub!)).toBe('OK')
    await untilAnswered(recorder, LOAD)
    expect(await settle(cluster, recorder, [0, 1, 2, 3, 4])).toEqual([])
  })
})

test('constrained election: the one node that can win is behind, the old leader is gone', async () => {
  await withCluster(5, { linked: 5 }, async (cluster) => {
    const { node: leader } = await cluster.leader()
    const [hub, ...others] = cluster.running.filter((node) => node !== leader)
    const ordinals = others.map((node) => node.ordinal)
    const recorder = new Recorder(cluster.targets(...ordinals), BUSY)
    await untilAnswered(recorder, LOAD)
    // First the hub misses what the others decide …
    const all = [leader.ordinal, ...ordinals]
    for (const other of all) cluster.links.stall(other, hub!.ordinal)
    await untilAnswered(recorder, LOAD)
    // … then that is lost, the leader is cut off, and the hub is all that the others reach.
    for (const other of all) cluster.links.reset(other, hub!.ordinal)
    cluster.links.heal()
    cluster.links.only(...pairsOf(hub!.ordinal, ordinals))
    expect(await leads(cluster, hub!)).toBe('OK')
    await untilAnswered(recorder, LOAD)
    expect(await settle(cluster, recorder, [0, 1, 2, 3, 4])).toEqual([])
  })
})

test('chained: the ends of a chain of three do not take leadership from each other', async () => {
  const settings = { electionTimeoutMilliseconds: ELECTION_TIMEOUT_MILLISECONDS }
  await withCluster(3, { linked: 3, settings }, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), BUSY)
    await untilAnswered(recorder, LOAD)
    const { node: leader } = await cluster.leader()
    const [middle, end] = cluster.running.filter((node) => node !== leader)
    cluster.links.only([leader.ordinal, middle!.ordinal], [middle!.ordinal, end!.ordinal])
    await untilAnswered(recorder, LOAD)
    // Whoever leads by now goes on leading: the other end is led through the middle. A machine that keeps the leader
    // waiting has it replaced, and rightly so; ends that outbid each other would do so in every one of these times.
    await eventually('somebody leads on', async () => {
      const { node: settled } = await cluster.leader()
      const before = await leaderChanges(settled)
      await untilAnswered(recorder, LOAD)
      await sleep(ELECTION_TIMEOUTS * ELECTION_TIMEOUT_MILLISECONDS)
      const { role } = await settled.admin.status()
      return role === 'leader' && (await leaderChanges(settled)) === before
    })
    expect(await settle(cluster, recorder, [0, 1, 2])).toEqual([])
  })
})

test('one way: a leader that hears all and is heard by nobody is replaced, and its late words change nothing', async () => {
  await withCluster(3, { linked: 3 }, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), BUSY)
    await untilAnswered(recorder, LOAD)
    const { node: mute } = await cluster.leader()
    const others = cluster.running.filter((node) => node !== mute)
    for (const other of others) cluster.links.stall(mute.ordinal, other.ordinal)
    await eventually('somebody else leads', async () => {
      const statuses = await Promise.all(others.map((node) => node.admin.status()))
      return statuses.some(({ role }) => role === 'leader')
    })
    await untilAnswered(recorder, LOAD)
    expect(await settle(cluster, recorder, [0, 1, 2])).toEqual([])
  })
})

const SEED = Number(process.env['SEED'] ?? 20_261_122)

test(`connections that break, crawl and stall at random (SEED=${SEED})`, async () => {
  let state = SEED
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  await withCluster(3, { linked: 3 }, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), BUSY)
    await untilAnswered(recorder, LOAD)
    for (let round = 0; round < 40; round++) {
      const a = random(3)
      const b = (a + 1 + random(2)) % 3
      const fault = random(4)
      if (fault === 0) cluster.links.reset(a, b)
      else if (fault === 1) cluster.links.delay(a, b, random(30))
      else if (fault === 2) cluster.links.stall(a, b)
      else cluster.links.heal()
      await sleep(20 + random(100))
    }
    expect(await settle(cluster, recorder, [0, 1, 2])).toEqual([])
  })
})
