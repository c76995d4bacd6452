/**
 * Starts and stops: a rolling restart in good order fails no request, a node comes back from checkpoint and log on a
 * new timeline, and an emptied volume is a stranger.
 */
import { readdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { eventually, withCluster } from './harness.ts'
import type { NodeProcess } from './process.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

/** Eight at each of three nodes. */
const CLIENTS = 24

test('a rolling restart by SIGTERM, the leader last, fails no request', async () => {
  await withCluster(3, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2))
    await untilAnswered(recorder, 300)
    const { node: oldLeader } = await cluster.leader()
    const followers = cluster.running.filter((node) => node !== oldLeader).toReversed()
    for (const node of followers) {
      expect(await node.stop()).toEqual({ code: 0, signal: null })
      await node.start()
      await cluster.waitUntilCaughtUp(node)
      await untilAnswered(recorder, 200)
    }
    await cluster.transfer(followers[0]!)
    await untilAnswered(recorder, 200)
    expect(await oldLeader.stop()).toEqual({ code: 0, signal: null })
    await oldLeader.start()
    await cluster.waitUntilCaughtUp(oldLeader)
    await untilAnswered(recorder, 200)
    // Every client met the stop of its node: the test would see nothing if connections were never closed.
    await eventually('every client has come back', () => Promise.resolve(recorder.reconnects >= CLIENTS))
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording)).toEqual([])
  })
})

test('SIGTERM of the leader without any preparation: it hands leadership over by itself', async () => {
  await withCluster(3, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2))
    await untilAnswered(recorder, 300)
    const { node: leader } = await cluster.leader()
    expect(await leader.stop()).toEqual({ code: 0, signal: null })
    await untilAnswered(recorder, 300)
    await leader.start()
    await cluster.waitUntilCaughtUp(leader)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording)).toEqual([])
  })
})

test('nodes come back from checkpoint and log, on a new timeline, with the old log let go', async () => {
  const settings = { checkpointLogBytes: 1_048_576, walSegmentBytes: 1_048_576, checkpointIntervalSeconds: 2 }
  await withCluster(3, { settings }, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), { valueBytes: 2000, thinkMilliseconds: 2 })
    await Promise.all(cluster.running.map((node) => untilCheckpointed(node, 2)))
    const follower = await cluster.follower()
    const before = await follower.admin.status()
    await eventually('whole segments of the log are gone: the volume must not fill', async () => {
      const segments = (await readdir(follower.walFolder)).filter((name) => name.endsWith('.wal'))
      const bases = segments.map((name) => Number(name.slice(0, -4).split('-')[1]))
      const archived = (await readdir(follower.walFolder)).includes('archive')
        ? (await readdir(`${follower.walFolder}/archive`)).length
        : 0
      return Math.min(...bases) > 1 && archived > 0 && archived <= 4
    })
    await follower.kill9()
    await follower.start()
    const after = await cluster.waitUntilCaughtUp(follower)
    expect(after.timeline).toBeGreaterThan(before.timeline)
    expect(BigInt(after.lastCheckpointIndex)).toBeGreaterThanOrEqual(BigInt(before.lastCheckpointIndex))
    await Promise.all(cluster.running.map((node) => node.kill9()))
    await Promise.all([0, 1, 2].map((ordinal) => cluster.node(ordinal).start()))
    await cluster.leader()
    await untilAnswered(recorder, 300)
    const killed = cluster.running.map((node) => node.name)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording, killed)).toEqual([])
  })
})

/** Waits until the node has taken `count` further checkpoints by itself. */
async function untilCheckpointed(node: NodeProcess, count: number): Promise<void> {
  let last = (await node.admin.status()).lastCheckpointIndex
  for (let seen = 0; seen < count; seen++) {
    last = await eventually(`${node.name} took a checkpoint after ${last}`, async () => {
      const { lastCheckpointIndex } = await node.admin.status()
      return BigInt(lastCheckpointIndex) > BigInt(last) && lastCheckpointIndex
    })
  }
}

test('an emptied WAL volume comes back as a stranger: it waits, and never votes under its old id', async () => {
  await withCluster(3, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1))
    await untilAnswered(recorder, 100)
    const lost = cluster.node(2)
    const before = await lost.admin.status()
    await lost.stop()
    await lost.emptyVolumes('wal')
    await lost.start()
    const after = await cluster.waitForPhase(lost, 'waiting')
    expect(after.nodeId).toBe(null)
    expect(after.volumeId).not.toBe(before.volumeId)
    await untilAnswered(recorder, 100)

    // One voter down, one a stranger: if the stranger counted, the last voter could decide with it.
    await recorder.stop()
    await cluster.node(1).kill9()
    const alone = cluster.node(0)
    const lonely = cluster.command(alone, 'SET', 'lonely', 'x')
    const first = await Promise.race([lonely.then(() => 'decided'), sleep(1500).then(() => 'waiting')])
    expect(first).toBe('waiting')
    await expect(alone.admin.probe('/livez')).resolves.toBe(200)
    expect((await lost.admin.status()).phase).toBe('waiting')

    // The same volume cannot take the old id up again.
    const founders = before.configuration?.voters ?? []
    await expect(lost.admin.genesis({ clusterId: cluster.clusterId, self: 3, founders })).rejects.toThrow(/^409|^400/)
    await cluster.node(1).start()
    expect(await lonely).toBe('OK')
    const recording = await finish(cluster, recorder, [0, 1])
    expect(problemsOf(recording)).toEqual([])
  })
})
