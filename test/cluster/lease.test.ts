/**
 * Leases on real processes: the settings reach the configuration by a stop-sign, and nothing old is served by a
 * leader that was frozen for longer than its lease, after a transfer, or beside a follower that was killed.
 */
import { expect, test } from 'vitest'
import { eventually, withCluster } from './harness.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

const LOAD = 400
const LEASE_MILLISECONDS = 250

test('leases: nothing old is served, whoever freezes, hands over or dies', async () => {
  const settings = { leaseMilliseconds: LEASE_MILLISECONDS }
  await withCluster(3, { settings }, async (cluster) => {
    await eventually('leases are in force', async () => {
      const { status } = await cluster.leader()
      const { configuration, configurationComplete } = status
      return configurationComplete && configuration?.leaseMilliseconds === LEASE_MILLISECONDS ? configuration : null
    })
    await eventually('the leader reads alone', async () => {
      const { node } = await cluster.leader()
      const metrics = await (await fetch(`http://127.0.0.1:${node.ports.admin}/metrics`)).text()
      return /^lokikv_lease_held 1$/m.test(metrics)
    })
    const recorder = new Recorder(cluster.targets(0, 1, 2), { connectionsPerTarget: 4, thinkMilliseconds: 1 })
    await untilAnswered(recorder, LOAD)
    const { node: frozen } = await cluster.leader()
    frozen.pause()
    await untilAnswered(recorder, LOAD)
    frozen.resume()
    await untilAnswered(recorder, LOAD)
    await cluster.waitUntilCaughtUp(frozen)
    await cluster.transfer(await cluster.follower())
    await untilAnswered(recorder, LOAD)
    const killed = await cluster.follower()
    await killed.kill9()
    await killed.start()
    await untilAnswered(recorder, LOAD)
    await cluster.waitUntilCaughtUp(killed)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording, [killed.name])).toEqual([])
  })
})
