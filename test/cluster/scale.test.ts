/** Promise 4 for membership: scale-out and scale-in under load fail no request. */
import { expect, test } from 'vitest'
import { AdminError } from './admin.ts'
import { withCluster } from './harness.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

test('1 -> 3 -> 5 -> 3 -> 1 under load: no failed request, and nothing is lost', async () => {
  await withCluster(1, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0))
    await untilAnswered(recorder, 300)
    for (const size of [3, 5]) {
      const before = cluster.running.length
      await cluster.scale(size)
      for (let ordinal = before; ordinal < size; ordinal++) {
        await cluster.waitUntilCaughtUp(cluster.node(ordinal))
        recorder.addTarget(cluster.node(ordinal).client)
      }
      await untilAnswered(recorder, 300)
    }
    // The leader must go as well, so that leadership moves while the set shrinks.
    await cluster.transfer(cluster.node(4))
    for (const size of [3, 1]) {
      // Clients of a node that has left are served until they see its orderly close.
      await cluster.scale(size)
      await untilAnswered(recorder, 300)
    }
    const { node, status } = await cluster.leader()
    expect(node.name).toBe(cluster.node(0).name)
    expect(status.configuration?.voters.length).toBe(1)
    const recording = await finish(cluster, recorder, [0])
    expect(problemsOf(recording)).toEqual([])
  })
})

test('nodes that were removed come back under new ids only, on emptied volumes and on kept ones', async () => {
  await withCluster(3, {}, async (cluster) => {
    const [emptied, kept] = [cluster.node(2), cluster.node(1)]
    const before = await kept.admin.status()
    await cluster.scale(1)
    await emptied.emptyVolumes('both')
    // A node on a kept volume learns that it was removed, and gives its data back only when it is told to.
    await kept.start()
    const removed = await cluster.waitForPhase(kept, 'removed')
    expect(removed).toMatchObject({ nodeId: before.nodeId, volumeId: before.volumeId, ready: false })
    const request = { nodeId: removed.nodeId ?? 0, volumeId: removed.volumeId ?? '' }
    // Asked again and again, as by an operator that polls: it happens once. Who asks late finds nobody there.
    const answers = await Promise.allSettled([1, 2, 3].map(() => kept.admin.reset(request)))
    expect(answers.map(({ status }) => status)).toContain('fulfilled')
    const refusals = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as unknown] : []))
    expect(refusals.filter((reason) => reason instanceof AdminError)).toEqual([])
    await kept.exited
    await cluster.scale(3)
    for (const node of [emptied, kept]) {
      const fresh = await cluster.waitUntilCaughtUp(node)
      expect(fresh.nodeId).toBeGreaterThan(3)
      expect(fresh.volumeId).not.toBe(before.volumeId)
      expect(fresh.configuration?.id).toBe((before.configuration?.id ?? 0) + 2)
    }
  })
})
