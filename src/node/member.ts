/**
 * A node that has an identity: the machine brought up to date from checkpoint and log, the consensus core, the
 * turn that drives them, the connections to the other members, and checkpoints. It ends with the process; what
 * it holds that matters is durable.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { checkpointPauses, shareOfDue } from './checkpoint-pace.ts'
import { CheckpointTransfer } from './checkpoint-transfer.ts'
import { type Config, LIMITS, lookUp } from '../config.ts'
import type { MigrationJson, StartProgressJson } from '../contract.ts'
import {
  type Replica,
  acceptsCheckpoint,
  createReplica,
  entriesBetween,
  isLeader,
  leaderOf,
} from '../consensus/replica.ts'
import { isVoter } from '../consensus/quorum.ts'
import type { Settings } from '../settings.ts'
import { PeerNetwork } from '../edge/peer/network.ts'
import { LokiError } from '../errors.ts'
import { Machine, MachineRestorer } from '../machine/machine.ts'
import { followSettings } from './membership.ts'
import { ReadBack, goesOnAt } from './read-back.ts'
import { Relay, firstIncarnation } from '../turn/relay.ts'
import type { Storage } from '../storage/storage.ts'
import { Turn } from '../turn/turn.ts'
import type { TurnPorts } from '../turn/ports.ts'
import {
  type ClusterId,
  type Configuration,
  type LogIndex,
  type Member as MemberOf,
  type NodeId,
  type RecoveredLog,
  type VolumeId,
  logIndex,
} from '../vocabulary.ts'

export type Log = (message: string, fields: Record<string, unknown>) => void

export interface MemberOptions {
  readonly config: Config
  readonly storage: Storage
  readonly cluster: ClusterId
  readonly node: NodeId
  /** The log as it was found, with the configuration to start from. */
  readonly recovered: RecoveredLog
  readonly log: Log
  /** How far the start is, now and then. */
  readonly progress: (progress: StartProgressJson) => void
  /** The leader or the configuration changed: the control file should say so. */
  readonly changed: () => void
  /** A bug or a broken disk: the process must end. */
  readonly fatal: (error: unknown) => void
}

const SLICE_PAUSE = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
/** Entries replayed before the process looks after its probes again. */
const REPLAY_SLICE_ENTRIES = 2000
/** How often a checkpoint is taken to make room while the disk is nearly full. */
const FULL_DISK_CHECKPOINT_MILLISECONDS = 10_000
/** Between two checkpoints that are taken because something is rotten. */
const REPAIR_MILLISECONDS = 1000
const FULL_DISK_HAND_OVER_MILLISECONDS = 1000

export class Member {
  readonly turn: Turn
  readonly storage: Storage
  readonly network: PeerNetwork
  readonly #options: MemberOptions
  readonly #transfer: CheckpointTransfer
  readonly #timers: NodeJS.Timeout[] = []
  /** Members that are known beside the configuration: the ones a reconfiguration will bring. */
  #expected: readonly MemberOf[] = []
  #configuration: Configuration
  #fetching = false
  #checkpointing: Promise<LogIndex> | null = null
  #lastCheckpointAt = performance.now()
  /** Of what the settings allow, this time. */
  #checkpointShare = shareOfDue(Math.random())
  #bytesAtCheckpoint = 0
  #checkpointMilliseconds = 0
  #handedOverFull = false
  #wasRotten = false
  #saidProblem = false
  leaderChanges = 0
  /** Why the last checkpoint could not be written; null: it could. */
  checkpointFailure: string | null = null
  checkpointFailures = 0
  lastLeaderAt = 0

  /** Brings the machine up to date, then joins in. Errors: those of storage, coded. */
  static async start(options: MemberOptions): Promise<Member> {
    const { storage, recovered, config } = options
    const machine = await restoreMachine(storage, config, options.progress)
    const configuration = recovered.state.configuration
    if (configuration === null) throw new LokiError('NO_IDENTITY', 'the log holds no configuration')
    const replica = createReplica({
      self: options.node,
      recovered,
      options: {
        electionTimeoutMilliseconds: config.settings.electionTimeoutMilliseconds,
        keepEntriesBytes: LIMITS.keepEntriesBytes,
        readsLog: true,
      },
      now: performance.now(),
      start: storage.timeline,
    })
    // The replica has the entries by now, and lets go of them: nobody else must keep what was read in memory.
    storage.recovered = { ...storage.recovered, entries: [] }
    const found = { ...recovered, entries: [] }
    const member = new Member({ ...options, recovered: found }, replica, machine, configuration)
    await member.#replay()
    await member.network.listen()
    member.#connect()
    member.#startTimers()
    return member
  }

  private constructor(options: MemberOptions, replica: Replica, machine: Machine, configuration: Configuration) {
    this.#options = options
    this.storage = options.storage
    this.#configuration = configuration
    const { storage, config, node, cluster, log } = options
    const session = { node, incarnation: firstIncarnation(storage.timeline) }
    const relay = new Relay(session, { ...LIMITS, blockBytes: LIMITS.entryBytes })
    const applied = storage.checkpoint
      ? { configuration: storage.checkpoint.configuration, start: storage.checkpoint.start }
      : { configuration, start: options.recovered.state.configurationStart }
    this.turn = new Turn(node, replica, machine, relay, applied, this.#ports(), {
      ...LIMITS,
      staleReadsMostMilliseconds: config.settings.staleReadsMostMilliseconds,
    })
    this.network = new PeerNetwork({
      cluster,
      node,
      volume: storage.volume,
      token: config.token,
      listenHost: config.listenHost,
      port: config.ports.peer,
      lookUp: (address) => lookUp(config.addressBookPath, address),
      knows: (id, volume) => this.#knows(id, volume),
      receive: (from, payload) => {
        if (payload.kind === 'relay' && isTransfer(payload.message.kind)) {
          this.#transfer.receive(from, payload.message).then(() => this.network.flush(), options.fatal)
        } else this.turn.receive(from, payload)
      },
      connected: (peer) => this.turn.reconnected(peer),
      moving: (peer) => this.turn.moving(peer),
      disconnected: (peer) => {
        this.turn.disconnected(peer)
        this.#transfer.lost(peer)
      },
      log,
    })
    this.#transfer = new CheckpointTransfer({
      storage,
      send: (to, message) => {
        this.network.send(to, { kind: 'relay', message })
        this.network.flush()
      },
      log,
    })
  }

  #ports(): TurnPorts {
    const { storage, log, changed, fatal } = this.#options
    const guarded = (work: () => void): void => {
      try {
        work()
      } catch (error) {
        fatal(error)
      }
    }
    const readBack = new ReadBack({
      read: (question) => storage.readDecided({ ...question, mostBytes: LIMITS.readBackBytes }),
      answer: (to, from, entries) => this.turn.logRead(to, from, entries, goesOnAt(storage, from)),
      failed: (from, error) => log('the log could not be read back', { from, reason: error.message }),
    })
    return {
      now: () => performance.now(),
      wallClock: () => Date.now(),
      persist: (records, done) => storage.write(records, () => guarded(done)),
      send: (to, message, mayWait) => this.network.send(to, message, mayWait),
      isBehind: (node) => this.network.isBehind(node),
      flush: () => this.network.flush(),
      wake: () => void setImmediate(guarded, () => this.turn.run()),
      readLog: (to, from, upTo) => readBack.ask(to, { from, upTo }),
      needCheckpoint: (index, from) => {
        this.#fetch(index, from).catch(fatal)
      },
      configurationChanged: (configuration, start) => {
        log('configuration started', { configuration: configuration.id, start, voters: idsOf(configuration.voters) })
        this.#configuration = configuration
        this.#connect()
        changed()
      },
      leaderChanged: (leader) => {
        this.leaderChanges++
        if (leader !== null) this.lastLeaderAt = performance.now()
        log('leader changed', { leader })
        changed()
      },
      heardOf: (configuration) => {
        this.#expected = configuration.voters
        this.#connect()
      },
    }
  }

  // ---- start ---------------------------------------------------------------------------------------------------------

  async #replay(): Promise<void> {
    const { recovered, log, progress } = this.#options
    const { machine, replica } = this.turn
    const first = machine.applied + 1
    // What was known decided may be beyond a log that lost its end to rot.
    const last = Math.min(recovered.state.decided, replica.decided)
    const began = performance.now()
    let bytes = 0
    for (let from = first; from <= last; from += REPLAY_SLICE_ENTRIES) {
      const to = Math.min(from + REPLAY_SLICE_ENTRIES - 1, last)
      for (const entry of entriesBetween(replica, logIndex(from), logIndex(to))) {
        this.turn.replay(entry)
        if (entry.kind === 'commands') bytes += entry.payload.length
      }
      const entries = to - first + 1
      progress({ part: 'state', entries, bytes, percent: Math.floor((100 * entries) / (last - first + 1)) })
      await SLICE_PAUSE()
    }
    if (last >= first) {
      log('log replayed', { entries: last - first + 1, milliseconds: Math.round(performance.now() - began) })
    }
  }

  #startTimers(): void {
    const { config, storage } = this.#options
    storage.space.changed = () => this.turn.room(storage.space.room)
    this.turn.room(storage.space.room)
    const { electionTimeoutMilliseconds } = config.settings
    this.#timers.push(setInterval(() => this.turn.tick(), Math.max(5, Math.floor(electionTimeoutMilliseconds / 10))))
    this.#timers.push(
      setInterval(() => {
        if (leaderOf(this.turn.replica) !== null) this.lastLeaderAt = performance.now()
        this.#keepMemoryLow()
        if (this.#checkpointDue()) this.checkpoint().catch((error: unknown) => this.#checkpointFailed(error))
        this.#minds(storage.readOnly)
        this.#tellRepaired()
        this.#followSettings()
      }, 250),
    )
  }

  /** What is applied is in the log on the disk, and read back from there for who asks for it. */
  #keepMemoryLow(): void {
    const { replica, machine } = this.turn
    if (replica.log.bytes > LIMITS.keepEntriesBytes) this.turn.trim(machine.applied)
  }

  get settings(): Settings {
    return this.#options.config.settings
  }

  #followSettings(): void {
    try {
      followSettings(this)
    } catch (error) {
      if (!(error instanceof LokiError)) throw error
      if (!this.#saidProblem) this.#options.log('the settings do not suit the configuration', { reason: error.message })
      this.#saidProblem = true
    }
  }

  /** What went to nodes that catch up, and came from others: log and checkpoints. */
  get migration(): MigrationJson {
    const { migration } = this.turn.status
    const received = new Map(this.#transfer.receivedBytes)
    for (const { id, bytes } of migration.received) received.set(id, (received.get(id) ?? 0) + bytes)
    return {
      sentBytes: migration.sentBytes + this.#transfer.sentBytes,
      received: [...received].map(([id, bytes]) => ({ id, bytes })),
    }
  }

  /** Nodes of the configuration and those that are expected; a node that is both is one. */
  #connect(): void {
    const members = new Map<NodeId, MemberOf>()
    for (const member of this.#expected) members.set(member.id, member)
    for (const member of this.#configuration.learners) members.set(member.id, member)
    for (const member of this.#configuration.voters) members.set(member.id, member)
    this.network.setMembers([...members.values()])
  }

  /** New members that a reconfiguration will bring, so that they are known and dialled. */
  expect(members: readonly MemberOf[]): void {
    this.#expected = members
    this.#connect()
  }

  #knows(id: NodeId, volume: VolumeId): boolean {
    if (this.turn.machine.idOf(volume) === id) return true
    const named = [...this.#configuration.voters, ...this.#configuration.learners, ...this.#expected]
    return named.some((member) => member.id === id && member.volume === volume)
  }

  // ---- checkpoints ---------------------------------------------------------------------------------------------------

  #checkpointDue(): boolean {
    const { storage, config } = this.#options
    const { checkpointIntervalSeconds, checkpointLogBytes } = config.settings
    if (this.#checkpointing || this.#noCheckpointNow() !== null) return false
    const age = performance.now() - this.#lastCheckpointAt
    // What is rotten on the disk is whole in memory: a checkpoint takes its place at once.
    if (storage.wantsCheckpoint && age >= REPAIR_MILLISECONDS) return true
    if (this.turn.machine.applied <= (storage.checkpoint?.index ?? 0)) return false
    return (
      age >= this.#checkpointShare * checkpointIntervalSeconds * 1000 ||
      this.#makesRoom() ||
      storage.status().bytes - this.#bytesAtCheckpoint >= this.#checkpointShare * checkpointLogBytes
    )
  }

  /** Whether something that rot took is not here again: on the disk, or in the log. */
  get hasOpenRot(): boolean {
    return this.storage.wantsCheckpoint || this.turn.replica.doubtfulFrom !== null
  }

  /** Says once that what rot took is here again. */
  #tellRepaired(): void {
    const isOpen = this.hasOpenRot
    if (this.#wasRotten && !isOpen) this.#options.log('what rot took is here again', { decided: this.turn.decided })
    this.#wasRotten = isOpen
  }

  /** Whether the disk is nearly full, a checkpoint may help, and the last one is long enough ago. */
  #makesRoom(): boolean {
    const { readOnly, segments } = this.#options.storage.status()
    const pause = Math.max(FULL_DISK_CHECKPOINT_MILLISECONDS, 10 * this.#checkpointMilliseconds)
    return readOnly && segments > 2 && performance.now() - this.#lastCheckpointAt >= pause
  }

  /** Why no checkpoint can be taken at the moment, or null. */
  #noCheckpointNow(): string | null {
    if (this.#fetching) return 'a checkpoint of a peer is being fetched'
    const { appliedConfiguration, appliedConfigurationStart, machine } = this.turn
    if (machine.applied === 0) return 'nothing is applied yet'
    // A node that joined was told of a configuration that starts somewhere in the log which it still lacks; one that
    // lost a part of its log knows where. A checkpoint from before that point would name it too early, and make
    // voters of nodes that lack the rest.
    const wasTold = appliedConfigurationStart === 0 && appliedConfiguration.id > 1
    const isBehind = wasTold || appliedConfigurationStart > machine.applied
    return isBehind ? 'the node has not come to the configuration that it knows of' : null
  }

  /** The log is kept, and the next one is tried when it is due. Everything else is a bug or a broken disk. */
  #checkpointFailed(error: unknown): void {
    const { log, fatal } = this.#options
    if (!(error instanceof LokiError) || error.code !== 'CHECKPOINT_WRITE_FAILED') return fatal(error)
    this.checkpointFailures++
    this.checkpointFailure = error.message
    log('checkpoint failed', { code: error.code, reason: error.message, failures: this.checkpointFailures })
  }

  /** A leader whose disk is nearly full hands over, once; the others may have room. */
  #minds(readOnly: boolean): void {
    if (!readOnly) this.#handedOverFull = false
    // The log lets go of what two checkpoints cover: the second one needs something to be new.
    else if (
      this.isLeader &&
      this.#makesRoom() &&
      this.turn.machine.applied === this.#options.storage.checkpoint?.index
    ) {
      this.turn.wantTime()
    }
    if (!readOnly || this.#handedOverFull || !this.isLeader) return
    this.#handedOverFull = true
    this.#options.log('the disk is nearly full: leadership is handed over', {})
    void this.handOver(FULL_DISK_HAND_OVER_MILLISECONDS)
  }

  /** Takes a checkpoint, or waits for the one under way; its index. */
  checkpoint(): Promise<LogIndex> {
    this.#checkpointing ??= this.#takeCheckpoint().finally(() => {
      this.#checkpointing = null
      this.#lastCheckpointAt = performance.now()
      this.#checkpointShare = shareOfDue(Math.random())
    })
    return this.#checkpointing
  }

  async #takeCheckpoint(): Promise<LogIndex> {
    const { storage, log } = this.#options
    const reason = this.#noCheckpointNow()
    if (reason !== null) throw new LokiError('NOT_STARTED', reason)
    const { machine, appliedConfiguration, appliedConfigurationStart } = this.turn
    const index = machine.applied
    this.#bytesAtCheckpoint = storage.status().bytes
    const source = machine.beginCheckpoint()
    const began = performance.now()
    const head = { index, configuration: appliedConfiguration, start: appliedConfigurationStart }
    const info = await storage.writeCheckpoint(head, () => source.next(), checkpointPauses())
    await storage.truncateHead(index)
    this.checkpointFailure = null
    this.turn.trim(index)
    this.#checkpointMilliseconds = performance.now() - began
    log('checkpoint taken', { index, bytes: info.bytes, milliseconds: Math.round(this.#checkpointMilliseconds) })
    return index
  }

  /** Fetches a checkpoint until there is one, and installs it. */
  async #fetch(index: LogIndex, from: readonly NodeId[]): Promise<void> {
    if (this.#fetching) return
    this.#fetching = true
    try {
      // One at a time: each clears away what it does not know.
      await this.#checkpointing?.catch(() => undefined)
      const found = await this.#transfer.fetch(index, from, (head) =>
        acceptsCheckpoint(this.turn.replica, head.index, head.configuration),
      )
      const { checkpoint } = this.#options.storage
      if (found === null || !checkpoint || checkpoint.index <= this.turn.machine.applied) return
      const machine = await restoreMachine(this.#options.storage, this.#options.config)
      // Asked again: the log may have been caught up, or a leader's taken, while the state was read.
      if (!acceptsCheckpoint(this.turn.replica, checkpoint.index, checkpoint.configuration)) return
      this.turn.installed(machine, checkpoint.configuration, checkpoint.start)
      this.#options.log('checkpoint installed', { index: checkpoint.index })
    } finally {
      this.#fetching = false
    }
  }

  // ---- leaving -------------------------------------------------------------------------------------------------------

  get isLeader(): boolean {
    return isLeader(this.turn.replica)
  }

  /** Hands leadership to the voter that is furthest, if this node leads and there is one; waits a bounded time. */
  async handOver(milliseconds: number): Promise<void> {
    const deadline = performance.now() + milliseconds
    while (this.isLeader && performance.now() < deadline) {
      const target = this.turn.status.progress
        .filter((peer) => peer.id !== this.#options.node && this.network.isConnected(peer.id))
        .filter((peer) => isVoter(this.#configuration, peer.id))
        .sort((a, b) => b.accepted - a.accepted)[0]
      if (!target) return
      this.turn.transfer(target.id)
      const round = performance.now() + 500
      while (this.isLeader && performance.now() < Math.min(round, deadline)) await sleep(5)
    }
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer)
    await this.#checkpointing?.catch(() => undefined)
    await this.network.close()
  }
}

const idsOf = (members: readonly MemberOf[]): NodeId[] => members.map((member) => member.id)

const isTransfer = (kind: string): boolean =>
  kind === 'fetch-manifest' || kind === 'manifest' || kind === 'fetch-chunk' || kind === 'chunk'

async function restoreMachine(
  storage: Storage,
  config: Config,
  progress?: MemberOptions['progress'],
): Promise<Machine> {
  const options = { maxMemoryBytes: config.settings.maxMemoryBytes }
  if (!storage.checkpoint) return new Machine(options)
  const restorer = new MachineRestorer(options)
  let bytes = 0
  for await (const chunk of storage.readCheckpoint()) {
    restorer.add(chunk)
    bytes += chunk.length
    const percent = Math.floor((100 * bytes) / storage.checkpoint.bytes)
    progress?.({ part: 'checkpoint', entries: 0, bytes, percent })
  }
  return restorer.finish()
}
