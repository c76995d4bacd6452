/**
 * Wall clocks that are set by an hour, forward and back, on leaders and followers, under load: no time to live ends
 * early, none lasts for ever, and what clients saw is the history of one store.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { textOf } from '../../bench/resp-client.ts'
import { type Cluster, eventually, withCluster } from './harness.ts'
import type { NodeProcess } from './process.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

const LOAD = 200
const HOUR_MILLISECONDS = 3_600_000
const LONG_SECONDS = 600
/** A node has seen its new clock by then. */
const SEEN_MILLISECONDS = 100
const NODE_ARGUMENTS = ['--import', join(import.meta.dirname, '../fixtures/stepping-clock.mjs')]

async function setClock(node: NodeProcess, offsetMilliseconds: number): Promise<void> {
  await writeFile(join(node.folder, 'clock'), String(offsetMilliseconds))
  await sleep(SEEN_MILLISECONDS)
}

/** A key that lives for a moment goes, on every node. */
async function shortLivesEnd(cluster: Cluster, key: string): Promise<void> {
  await cluster.command(cluster.node(0), 'SET', key, 'x', 'PX', '300')
  for (const node of cluster.running) {
    await eventually(`${key} has gone on ${node.name}`, async () => (await cluster.command(node, 'GET', key)) === null)
  }
}

test('clocks that are set by an hour', async () => {
  await withCluster(3, { nodeArguments: NODE_ARGUMENTS }, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2), { connectionsPerTarget: 3, thinkMilliseconds: 2 })
    expect(await cluster.command(cluster.node(0), 'SET', 'long', 'x', 'EX', String(LONG_SECONDS))).toBe('OK')
    for (const offset of [HOUR_MILLISECONDS, -HOUR_MILLISECONDS]) {
      const { node: leader } = await cluster.leader()
      await setClock(leader, offset)
      await untilAnswered(recorder, LOAD)
      await shortLivesEnd(cluster, `under ${offset}`)
      // The next leader has the true time, or the one of the round before.
      await cluster.transfer(await cluster.follower())
      await untilAnswered(recorder, LOAD)
      await shortLivesEnd(cluster, `after ${offset}`)
      for (const node of cluster.running) {
        const left = Number(await cluster.command(node, 'TTL', 'long'))
        expect(left).toBeGreaterThan(LONG_SECONDS - 120)
        expect(left).toBeLessThanOrEqual(LONG_SECONDS)
      }
    }
    expect(textOf(await cluster.command(cluster.node(2), 'GET', 'long'))).toBe('x')
    expect(problemsOf(await finish(cluster, recorder, [0, 1, 2]))).toEqual([])
  })
})
