/**
 * The world of a simulation: virtual time, a network, nodes that start, crash, pause and have clocks of their own, and
 * a trace. Everything that happens follows from the seed. What the nodes are (the core alone, or whole nodes) is the
 * business of the two simulations that stand on it: simulation.ts and shell.ts.
 *
 * Where things are done: faults.ts inflicts faults, operator.ts changes the members, checker.ts and the clients say
 * what must hold. A run is `life`: faults for a while, then peace, in which the cluster must settle.
 */
import { isLeader } from '../../src/consensus/replica.ts'
import type { Configuration, Member, NodeId } from '../../src/vocabulary.ts'
import { configurationId, nodeId, volumeId } from '../../src/vocabulary.ts'
import { type CheckedNode, Checker, Violation } from './checker.ts'
import { Faults } from './faults.ts'
import { Network } from './network.ts'
import { Operator } from './operator.ts'
import { ELECTION_MILLISECONDS, type Fault, type WorldPlan, configurationRules } from './plan.ts'
import { Random } from './random.ts'
import { Schedule } from './schedule.ts'
import { type Mark, type Tagged, Trace } from './trace.ts'

export const TICK_MILLISECONDS = 10
/** Both ends see so often that a large message moves. */
const MOVING_MILLISECONDS = 20
/** Long, because some seeds let a learner fetch a thousand entries two by two. */
export const SETTLE_MILLISECONDS = 300 * ELECTION_MILLISECONDS

export interface WorldNode extends CheckedNode {
  readonly up: boolean
  /** Rate of its monotonic clock: 1.02 runs two percent fast. */
  clockRate: number
}

/** What a node sees of its connection to a peer. */
export type Sight = 'disconnected' | 'reconnected' | 'moving'

/** An order of the operator to a leader. */
export type Order =
  | { readonly kind: 'reconfigure'; readonly next: Configuration }
  | { readonly kind: 'withdraw' }
  | { readonly kind: 'transfer'; readonly to: NodeId }

export const volumeOf = (number: number): Member['volume'] => volumeId(String(number).padStart(32, '0'))

export const member = (id: number): Member => ({ id: nodeId(id), volume: volumeOf(id), address: `node-${id}:7400` })

export abstract class World<N extends WorldNode> {
  readonly plan: WorldPlan
  readonly random: Random
  /** Of what the nodes are told about their connections. */
  readonly connections: Random
  /** Of what is large for its link. */
  readonly largeFrames: Random
  readonly schedule = new Schedule()
  readonly network: Network
  readonly nodes = new Map<NodeId, N>()
  readonly checker: Checker
  readonly trace: Trace
  readonly faults: Faults<N>
  readonly operator: Operator<N>
  /** What happened, how often. */
  readonly counts: Record<string, number> = {}
  /** Nodes that were deleted: they never come back. */
  readonly gone = new Set<NodeId>()
  /** A node that does not come back for now. */
  away: NodeId | null = null
  steps = 0
  peace = false
  readonly #pausedUntil = new Map<NodeId, number>()
  readonly #waiting = new Map<NodeId, (() => void)[]>()
  readonly #slowUntil = new Map<NodeId, number>()

  constructor(plan: WorldPlan, traceLimit: number) {
    this.plan = plan
    this.random = new Random(plan.seed ^ 0x5eed)
    this.connections = new Random(plan.seed ^ 0xb11b)
    this.largeFrames = new Random(plan.seed ^ 0x1a46e)
    this.network = new Network(plan.network, this.random)
    this.trace = new Trace(traceLimit)
    this.checker = new Checker(this.genesis())
    this.faults = new Faults(this)
    this.operator = new Operator(this)
  }

  genesis(): Configuration {
    const voters = Array.from({ length: Math.min(this.plan.founders, this.plan.nodes) }, (_, at) => member(at + 1))
    const rules = configurationRules(this.plan, voters.length)
    return { id: configurationId(1), voters, learners: [], preferredLeader: nodeId(0), ...rules }
  }

  // ---- what the two simulations do in their own way ----

  memberOf(id: NodeId): Member {
    return member(id)
  }
  /** Whether a storage that was damaged has everything again, durably. */
  isHealed(_id: NodeId): boolean {
    return false
  }
  /** Nodes that the operator may make members; those that are not there yet come with `bring`. */
  abstract pool(leader: N): readonly NodeId[]
  abstract bring(id: NodeId, configuration: Configuration): void
  abstract start(node: N): void
  /** Ends the process; what was not synced is kept or lost as chance has it. False: there is none. */
  abstract end(node: N): boolean
  /** The connection to a peer was closed, or made anew; a large message to it, or from it, moves. */
  abstract tell(node: N, kind: Sight, peer: NodeId): void
  abstract order(node: N, order: Order): void
  abstract checkpoint(node: N): void
  /** Faults that only one of the simulations knows. */
  abstract inflictMore(fault: Fault, node: N): void
  /** Damages the storage of a node that is down; says what, or null where nothing could be damaged. */
  abstract damage(node: N): string | null
  /** Clients begin. */
  abstract begin(): void
  /** In peace: asks for what must still happen; true when all of it has. */
  abstract isSettled(): boolean
  /** Nobody but a person can help: nothing more is expected of this run. */
  abstract isStuck(): boolean
  /** After it has settled. */
  abstract judge(): Generator<number, void>
  /** More for the message that it does not settle. */
  abstract waits(): string
  abstract pictureOf(node: N): string

  // ---- time, and clocks ----

  get now(): number {
    return this.schedule.now
  }

  monotonic(node: N): number {
    return this.now * node.clockRate
  }

  /** The disk of a node takes long, for a while. */
  slowDisk(node: N, milliseconds: number): void {
    this.note(node.id, 'other', 'SLOW DISK')
    this.#slowUntil.set(node.id, this.now + milliseconds)
  }

  syncMilliseconds(id: NodeId): number {
    const usual = this.plan.syncMilliseconds * (this.random.chance(0.02) ? 20 : this.random.next())
    return (this.#slowUntil.get(id) ?? 0) > this.now ? usual * 30 : usual
  }

  #isPaused(id: NodeId): boolean {
    return (this.#pausedUntil.get(id) ?? 0) > this.now
  }

  /** Done by the node: at once, or when its pause is over, or its turn; everything in order. */
  when(id: NodeId, act: () => void): void {
    if (!this.#isPaused(id)) return act()
    const waiting = this.#waiting.get(id) ?? []
    waiting.push(act)
    this.#waiting.set(id, waiting)
  }

  pause(node: N, milliseconds: number): void {
    if (!this.occupy(node, milliseconds)) return
    this.note(node.id, 'pause', `PAUSE ${milliseconds.toFixed(0)} ms`)
    this.schedule.after(milliseconds, () => {
      if (!this.#isPaused(node.id)) this.note(node.id, 'resume', 'RESUME')
    })
  }

  /** The node does nothing else for so long: what comes waits. False: it is occupied for longer already. */
  occupy(node: N, milliseconds: number): boolean {
    const until = this.now + milliseconds
    if ((this.#pausedUntil.get(node.id) ?? 0) >= until) return false
    this.#pausedUntil.set(node.id, until)
    this.schedule.at(until, () => this.#resume(node.id))
    return true
  }

  /** Does what has waited, until that occupies the node again. */
  #resume(id: NodeId): void {
    const waiting = this.#waiting.get(id) ?? []
    let done = 0
    while (done < waiting.length && !this.#isPaused(id)) waiting[done++]!()
    waiting.splice(0, done)
  }

  // ---- nodes ----

  get upNodes(): N[] {
    return [...this.nodes.values()].filter((node) => node.up)
  }

  get leaders(): N[] {
    return this.upNodes.filter((node) => isLeader(node.replica!))
  }

  crash(node: N): void {
    if (!this.end(node)) return
    this.count('crashes')
    for (const other of this.nodes.keys()) this.close(other, node.id)
  }

  restart(node: N): void {
    if (node.up || this.gone.has(node.id) || this.away === node.id) return
    this.start(node)
  }

  // ---- connections ----

  /** A message leaves; it arrives once, twice, late, or never. */
  transmit(from: NodeId, to: NodeId, message: Tagged, deliver: (target: N) => void): void {
    const arrives = this.network.arrivals(from, to, this.now)
    this.trace.add({ kind: 'message', at: this.now, from, to, message, arrives })
    for (const at of arrives) {
      this.schedule.at(at, () => {
        this.when(to, () => {
          const target = this.nodes.get(to)
          if (target?.up) deliver(target)
        })
      })
    }
  }

  #tell(id: NodeId, kind: Sight, peer: NodeId): void {
    this.when(id, () => {
      const node = this.nodes.get(id)
      if (node?.up) this.tell(node, kind, peer)
    })
  }

  disconnect(a: NodeId, b: NodeId): void {
    this.#tell(a, 'disconnected', b)
  }

  /** `a` may learn that its connection to `b` was closed. */
  close(a: NodeId, b: NodeId): void {
    if (a === b || !this.connections.chance(this.plan.closedChance)) return
    const shows = this.network.closes(b, a, this.now)
    this.schedule.at(shows + this.connections.next() * 5, () => this.disconnect(a, b))
  }

  reconnect(a: NodeId, b: NodeId): void {
    if (!this.plan.network.stream) return
    this.#tell(a, 'reconnected', b)
    this.#tell(b, 'reconnected', a)
  }

  /** A frame that is large for its link leaves: what is sent behind it waits, and both ends see that it moves. */
  sendLarge(from: NodeId, to: NodeId, milliseconds: number): void {
    const until = this.now + milliseconds
    const ends = [this.nodes.get(from)!, this.nodes.get(to)!] as const
    const starts = ends.map(({ incarnation }) => incarnation)
    this.say(`LARGE ${from}>${to} ${milliseconds.toFixed(0)} ms`)
    this.count('large frames')
    this.network.occupy(from, to, until)
    const move = (): void => {
      const isThere = ends.every((node, at) => node.up && node.incarnation === starts[at])
      // A link that is dead in one direction moves nothing, and nothing comes over it either.
      const moves = isThere && !this.network.isBlocked(from, to) && !this.network.isBlocked(to, from)
      if (this.peace || !moves || this.now >= until) return this.network.release(from, to)
      this.#tell(from, 'moving', to)
      this.#tell(to, 'moving', from)
      this.schedule.after(MOVING_MILLISECONDS, move)
    }
    move()
  }

  reconnectToAll(id: NodeId): void {
    for (const other of this.nodes.values()) if (other.up && other.id !== id) this.reconnect(id, other.id)
  }

  // ---- the run ----

  /** The run: faults, peace, the end; each time it gives is one up to which the world must go on. */
  *life(): Generator<number, void> {
    this.begin()
    this.faults.begin()
    yield this.plan.faultMilliseconds
    this.makePeace()
    if (yield* this.#settle()) yield* this.judge()
  }

  /** Until everybody has everything, or a person has to help: false. */
  *#settle(): Generator<number, boolean> {
    const bound = this.now + SETTLE_MILLISECONDS
    while (this.now < bound) {
      yield this.now + ELECTION_MILLISECONDS / 4
      if (this.isStuck()) {
        this.count('left to a person')
        return false
      }
      if (this.isSettled()) return true
    }
    const timeouts = SETTLE_MILLISECONDS / ELECTION_MILLISECONDS
    throw new Violation(`settles: not within ${timeouts} election timeouts of peace${this.waits()}`)
  }

  /** Goes on until all of `done` has come true, in peace. */
  *expectSoon(done: () => boolean): Generator<number, void> {
    const bound = this.now + SETTLE_MILLISECONDS
    while (!done()) {
      if (this.now >= bound) throw new Violation(`settles: not in the end${this.waits()}`)
      yield this.now + ELECTION_MILLISECONDS / 4
    }
  }

  makePeace(): void {
    this.say('PEACE')
    this.peace = true
    this.#slowUntil.clear()
    this.network.heal()
    this.network.options = { ...this.network.options, lossChance: 0, doubleChance: 0, slowChance: 0 }
    for (const node of this.nodes.values()) {
      this.#pausedUntil.delete(node.id)
      this.#resume(node.id)
      this.restart(node)
    }
    for (const a of this.nodes.keys()) for (const b of this.nodes.keys()) if (a < b) this.reconnect(a, b)
  }

  // ---- for people ----

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1
  }

  /** Something at a node. */
  note(node: NodeId, mark: Mark, what: string | (() => string)): void {
    this.trace.add({ kind: 'node', at: this.now, node, mark, what })
  }

  /** Something in the world. */
  say(what: string | (() => string)): void {
    this.trace.add({ kind: 'world', at: this.now, what })
  }

  /** The last lines of the trace, and where each node stands after them. */
  ending(lines: number): string {
    const nodes = [...this.nodes.values()].map((node) => `node ${node.id}: ${this.pictureOf(node)}`)
    return [this.trace.text(lines), ...nodes].join('\n')
  }
}
