/** Values that take many election timeouts on the links between the nodes depose nobody, and are written once. */
import { expect, test } from 'vitest'
import { eventually, leadsOn, withCluster } from './harness.ts'

const BYTES_PER_SECOND = 4_000_000
const VALUE = 'x'.repeat(8_000_000)

test('a value that takes the leader seconds to send leaves it the leader', { timeout: 240_000 }, async () => {
  await withCluster(3, { linked: 3, watchesReadiness: false }, async (cluster) => {
    const replies: unknown[] = []
    const stayed = await leadsOn(cluster, async () => {
      const { node } = await cluster.leader()
      for (const other of cluster.running)
        if (other !== node) cluster.links.slow(node.ordinal, other.ordinal, BYTES_PER_SECOND)
      replies.push(await cluster.command(node, 'SET', 'k', VALUE))
      cluster.links.heal()
    })
    expect(stayed).toBe(true)
    expect(new Set(replies)).toEqual(new Set(['OK']))
    for (const node of cluster.running) {
      await eventually(`${node.name} has it`, async () => (await cluster.command(node, 'STRLEN', 'k')) === VALUE.length)
    }
  })
})
