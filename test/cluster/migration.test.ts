/** New nodes learn from all who are there: what each of them sent, and got, is in the status. */
import { expect, test } from 'vitest'
import { eventually, withCluster } from './harness.ts'

const VALUES = 120
const VALUE = 'x'.repeat(40_000)

test('two nodes join: what they lack comes from all three, and the leader sends its share only', async () => {
  await withCluster(3, {}, async (cluster) => {
    const { node: leader } = await cluster.leader()
    for (let at = 0; at < VALUES; at++) await cluster.command(leader, 'SET', `key ${at}`, VALUE)
    await cluster.scale(5)
    await eventually('everybody has caught up', async () =>
      (await cluster.statuses()).every(({ status }) => status.caughtUp),
    )
    const statuses = await cluster.statuses()
    const sent = new Map(statuses.map(({ status }) => [status.nodeId!, status.migration!.sentBytes]))
    const total = [...sent.values()].reduce((sum, bytes) => sum + bytes, 0)
    const { status } = await cluster.leader()
    const received = statuses.flatMap(({ status: { migration } }) => migration!.received)
    expect(total).toBeGreaterThan(2 * VALUES * VALUE.length)
    expect(received.reduce((sum, { bytes }) => sum + bytes, 0)).toBeGreaterThan(2 * VALUES * VALUE.length)
    expect(new Set(received.map(({ id }) => id)).size).toBeGreaterThan(1)
    expect(sent.get(status.nodeId!)! / total).toBeLessThan(0.5)
  })
})
