/**
 * A node of the sweep of starts (starts.ts): the consensus core of node.ts over the real storage on a simulated disk,
 * and the real transfer of checkpoints. Its machine is a number, the last entry that it has applied.
 *
 * `core.disk` is what the storage of this life has called durable; the next start is compared with it.
 */
import './inline-zstd.ts'
import assert from 'node:assert/strict'
import { CheckpointTransfer } from '../../src/node/checkpoint-transfer.ts'
import { type Options, acceptsCheckpoint } from '../../src/consensus/replica.ts'
import { LokiError, messageOf } from '../../src/errors.ts'
import { goesOnAt } from '../../src/node/read-back.ts'
import type { RelayMessage } from '../../src/turn/relay-messages.ts'
import { type CheckpointHead, type Storage, openStorage } from '../../src/storage/storage.ts'
import {
  type Configuration,
  type Entry,
  type LogIndex,
  type LogRecord,
  type NodeId,
  type RecoveredLog,
  type Timeline,
  type VolumeId,
  clusterId,
  logIndex,
} from '../../src/vocabulary.ts'
import { type Choose, SimulatedDisk } from '../storage/simulated-disk.ts'
import { DurableLog } from './durable-log.ts'
import { type Host, SimNode } from './node.ts'
import { compareStart } from './start-compare.ts'
import { type Written, TimedDisk } from './timed-disk.ts'

export const CLUSTER = clusterId('c'.repeat(32))
/** Of what is read back at a time. */
const READ_BACK_BYTES = 300

/** What the machine has to say after `index` entries. */
export const sliceOf = (index: number): Buffer => Buffer.from(`the state behind entry ${index}; `.repeat(3))

export interface StartHost extends Host {
  readonly now: number
  /** Does `act` after so long, never if this life of the node has ended; promises are settled behind it. */
  later(node: StartNode, milliseconds: number, act: () => void): void
  /** Promises were settled. */
  stir(): void
  syncMilliseconds(): number
  tellPeer(node: StartNode, to: NodeId, message: RelayMessage): void
  /** The disk failed as it was told to: the process ends. */
  died(node: StartNode, why: string): void
  refused(node: StartNode, error: LokiError): void
  started(node: StartNode): void
  fail(error: unknown): void
  count(what: string): void
  say(what: string): void
}

export class StartNode {
  readonly core: SimNode
  readonly volume: VolumeId
  platter = new SimulatedDisk()
  storage: Storage | null = null
  phase: 'down' | 'starting' | 'up' | 'refused' = 'down'
  /** Rises with every start and every end. */
  life = 0
  /** Something was damaged since the last start. */
  isDamaged = false
  readonly segmentBytes: number
  readonly #host: StartHost
  readonly #first: Configuration
  #disk: TimedDisk | null = null
  #transfer: CheckpointTransfer | null = null
  #isFetching = false
  #isCheckpointing = false
  #newest: Timeline | undefined
  /** Given to storage, and not called durable yet. */
  #handed: readonly LogRecord[] = []
  /** Of the configuration in force behind what is applied. */
  #applied: Omit<CheckpointHead, 'index'>
  /** The newest checkpoint that storage has acknowledged. */
  #checkpoint = 0

  constructor(
    id: NodeId,
    volume: VolumeId,
    first: Configuration,
    segmentBytes: number,
    options: Partial<Options>,
    host: StartHost,
  ) {
    this.core = new SimNode(id, new DurableLog(), host, options)
    this.volume = volume
    this.segmentBytes = segmentBytes
    this.#first = first
    this.#host = host
    this.#applied = { configuration: first, start: logIndex(0) }
  }

  get written(): readonly Written[] {
    return this.#disk?.written ?? []
  }

  // ---- start and end ---------------------------------------------------------------------------------------------

  start(): void {
    const life = ++this.life
    this.platter.revive()
    this.phase = 'starting'
    this.#isFetching = false
    this.#isCheckpointing = false
    this.#guard(this.#open(life), life)
  }

  /** Ends the process; what was not synced survives as `choose` says; all of it, where only the process ends (null). */
  kill(choose: Choose | null): void {
    this.life++
    this.phase = 'down'
    this.core.replica = null
    this.storage = null
    this.#transfer = null
    this.platter.crashed = true
    if (choose !== null) this.platter = this.platter.survivor(choose)
    this.#host.stir()
  }

  #guard(act: Promise<unknown>, life: number): void {
    this.#host.stir()
    act.catch((error: unknown) => this.#failed(life, error))
  }

  #failed(life: number, error: unknown): void {
    if (life !== this.life) return
    const { crashed, steps, failAt } = this.platter
    // The disk may be well again before the word of its failure has come here.
    if (crashed || steps >= failAt || String(error).includes('simulated')) {
      const isCheckpoint = error instanceof LokiError && error.code === 'CHECKPOINT_WRITE_FAILED'
      if (isCheckpoint && !crashed) this.#isCheckpointing = false
      else this.#host.died(this, messageOf(error))
    } else if (error instanceof LokiError && error.code !== 'LOG_WRITE_FAILED') this.#host.refused(this, error)
    else this.#host.fail(error)
  }

  #sleep(life: number, milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      if (life === this.life) this.#host.later(this, milliseconds, resolve)
    })
  }

  async #open(life: number): Promise<void> {
    const host = this.#host
    this.#disk = new TimedDisk(this.platter, () => this.#sleep(life, host.syncMilliseconds()))
    const storage = await openStorage({
      disk: this.#disk,
      walDirectory: '/wal',
      checkpointDirectory: '/checkpoints',
      segmentBytes: this.segmentBytes,
      archive: false,
      random: () => this.volume,
      onFatal: (error) => this.#failed(life, error.cause ?? error),
      pause: () => this.#sleep(life, 1),
      sync: 'pool',
      spaceCheckMilliseconds: 0,
      ...(this.#newest === undefined ? {} : { lastTimeline: this.#newest }),
    })
    let { recovered } = storage
    if (storage.identity !== null) {
      const { core, isDamaged } = this
      const was = { log: core.disk, handed: this.#handed, checkpoint: this.#checkpoint, isDamaged }
      compareStart(core.id, `start of life ${life}:`, was, recovered, storage.checkpoint?.index ?? 0)
    }
    if (recovered.state.configuration === null) {
      await storage.setIdentity(CLUSTER, this.core.id)
      const start = logIndex(0)
      await new Promise<void>((resolve) => {
        storage.write([{ kind: 'configuration', configuration: this.#first, start }], resolve)
      })
      recovered = { ...recovered, state: { ...recovered.state, configuration: this.#first, configurationStart: start } }
    }
    this.#newest = storage.timeline
    await this.#join(life, storage, recovered)
  }

  /** As Member.start. */
  async #join(life: number, storage: Storage, recovered: RecoveredLog): Promise<void> {
    const host = this.#host
    const { core } = this
    const { hasForgotten } = core.disk
    const applied = await restore(storage)
    if (life !== this.life) return
    const { state, first, entries, doubtfulFrom, promiseLost = false } = recovered
    this.#handed = []
    core.disk = new DurableLog(state, first, entries)
    Object.assign(core.disk, { doubtfulFrom, promiseLost, hasForgotten: hasForgotten || promiseLost })
    core.start(host.now)
    const { replica } = core
    assert(replica !== null)
    assert(replica.decided >= applied, `the state is that of ${applied}, and consensus knows ${replica.decided}`)
    core.applied = applied
    this.#applied = storage.checkpoint ?? { configuration: state.configuration!, start: state.configurationStart }
    this.storage = storage
    this.isDamaged = false
    this.#checkpoint = applied
    const send = (to: NodeId, message: RelayMessage): void => host.tellPeer(this, to, message)
    this.#transfer = new CheckpointTransfer({
      storage,
      send,
      log: () => {},
      after: (milliseconds, act) => {
        let isWanted = true
        host.later(this, milliseconds, () => isWanted && act())
        return () => {
          isWanted = false
        }
      },
    })
    this.phase = 'up'
    host.started(this)
  }

  // ---- the world of the core ---------------------------------------------------------------------------------------

  persist(records: readonly LogRecord[]): void {
    const { life } = this
    const { incarnation } = this.core
    this.#host.stir()
    this.#handed = records
    this.storage!.write(records, () => {
      if (life !== this.life) return
      this.#handed = []
      this.core.synced(incarnation, this.#host.now)
    })
  }

  /** Everything up to `index` is decided. */
  applies(index: LogIndex, stopSigns: readonly Entry[]): void {
    this.core.applied = index
    for (const entry of stopSigns) {
      if (entry.kind === 'stop-sign') this.#applied = { configuration: entry.next, start: entry.index }
    }
  }

  readLog(to: NodeId, from: LogIndex, upTo: LogIndex): void {
    const { life } = this
    const storage = this.storage!
    const read = async (): Promise<void> => {
      const entries = await storage.readDecided({ from, upTo, mostBytes: READ_BACK_BYTES })
      await this.#sleep(life, 1)
      const first = goesOnAt(storage, from)
      this.core.step({ kind: 'log-read', now: this.#host.now, to, from, entries, first })
    }
    this.#guard(read(), life)
  }

  receive(from: NodeId, message: RelayMessage): void {
    this.#guard(this.#transfer!.receive(from, message), this.life)
  }

  lost(peer: NodeId): void {
    this.#transfer?.lost(peer)
  }

  // ---- checkpoints, as Member does -----------------------------------------------------------------------------------

  checkpoint(): void {
    if (this.phase !== 'up' || this.#isCheckpointing || this.#isFetching) return
    const { configuration, start } = this.#applied
    const { applied } = this.core
    if (applied === 0 || (start === 0 && configuration.id > 1) || start > applied) return
    if (applied <= (this.storage!.checkpoint?.index ?? 0) && !this.storage!.wantsCheckpoint) return
    this.#isCheckpointing = true
    this.#guard(this.#takeCheckpoint(this.life), this.life)
  }

  async #takeCheckpoint(life: number): Promise<void> {
    const storage = this.storage!
    const index = logIndex(this.core.applied)
    const slices = [sliceOf(index)]
    const pause = (): Promise<void> => this.#sleep(life, 1)
    await storage.writeCheckpoint({ index, ...pick(this.#applied) }, () => slices.shift() ?? null, pause)
    this.#checkpoint = index
    await storage.truncateHead(index)
    this.core.step({ kind: 'trim', now: this.#host.now, index })
    this.#isCheckpointing = false
    this.#host.count('checkpoints')
  }

  fetch(index: LogIndex, from: readonly NodeId[]): void {
    if (this.#isFetching || this.#isCheckpointing) return
    this.#isFetching = true
    const { life } = this
    this.#guard(
      this.#fetch(index, from).finally(() => {
        if (life === this.life) this.#isFetching = false
      }),
      life,
    )
  }

  async #fetch(index: LogIndex, from: readonly NodeId[]): Promise<void> {
    const storage = this.storage!
    const { core } = this
    const replica = core.replica!
    const found = await this.#transfer!.fetch(index, from, (head) =>
      acceptsCheckpoint(replica, head.index, head.configuration),
    )
    const { checkpoint } = storage
    if (found === null || !checkpoint || checkpoint.index <= core.applied) return
    this.#checkpoint = checkpoint.index
    const state = await restore(storage)
    if (!acceptsCheckpoint(replica, checkpoint.index, checkpoint.configuration)) return
    this.#host.say(`installs the checkpoint of ${checkpoint.index}`)
    this.#host.count('checkpoints installed')
    core.applied = state
    this.#applied = checkpoint
    core.step({ kind: 'checkpoint-installed', now: this.#host.now, ...pick(checkpoint), index: checkpoint.index })
  }
}

const pick = ({ configuration, start }: Omit<CheckpointHead, 'index'>): Omit<CheckpointHead, 'index'> => ({
  configuration,
  start,
})

/** The state of the newest checkpoint: the last entry that it covers. */
async function restore(storage: Storage): Promise<LogIndex> {
  const index = storage.checkpoint?.index ?? logIndex(0)
  const slices: Buffer[] = []
  for await (const slice of storage.readCheckpoint()) slices.push(Buffer.from(slice))
  if (index > 0) assert(Buffer.concat(slices).equals(sliceOf(index)), `the checkpoint of ${index} has another state`)
  return index
}
