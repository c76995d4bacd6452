/** The shell around a node: signals that come twice or early, and disks that refuse what is not the log. */
import { rename, rm, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { eventually, withCluster } from './harness.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

test('a second signal does not cut off what the first one lets end in good order', async () => {
  // Time enough for every signal to find the node still forwarding.
  const settings = { shutdownForwardMilliseconds: 5000 }
  await withCluster(3, { settings }, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2))
    await untilAnswered(recorder, 300)
    const { node } = await cluster.leader()
    const { pid } = node
    const ended = node.stop()
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGTERM'] as const) {
      await sleep(100)
      process.kill(pid, signal)
    }
    expect(await ended).toEqual({ code: 0, signal: null })
    await node.start()
    await cluster.waitUntilCaughtUp(node)
    await untilAnswered(recorder, 200)
    expect(problemsOf(await finish(cluster, recorder, [0, 1, 2]))).toEqual([])
  })
})

test('checkpoints that cannot be written, and a control file that cannot, end no node', async () => {
  const settings = { checkpointIntervalSeconds: 1 }
  await withCluster(1, { settings }, async (cluster) => {
    const { node } = await cluster.leader()
    const { pid } = node
    await eventually('a first checkpoint', async () => Number((await node.admin.status()).lastCheckpointIndex) > 0)
    // The volume is gone in the midst of life; folders under files fail for root, too.
    const aside = `${node.folder}/aside`
    await rename(node.checkpointFolder, aside)
    await writeFile(node.checkpointFolder, '')
    await rm(`${node.walFolder}/control.toml`)
    const written = async (): Promise<boolean> => {
      await cluster.command(node, 'INCR', 'counter')
      return (await node.logs()).includes('CHECKPOINT_WRITE_FAILED')
    }
    await eventually('a checkpoint that fails', written)
    await expect(node.admin.checkpoint()).rejects.toThrow('CHECKPOINT_WRITE_FAILED')
    expect((await node.admin.status()).checkpointFailure).toContain('CHECKPOINT_WRITE_FAILED')
    const { lastCheckpointIndex } = await node.admin.status()
    await eventually('the volume is back', async () => {
      // The node may have made a folder in its place since.
      await rm(node.checkpointFolder, { recursive: true, force: true })
      await rename(aside, node.checkpointFolder)
      return true
    })
    await eventually('checkpoints go on', async () => {
      await cluster.command(node, 'INCR', 'counter')
      const status = await node.admin.status()
      return Number(status.lastCheckpointIndex) > Number(lastCheckpointIndex) && status.checkpointFailure === null
    })
    expect(node.pid).toBe(pid)
  })
})
