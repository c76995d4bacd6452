/**
 * Encryption at rest on real processes: each node has a key of its own, a key is changed by a restart, a node without
 * its key waits and says so, a new node gets the state in a checkpoint and seals it with its own key; and nowhere on
 * any volume is a value, or a key, in the clear.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ENVIRONMENT } from '../../src/contract.ts'
import { type Cluster, eventually, withCluster } from './harness.ts'
import type { NodeProcess } from './process.ts'

const SECRET = 'nobody may read this'
const SETTINGS = { walSegmentBytes: 1_048_576, shutdownForwardMilliseconds: 200, checkpointLogBytes: 1_048_576 }

const keyFolder = (node: NodeProcess): string => join(node.folder, 'keys')

/** Makes a key for a node, that it uses from its next start on. */
async function giveKey(node: NodeProcess, id: string): Promise<void> {
  await mkdir(keyFolder(node), { recursive: true })
  await writeFile(join(keyFolder(node), id), randomBytes(32))
  const walCompression = node.ordinal === 0 ? 'zstd' : 'none'
  node.setEnvironment({
    [ENVIRONMENT.keysDirectory]: keyFolder(node),
    [ENVIRONMENT.settings]: JSON.stringify({ ...SETTINGS, encryptionKeyId: id, walCompression }),
  })
}

/** Files of the volumes, and how many of them have the secret in them. */
async function search(node: NodeProcess): Promise<{ files: number; found: string[] }> {
  const entries = await readdir(node.folder, { recursive: true, withFileTypes: true })
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const inVolumes = paths.filter((path) => path.startsWith(node.walFolder) || path.startsWith(node.checkpointFolder))
  const found: string[] = []
  for (const path of inVolumes) if ((await readFile(path)).includes(SECRET)) found.push(path)
  return { files: inVolumes.length, found }
}

async function write(cluster: Cluster, node: NodeProcess, name: string): Promise<void> {
  for (let at = 0; at < 20; at++) {
    const value = `${SECRET} ${randomBytes(1500).toString('base64')}`
    expect(await cluster.command(node, 'set', `${SECRET} ${name} ${at}`, value)).toBe('OK')
  }
}

async function countOf(cluster: Cluster, node: NodeProcess): Promise<unknown> {
  return cluster.command(node, 'dbsize')
}

test('each node seals with its own key, keys change, and no value is on a volume in the clear', async () => {
  await withCluster(0, { settings: {} }, async (cluster) => {
    const nodes = [0, 1, 2].map((ordinal) => cluster.node(ordinal))
    const late = cluster.node(3)
    for (const node of [...nodes, late]) await giveKey(node, `first-${node.ordinal}`)
    await cluster.bootstrap(3)
    for (const round of ['one', 'two']) {
      await write(cluster, nodes[0]!, round)
      for (const node of nodes) await node.admin.checkpoint()
    }
    // The log behind the checkpoints is let go of: the new node needs one of them.
    await cluster.scale(4)
    await eventually('the new node has a checkpoint', async () => {
      await late.admin.checkpoint()
      return BigInt((await late.admin.status()).lastCheckpointIndex) > 0n
    })
    expect(await countOf(cluster, late)).toBe(40)
    await Promise.all([...nodes, late].map((node) => node.kill9()))
    for (const node of [...nodes, late]) {
      const { files, found } = await search(node)
      expect(found).toEqual([])
      expect(files).toBeGreaterThan(5)
    }
    for (const node of [...nodes, late]) await giveKey(node, `second-${node.ordinal}`)
    const [missing] = nodes
    await rename(join(keyFolder(missing!), 'first-0'), join(missing!.folder, 'elsewhere'))
    await Promise.all([...nodes, late].map((node) => node.start()))
    const { refusal } = await cluster.waitForPhase(missing!, 'refused')
    expect(refusal).toMatchObject({ code: 'ENCRYPTION_KEY_MISSING' })
    expect(refusal!.message).toContain('first-0')
    await missing!.stop()
    await rename(join(missing!.folder, 'elsewhere'), join(keyFolder(missing!), 'first-0'))
    await missing!.start()
    await cluster.waitUntilCaughtUp(missing!)
    await write(cluster, missing!, 'three')
    expect(await countOf(cluster, missing!)).toBe(60)
    await Promise.all([...nodes, late].map((node) => node.kill9()))
    for (const node of nodes) expect((await search(node)).found).toEqual([])
  })
})
