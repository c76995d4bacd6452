/**
 * kill -9 under load: promise 1 (an acknowledged write survives), promise 2 (reads are linearizable), and no error
 * for clients of the surviving nodes.
 */
import { expect, test } from 'vitest'
import { leadsOn, withCluster } from './harness.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

const LOAD = 500
/** Clients that hardly pause: nothing here is closed in good order. */
const BUSY = { connectionsPerTarget: 4, thinkMilliseconds: 1 }

test('kill -9 of the leader: survivors pause and go on, the killed node comes back', async () => {
  await withCluster(3, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), { ...BUSY })
    await untilAnswered(recorder, LOAD)
    const { node: killed, status: before } = await cluster.leader()
    await killed.kill9()
    await untilAnswered(recorder, LOAD)
    const { node: successor } = await cluster.leader()
    expect(successor.name).not.toBe(killed.name)
    await killed.start()
    const after = await cluster.waitUntilCaughtUp(killed)
    expect(after.timeline).toBeGreaterThan(before.timeline)
    expect(after.nodeId).toBe(before.nodeId)
    await untilAnswered(recorder, LOAD)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording, [killed.name])).toEqual([])
  })
})

test('kill -9 of a follower: nobody else notices', async () => {
  await withCluster(3, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), { ...BUSY })
    await untilAnswered(recorder, LOAD)
    const killed: string[] = []
    const killFollower = async (): Promise<void> => {
      const follower = await cluster.follower()
      killed.push(follower.name)
      await follower.kill9()
      await untilAnswered(recorder, LOAD)
      await follower.start()
      await cluster.waitUntilCaughtUp(follower)
    }
    expect(await leadsOn(cluster, killFollower)).toBe(true)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording, killed)).toEqual([])
  })
})

test('kill -9 of the leader three times in a row, each time of the one that leads then', async () => {
  await withCluster(3, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), { registers: 3, counters: 1, ...BUSY })
    const killed: string[] = []
    for (let round = 0; round < 3; round++) {
      await untilAnswered(recorder, LOAD)
      const { node } = await cluster.leader()
      killed.push(node.name)
      await node.kill9()
      await untilAnswered(recorder, LOAD)
      await node.start()
      await cluster.waitUntilCaughtUp(node)
    }
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording, killed)).toEqual([])
    expect(recording.answered).toBeGreaterThanOrEqual(6 * LOAD)
  })
})

test('kill -9 of all nodes at once, twice: nothing acknowledged is lost', async () => {
  await withCluster(3, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), { ...BUSY })
    const nodes = cluster.running
    for (let round = 0; round < 2; round++) {
      await untilAnswered(recorder, LOAD)
      await Promise.all(nodes.map((node) => node.kill9()))
      await Promise.all(nodes.map((node) => node.start()))
      await cluster.leader()
    }
    await untilAnswered(recorder, LOAD)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(
      problemsOf(
        recording,
        nodes.map((node) => node.name),
      ),
    ).toEqual([])
    expect(recording.answered).toBeGreaterThanOrEqual(3 * LOAD)
  })
})

test('one node alone: kill -9 and back, nothing acknowledged is lost', async () => {
  await withCluster(1, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0))
    await untilAnswered(recorder, LOAD)
    const node = cluster.node(0)
    await node.kill9()
    await node.start()
    await untilAnswered(recorder, LOAD)
    const recording = await finish(cluster, recorder, [0])
    expect(problemsOf(recording, [node.name])).toEqual([])
    expect(recording.answered).toBeGreaterThanOrEqual(2 * LOAD)
  })
})

test('a frozen leader that wakes up serves nothing old', async () => {
  await withCluster(3, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), { ...BUSY })
    await untilAnswered(recorder, LOAD)
    const { node: frozen } = await cluster.leader()
    frozen.pause()
    const others = cluster.running.filter((node) => node !== frozen)
    const before = await Promise.all(others.map(async (node) => (await node.admin.status()).decidedIndex))
    // The others elect a leader of their own and decide more while the old one believes that it leads.
    await untilAnswered(recorder, LOAD)
    const after = await Promise.all(others.map(async (node) => (await node.admin.status()).decidedIndex))
    expect(after.map(BigInt).every((index, position) => index > BigInt(before[position]!))).toBe(true)
    frozen.resume()
    await untilAnswered(recorder, LOAD)
    await cluster.waitUntilCaughtUp(frozen)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording)).toEqual([])
  })
})
