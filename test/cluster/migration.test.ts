/** New nodes learn from all who are there: what each of them sent, and got, is in the status. */
import { expect, test } from 'vitest'
import { type Cluster, eventually, withCluster } from './harness.ts'

const VALUES = 120
const VALUE = 'x'.repeat(40_000)
/** Nodes that the machine keeps waiting send less, and the leader sends it in their place: a busy machine needs many. */
const TRIES = 15

interface Traffic {
  /** By node id. */
  readonly sent: ReadonlyMap<number, number>
  readonly received: readonly { readonly id: number; readonly bytes: number }[]
}

async function traffic(cluster: Cluster): Promise<Traffic> {
  const statuses = (await cluster.statuses()).map(({ status }) => status)
  return {
    sent: new Map(statuses.map(({ nodeId, migration }) => [nodeId!, migration!.sentBytes])),
    received: statuses.flatMap(({ migration }) => migration!.received),
  }
}

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((total, number) => total + number, 0)

/** Two nodes join; the leader's share of what they were sent. */
async function shareOfLeader(cluster: Cluster): Promise<number> {
  const before = await traffic(cluster)
  await cluster.scale(5)
  await eventually('everybody has caught up', async () =>
    (await cluster.statuses()).every(({ status }) => status.caughtUp),
  )
  const { sent, received } = await traffic(cluster)
  const sentNow = new Map([...sent].map(([id, bytes]) => [id, bytes - (before.sent.get(id) ?? 0)]))
  const all = sum(sentNow.values())
  expect(all).toBeGreaterThan(2 * VALUES * VALUE.length)
  expect(sum(received.map(({ bytes }) => bytes))).toBeGreaterThan(2 * VALUES * VALUE.length)
  expect(new Set(received.map(({ id }) => id)).size).toBeGreaterThan(1)
  const { status } = await cluster.leader()
  return sentNow.get(status.nodeId!)! / all
}

test('two nodes join: what they lack comes from all three, and the leader sends its share only', async () => {
  await withCluster(3, {}, async (cluster) => {
    const { node: leader } = await cluster.leader()
    for (let at = 0; at < VALUES; at++) await cluster.command(leader, 'SET', `key ${at}`, VALUE)
    const shares: number[] = []
    while (shares.length < TRIES && !shares.some((share) => share < 0.5)) {
      if (shares.length > 0) {
        await cluster.scale(3)
        for (const ordinal of [3, 4]) await cluster.node(ordinal).emptyVolumes('both')
      }
      shares.push(await shareOfLeader(cluster))
    }
    expect(Math.min(...shares)).toBeLessThan(0.5)
  })
})
