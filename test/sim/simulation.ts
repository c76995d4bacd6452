/**
 * A cluster in virtual time, from one seed: nodes, network, disks, clients, an operator that changes the
 * members at random, and a run of faults. Everything that happens follows from the seed.
 *
 * `run(seed)` does it all: faults for a while, then peace, in which the cluster must settle: one leader, every
 * voter at the end of the log, a new proposal decided.
 */
import type { Effect, Event } from '../../src/consensus/events.ts'
import type { Message } from '../../src/consensus/messages.ts'
import { isVoter } from '../../src/consensus/quorum.ts'
import { type Options, acceptsCheckpoint, acceptsProposals, isLeader, statusOf } from '../../src/consensus/replica.ts'
import {
  type Configuration,
  type Member,
  type NodeId,
  EMPTY_STATE,
  configurationId,
  logIndex,
  nodeId,
  volumeId,
} from '../../src/vocabulary.ts'
import { Checker, Violation } from './checker.ts'
import { type Checkpoint, DurableLog } from './durable-log.ts'
import { Network, type NetworkOptions, chooseCut } from './network.ts'
import { type Host, SimNode } from './node.ts'
import { Random } from './random.ts'
import { Schedule } from './schedule.ts'

export interface Plan {
  readonly seed: number
  readonly nodes: number
  readonly founders: number
  readonly faultMilliseconds: number
  readonly network: NetworkOptions
  readonly syncMilliseconds: number
  /** Faults a second of virtual time, each. */
  readonly rates: Readonly<Record<Fault, number>>
  /** Chance that the end of a node or of a link shows as a closed connection; nodes are also told of what is not so. */
  readonly closedChance: number
  /** Connections a second that close without a reason, and are made anew. */
  readonly blipRate: number
  readonly options: Partial<Options>
}

export type Fault = 'crash' | 'partition' | 'pause' | 'reconfigure' | 'transfer' | 'checkpoint' | 'rot' | 'crashAll'

const TICK_MILLISECONDS = 10
const ELECTION_MILLISECONDS = 100
/** Long, because some seeds let a learner fetch a thousand entries two by two. */
const SETTLE_MILLISECONDS = 300 * ELECTION_MILLISECONDS
const TRACE_LINES = 400

export const member = (id: number): Member => ({
  id: nodeId(id),
  volume: volumeId(String(id).padStart(32, '0')),
  address: `node-${id}:7400`,
})

/** What a seed means. */
export function planOf(seed: number): Plan {
  const random = new Random(seed)
  const level = (most: number): number => (random.chance(0.35) ? 0 : random.next() * most)
  const connections = new Random(seed ^ 0xc105ed)
  return {
    seed,
    nodes: random.integer(3, 7),
    founders: random.integer(1, 5),
    faultMilliseconds: 4000,
    network: {
      stream: random.chance(0.5),
      lossChance: level(0.1),
      doubleChance: level(0.1),
      delayMilliseconds: 1 + random.next() * 15,
      slowChance: level(0.05),
    },
    closedChance: connections.pick([0, 0.5, 1])!,
    blipRate: connections.pick([0, 2, 20])!,
    syncMilliseconds: 0.5 + random.next() * 10,
    rates: {
      crash: level(4),
      partition: level(4),
      pause: level(2),
      reconfigure: level(4),
      transfer: level(2),
      checkpoint: level(6),
      rot: level(1),
      crashAll: level(0.3),
    },
    options: {
      electionTimeoutMilliseconds: ELECTION_MILLISECONDS,
      resendMilliseconds: 30,
      maxBatchBytes: random.pick([100, 1000, 100_000])!,
      maxInFlightBytes: random.pick([200, 5000, 100_000])!,
      maxUndecidedBytes: 20_000,
      keepEntriesBytes: random.pick([0, 300, 10_000])!,
      reconfigurationLagEntries: random.pick([0, 5, 50])!,
      fetchSegmentEntries: random.pick([3, 20, 200])!,
    },
  }
}

export class Simulation implements Host {
  readonly plan: Plan
  readonly random: Random
  /** Of what the nodes are told about their connections. */
  readonly #connections: Random
  readonly schedule = new Schedule()
  readonly network: Network
  readonly nodes = new Map<NodeId, SimNode>()
  readonly checker: Checker
  operations = 0
  steps = 0
  #trace: (() => string)[] = []
  #pausedUntil = new Map<NodeId, number>()
  #waiting = new Map<NodeId, (() => void)[]>()
  #nextPayload = 1
  #nextRead = 1
  #peace = false
  #gone = new Set<NodeId>()

  constructor(plan: Plan) {
    this.plan = plan
    this.random = new Random(plan.seed ^ 0x5eed)
    this.#connections = new Random(plan.seed ^ 0xb11b)
    this.network = new Network(plan.network, this.random)
    const founders = Array.from({ length: Math.min(plan.founders, plan.nodes) }, (_, at) => member(at + 1))
    const genesis = { id: configurationId(1), voters: founders, learners: [], preferredLeader: nodeId(0) }
    this.checker = new Checker(genesis)
    for (const founder of founders) this.#add(founder.id, genesis)
  }

  // ---- the host of the nodes ----

  send(node: SimNode, to: NodeId, message: Message): void {
    const { schedule } = this
    const arrivals = this.network.arrivals(node.id, to, schedule.now)
    this.#note(() => `${node.id} -> ${to} ${describe(message)}${arrivals.length === 0 ? ' LOST' : ''}`)
    for (const at of arrivals) {
      schedule.at(at, () => this.#deliver(to, { kind: 'message', now: 0, from: node.id, message }))
    }
  }

  syncing(node: SimNode): void {
    const incarnation = node.incarnation
    const milliseconds = this.plan.syncMilliseconds * (this.random.chance(0.02) ? 20 : this.random.next())
    this.schedule.after(milliseconds, () => {
      this.#when(node.id, () => node.synced(incarnation, this.schedule.now))
    })
  }

  effect(node: SimNode, effect: Exclude<Effect, { readonly kind: 'persist' | 'send' }>): void {
    this.#note(() => `${node.id} ${describe(effect)}`)
    switch (effect.kind) {
      case 'decided':
        this.checker.applies(node, effect.index, [...this.nodes.values()])
        node.applied = effect.index
        return
      case 'became-leader':
        return this.checker.leads(node, effect.ballot)
      case 'read-ready':
        return this.checker.reads(node, effect.id, effect.index)
      case 'need-checkpoint':
        return this.#fetchCheckpoint(node, effect.index, effect.from)
      case 'read-failed':
      case 'leader-changed':
      case 'configuration-changed':
        return
    }
  }

  // ---- nodes ----

  #add(id: NodeId, configuration: Configuration): SimNode {
    const node = new SimNode(id, new DurableLog({ ...EMPTY_STATE, configuration }), this, this.plan.options)
    this.nodes.set(id, node)
    node.start(this.schedule.now)
    this.#tick(node, node.incarnation)
    return node
  }

  #tick(node: SimNode, incarnation: number): void {
    this.schedule.after(TICK_MILLISECONDS * (0.5 + this.random.next()), () => {
      if (node.incarnation !== incarnation || !node.up) return
      this.#when(node.id, () => this.step(node, { kind: 'tick', now: this.schedule.now }))
      this.#tick(node, incarnation)
    })
  }

  step(node: SimNode, event: Event): void {
    this.steps++
    node.step({ ...event, now: this.schedule.now })
  }

  #deliver(to: NodeId, event: Event): void {
    this.#when(to, () => {
      const node = this.nodes.get(to)
      if (node?.up) this.step(node, event)
    })
  }

  /** A paused node does everything later, in order. */
  #when(id: NodeId, act: () => void): void {
    if ((this.#pausedUntil.get(id) ?? 0) <= this.schedule.now) return act()
    const waiting = this.#waiting.get(id) ?? []
    waiting.push(act)
    this.#waiting.set(id, waiting)
  }

  #crash(node: SimNode): void {
    if (!node.up) return
    const kept = this.random.integer(0, node.disk.unsynced)
    this.#note(() => `${node.id} CRASH keeps ${kept} of ${node.disk.unsynced} pieces`)
    node.crash(kept)
    for (const other of this.nodes.keys()) this.#close(other, node.id)
  }

  /** `a` may learn that its connection to `b` was closed. */
  #close(a: NodeId, b: NodeId): void {
    if (a === b || !this.#connections.chance(this.plan.closedChance)) return
    const shows = this.network.closes(b, a, this.schedule.now)
    this.schedule.at(shows + this.#connections.next() * 5, () => {
      this.#deliver(a, { kind: 'disconnected', now: 0, peer: b })
    })
  }

  /** A connection closes at one end or both, without a reason, and is made anew. */
  #blip(): void {
    const { plan } = this
    const rate = plan.blipRate
    if (rate === 0 || this.#peace) return
    this.schedule.after((this.#connections.next() * 2000) / rate, () => {
      const [a, b] = this.#connections.shuffle([...this.nodes.keys()])
      if (a !== undefined && b !== undefined && !this.#peace) {
        this.#note(() => `BLIP ${a}-${b}`)
        this.#deliver(a, { kind: 'disconnected', now: 0, peer: b })
        if (this.#connections.chance(0.5)) this.#deliver(b, { kind: 'disconnected', now: 0, peer: a })
        this.schedule.after(this.#connections.next() * 30, () => this.#reconnect(a, b))
      }
      this.#blip()
    })
  }

  #restart(node: SimNode): void {
    if (node.up || this.#gone.has(node.id)) return
    this.#note(() => `${node.id} START`)
    node.start(this.schedule.now)
    if (node.disk.doubtfulFrom !== null) node.saidPromise = node.replica!.promise
    this.#tick(node, node.incarnation)
    for (const other of this.nodes.values()) if (other.up && other !== node) this.#reconnect(node.id, other.id)
  }

  #reconnect(a: NodeId, b: NodeId): void {
    if (!this.plan.network.stream) return
    this.#deliver(a, { kind: 'reconnected', now: 0, peer: b })
    this.#deliver(b, { kind: 'reconnected', now: 0, peer: a })
  }

  #fetchCheckpoint(node: SimNode, index: number, from: readonly NodeId[]): void {
    const incarnation = node.incarnation
    this.schedule.after(5 + this.random.next() * 50, () => {
      if (node.incarnation !== incarnation || !node.up) return
      for (const id of from) {
        const source = this.nodes.get(id)
        if (!source?.up || this.network.isBlocked(id, node.id)) continue
        if ((source.disk.checkpoint?.index ?? 0) < index && source.applied >= index) this.#checkpoint(source)
        const checkpoint = source.disk.checkpoint
        if (checkpoint === null || checkpoint.index < index) continue
        return this.#install(node, checkpoint)
      }
    })
  }

  #install(node: SimNode, checkpoint: Checkpoint): void {
    const { index, configuration, start } = checkpoint
    if (!acceptsCheckpoint(node.replica!, index, configuration)) return
    this.#note(() => `${node.id} installs the checkpoint of ${index}`)
    node.applied = index
    this.step(node, { kind: 'checkpoint-installed', now: 0, index, configuration, start })
  }

  #checkpoint(node: SimNode): void {
    const { applied } = node
    if (applied <= (node.disk.checkpoint?.index ?? 0) || node.disk.image.log.first > applied) return
    const since = this.checker.configurations.findLast((one) => one.start <= applied)!
    const checkpoint = { index: logIndex(applied), configuration: since.configuration, start: logIndex(since.start) }
    node.disk.truncateHead(checkpoint)
    this.#note(() => `${node.id} checkpoint at ${applied}`)
    this.step(node, { kind: 'trim', now: 0, index: checkpoint.index })
  }

  // ---- clients and the operator ----

  #leaders(): SimNode[] {
    return [...this.nodes.values()].filter((node) => node.up && isLeader(node.replica!))
  }

  #client(): void {
    if (!this.#peace) this.schedule.after(this.random.next() * 12, () => this.#client())
    for (const node of this.#leaders()) {
      this.#when(node.id, () => this.#work(node))
    }
  }

  #work(node: SimNode): void {
    if (!node.up || !isLeader(node.replica!)) return
    if (this.random.chance(0.6)) return this.propose(node)
    const id = this.#nextRead++
    this.checker.asks(node, id)
    this.operations++
    this.step(node, { kind: 'read', now: 0, id })
  }

  propose(node: SimNode): void {
    if (!acceptsProposals(node.replica!)) return
    const payload = Buffer.alloc(8 + this.random.integer(0, 60))
    payload.writeUInt32LE(this.#nextPayload++)
    this.operations++
    this.step(node, { kind: 'propose', now: 0, payload })
  }

  /** Any set after any set, new nodes joining first. */
  #reconfigure(): void {
    const leader = this.random.pick(this.#leaders())
    if (leader === undefined) return
    const configuration = leader.replica!.configuration
    const ids = this.random
      .shuffle(Array.from({ length: this.plan.nodes }, (_, at) => nodeId(at + 1)))
      .filter((id) => !this.#gone.has(id))
      .slice(0, this.random.integer(1, 5))
    if (ids.length === 0) return
    for (const id of ids) if (!this.nodes.has(id)) this.#add(id, configuration)
    const next: Configuration = {
      id: configurationId(configuration.id + 1),
      voters: ids.map(member),
      learners: [],
      preferredLeader: this.random.chance(0.5) ? ids[0]! : nodeId(0),
    }
    this.#note(() => `operator: ${next.id} = {${ids.join(' ')}} preferred ${next.preferredLeader}`)
    this.step(leader, { kind: 'reconfigure', now: 0, next })
    if (this.random.chance(0.2)) {
      this.schedule.after(this.random.next() * 200, () => this.step(leader, { kind: 'withdraw', now: 0 }))
    }
  }

  /** What the operator may do once the configuration is complete: nodes outside of it are gone for good. */
  #remove(): void {
    for (const node of this.nodes.values()) {
      if (!node.up || this.#gone.has(node.id)) continue
      const status = statusOf(node.replica!)
      if (status.phase !== 'member' || !status.configurationComplete || status.configuration.id === 1) continue
      for (const other of this.nodes.values()) {
        const later = this.checker.configurations.slice(status.configuration.id - 1)
        if (later.some((one) => isVoter(one.configuration, other.id)) || this.#gone.has(other.id)) continue
        if (this.#isWanted(other.id) || this.#gone.size >= 2 || !this.random.chance(0.3)) continue
        this.#note(() => `operator: node ${other.id} is deleted`)
        if (other.up) other.crash(0)
        this.#gone.add(other.id)
      }
      return
    }
  }

  /** A change that names the node is under way, proposed or not. */
  #isWanted(id: NodeId): boolean {
    return [...this.nodes.values()].some((node) => {
      if (node.replica === null) return true
      const { reconfiguration } = statusOf(node.replica)
      return reconfiguration !== null && reconfiguration.voters.includes(id)
    })
  }

  // ---- faults ----

  #fault(fault: Fault): void {
    const rate = this.plan.rates[fault]
    if (rate === 0) return
    this.schedule.after((this.random.next() * 2000) / rate, () => {
      if (this.#peace) return
      this.#inflict(fault)
      this.#fault(fault)
    })
  }

  #inflict(fault: Fault): void {
    const { random } = this
    const node = random.pick([...this.nodes.values()].filter((one) => !this.#gone.has(one.id)))!
    switch (fault) {
      case 'crash':
        this.#crash(node)
        this.schedule.after(random.next() * 400, () => this.#restart(node))
        return
      case 'crashAll':
        for (const one of this.nodes.values()) {
          this.#crash(one)
          this.schedule.after(random.next() * 400, () => this.#restart(one))
        }
        return
      case 'partition':
        return this.#partition()
      case 'pause':
        return this.#pause(node, random.next() * 500)
      case 'reconfigure':
        this.#remove()
        return this.#reconfigure()
      case 'transfer': {
        const leader = random.pick(this.#leaders())
        const to = leader && random.pick(leader.replica!.configuration.voters)
        if (leader && to) this.step(leader, { kind: 'transfer', now: 0, to: to.id })
        return
      }
      case 'checkpoint':
        if (node.up) this.#checkpoint(node)
        return
      case 'rot':
        if (this.checker.damaged) return
        this.#crash(node)
        if (node.disk.rot(random.integer(1, 10))) {
          this.checker.damaged = true
          this.#note(() => `${node.id} ROT from ${node.disk.doubtfulFrom}`)
        }
        this.schedule.after(random.next() * 400, () => this.#restart(node))
    }
  }

  #partition(): void {
    const { random } = this
    const links = chooseCut(random, [...this.nodes.keys()])
    this.#note(() => `CUT ${links.map(([from, to]) => `${from}>${to}`).join(' ')}`)
    for (const [from, to] of links) this.network.block(from, to)
    for (const [from, to] of links) this.#close(to, from)
    this.schedule.after(random.next() * 800, () => {
      this.#note(() => `MEND ${links.map(([from, to]) => `${from}>${to}`).join(' ')}`)
      for (const [from, to] of links) this.network.unblock(from, to)
      for (const [from, to] of links) this.#reconnect(from, to)
    })
  }

  #pause(node: SimNode, milliseconds: number): void {
    const until = this.schedule.now + milliseconds
    if ((this.#pausedUntil.get(node.id) ?? 0) >= until) return
    this.#note(() => `${node.id} PAUSE ${milliseconds.toFixed(0)} ms`)
    this.#pausedUntil.set(node.id, until)
    this.schedule.at(until, () => this.#resume(node.id))
  }

  #resume(id: NodeId): void {
    if ((this.#pausedUntil.get(id) ?? 0) > this.schedule.now) return
    const waiting = this.#waiting.get(id) ?? []
    this.#waiting.delete(id)
    for (const act of waiting) act()
  }

  // ---- the run ----

  run(): void {
    for (let count = 0; count < 3; count++) this.#client()
    for (const fault of Object.keys(this.plan.rates) as Fault[]) this.#fault(fault)
    this.#blip()
    this.#until(this.plan.faultMilliseconds)
    this.#makePeace()
    this.#settle()
  }

  // ---- for tests that choose the faults themselves ----

  /** Virtual time passes. */
  advance(milliseconds: number): void {
    this.#until(this.schedule.now + milliseconds)
  }

  /** The process of a node ends; the others may see it by their connections (`closedChance`). */
  kill(node: SimNode): void {
    this.#crash(node)
  }

  /** The connection of two nodes closes at both ends, and is made anew after a while; nothing passes between. */
  blip(a: NodeId, b: NodeId, milliseconds: number): void {
    this.#deliver(a, { kind: 'disconnected', now: 0, peer: b })
    this.#deliver(b, { kind: 'disconnected', now: 0, peer: a })
    this.network.block(a, b)
    this.network.block(b, a)
    this.schedule.after(milliseconds, () => {
      this.network.unblock(a, b)
      this.network.unblock(b, a)
      this.#reconnect(a, b)
    })
  }

  get leaders(): readonly SimNode[] {
    return this.#leaders()
  }

  #until(time: number): void {
    const reached = { yet: false }
    this.schedule.at(time, () => {
      reached.yet = true
    })
    while (!reached.yet && this.schedule.next());
  }

  #makePeace(): void {
    this.#note(() => 'PEACE')
    this.#peace = true
    this.network.heal()
    this.network.options = { ...this.network.options, lossChance: 0, doubleChance: 0, slowChance: 0 }
    for (const node of this.nodes.values()) {
      this.#pausedUntil.delete(node.id)
      this.#resume(node.id)
      this.#restart(node)
    }
    for (const a of this.nodes.keys()) for (const b of this.nodes.keys()) if (a < b) this.#reconnect(a, b)
  }

  /** In peace: one leader, everything decided everywhere, and something new gets decided. */
  #settle(): void {
    const bound = this.schedule.now + SETTLE_MILLISECONDS
    let asked = -1
    while (this.schedule.now < bound) {
      this.#until(this.schedule.now + ELECTION_MILLISECONDS / 2)
      const { configuration, decided } = this.checker
      const voters = configuration.voters.map(({ id }) => this.nodes.get(id)!)
      // The storage of the only voter is damaged: it must not go on, and a person has to decide.
      if (voters.length === 1 && voters[0]!.replica!.doubtfulFrom !== null) return
      const leader = voters.find((node) => isLeader(node.replica!))
      if (leader === undefined || statusOf(leader.replica!).configuration.id !== configuration.id) continue
      const missing = asked < 0 ? acceptsProposals(leader.replica!) : decided.length === asked
      if (missing) {
        asked = decided.length
        this.propose(leader)
      }
      const settled = voters.every((node) => node.applied === decided.length && isSettled(node))
      if (asked >= 0 && decided.length > asked && settled) return
    }
    throw new Violation(`settles: not within ${SETTLE_MILLISECONDS / ELECTION_MILLISECONDS} election timeouts of peace`)
  }

  // ---- the trace ----

  #note(line: () => string): void {
    const { now } = this.schedule
    this.#trace.push(() => `${now.toFixed(1).padStart(9)}  ${line()}`)
    if (this.#trace.length > 2 * TRACE_LINES) this.#trace.splice(0, TRACE_LINES)
  }

  trace(lines: number): string {
    return this.#trace
      .slice(-lines)
      .map((line) => line())
      .join('\n')
  }

  /** Where each node stands, for the end of a trace. */
  picture(): string {
    return [...this.nodes.values()].map((node) => `node ${node.id}: ${pictureOf(node)}`).join('\n')
  }
}

const isSettled = (node: SimNode): boolean => {
  const status = statusOf(node.replica!)
  // Nobody waits: every read was answered or refused.
  const waits = node.replica!.reads.length > 0
  return status.leader !== null && status.caughtUp && status.reconfiguration === null && !waits
}

function pictureOf(node: SimNode): string {
  if (node.replica === null) return 'down'
  const { replica } = node
  const { configuration, fetch, leadership } = replica
  const parts = [
    `configuration ${configuration.id} {${configuration.voters.map((one) => one.id).join(' ')}}`,
    `${replica.phase}${leadership ? ` (${leadership.phase})` : ''}${replica.removed ? ' removed' : ''}`,
    `promise ${describeBallot(replica.promise)} accepted ${describeBallot(replica.acceptedBallot)}`,
    `log ${replica.log.first}…${replica.log.first + replica.log.entries.length - 1}`,
    `known ${replica.known} decided ${replica.decided} durable ${replica.durable} doubt ${replica.doubtfulFrom}`,
    `fetch goal ${fetch.goal} pending ${[...fetch.pending.keys()].join(' ')} buffered ${[...fetch.buffered.keys()].join(' ')}`,
    `happy ${replica.election.happy} leader ${describeBallot(replica.election.leader)}`,
  ]
  return parts.join('; ')
}

const describeBallot = (ballot: { configuration: number; n: number; node: number }): string =>
  `${ballot.configuration}.${ballot.n}.${ballot.node}`

/** A message or an effect on one line. */
export function describe(what: Message | Effect): string {
  const fields = Object.entries(what).map(([name, value]) => {
    if (name === 'kind') return String(value)
    if (name === 'entries') {
      const entries = value as readonly { index: number; kind: string }[]
      const last = entries.at(-1)
      return last
        ? `entries ${entries[0]!.index}…${last.index}${last.kind === 'stop-sign' ? ' stop-sign' : ''}`
        : 'entries none'
    }
    if (typeof value === 'object' && value !== null && 'n' in value) {
      return `${name} ${describeBallot(value as never)}`
    }
    if (typeof value === 'object' && value !== null && 'voters' in value) {
      const { id, voters } = value as Configuration
      return `${name} ${id} {${voters.map((one) => one.id).join(' ')}}`
    }
    return `${name} ${Array.isArray(value) ? value.join(',') : String(value)}`
  })
  return fields.join(' ')
}

export interface Outcome {
  readonly seed: number
  readonly operations: number
  readonly steps: number
  readonly decided: number
  readonly configurations: number
  readonly violation: { readonly message: string; readonly trace: string } | null
}

/** Runs one seed; a violation of an invariant, or of one inside the core, is part of the outcome. */
export function runSeed(seed: number, traceLines = 60): Outcome {
  const simulation = new Simulation(planOf(seed))
  let violation: Outcome['violation'] = null
  try {
    simulation.run()
  } catch (error) {
    const what = error instanceof Violation ? error.message : ((error as Error).stack ?? String(error))
    violation = { message: what, trace: `${simulation.trace(traceLines)}\n${simulation.picture()}` }
  }
  const { operations, steps, checker } = simulation
  return {
    seed,
    operations,
    steps,
    decided: checker.decided.length,
    configurations: checker.configurations.length,
    violation,
  }
}
