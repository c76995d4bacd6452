/**
 * A node of the shell simulator: the real turn, relay, machine, storage and checkpoint transfer, put together as
 * src/node/member.ts does, over a simulated disk and the time and network of its host.
 *
 * Beside them it keeps what the storage has called durable (`disk`, durable-word.ts).
 */
import assert from 'node:assert/strict'
import './inline-zstd.ts'
import { CheckpointTransfer } from '../../src/node/checkpoint-transfer.ts'
import {
  type Options,
  type Replica,
  acceptsCheckpoint,
  createReplica,
  entriesBetween,
} from '../../src/consensus/replica.ts'
import { LokiError, messageOf } from '../../src/errors.ts'
import { Machine, type MachineOptions, MachineRestorer } from '../../src/machine/machine.ts'
import { goesOnAt } from '../../src/node/read-back.ts'
import { Relay, type RelayLimits, firstIncarnation } from '../../src/turn/relay.ts'
import type { RelayMessage } from '../../src/turn/relay-messages.ts'
import type { EntryRange } from '../../src/storage/log-reader.ts'
import { type Storage, openStorage } from '../../src/storage/storage.ts'
import { Turn } from '../../src/turn/turn.ts'
import type { PeerMessage, TurnLimits, TurnPorts } from '../../src/turn/ports.ts'
import {
  type Configuration,
  type LogIndex,
  type LogRecord,
  type NodeId,
  type RecoveredLog,
  type VolumeId,
  clusterId,
  logIndex,
} from '../../src/vocabulary.ts'
import { type Choose, SimulatedDisk } from '../storage/simulated-disk.ts'
import type { DurableLog } from './durable-log.ts'
import { Violation } from './checker.ts'
import { DurableWord } from './durable-word.ts'
import { damageDisk } from './disk-damage.ts'
import type { Random } from './random.ts'
import { TimedDisk } from './timed-disk.ts'
import { type Mark, describeRecords } from './trace.ts'

export const CLUSTER = clusterId('c'.repeat(32))

export interface ShellSettings {
  readonly consensus: Partial<Options>
  readonly relay: RelayLimits
  readonly turn: TurnLimits
  readonly machine: MachineOptions
  readonly segmentBytes: number
  /** Of the log, as past the page cache. */
  readonly writesBlocks: boolean
}

export interface ShellHost {
  readonly settings: ShellSettings
  /** Virtual milliseconds. */
  readonly now: number
  /** Does `act` after so long; never if that start of the node has ended, later if the node is paused. */
  later(node: ShellNode, milliseconds: number, act: () => void): void
  /** The turn is to run soon. */
  wake(node: ShellNode): void
  readonly turnsTakeTime: boolean
  /** The turn ran and applied so many entries, which takes its time: what comes waits for its end, as does `act`. */
  spend(node: ShellNode, entries: number, act: () => void): void
  /** How long a sync takes this time. */
  syncMilliseconds(id: NodeId): number
  wallClock(node: ShellNode): number
  send(node: ShellNode, to: NodeId, message: PeerMessage): void
  /** Promises were settled: their continuations must run before the next act. */
  stir(): void
  /** The turn ran. */
  ran(node: ShellNode): void
  /** The machine has the state of a checkpoint. */
  restored(node: ShellNode): void
  /** A checkpoint has just taken the place of the log's beginning. */
  installed(node: ShellNode): void
  /** The process ends because its disk failed, as it was told to. */
  died(node: ShellNode, why: string): void
  /** A node starts in doubt: rot has taken something. */
  doubts(node: ShellNode): void
  /** Its storage was damaged. */
  isDamaged(node: ShellNode): boolean
  /** A start was refused. */
  refused(node: ShellNode, error: LokiError): void
  /** What must hold does not. */
  fail(error: unknown): void
  /** Something that a run should have seen happened. */
  count(what: string): void
  note(node: NodeId, mark: Mark, what: string | (() => string)): void
}

/** Of what is read back at a time. */
const READ_BACK_BYTES = 2000

const isTransfer = (kind: RelayMessage['kind']): boolean =>
  kind === 'fetch-manifest' || kind === 'manifest' || kind === 'fetch-chunk' || kind === 'chunk'

export class ShellNode {
  readonly id: NodeId
  readonly volume: VolumeId
  /** What an empty volume starts from: genesis, or the configuration it joins. */
  readonly #first: Configuration
  readonly #host: ShellHost
  #platter = new SimulatedDisk()
  #disk: TimedDisk | null = null
  /** Rises with every start and every end. */
  incarnation = 0
  phase: 'down' | 'starting' | 'up' | 'refused' = 'down'
  /** Rate of this node's monotonic clock, and where it began. */
  clockRate = 1
  turn: Turn | null = null
  storage: Storage | null = null
  #transfer: CheckpointTransfer | null = null
  applied = 0
  decided = 0
  /** Of the last entry that was applied, since 1970. */
  logTime = 0
  /** What was called durable, and said of it. */
  readonly #word: DurableWord
  leads = ''
  /** Number of its session, as the simulation has seen it. */
  session = 0
  #hasSpoken = false
  #leaving: { readonly to: NodeId; readonly message: PeerMessage }[] = []
  #checkpointing = false
  /** A checkpoint took the place of the log up to here, and storage was not told yet. */
  #untold = logIndex(0)
  #fetching = false

  constructor(id: NodeId, volume: VolumeId, first: Configuration, host: ShellHost) {
    this.id = id
    this.volume = volume
    this.#word = new DurableWord(id)
    this.#first = first
    this.#host = host
    this.#platter.writesBlocks = host.settings.writesBlocks
  }

  get disk(): DurableLog {
    return this.#word.log
  }

  get up(): boolean {
    return this.phase === 'up'
  }

  get replica(): Replica | null {
    return this.turn?.replica ?? null
  }

  // ---- start and end ---------------------------------------------------------------------------------------------

  start(): void {
    const life = ++this.incarnation
    this.phase = 'starting'
    this.#leaving = []
    this.#checkpointing = false
    this.#fetching = false
    this.#guard(this.#open(life), life)
  }

  /** Loses memory and, of what was not synced, what `choose` says. */
  crash(choose: Choose): void {
    this.incarnation++
    this.phase = 'down'
    this.turn = null
    this.storage = null
    this.#transfer = null
    this.#platter.crashed = true
    const { capacity } = this.#platter
    this.#platter = this.#platter.survivor(choose)
    this.#platter.capacity = capacity
  }

  /**
   * What the disk will do: stop in the middle of one of its next steps, fail at one, or have room for `count` bytes.
   * It outlives a crash, so that starts meet it too; until `none`.
   */
  trouble(kind: 'crash' | 'error' | 'full' | 'none', count: number): void {
    const platter = this.#platter
    if (this.phase === 'refused') return
    platter.crashAt = kind === 'crash' ? platter.steps + count : Infinity
    platter.failAt = kind === 'error' ? platter.steps + count : Infinity
    platter.capacity = kind === 'full' ? platter.used() + count : Infinity
  }

  /** Its machine has ended, at a step beside the log, and the process has not noticed. */
  get isBeyondItsEnd(): boolean {
    return this.#platter.crashed
  }

  /** Damage, while the node is down; says what. */
  damage(random: Random): string | null {
    return this.phase === 'down' ? damageDisk(random, this.#platter, this.#disk?.written ?? []) : null
  }

  /** Will not start again by itself. */
  refuse(): void {
    this.incarnation++
    this.phase = 'refused'
    this.turn = null
  }

  #sleep(life: number, milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      if (life !== this.incarnation) return
      this.#host.later(this, milliseconds, () => {
        this.#host.stir()
        resolve()
      })
    })
  }

  /** What an act of this life ends with when it fails. */
  #guard(act: Promise<unknown>, life: number): void {
    this.#host.stir()
    act.catch((error: unknown) => this.#failed(life, error))
  }

  #failed(life: number, error: unknown): void {
    if (life !== this.incarnation) return
    const { crashed, steps, failAt, capacity } = this.#platter
    // The disk may be well again before the word of its failure has come here.
    const isTold = String(error).includes('simulated')
    if (crashed || steps >= failAt || capacity < Infinity || isTold) {
      if (error instanceof LokiError && error.code === 'CHECKPOINT_WRITE_FAILED' && !crashed)
        return this.#noCheckpoint()
      return this.#host.died(this, messageOf(error))
    }
    if (error instanceof LokiError && error.code !== 'LOG_WRITE_FAILED') this.#host.refused(this, error)
    else this.#host.fail(error)
  }

  async #open(life: number): Promise<void> {
    const host = this.#host
    this.#disk = new TimedDisk(this.#platter, () => this.#sleep(life, host.syncMilliseconds(this.id)))
    const storage = await openStorage({
      disk: this.#disk,
      walDirectory: '/wal',
      checkpointDirectory: '/checkpoints',
      segmentBytes: host.settings.segmentBytes,
      archive: false,
      random: () => this.volume,
      onFatal: (error) => this.#failed(life, error.cause ?? error),
      pause: () => this.#sleep(life, 2),
      sync: 'pool',
      spaceCheckMilliseconds: 0,
    })
    let { recovered } = storage
    if (storage.identity !== null) this.#word.compare(recovered, host.isDamaged(this))
    if (recovered.state.configuration === null) {
      await storage.setIdentity(CLUSTER, this.id)
      const start = logIndex(0)
      await new Promise<void>((resolve) => {
        storage.write([{ kind: 'configuration', configuration: this.#first, start }], resolve)
      })
      recovered = { ...recovered, state: { ...recovered.state, configuration: this.#first, configurationStart: start } }
    }
    this.#word.begin(recovered)
    if (recovered.doubtfulFrom !== null) host.doubts(this)
    await this.#join(life, storage, recovered)
  }

  /** As Member.start. */
  async #join(life: number, storage: Storage, recovered: RecoveredLog): Promise<void> {
    const host = this.#host
    const machine = await restoreMachine(storage, host.settings.machine)
    assert(machine.applied < recovered.first + recovered.entries.length, 'the log ends before the checkpoint')
    const configuration = recovered.state.configuration!
    const now = this.#monotonic()
    const replica = createReplica({
      self: this.id,
      recovered,
      options: host.settings.consensus,
      now,
      start: storage.timeline,
    })
    this.#untold = logIndex(0)
    this.#word.remembers(replica.promise, recovered.promiseLost ?? false)
    const relay = new Relay({ node: this.id, incarnation: firstIncarnation(storage.timeline) }, host.settings.relay)
    this.session = relay.session.incarnation
    const applied = storage.checkpoint ?? { configuration, start: recovered.state.configurationStart }
    this.turn = new Turn(this.id, replica, machine, relay, applied, this.#ports(life, storage), host.settings.turn)
    this.storage = storage
    this.#transfer = new CheckpointTransfer({
      storage,
      send: (to, message) => this.#host.send(this, to, { kind: 'relay', message }),
      log: (message, fields) => host.note(this.id, 'other', () => `${message} ${JSON.stringify(fields)}`),
      after: (milliseconds, act) => {
        let wanted = true
        host.later(this, milliseconds, () => {
          host.stir()
          if (wanted) act()
        })
        return () => {
          wanted = false
        }
      },
    })
    this.#holds(machine)
    const { decided } = recovered.state
    for (const entry of entriesBetween(replica, logIndex(machine.applied + 1), decided)) this.turn.replay(entry)
    this.phase = 'up'
    host.ran(this)
    this.#guard(this.#watchSpace(life, storage), life)
  }

  /** What it has is what a checkpoint had. */
  #holds(machine: Machine): void {
    this.applied = machine.applied
    this.decided = machine.applied
    this.#host.restored(this)
  }

  async #readLog(life: number, storage: Storage, to: NodeId, range: EntryRange): Promise<void> {
    const entries = await storage.readDecided(range)
    await this.#sleep(life, 2)
    const from = logIndex(range.from)
    this.turn!.logRead(to, from, entries, goesOnAt(storage, from))
  }

  /** As the storage does every second, and whenever much was written; and as Member does with its memory, and with rot. */
  async #watchSpace(life: number, storage: Storage): Promise<void> {
    const turn = this.turn!
    storage.space.changed = () => {
      if (life !== this.incarnation) return
      turn.room(storage.space.room)
      this.#host.count(`room: ${storage.space.room}`)
    }
    for (;;) {
      await storage.checkSpace()
      const { readsLog = false, keepEntriesBytes = 0 } = this.#host.settings.consensus
      if (readsLog && turn.replica.log.bytes > keepEntriesBytes) turn.trim(turn.machine.applied)
      // What is rotten in the log others cannot be given; in peace nobody else asks for a checkpoint.
      if (storage.wantsCheckpoint) this.checkpoint()
      await this.#sleep(life, 20)
    }
  }

  // ---- the world of the turn -------------------------------------------------------------------------------------

  #monotonic(): number {
    return this.#host.now * this.clockRate
  }

  #ports(life: number, storage: Storage): TurnPorts {
    const host = this.#host
    const ports = {
      now: () => this.#monotonic(),
      wallClock: () => host.wallClock(this),
      persist: (records: readonly LogRecord[], done: () => void) => {
        host.stir()
        if (records.some(({ kind }) => kind === 'installed')) this.#untold = logIndex(0)
        this.#word.handed(records)
        storage.write(records, () => {
          if (life !== this.incarnation) return
          this.#word.durable(records)
          host.note(this.id, 'durable', () => describeRecords(records))
          done()
        })
      },
      send: (to: NodeId, message: PeerMessage, mayWait = false) => {
        this.#check(message)
        // On this network everything may take its time.
        if (mayWait) host.count('messages that may wait')
        this.#leaving.push({ to, message })
      },
      flush: () => {
        if (!this.#hasSpoken) this.#flush()
        this.#hasSpoken = host.turnsTakeTime
      },
      wake: () => host.wake(this),
      readLog: (to: NodeId, from: LogIndex, upTo: LogIndex) => {
        host.count('reads of the log')
        // What was there before the checkpoint was perhaps never decided.
        if (from <= this.#untold)
          host.fail(new Violation(`read back: ${from}, from below a checkpoint that storage has not heard of`))
        this.#guard(this.#readLog(life, storage, to, { from, upTo, mostBytes: READ_BACK_BYTES }), life)
      },
      needCheckpoint: (index: LogIndex, from: readonly NodeId[]) => this.#guard(this.#fetch(index, from), life),
      configurationChanged: (configuration: Configuration) =>
        host.note(this.id, 'other', () => {
          const voters = configuration.voters.map(({ id }) => id).join(' ')
          return `configuration ${configuration.id} {${voters}}`
        }),
      leaderChanged: (leader: NodeId | null) => host.note(this.id, 'other', `leader ${leader}`),
      heardOf: (configuration: Configuration) =>
        host.note(this.id, 'other', `hears of configuration ${configuration.id}`),
    }
    return ports
  }

  #check(sent: PeerMessage): void {
    const wrong = sent.kind === 'consensus' ? this.#word.whatIsWrong(sent.message) : null
    if (wrong !== null) this.#host.fail(new Error(`node ${this.id}: ${wrong}`))
  }

  /** As the peers' connections: what was said leaves with the next flush. */
  #flush(): void {
    for (const { to, message } of this.#leaving.splice(0)) this.#host.send(this, to, message)
  }

  /** What the turn says before it applies leaves at once; where that takes time, what it says behind it at its end. */
  run(): void {
    if (this.turn === null) return
    const host = this.#host
    const { turn } = this
    const { applied } = turn.machine
    this.#hasSpoken = false
    turn.run()
    if (!host.turnsTakeTime) this.#flush()
    host.ran(this)
    if (host.turnsTakeTime) host.spend(this, turn.machine.applied - applied, () => this.#flush())
  }

  receive(from: NodeId, message: PeerMessage): void {
    if (message.kind === 'relay' && isTransfer(message.message.kind)) {
      this.#guard(this.#transfer!.receive(from, message.message), this.incarnation)
    } else {
      this.turn!.receive(from, message)
    }
  }

  // ---- checkpoints, as Member does -----------------------------------------------------------------------------------

  checkpoint(): void {
    // As Member does: one at a time, each clears away what it does not know.
    if (this.#checkpointing || this.#fetching || this.turn === null) return
    const { machine, appliedConfigurationStart } = this.turn
    if (machine.applied <= Math.max(this.storage!.checkpoint?.index ?? 0, appliedConfigurationStart - 1)) return
    this.#checkpointing = true
    this.#guard(this.#takeCheckpoint(this.incarnation), this.incarnation)
  }

  async #takeCheckpoint(life: number): Promise<void> {
    const turn = this.turn!
    const storage = this.storage!
    const { machine, appliedConfiguration: configuration, appliedConfigurationStart: start } = turn
    const index = machine.applied
    const source = machine.beginCheckpoint()
    const pause = (): Promise<void> => this.#sleep(life, 1)
    await storage.writeCheckpoint({ index, configuration, start }, () => source.next(), pause)
    await storage.truncateHead(index)
    turn.trim(index)
    this.#host.count('checkpoints')
    this.#host.note(this.id, 'other', `checkpoint at ${index}`)
    this.#checkpointing = false
  }

  /** As Member: the log is kept, and the next one is tried in its time. */
  #noCheckpoint(): void {
    this.#checkpointing = false
    this.#host.count('checkpoints that could not be written')
  }

  async #fetch(index: LogIndex, from: readonly NodeId[]): Promise<void> {
    if (this.#fetching) return
    this.#fetching = true
    try {
      const turn = this.turn!
      const storage = this.storage!
      const found = await this.#transfer!.fetch(index, from, (head) =>
        acceptsCheckpoint(turn.replica, head.index, head.configuration),
      )
      const { checkpoint } = storage
      if (found === null || !checkpoint || checkpoint.index <= turn.machine.applied) return
      const machine = await restoreMachine(storage, this.#host.settings.machine)
      if (!acceptsCheckpoint(turn.replica, checkpoint.index, checkpoint.configuration)) return
      this.#host.note(this.id, 'other', `installs the checkpoint of ${checkpoint.index}`)
      this.#host.count('checkpoints installed')
      this.#untold = checkpoint.index
      turn.installed(machine, checkpoint.configuration, checkpoint.start)
      this.#host.installed(this)
      this.#holds(machine)
    } finally {
      this.#fetching = false
    }
  }
}

async function restoreMachine(storage: Storage, options: MachineOptions): Promise<Machine> {
  if (!storage.checkpoint) return new Machine(options)
  const restorer = new MachineRestorer(options)
  for await (const chunk of storage.readCheckpoint()) restorer.add(chunk)
  return restorer.finish()
}
