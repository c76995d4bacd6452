/**
 * The world of the sweep of starts (starts.ts): the node with the real storage, its healthy peers, a network, clients and
 * an operator that change things now and then, the checkpoints that nodes give each other. Everything follows from the seed.
 */
import './inline-zstd.ts'
import { lastIndex, slice } from '../../src/consensus/log.ts'
import type { Effect } from '../../src/consensus/events.ts'
import type { Message } from '../../src/consensus/messages.ts'
import {
  type Options,
  acceptsCheckpoint,
  acceptsProposals,
  entriesBetween,
  isLeader,
  statusOf,
} from '../../src/consensus/replica.ts'
import type { LokiError } from '../../src/errors.ts'
import type { RelayMessage } from '../../src/turn/relay-messages.ts'
import {
  type Configuration,
  type LogIndex,
  type LogRecord,
  type NodeId,
  EMPTY_STATE,
  configurationId,
  logIndex,
  nodeId,
} from '../../src/vocabulary.ts'
import { Checker } from './checker.ts'
import { type Checkpoint, DurableLog } from './durable-log.ts'
import { Network } from './network.ts'
import { SimNode } from './node.ts'
import { Random } from './random.ts'
import { Schedule } from './schedule.ts'
import { Settling } from './settling.ts'
import { Stirring } from './stirring.ts'
import { filesOf } from './start-files.ts'
import { StartNode, type StartHost } from './start-node.ts'
import { Trace, describe, describeBallot, describeRecords } from './trace.ts'
import { member, volumeOf } from './world.ts'

export const ELECTION_MILLISECONDS = 60
const TICK_MILLISECONDS = 10
const TRACE_LINES = 3000
const ENTRIES_MOST = 150
/** The node whose starts these are. */
export const SELF = nodeId(1)

type Shown = Exclude<Effect, { readonly kind: 'persist' | 'send' }>

export abstract class StartWorld implements StartHost {
  readonly random: Random
  readonly schedule = new Schedule()
  readonly network: Network
  readonly trace = new Trace(TRACE_LINES)
  readonly checker: Checker
  readonly nodes = new Map<NodeId, SimNode>()
  readonly counts: Record<string, number> = {}
  readonly #options: Partial<Options>
  readonly settling: Settling<SimNode>
  readonly #segmentBytes: number
  readonly #writesBlocks: boolean
  readonly damageChance: number
  readonly #checkpointChance: number
  readonly #changeChance: number
  subject: StartNode | null = null
  damaged: NodeId | null = null
  peace = false
  readonly #stirring = new Stirring(this.schedule)
  #nextPayload = 1
  /** A peer that does not come back. */
  away: NodeId | null = null

  constructor(seed: number) {
    const random = new Random(seed ^ 0x57a275)
    this.random = random
    const delayMilliseconds = random.pick([1, 8, 25])!
    this.network = new Network(
      { stream: random.chance(0.7), lossChance: 0, doubleChance: 0.05, delayMilliseconds, slowChance: 0.01 },
      random,
    )
    this.#options = {
      electionTimeoutMilliseconds: ELECTION_MILLISECONDS,
      resendMilliseconds: 20,
      maxBatchBytes: random.pick([100, 1000, 1 << 20])!,
      keepEntriesBytes: random.pick([0, 0, 300, 1 << 20])!,
      readsLog: random.chance(0.5),
      fetchSegmentEntries: random.pick([2, 16, 512])!,
      reconfigurationLagEntries: random.pick([0, 4, 256])!,
    }
    this.#segmentBytes = random.pick([4096, 4096, 16_384, 1 << 20])!
    this.#writesBlocks = new Random(seed ^ 0xd15c).chance(0.5)
    this.damageChance = random.pick([0, 0.3, 0.6])!
    this.#checkpointChance = random.pick([0, 0.03, 0.1, 0.2])!
    const founders = random.pick([[1, 2], [1, 2], [1, 2, 3], [1, 2, 3], [2], [2, 3]])!
    this.#changeChance = random.pick(founders.includes(SELF) ? [0, 0.01, 0.04] : [0.04, 0.1])!
    const genesis = this.#configurationOf(1, founders, [])
    this.checker = new Checker(genesis)
    this.settling = new Settling<SimNode>(this, (leader) => this.#propose(leader))
  }

  /** The members of the first configuration begin. */
  found(): void {
    const genesis = this.checker.configuration
    for (const { id } of genesis.voters) this.#bring(id, genesis)
  }

  #configurationOf(id: number, voters: readonly number[], learners: readonly number[]): Configuration {
    const preferred = this.random.chance(0.3) ? this.random.pick(voters)! : 0
    return {
      id: configurationId(id),
      voters: voters.map(member),
      learners: learners.map(member),
      preferredLeader: nodeId(preferred),
    }
  }

  // ---- time ------------------------------------------------------------------------------------------------------

  get now(): number {
    return this.schedule.now
  }

  later(node: StartNode, milliseconds: number, act: () => void): void {
    const { life } = node
    this.schedule.after(milliseconds, () => {
      if (life !== node.life) return
      this.stir()
      act()
    })
  }

  stir(): void {
    this.#stirring.stir()
  }

  fail(error: unknown): void {
    this.#stirring.fail(error)
  }

  until(time: number): Promise<void> {
    return this.#stirring.until(time)
  }

  // ---- nodes -----------------------------------------------------------------------------------------------------

  #bring(id: NodeId, configuration: Configuration): void {
    if (this.nodes.has(id)) return
    if (id === SELF) {
      const subject = new StartNode(id, volumeOf(id), configuration, this.#segmentBytes, this.#options, this)
      subject.platter.writesBlocks = this.#writesBlocks
      this.subject = subject
      this.nodes.set(id, subject.core)
      return this.begin()
    }
    const node = new SimNode(id, new DurableLog({ ...EMPTY_STATE, configuration }), this, this.#options)
    this.nodes.set(id, node)
    this.startPeer(node)
  }

  startPeer(node: SimNode): void {
    if (node.up || this.away === node.id) return
    node.start(this.now)
    this.checker.starts(node)
    this.tick(node)
  }

  tick(node: SimNode): void {
    const { incarnation } = node
    this.schedule.after(TICK_MILLISECONDS * (0.5 + this.random.next()), () => {
      if (!node.up || node.incarnation !== incarnation) return
      node.step({ kind: 'tick', now: this.now })
      this.#act(node)
      this.tick(node)
    })
  }

  /** What clients and operators do with a node, now and then. */
  #act(node: SimNode): void {
    const { random } = this
    if (this.peace) return
    if (random.chance(0.3)) this.#propose(node)
    if (random.chance(this.#checkpointChance)) this.#checkpoint(node)
    if (random.chance(this.#changeChance)) this.#change(node)
    if (random.chance(0.01) && isLeader(node.replica!)) {
      const to = random.pick(node.replica!.configuration.voters)!.id
      node.step({ kind: 'transfer', now: this.now, to })
    }
    if (node.id !== SELF && random.chance(0.004)) {
      node.crash(random.integer(0, node.disk.unsynced))
      this.schedule.after(random.next() * 100, () => this.startPeer(node))
    }
  }

  #propose(node: SimNode): void {
    if (node.replica === null || !acceptsProposals(node.replica)) return
    if (!this.peace && this.checker.decided.length > ENTRIES_MOST) return
    const payload = Buffer.alloc(8 + this.random.integer(0, 30) * this.random.pick([1, 1, 1, 40])!)
    payload.writeUInt32LE(this.#nextPayload++)
    node.step({ kind: 'propose', now: this.now, payload })
  }

  #change(node: SimNode): void {
    const { random } = this
    if (!isLeader(node.replica!)) return
    const { configuration } = statusOf(node.replica!)
    const others = random.shuffle([2, 3]).slice(0, random.integer(1, 2))
    const voters = random.chance(0.85) ? [1, ...others] : random.chance(0.2) ? [1] : others
    const learners = [1, 2, 3].filter((id) => !voters.includes(id) && random.chance(0.5))
    for (const id of [...voters, ...learners]) this.#bring(nodeId(id), configuration)
    const next = this.#configurationOf(configuration.id + 1, random.shuffle(voters), learners)
    node.step({ kind: 'reconfigure', now: this.now, next })
  }

  // ---- the host of the nodes -------------------------------------------------------------------------------------

  send(node: SimNode, to: NodeId, message: Message): void {
    if (message.kind === 'promise') this.nodes.get(to)?.promisedBy(message.ballot)
    const from = node.id
    const start = this.nodes.get(to)?.incarnation
    const decided = this.checker.decided.length
    this.#transmit(from, to, message, () => {
      const target = this.nodes.get(to)!
      if (message.kind === 'accept-sync' && target.incarnation !== start) this.checker.excuses(to, decided)
      target.step({ kind: 'message', now: this.now, from, message })
    })
  }

  #transmit(from: NodeId, to: NodeId, message: Message | RelayMessage, deliver: () => void): void {
    const arrives = this.network.arrivals(from, to, this.now)
    this.trace.add({ kind: 'message', at: this.now, from, to, message, arrives })
    for (const at of arrives) {
      this.schedule.at(at, () => {
        if (this.nodes.get(to)?.up) deliver()
      })
    }
  }

  syncing(node: SimNode, records: readonly LogRecord[]): void {
    this.trace.add({ kind: 'node', at: this.now, node: node.id, mark: 'durable', what: () => describeRecords(records) })
    if (node.id === SELF) return this.subject!.persist(records)
    const { incarnation } = node
    this.schedule.after(this.syncMilliseconds(), () => node.synced(incarnation, this.now))
  }

  syncMilliseconds(): number {
    return this.random.next() * 4
  }

  effect(node: SimNode, effect: Shown): void {
    this.note(node.id, () => describe(effect))
    switch (effect.kind) {
      case 'decided':
        return this.#decided(node, effect.index)
      case 'became-leader':
        return this.checker.leads(node, effect.ballot)
      case 'read-log':
        return this.#readLog(node, effect)
      case 'need-checkpoint':
        if (node.id === SELF) this.subject!.fetch(effect.index, effect.from)
        else this.#fetch(node, effect)
        return
      case 'configuration-changed':
        return this.checker.completes(node)
      case 'leader-changed':
        return this.checker.catchesUp(node)
      default:
    }
  }

  #decided(node: SimNode, index: LogIndex): void {
    // Of a start: its state may be that of a checkpoint beyond.
    if (index > node.applied) {
      const entries = entriesBetween(node.replica!, logIndex(node.applied + 1), index)
      this.checker.decides(node, index, [...this.nodes.values()])
      if (node.id === SELF) this.subject!.applies(index, entries)
      else node.applied = index
    }
    this.checker.completes(node)
    this.checker.catchesUp(node)
    if (this.#options.readsLog && this.random.chance(0.2)) {
      const { incarnation } = node
      this.schedule.after(0, () => {
        if (node.up && node.incarnation === incarnation) node.step({ kind: 'trim', now: this.now, index })
      })
    }
  }

  #readLog(node: SimNode, { to, from, upTo }: Extract<Effect, { readonly kind: 'read-log' }>): void {
    if (node.id === SELF) return this.subject!.readLog(to, from, upTo)
    const { incarnation } = node
    const { first, image } = node.disk
    const entries = from < first ? [] : slice(image.log, from, upTo, 300)
    this.schedule.after(this.random.next() * 5, () => {
      if (!node.up || node.incarnation !== incarnation) return
      node.step({ kind: 'log-read', now: this.now, to, from, entries, first })
    })
  }

  // ---- checkpoints -----------------------------------------------------------------------------------------------

  #checkpoint(node: SimNode): void {
    if (node.id === SELF) return this.subject!.checkpoint()
    const { applied, disk } = node
    const { log } = disk.image
    const isInLog = log.first <= applied && lastIndex(log) >= applied
    if (applied <= (disk.checkpoint?.index ?? 0) || !isInLog) return
    const since = this.checker.configurations.findLast((one) => one.start <= applied)!
    const checkpoint = { index: logIndex(applied), configuration: since.configuration, start: logIndex(since.start) }
    disk.truncateHead(checkpoint)
    this.note(node.id, `checkpoint at ${applied}`)
    node.step({ kind: 'trim', now: this.now, index: checkpoint.index })
  }

  /** A healthy node fetches one. */
  #fetch(node: SimNode, { index, from }: Extract<Effect, { readonly kind: 'need-checkpoint' }>): void {
    const { incarnation } = node
    this.schedule.after(5 + this.random.next() * 20, () => {
      if (!node.up || node.incarnation !== incarnation) return
      for (const id of from) {
        const checkpoint = this.#offer(id, node.id, index)
        if (checkpoint === null || !acceptsCheckpoint(node.replica!, checkpoint.index, checkpoint.configuration))
          continue
        node.applied = checkpoint.index
        node.disk.checkpoint = checkpoint
        return node.step({ ...checkpoint, kind: 'checkpoint-installed', now: this.now })
      }
    })
  }

  /** What a node has for another one: a checkpoint of `index` at least. */
  #offer(id: NodeId, to: NodeId, index: LogIndex): Checkpoint | null {
    const node = this.nodes.get(id)
    if (!node?.up || this.network.isBlocked(id, to)) return null
    if (id !== SELF && (node.disk.checkpoint?.index ?? 0) < index) this.#checkpoint(node)
    const checkpoint = id === SELF ? (this.subject!.storage?.checkpoint ?? null) : node.disk.checkpoint
    if (checkpoint === null || checkpoint.index < index) return null
    const { configuration, start } = checkpoint
    return { index: checkpoint.index, configuration, start }
  }

  tellPeer(node: StartNode, to: NodeId, message: RelayMessage): void {
    const from = node.core.id
    this.#transmit(from, to, message, () => {
      this.#answer(to, from, message).catch((error: unknown) => this.fail(error))
      this.stir()
    })
  }

  async #answer(id: NodeId, to: NodeId, message: RelayMessage): Promise<void> {
    if (message.kind !== 'fetch-manifest' && message.kind !== 'fetch-chunk') return
    const offer = this.#offer(id, to, message.index)
    let answer: RelayMessage
    if (message.kind === 'fetch-manifest') {
      const files = offer && (await filesOf(offer))
      answer = { kind: 'manifest', index: offer?.index ?? logIndex(0), manifest: files?.manifest ?? Buffer.alloc(0) }
    } else {
      const bytes = offer?.index === message.index ? (await filesOf(offer)).chunk : null
      answer = { kind: 'chunk', index: message.index, chunk: message.chunk, bytes }
    }
    this.#transmit(id, to, answer, () => this.subject!.receive(id, answer))
  }

  // ---- the life of the node: starts.ts ----------------------------------------------------------------------------

  abstract begin(): void
  abstract started(node: StartNode): void
  abstract refused(node: StartNode, error: LokiError): void
  abstract died(node: StartNode, why: string): void

  // ---- for people ------------------------------------------------------------------------------------------------

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1
  }

  say(what: string): void {
    this.note(SELF, what)
  }

  note(node: NodeId, what: string | (() => string)): void {
    this.trace.add({ kind: 'node', at: this.now, node, mark: 'other', what })
  }

  pictureOf({ replica, disk }: SimNode): string {
    if (replica === null) return 'down'
    const { configuration, fetch, leadership } = replica
    return [
      `configuration ${configuration.id} {${configuration.voters.map((one) => one.id).join(' ')}} since ${replica.configurationStart}`,
      `${replica.phase}${leadership ? ` (${leadership.phase})` : ''}${replica.removed ? ' removed' : ''}`,
      `promise ${describeBallot(replica.promise)} accepted ${describeBallot(replica.acceptedBallot)}`,
      `log ${replica.log.first}…${lastIndex(replica.log)} (disk ${disk.first}…)`,
      `known ${replica.known} decided ${replica.decided} (${disk.image.state.decided}) durable ${replica.durable}`,
      `doubt ${replica.doubtfulFrom}${replica.promiseLost ? ' promises lost' : ''} fetch ${fetch.goal}`,
    ].join('; ')
  }

  ending(lines: number): string {
    const nodes = [...this.nodes.values()].map((node) => `node ${node.id}: ${this.pictureOf(node)}`)
    return [this.trace.text(lines), ...nodes].join('\n')
  }
}
