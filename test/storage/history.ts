/**
 * Histories of a storage on the simulated disk, and what may be found after a crash: every history has a model,
 * and what is recovered must be the model after some step that was not yet given up, never before the last one
 * that was acknowledged.
 */
import assert from 'node:assert/strict'
import { LokiError } from '../../src/errors.ts'
import type { Disk } from '../../src/storage/disk.ts'
import type { CheckpointInfo } from '../../src/storage/checkpoint.ts'
import { type Storage, type StorageOptions, openStorage } from '../../src/storage/storage.ts'
import type { Configuration, DurableState, LogIndex, LogRecord, RecoveredLog } from '../../src/vocabulary.ts'
import { EMPTY_STATE, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

export type Step =
  | { readonly kind: 'write'; readonly records: readonly LogRecord[] }
  /** Given one behind the other without waiting. */
  | { readonly kind: 'burst'; readonly writes: readonly (readonly LogRecord[])[] }
  | { readonly kind: 'identity' }
  | { readonly kind: 'checkpoint'; readonly index: number }
  | { readonly kind: 'truncate'; readonly index: number }
  | { readonly kind: 'install'; readonly index: number }
  /** As `install`, with a restart behind the first chunk and another one before the log is told. */
  | { readonly kind: 'resumed-install'; readonly index: number }
  /** Side by side, as a node does it: turns go on while a checkpoint is written and the log is let go of. */
  | { readonly kind: 'beside'; readonly steps: readonly Step[] }
  | { readonly kind: 'restart' }

export interface Model {
  readonly state: DurableState
  /** Index to payload. */
  readonly entries: ReadonlyMap<number, string>
  readonly last: number
}

export const EMPTY_MODEL: Model = { state: EMPTY_STATE, entries: new Map(), last: 0 }

/** The model after a record, written without a look at the storage's own code. */
export function modelAfter(model: Model, record: LogRecord): Model {
  const entries = new Map(model.entries)
  const { state } = model
  switch (record.kind) {
    case 'doubt-over':
      return model
    case 'promise':
      return { ...model, state: { ...state, promise: record.ballot } }
    case 'decided':
      return { ...model, state: { ...state, decided: logIndex(Math.max(record.index, state.decided)) } }
    case 'configuration':
      return {
        ...model,
        state: { ...state, configuration: record.configuration, configurationStart: record.start },
      }
    case 'installed':
      return {
        state: {
          ...state,
          decided: logIndex(Math.max(state.decided, record.index)),
          configuration: record.configuration,
          configurationStart: record.start,
        },
        entries: new Map(),
        last: record.index,
      }
    case 'entries':
    case 'accept-sync': {
      if (record.kind === 'accept-sync') {
        for (const index of entries.keys()) if (index >= record.base) entries.delete(index)
      }
      for (const entry of record.entries) {
        entries.set(entry.index, entry.kind === 'commands' ? Buffer.from(entry.payload).toString() : 'stop-sign')
      }
      const from = record.kind === 'accept-sync' ? record.base - 1 : model.last
      const next =
        record.kind === 'accept-sync' ? { ...state, promise: record.ballot, acceptedBallot: record.ballot } : state
      return { state: next, entries, last: from + record.entries.length }
    }
    default:
      return record satisfies never
  }
}

/** How far a history came. */
export interface Progress {
  /** Models after every single record batch, in order; the first is the empty one. */
  readonly models: Model[]
  /** The last one that was acknowledged. */
  acknowledged: number
  identity: 'none' | 'given' | 'acknowledged'
  /** Newest checkpoint that was acknowledged. */
  checkpoint: number
  /** Largest index that may have been truncated. */
  truncated: number
}

/** Slices of the checkpoint of an index; those from this one on have more than one chunk. */
export const LARGE_CHECKPOINT = 100
const made = new Map<number, readonly Buffer[]>()
export function slicesOf(index: number): Buffer[] {
  const known = made.get(index)
  if (known !== undefined) return [...known]
  const repeated = index < LARGE_CHECKPOINT ? [40, 40, 40] : [45_000, 40]
  const some = repeated.map((count, at) => Buffer.from(`checkpoint ${index}, slice ${at}; `.repeat(count)))
  made.set(index, some)
  return [...some]
}

/** Writes a checkpoint at `index`: of the slices that belong to it, in the first configuration, where nothing else is said. */
export function writeSample(
  storage: Storage,
  index: number,
  slices: readonly Buffer[] = slicesOf(index),
  since: { readonly configuration: Configuration; readonly start: LogIndex } = {
    configuration: sample.configuration(1, 3),
    start: logIndex(0),
  },
): Promise<CheckpointInfo> {
  const left = [...slices]
  return storage.writeCheckpoint(
    { index: logIndex(index), ...since },
    () => left.shift() ?? null,
    () => Promise.resolve(),
  )
}

/** The same, and what it covers leaves the log. */
export async function takeSample(storage: Storage, index: number, slices?: readonly Buffer[]): Promise<void> {
  await writeSample(storage, index, slices)
  await storage.truncateHead(logIndex(index))
}

export const simulated = (disk: Disk, change: Partial<StorageOptions> = {}): StorageOptions =>
  sample.options(disk, '/data', { segmentBytes: 4096, ...change })

/** Does `write`, and rejects where the storage says that it is broken. */
class Client {
  storage: Storage | null = null
  readonly #disk: Disk
  readonly #change: Partial<StorageOptions>
  #fatal: (error: unknown) => void = () => {}

  constructor(disk: Disk, change: Partial<StorageOptions>) {
    this.#disk = disk
    this.#change = change
  }

  async open(): Promise<Storage> {
    this.storage = await openStorage(simulated(this.#disk, { ...this.#change, onFatal: (error) => this.#fatal(error) }))
    return this.storage
  }

  write(batches: readonly (readonly LogRecord[])[], each: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#fatal = reject
      let left = batches.length
      for (const records of batches) {
        this.storage!.write(records, () => {
          each()
          if (--left === 0) resolve()
        })
      }
    })
  }
}

/** Runs a history; `progress` is up to date when it throws. */
export async function runHistory(
  disk: Disk,
  history: readonly Step[],
  progress: Progress,
  change: Partial<StorageOptions> = {},
): Promise<void> {
  const client = new Client(disk, change)
  await client.open()
  for (const step of history) await runStep(client, step, progress)
  await client.storage!.close()
}

export const newProgress = (): Progress => ({
  models: [EMPTY_MODEL],
  acknowledged: 0,
  identity: 'none',
  checkpoint: 0,
  truncated: 0,
})

async function writeAll(client: Client, batches: readonly (readonly LogRecord[])[], progress: Progress): Promise<void> {
  let at = progress.models.length
  for (const records of batches) progress.models.push(records.reduce(modelAfter, progress.models.at(-1)!))
  await client.write(batches, () => {
    progress.acknowledged = at++
  })
}

async function runStep(client: Client, step: Step, progress: Progress): Promise<void> {
  const storage = client.storage!
  switch (step.kind) {
    case 'write':
      return writeAll(client, [step.records], progress)
    case 'burst':
      return writeAll(client, step.writes, progress)
    case 'identity':
      progress.identity = 'given'
      await storage.setIdentity(sample.CLUSTER, nodeId(2))
      progress.identity = 'acknowledged'
      return
    case 'checkpoint': {
      const written = await writeSample(storage, step.index).catch((error: unknown) => {
        // As the node: it goes on without. Everything else ends it.
        if (error instanceof LokiError && error.code === 'CHECKPOINT_WRITE_FAILED') return null
        throw error
      })
      if (written !== null) progress.checkpoint = step.index
      return
    }
    case 'beside':
      // All of them have ended when this one fails: nothing goes on behind the back of who looks at the disk then.
      for (const one of await Promise.allSettled(step.steps.map((each) => runStep(client, each, progress)))) {
        if (one.status === 'rejected') throw one.reason
      }
      return
    case 'resumed-install':
      await receiveFromPeer(storage, step.index, 1)
      await storage.close()
      await client.open()
      await receiveFromPeer(client.storage!, step.index)
      progress.checkpoint = step.index
      // Once more, although it is there: whoever fetched it had not heard of that.
      await receiveFromPeer(client.storage!, step.index)
      // The checkpoint is durable and the log does not know it yet: a start takes it up.
      await client.storage!.close()
      await client.open()
      progress.truncated = step.index
      return writeAll(client, [[sample.installed(step.index)]], progress)
    case 'truncate':
      progress.truncated = step.index
      return storage.truncateHead(logIndex(step.index))
    case 'install':
      await receiveFromPeer(storage, step.index)
      progress.checkpoint = step.index
      progress.truncated = step.index
      return writeAll(client, [[sample.installed(step.index)]], progress)
    case 'restart':
      await storage.close()
      await client.open()
      return
    default:
      step satisfies never
  }
}

interface Peer {
  readonly manifest: Buffer
  readonly chunks: readonly Buffer[]
}

const peers = new Map<number, Promise<Peer>>()

/** What a peer has that took a checkpoint at `index`. */
async function peerWith(index: number): Promise<Peer> {
  const { SimulatedDisk } = await import('./simulated-disk.ts')
  const peer = await openStorage(simulated(new SimulatedDisk(), { random: () => volumeId('d'.repeat(32)) }))
  await peer.setIdentity(sample.CLUSTER, nodeId(3))
  const { chunks } = await writeSample(peer, index)
  const stored = await Promise.all(chunks.map((_, chunk) => peer.readChunk(logIndex(index), chunk)))
  return { manifest: (await peer.manifestBytes())!, chunks: stored.map((bytes) => bytes!) }
}

/** Fetches a checkpoint of `index` from a peer; only some chunks, where `most` says so. */
export async function receiveFromPeer(storage: Storage, index: number, most = Infinity): Promise<void> {
  const known = peers.get(index) ?? peerWith(index)
  peers.set(index, known)
  const { manifest, chunks } = await known
  const receiver = await storage.receive(manifest)
  for (const chunk of receiver.missing().slice(0, most)) await receiver.put(chunk, chunks[chunk]!)
  if (receiver.missing().length === 0) await receiver.commit()
  else await receiver.close()
}

/**
 * The sync of a checkpoint of a peer fails, and the process is killed before it removes the file, which the next process
 * can read, and gives to its own sync; then the power fails. The index of the checkpoint that is left.
 */
export async function killedReceiver(): Promise<number | undefined> {
  const disk = new SimulatedDisk()
  const storage = await openStorage(simulated(disk))
  await sample.written(storage, sample.genesis(3))
  disk.onStep = (step) => {
    disk.crashed = disk.failAt < disk.steps
    if (disk.crashed) throw new Error('killed')
    if (step.startsWith('sync ') && step.endsWith('/data')) disk.failAt = disk.steps
  }
  await assert.rejects(receiveFromPeer(storage, 20), /killed/)
  disk.onStep = () => {}
  disk.revive()
  await receiveFromPeer(await openStorage(simulated(disk)), 20)
  const after = await openStorage(simulated(disk.survivor(() => 0)))
  return after.checkpoint?.index
}

/** Null if what was recovered is `model`; otherwise what differs. `checkpoint` is the newest one that is there. */
export function differs(recovered: RecoveredLog, model: Model, checkpoint: number): string | null {
  const { state, first, entries } = recovered
  const last = Math.max(model.last, entries.at(-1)?.index ?? 0, first - 1)
  if (recovered.doubtfulFrom !== null) return 'doubtful'
  if (first > checkpoint + 1) return `first ${first} is behind the checkpoint at ${checkpoint}`
  for (let index = first as number; index <= last; index++) {
    const found = entries[index - first]
    const payload = found?.kind === 'commands' ? Buffer.from(found.payload).toString() : undefined
    if (payload !== model.entries.get(index)) return `entry ${index} is ${payload}, not ${model.entries.get(index)}`
  }
  for (const key of ['promise', 'acceptedBallot'] as const) {
    if (JSON.stringify(state[key]) !== JSON.stringify(model.state[key])) return key
  }
  if (state.decided > Math.max(model.state.decided, checkpoint)) return `decided ${state.decided}`
  if (state.configuration === null && model.state.configuration !== null) return 'configuration'
  return null
}

/**
 * Checks a start after a crash against the progress at the crash, and gives the model that it amounts to. Throws
 * with a message that says what is wrong. `deep`: large checkpoints are read as well.
 */
export async function checkStart(storage: Storage, progress: Progress, deep = true): Promise<Model> {
  if (progress.identity === 'acknowledged' && storage.identity?.node !== 2) throw new Error('the identity was lost')
  const checkpoint = storage.checkpoint?.index ?? 0
  if (checkpoint < progress.checkpoint) throw new Error(`checkpoint ${progress.checkpoint} was lost`)
  if (checkpoint > 0 && (deep || checkpoint < LARGE_CHECKPOINT)) {
    const wanted = slicesOf(checkpoint)
    let found = 0
    for await (const slice of storage.readCheckpoint()) {
      if (!wanted[found++]?.equals(slice)) throw new Error(`checkpoint ${checkpoint} has another slice`)
    }
    if (found !== wanted.length) throw new Error(`checkpoint ${checkpoint} has ${found} slices`)
  }
  const reasons: string[] = []
  for (let at = progress.models.length - 1; at >= progress.acknowledged; at--) {
    const reason = differs(storage.recovered, progress.models[at]!, checkpoint)
    if (reason === null) return progress.models[at]!
    reasons.push(`model ${at}: ${reason}`)
  }
  throw new Error(`recovered is none of what it may be (acknowledged ${progress.acknowledged}): ${reasons.join('; ')}`)
}
