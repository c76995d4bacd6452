/** The files of a checkpoint as a peer of the sweep of starts (starts.ts) would send them. */
import './inline-zstd.ts'
import assert from 'node:assert/strict'
import { encodeManifest, readChunk, writeCheckpointFiles } from '../../src/storage/checkpoint.ts'
import { SimulatedDisk } from '../storage/simulated-disk.ts'
import type { Checkpoint } from './durable-log.ts'
import { CLUSTER, sliceOf } from './start-node.ts'

interface Files {
  readonly manifest: Buffer
  readonly chunk: Buffer
}

const made = new Map<string, Promise<Files>>()

export function filesOf(checkpoint: Checkpoint): Promise<Files> {
  const key = JSON.stringify(checkpoint)
  const known = made.get(key) ?? makeFiles(checkpoint)
  made.set(key, known)
  return known
}

async function makeFiles(checkpoint: Checkpoint): Promise<Files> {
  const disk = new SimulatedDisk()
  await disk.makeDirectory('/checkpoints')
  const slices = [sliceOf(checkpoint.index)]
  const info = await writeCheckpointFiles(
    disk,
    '/checkpoints',
    { ...checkpoint, cluster: CLUSTER },
    () => slices.shift() ?? null,
    () => Promise.resolve(),
  )
  const chunk = await readChunk(disk, '/checkpoints', info, 0)
  assert(chunk !== null && info.chunks.length === 1)
  return { manifest: encodeManifest(info), chunk }
}
