/** Values that take many election timeouts on the links between the nodes depose nobody, and are written once. */
import { expect, test } from 'vitest'
import { eventually, leadsOn, withCluster } from './harness.ts'

const BYTES_PER_SECOND = 2_000_000
const VALUE = 'x'.repeat(8_000_000)

test(
  'values that take the leader seconds to send, one behind the other, leave it the leader',
  { timeout: 240_000 },
  async () => {
    await withCluster(3, { linked: 3, watchesReadiness: false }, async (cluster) => {
      const replies: unknown[] = []
      const stayed = await leadsOn(cluster, async () => {
        const { node } = await cluster.leader()
        for (const other of cluster.running)
          if (other !== node) cluster.links.slow(node.ordinal, other.ordinal, BYTES_PER_SECOND)
        for (let values = 0; values < 2; values++) replies.push(await cluster.command(node, 'SET', 'k', VALUE))
        cluster.links.heal()
      })
      expect(stayed).toBe(true)
      expect(new Set(replies)).toEqual(new Set(['OK']))
      for (const node of cluster.running) {
        await eventually(
          `${node.name} has it`,
          async () => (await cluster.command(node, 'STRLEN', 'k')) === VALUE.length,
        )
      }
    })
  },
)
