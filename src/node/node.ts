/**
 * The life of a node, from an empty volume to its last answer:
 *
 *   starting -> waiting -> member (voter, learner, removed)
 *          \-> refused                       every state is alive; only a member can be ready
 *
 * It owns storage, admin port, Redis port and the member inside, and is what both ports ask (`Front`,
 * `AdminActions`). A refused node stays alive and tells its code; a failed disk or a bug ends the process.
 */
import { networkInterfaces } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { type Config, LIMITS } from '../config.ts'
import type {
  CheckpointResponse,
  ConfigurationRequest,
  GenesisRequest,
  JoinRequest,
  MemberRequest,
  MemberResponse,
  NodeStatus,
  ResetRequest,
  ScrubResponse,
  TransferRequest,
} from '../contract.ts'
import { replaceControlFile } from './control-file.ts'
import { type AdminActions, createAdmin } from '../edge/admin/server.ts'
import type { Facts, Front, Origin } from '../front.ts'
import { createMetrics } from '../edge/admin/metrics.ts'
import { RespServer } from '../edge/resp/server.ts'
import { LokiError } from '../errors.ts'
import { isShortOfRoom } from '../consensus/replica.ts'
import { mayGrow } from '../machine/commands.ts'
import { type Arguments, type Reply, coded } from '../machine/reply.ts'
import { type Log, Member } from './member.ts'
import { allotId, expectGenesis, reconfigure, toMember, transfer, withdraw } from './membership.ts'
import { memberFacts, memberFigures, nodeStatus, waitingStatus } from './status.ts'
import { StartWatch, openNodeStorage } from './storage.ts'
import { finishReset, moveAside } from '../storage/reset.ts'
import { RealDisk } from '../storage/real-disk.ts'
import type { Storage } from '../storage/storage.ts'
import {
  type Configuration,
  type Member as MemberOf,
  type RecoveredLog,
  clusterId,
  configurationId,
  logIndex,
  nodeId,
  optionsOf,
} from '../vocabulary.ts'

export const VERSION = '0.1.0'

/** Not ready only when no leader was known for longer than an election with all its retries may take. */
const LEADERLESS_MILLISECONDS = 10_000
const HAND_OVER_MILLISECONDS = 5000
const CONTROL_FILE_RETRY_MILLISECONDS = 10_000
const DISK_FULL_RETRY_MILLISECONDS = 10_000
/** What fastify needs to hear to listen on every address: by itself it takes `localhost` only. */
const EVERY_ADDRESS = Object.values(networkInterfaces()).some((list) => list?.some(({ family }) => family === 'IPv6'))
  ? '::'
  : '0.0.0.0'

const NEARLY_FULL = coded('DISK_FULL')

export interface NodeOptions {
  readonly config: Config
  readonly log: Log
  /** Ends the process: `error` says why. Nothing is acknowledged after it. */
  readonly fatal: (error: unknown) => void
}

export class Node implements Front, AdminActions {
  readonly #options: NodeOptions
  readonly #disk = new RealDisk()
  readonly #startedAt = performance.now()
  readonly #watch: StartWatch
  #storage: Storage | null = null
  #member: Member | null = null
  /** The identity act under way, so that a repeated request waits for it and does not begin another. */
  #becoming: Promise<void> | null = null
  #resetting: Promise<void> | null = null
  #refusal: LokiError | null = null
  #stopping = false
  #stopped: Promise<void> | null = null
  #admin: FastifyInstance | null = null
  #resp: RespServer | null = null
  #controlFileTimer: NodeJS.Timeout | null = null
  #controlFileWritten: Promise<void> = Promise.resolve()

  constructor(options: NodeOptions) {
    this.#options = options
    this.#watch = new StartWatch(options.log)
  }

  // ---- start and stop ------------------------------------------------------------------------------------------------

  async start(): Promise<void> {
    const { config, log } = this.#options
    this.#admin = createAdmin(
      this,
      config.token,
      createMetrics(() => this.#figures()),
    )
    await this.#admin.listen({ port: config.ports.admin, host: config.listenHost ?? EVERY_ADDRESS })
    log('admin port open', { port: config.ports.admin })
    await this.#openOrRefuse()
  }

  async #openOrRefuse(): Promise<void> {
    try {
      await this.#open()
      this.#refusal = null
    } catch (error) {
      if (!(error instanceof LokiError)) throw error
      this.#refuse(error)
      if (error.code !== 'DISK_FULL' || this.#storage) return
      // The only reason that goes away by itself.
      setTimeout(() => {
        this.#openOrRefuse().catch(this.#options.fatal)
      }, DISK_FULL_RETRY_MILLISECONDS).unref()
    }
  }

  async #open(): Promise<void> {
    const { config, log, fatal } = this.#options
    await finishReset(this.#disk, config.walDirectory, config.checkpointDirectory)
    const storage = await openNodeStorage(config, this.#disk, log, fatal, this.#watch)
    this.#storage = storage
    log('storage open', { volume: storage.volume, timeline: storage.timeline, node: storage.identity?.node ?? null })
    if (storage.identity && storage.recovered.state.configuration) await this.#becomeMember(storage.recovered)
  }

  #refuse(error: LokiError): void {
    this.#refusal = error
    this.#options.log('refused', { code: error.code, reason: error.message })
  }

  async #becomeMember(recovered: RecoveredLog): Promise<void> {
    const { config, log, fatal } = this.#options
    const storage = this.#storage!
    const identity = storage.identity!
    this.#member = await Member.start({
      config,
      storage,
      cluster: identity.cluster,
      node: identity.node,
      recovered,
      log,
      progress: this.#watch.report,
      fatal,
      changed: () => this.#controlFileSoon(),
    })
    this.#watch.over()
    await this.#writeControlFile()
    const limits = {
      maxClients: config.settings.maxClients,
      maxValueBytes: config.settings.maxValueBytes,
      maxPipelinedCommands: LIMITS.commandsInFlightPerConnection,
      maxOutputBytes: LIMITS.outputBytesPerConnection,
      maxOutputBytesOfAll: LIMITS.outputBytes,
      maxIncomingBytes: LIMITS.incomingBytes,
      incomingStallMilliseconds: LIMITS.incomingStallMilliseconds,
      outputStallMilliseconds: LIMITS.outputStallMilliseconds,
    }
    this.#resp = new RespServer(this, limits, log)
    await this.#resp.listen(config.listenHost, config.ports.client)
    log('client port open', { port: config.ports.client })
  }

  /**
   * Leaves in good order: leadership handed over, unready, still serving for as long as others need to notice,
   * every command that was read answered, connections closed.
   */
  stop(): Promise<void> {
    // A second signal waits for the same end: it must not cut off what the first one has still to answer.
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    const { config, log } = this.#options
    log('stopping', {})
    await this.#becoming?.catch(() => undefined)
    // It ends the process by itself.
    if (this.#resetting) await this.#resetting.then(() => new Promise(() => undefined))
    await this.#member?.handOver(HAND_OVER_MILLISECONDS)
    this.#stopping = true
    if (this.#resp && this.#member) {
      await sleep(config.settings.shutdownForwardMilliseconds)
      await this.#member.handOver(HAND_OVER_MILLISECONDS)
      await this.#resp.drain()
    }
    if (this.#controlFileTimer) clearTimeout(this.#controlFileTimer)
    await this.#controlFileWritten
    await this.#member?.stop()
    await this.#storage?.close()
    await this.#admin?.close()
    log('stopped', {})
  }

  // ---- identity ------------------------------------------------------------------------------------------------------

  async genesis(request: GenesisRequest): Promise<void> {
    const founders = request.founders.map(toMember)
    const self = founders.find((founder) => founder.id === request.self)
    if (!self) throw new LokiError('BAD_REQUEST', `self: ${request.self} is not one of the founders`)
    await this.#become(request.clusterId, self, {
      id: configurationId(1),
      voters: founders,
      learners: [],
      preferredLeader: nodeId(0),
    })
  }

  async join(request: JoinRequest): Promise<void> {
    await this.#become(request.clusterId, toMember(request.self), {
      id: configurationId(request.configuration.id),
      voters: request.configuration.voters.map(toMember),
      learners: request.configuration.learners.map(toMember),
      preferredLeader: nodeId(0),
      ...optionsOf(request.configuration),
    })
  }

  async #become(cluster: string, self: MemberOf, configuration: Configuration): Promise<void> {
    // One after the other: of several that wait, too.
    const before = this.#becoming?.catch(() => undefined)
    this.#becoming = Promise.resolve(before).then(() => this.#becomeOnce(cluster, self, configuration))
    await this.#becoming
  }

  async #becomeOnce(cluster: string, self: MemberOf, configuration: Configuration): Promise<void> {
    const storage = this.#opened()
    if (self.volume !== storage.volume) {
      throw new LokiError(
        'VOLUME_MISMATCH',
        `this node's volume is ${storage.volume}, the request names ${self.volume}`,
      )
    }
    if (self.address !== this.#options.config.address) {
      throw new LokiError(
        'IDENTITY_CONFLICT',
        `this node's address is ${this.#options.config.address}, the request names ${self.address}`,
      )
    }
    const known = storage.identity
    if (known && (known.cluster !== cluster || known.node !== self.id)) {
      throw new LokiError('IDENTITY_CONFLICT', `this is node ${known.node} of cluster ${known.cluster}`)
    }
    if (this.#member) return expectGenesis(this.#member, configuration)
    // Identity first, then the configuration: a crash between the two leaves a node that waits and can be asked again.
    await storage.setIdentity(clusterId(cluster), self.id)
    const start = logIndex(0)
    await new Promise<void>((resolve) => storage.write([{ kind: 'configuration', configuration, start }], resolve))
    const { recovered } = storage
    const state = { ...recovered.state, configuration, configurationStart: start }
    this.#options.log('identity given', { cluster, node: self.id, configuration: configuration.id })
    try {
      await this.#becomeMember({ ...recovered, state })
    } catch (error) {
      // What is durable stands: the next start is a member, where this one is half of one.
      this.#options.fatal(error)
      throw error
    }
  }

  /** Moves the data of a node that was removed aside and ends the process; the next start finds empty volumes. */
  async reset(request: ResetRequest): Promise<void> {
    const storage = this.#opened()
    const { identity, volume } = storage
    if (!identity) return
    if (identity.node !== request.nodeId || volume !== request.volumeId) {
      throw new LokiError('IDENTITY_CONFLICT', `this is node ${identity.node} on volume ${volume}`)
    }
    if (!this.#member) throw new LokiError('NOT_STARTED', 'whether the node was removed is not known yet')
    if (this.status().phase !== 'removed') {
      throw new LokiError('IDENTITY_CONFLICT', `node ${identity.node} is not removed from its configuration`)
    }
    this.#resetting ??= this.#reset(storage, identity.node)
    await this.#resetting
  }

  /** Runs once, however often it is asked for; a step that fails ends the process, which is half closed by then. */
  async #reset(storage: Storage, node: number): Promise<void> {
    const { config, fatal } = this.#options
    try {
      await this.#resp?.drain()
      await this.#member?.stop()
      await storage.close()
      await moveAside(this.#disk, config.walDirectory, config.checkpointDirectory)
    } catch (error) {
      fatal(error)
      throw error
    }
    setTimeout(() => fatal(new LokiError('NODE_RESET', `node ${node} gave its volumes back`)), 100)
  }

  #opened(): Storage {
    if (this.#refusal) throw this.#refusal
    if (!this.#storage) throw new LokiError('NOT_STARTED', 'storage is not open yet')
    return this.#storage
  }

  // ---- what the admin port asks --------------------------------------------------------------------------------------

  status(): NodeStatus {
    const starting = this.#refusal ? null : this.#watch.current
    const base = {
      ...waitingStatus(this.#options.config, this.#storage, this.#refusal, VERSION),
      ...(starting ? { starting } : {}),
    }
    if (!this.#member || !this.#storage) return base
    return { ...base, ...nodeStatus(this.#member), ready: this.readiness().ready }
  }

  started(): boolean {
    return (
      this.#refusal !== null || (this.#storage !== null && (this.#storage.identity === null || this.#resp !== null))
    )
  }

  #activeMember(): Member {
    this.#opened()
    if (!this.#member) throw new LokiError('NO_IDENTITY', 'the node waits for an identity')
    return this.#member
  }

  allotId(request: MemberRequest): Promise<MemberResponse> {
    return allotId(this.#activeMember(), request)
  }

  reconfigure(request: ConfigurationRequest): void {
    reconfigure(this.#activeMember(), request)
  }

  withdraw(): void {
    withdraw(this.#activeMember())
  }

  transfer(request: TransferRequest): void {
    transfer(this.#activeMember(), request)
  }

  async scrub(): Promise<ScrubResponse> {
    const { scrub } = this.#opened()
    const before = scrub.verifiedBytes
    const found = await scrub.atOnce()
    const rot = found.map(({ directory, name, reason }) => `${directory}/${name}: ${reason}`)
    return { verifiedBytes: scrub.verifiedBytes - before, rot }
  }

  async checkpoint(): Promise<CheckpointResponse> {
    return { index: String(await this.#activeMember().checkpoint()) }
  }

  // ---- what the Redis port asks --------------------------------------------------------------------------------------

  write(origin: Origin, tag: number, command: Arguments): boolean {
    if ((this.#storage!.readOnly || isShortOfRoom(this.#member!.turn.replica)) && mayGrow(command)) {
      origin.reply(tag, NEARLY_FULL)
      origin.flush()
      return true
    }
    return this.#member!.turn.write(origin, tag, command)
  }

  read(origin: Origin, tag: number, command: Arguments): boolean {
    return this.#member!.turn.read(origin, tag, command)
  }

  readStale(command: Arguments): Reply | undefined {
    return this.#member!.turn.readStale(command)
  }

  /** Commands are taken as soon as there is a member; until a leader is known they wait. */
  ready(): ReturnType<Front['ready']> {
    if (this.#member && this.#resp) return { ready: true }
    const { code, message } = this.#refusal ?? { code: 'NO_IDENTITY', message: 'the node waits or recovers' }
    return { ready: false, code, message }
  }

  readiness(): { readonly ready: boolean; readonly reason: string } {
    const taking = this.ready()
    if (!taking.ready) return { ready: false, reason: `${taking.code}: ${taking.message}` }
    const no = (reason: string) => ({ ready: false, reason })
    const { phase, caughtUp } = nodeStatus(this.#member!)
    if (this.#stopping) return no('the node is leaving')
    if (phase !== 'member') return no(`the node is ${phase}`)
    if (!caughtUp) return no('the node has not caught up since its start')
    if (performance.now() - this.#member!.lastLeaderAt > LEADERLESS_MILLISECONDS) return no('no leader is known')
    return { ready: true, reason: '' }
  }

  facts(): Facts {
    return {
      ...memberFacts(this.#member!, this.#storage!.identity!.cluster, this.#options.config.ports.client),
      version: VERSION,
      uptimeSeconds: Math.floor((performance.now() - this.#startedAt) / 1000),
      connectedClients: this.#resp?.connections ?? 0,
      commandsProcessed: this.#resp?.commandsProcessed ?? 0,
    }
  }

  #figures(): Parameters<typeof createMetrics>[0] extends () => infer Figures ? Figures : never {
    const storage = this.#storage?.status()
    const turn = this.#member?.turn
    return {
      ...memberFigures(this.#member),
      decidedIndex: turn?.decided ?? 0,
      appliedIndex: turn?.machine.applied ?? 0,
      ready: this.readiness().ready,
      keys: turn?.machine.keys ?? 0,
      usedMemoryBytes: turn?.machine.usedMemoryBytes ?? 0,
      connectedClients: this.#resp?.connections ?? 0,
      commandsProcessed: this.#resp?.commandsProcessed ?? 0,
      incomingCommandBytes: this.#resp?.incoming.heldBytes ?? 0,
      unsentReplyBytes: this.#resp?.output.heldBytes ?? 0,
      slowClients: this.#resp?.output.cutOff ?? 0,
      checkpointIndex: this.#storage?.checkpoint?.index ?? 0,
      walBytes: storage?.bytes ?? 0,
      walSegments: storage?.segments ?? 0,
      walFrames: storage?.frames ?? 0,
      walSyncInline: storage?.sync === 'inline',
      walSyncSeconds: (storage?.syncMilliseconds ?? 0) / 1000,
      readOnly: storage?.readOnly ?? false,
      rotFound: storage?.rot.found ?? 0,
      rotOpen: this.#member?.hasOpenRot ?? storage?.rot.open ?? false,
      scrubbedBytes: storage?.rot.verifiedBytes ?? 0,
    }
  }

  // ---- control file --------------------------------------------------------------------------------------------------

  #controlFileSoon(milliseconds = 100): void {
    if (this.#stopped) return
    this.#controlFileTimer ??= setTimeout(() => {
      this.#controlFileTimer = null
      void this.#writeControlFile()
    }, milliseconds)
  }

  /**
   * One after the other: two at once would pull the new file away from under each other. Nothing that matters
   * rests on the file alone, so a full disk is no reason to end: the old one stays, and it is tried again.
   */
  #writeControlFile(): Promise<void> {
    this.#controlFileWritten = this.#controlFileWritten
      .then(() => this.#replaceControlFile())
      .catch((error: Error) => {
        this.#options.log('the control file could not be written', { reason: error.message })
        this.#controlFileSoon(CONTROL_FILE_RETRY_MILLISECONDS)
      })
    return this.#controlFileWritten
  }

  async #replaceControlFile(): Promise<void> {
    const storage = this.#storage
    if (!storage?.identity || !this.#member) return
    const { config } = this.#options
    const { configuration, leader } = this.#member.turn.status
    const peers = (members: readonly MemberOf[], role: 'voter' | 'learner') =>
      members
        .filter((member) => member.id !== storage.identity!.node)
        .map(({ id, address }) => ({ identifier: id, address, role }))
    await replaceControlFile(this.#disk, config.controlFile, {
      clusterId: storage.identity.cluster,
      selfIdentifier: storage.identity.node,
      volumeId: storage.volume,
      configurationId: configuration.id,
      currentLeaderValue: leader ?? 0,
      lastWalTimeline: storage.timeline,
      lastCheckpointId: storage.checkpoint?.index ?? 0,
      walDirectoryPath: config.walDirectory,
      checkpointDirectoryPath: config.checkpointDirectory,
      peers: [...peers(configuration.voters, 'voter'), ...peers(configuration.learners, 'learner')],
    })
  }
}
