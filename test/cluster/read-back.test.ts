/** A node that was away for longer than entries stay in memory learns them from the logs of the others. */
import { expect, test } from 'vitest'
import { textOf } from '../../bench/resp-client.ts'
import { LIMITS } from '../../src/config.ts'
import { withCluster } from './harness.ts'

const VALUE = 'x'.repeat(500_000)
const VALUES = Math.ceil((2.5 * LIMITS.keepEntriesBytes) / VALUE.length)

test('a node that missed more than stays in memory catches up from the log, without a checkpoint', async () => {
  // No checkpoint is due: what it lacks is nowhere but in the log.
  const settings = { walSegmentBytes: 8_388_608, checkpointLogBytes: 1_073_741_824 }
  await withCluster(3, { settings }, async (cluster) => {
    const away = await cluster.follower()
    await away.kill9()
    const { node: leader } = await cluster.leader()
    for (let at = 0; at < VALUES; at++) {
      expect(await cluster.command(leader, 'SET', `key ${at}`, `${at} ${VALUE}`)).toBe('OK')
    }
    await away.start()
    const { migration } = await cluster.waitUntilCaughtUp(away)
    const received = migration!.received.reduce((sum, { bytes }) => sum + bytes, 0)
    expect(received).toBeGreaterThan(VALUES * VALUE.length)
    expect(await away.logs()).not.toContain('checkpoint installed')
    await cluster.transfer(away)
    for (const at of [0, 1, VALUES >> 1, VALUES - 1]) {
      expect(textOf(await cluster.command(away, 'GET', `key ${at}`))).toBe(`${at} ${VALUE}`)
    }
  })
})
