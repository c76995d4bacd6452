/**
 * A real file system that fills up under one of three nodes: the node goes on living, says that it is read-only, lags;
 * the others decide without it, and no client notices. When there is room again it catches up. Needs the right to
 * mount; where there is none it is skipped, and test/consensus/room.test.ts has the rules.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { appendFile, mkdir, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { RespError } from '../../bench/resp-client.ts'
import { Cluster, eventually } from './harness.ts'
import type { NodeProcess } from './process.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

const VOLUME_BYTES = 24 * 1024 * 1024
/** A little more than where the node begins to refuse (two segments). */
const LEFT_BYTES = 2.5 * 1024 * 1024
/** Entries. */
const LAG = 20n
const settings = { checkpointLogBytes: 4_194_304, walSegmentBytes: 1_048_576, checkpointIntervalSeconds: 3600 }

function mount(folder: string, bytes: number): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

function mayMount(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'lokikv-mount-'))
  const mounted = mount(folder, 65_536)
  if (mounted) execFileSync('umount', [folder])
  rmSync(folder, { recursive: true })
  return mounted
}

async function freeOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder)
  return bavail * bsize
}

/** Takes all room but so much: what the node's checkpoints let go of, too, when it is called again. */
async function fill(node: NodeProcess): Promise<void> {
  const more = (await freeOf(node.walFolder)) - LEFT_BYTES
  if (more > 0) await appendFile(join(node.walFolder, 'ballast'), Buffer.alloc(more))
}

test.skipIf(!mayMount())('a follower whose disk fills up lags, lives, and comes back when there is room', async () => {
  const cluster = await Cluster.create({ settings })
  const full = cluster.node(2)
  await mkdir(full.walFolder, { recursive: true })
  expect(mount(full.walFolder, VOLUME_BYTES)).toBe(true)
  try {
    await cluster.bootstrap(3)
    await cluster.transfer(cluster.node(0))
    const recorder = new Recorder(cluster.targets(0, 1), { valueBytes: 4000, thinkMilliseconds: 4 })
    await untilAnswered(recorder, 100)
    const before = await full.admin.status()

    await fill(full)
    await eventually('it is read-only', async () => (await full.admin.status()).readOnly === true)
    await untilAnswered(recorder, 500)
    const lagging = await eventually('it lags', async () => {
      await fill(full)
      const lags = await full.admin.status()
      const { status } = await cluster.leader()
      return lags.readOnly && BigInt(status.decidedIndex) > BigInt(lags.decidedIndex) + LAG && lags
    })
    // Of its reserve a part is still there, and it is the process that it was.
    expect(await freeOf(full.walFolder)).toBeGreaterThan(100_000)
    expect(lagging.timeline).toBe(before.timeline)
    await eventually('it refuses what grows the data', async () => {
      await fill(full)
      const reply = await cluster.command(full, 'SET', 'more', 'x')
      return reply instanceof RespError && reply.text.includes('DISK_FULL')
    })
    await cluster.command(full, 'DEL', 'more')

    await rm(join(full.walFolder, 'ballast'))
    await eventually('it has caught up', async () => {
      const [mine, theirs] = [await full.admin.status(), (await cluster.leader()).status]
      return mine.readOnly === false && BigInt(mine.decidedIndex) + 50n > BigInt(theirs.decidedIndex)
    })
    expect((await full.admin.status()).timeline).toBe(before.timeline)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording)).toEqual([])
  } catch (error) {
    throw new Error(`${(error as Error).stack}\n${await cluster.describe()}`, { cause: error })
  } finally {
    await Promise.all(cluster.running.map((node) => node.kill9()))
    execFileSync('umount', [full.walFolder])
    await cluster.dispose()
  }
})
