/**
 * Far more than three nodes can take: what is too much is refused early with a coded error and nothing else goes
 * wrong, memory keeps within its bounds, and afterwards everything is as before. For longer: OVERLOAD_SECONDS=3600.
 */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { runLoad } from '../../bench/load.ts'
import { eventually, withCluster } from './harness.ts'

const SECONDS = Number(process.env['OVERLOAD_SECONDS'] ?? 3)
/** Twice as many commands in flight as a node takes (LIMITS.outstandingCommands). */
const LOAD = { clients: 200, pipeline: 1000, valueBytes: 200, keys: 1000, mix: 'set', warmUpSeconds: 0 }
/** A machine that is busy with other things needs more than one try to answer anything. */
const TRIES = 10
/** The queues of all limits together are below this, and a node with 1,000 keys is small beside it. */
const MOST_MEBIBYTES = 1024

/** Null where the machine does not tell. */
function residentMebibytes(pid: number): number | null {
  try {
    const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
    return match === null ? null : Number(match[1]) / 1024
  } catch {
    return null
  }
}

test('more than the nodes can take is refused, and costs no more memory than the limits say', async () => {
  await withCluster(3, { watchesReadiness: false }, async (cluster) => {
    const follower = await cluster.follower()
    const { node: leader } = await cluster.leader()
    let most = 0
    const watch = setInterval(() => {
      for (const { pid } of cluster.running) most = Math.max(most, residentMebibytes(pid) ?? 0)
    }, 200)
    for (const { client } of [leader, follower]) {
      let answered = 0
      const errors = new Set<string>()
      for (let left = TRIES; left > 0 && (answered === 0 || errors.size === 0); left--) {
        const report = await runLoad({ ...LOAD, targets: [`${client.host}:${client.port}`], seconds: SECONDS })
        answered += report.operations
        for (const kind of Object.keys(report.errors)) errors.add(kind.slice(0, 'LOKI OVERLOADED'.length))
      }
      expect(answered).toBeGreaterThan(0)
      expect([...errors]).toEqual(['LOKI OVERLOADED'])
    }
    clearInterval(watch)
    expect(most).toBeLessThan(MOST_MEBIBYTES)
    for (const node of cluster.running) {
      await eventually(`${node.name} takes commands`, async () => {
        const reply = await cluster.command(node, 'SET', 'after', node.name)
        return reply === 'OK'
      })
    }
  })
})
