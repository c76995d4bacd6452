/**
 * Rot on the disk of one of three nodes, under load: found at the start or by the scrub, repaired from the peers or
 * from memory, told in log, status and metrics; and the history of the clients stays linearizable.
 */
import { open, readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Cluster, eventually, withCluster } from './harness.ts'
import type { NodeProcess } from './process.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

/** Checkpoints come when the tests say so: one that comes by itself lets go of the very bytes that are to rot. */
const settings = { checkpointLogBytes: 67_108_864, walSegmentBytes: 1_048_576, checkpointIntervalSeconds: 3600 }

async function segmentsOf(node: NodeProcess): Promise<string[]> {
  return (await readdir(node.walFolder)).filter((name) => name.endsWith('.wal')).sort()
}

/** Bits change in the middle of a file, and nothing else of it: the node may be writing to it. */
async function rot(path: string): Promise<void> {
  const bytes = await readFile(path)
  const end = bytes.findLastIndex((byte) => byte !== 0)
  const from = end >> 1
  const some = bytes.subarray(from, Math.min(from + 600, end))
  for (let at = 0; at < some.length; at += 7) some[at] = some[at]! ^ 0x5a
  const file = await open(path, 'r+')
  await file.write(some, 0, some.length, from)
  await file.close()
}

/** All of them; their names. */
async function rotCheckpoints(node: NodeProcess): Promise<string[]> {
  const ids = (await readdir(node.checkpointFolder)).filter((name) => /^\d{16}$/.test(name))
  for (const id of ids) await rot(join(node.checkpointFolder, id, 'manifest'))
  return ids
}

/** The node has everything again, and says what it had lost. */
async function isRepaired(cluster: Cluster, node: NodeProcess): Promise<void> {
  const status = await cluster.waitUntilCaughtUp(node)
  expect(status.rot?.found).toBeGreaterThan(0)
  await eventually('nothing is open any more', async () => (await node.admin.status()).rot?.open === false)
  const metrics = await (await fetch(`http://127.0.0.1:${node.ports.admin}/metrics`)).text()
  expect(metrics).toMatch(/^lokikv_rot_found_total [1-9]/m)
  expect(metrics).toMatch(/^lokikv_rot_open 0/m)
}

test('a log with rot in what was decided, and checkpoints that are all rotten, are repaired from the peers', async () => {
  await withCluster(3, { settings }, async (cluster) => {
    const node = cluster.node(2)
    await cluster.transfer(cluster.node(0))
    const recorder = new Recorder(cluster.targets(0, 1), { valueBytes: 10_000, thinkMilliseconds: 2 })
    await eventually('three segments', async () => (await segmentsOf(node)).length >= 3)

    await node.kill9()
    const names = await segmentsOf(node)
    await rot(join(node.walFolder, names[1]!))
    await node.start()
    await isRepaired(cluster, node)
    await eventually('two checkpoints and a log that begins behind the first', async () => {
      await node.admin.checkpoint()
      const ids = (await readdir(node.checkpointFolder)).filter((name) => /^\d{16}$/.test(name))
      const first = (await segmentsOf(node))[0]!
      return ids.length === 2 && Number(first.slice(11, 27)) > 1
    })
    await untilAnswered(recorder, 200)

    await node.kill9()
    const rotten = await rotCheckpoints(node)
    expect(rotten).toHaveLength(2)
    await node.start()
    await isRepaired(cluster, node)
    expect(await node.logs()).toContain('entries were lost to rot')
    // It is told with the next look at the node, a moment after the status.
    await eventually('it is told', async () => (await node.logs()).includes('what rot took is here again'))

    // With the next checkpoint the rotten ones go, and nothing is left for the next start.
    await eventually('the rotten ones are gone', async () => {
      await node.admin.checkpoint()
      const ids = await readdir(node.checkpointFolder)
      return rotten.every((id) => !ids.includes(id))
    })
    await node.kill9()
    await node.start()
    expect((await cluster.waitUntilCaughtUp(node)).rot?.found).toBe(0)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording)).toEqual([])
  })
})

test('rot in a sealed segment is found by the scrub, and gone before the next start', async () => {
  await withCluster(3, { settings }, async (cluster) => {
    const node = cluster.node(1)
    const recorder = new Recorder(cluster.targets(0, 1, 2), { valueBytes: 10_000, thinkMilliseconds: 2 })
    await eventually('three segments', async () => (await segmentsOf(node)).length > 3)
    const name = (await segmentsOf(node))[1]!
    await rot(join(node.walFolder, name))
    const { rot: found } = await node.admin.scrub()
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(name)
    await eventually('the segment is gone', async () => !(await segmentsOf(node)).includes(name))
    await isRepaired(cluster, node)
    await node.kill9()
    await node.start()
    expect((await cluster.waitUntilCaughtUp(node)).rot).toMatchObject({ found: 0, open: false, doubtfulFrom: null })
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording, [node.name])).toEqual([])
  })
})
