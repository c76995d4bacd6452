/**
 * The consensus core in a world of faults (world.ts): replicas with a model of their disk (durable-log.ts) and the
 * smallest shell (node.ts), clients that propose and read. Everything that happens follows from the seed.
 *
 * `runSeed(seed)` does it all: faults for a while, then peace, in which the cluster must settle: one leader, every
 * member at the end of the log, a new proposal decided. checker.ts looks after every step.
 */
import type { Effect, Event } from '../../src/consensus/events.ts'
import type { Message } from '../../src/consensus/messages.ts'
import { acceptsCheckpoint, acceptsProposals, isLeader } from '../../src/consensus/replica.ts'
import { type Configuration, type LogRecord, type NodeId, EMPTY_STATE, logIndex, nodeId } from '../../src/vocabulary.ts'
import { lastIndex, slice } from '../../src/consensus/log.ts'
import { Violation } from './checker.ts'
import { type Checkpoint, DurableLog } from './durable-log.ts'
import { type Host, SimNode } from './node.ts'
import { type Fault, type WorldPlan as Plan, ELECTION_MILLISECONDS, planOf } from './plan.ts'
import { Random } from './random.ts'
import { Settling, isLeftToAPerson, mayLack } from './settling.ts'
import { describe, describeBallot, describeRecords } from './trace.ts'
import { type Order, type Sight, TICK_MILLISECONDS, World, member } from './world.ts'

export { type Plan, member, planOf }

const TRACE_LINES = 400

export class Simulation extends World<SimNode> implements Host {
  operations = 0
  #nextPayload = 1
  #nextRead = 1
  readonly #settling = new Settling<SimNode>(this, (leader) => this.propose(leader))

  constructor(plan: Plan, traceLimit = TRACE_LINES) {
    super(plan, traceLimit)
    const genesis = this.genesis()
    for (const { id } of genesis.voters) this.bring(id, genesis)
  }

  // ---- the host of the nodes ----

  send(node: SimNode, to: NodeId, message: Message): void {
    const from = node.id
    if (message.kind === 'promise') this.nodes.get(to)?.promisedBy(message.ballot)
    const start = this.nodes.get(to)?.incarnation
    const decided = this.checker.decided.length
    this.transmit(from, to, message, (target) => {
      if (message.kind === 'accept-sync' && target.incarnation !== start) this.checker.excuses(to, decided)
      this.step(target, { kind: 'message', now: 0, from, message })
    })
    if (message.kind === 'promise' || message.kind === 'take-over') this.faults.happens(node)
    if (message.kind === 'accept-sync') this.#targets(node, to)
  }

  /** A leader brings a follower up: bad for either to go now. */
  #targets(node: SimNode, to: NodeId): void {
    const target = this.nodes.get(to)
    this.faults.happens(target?.up ? target : node)
  }

  syncing(node: SimNode, records: readonly LogRecord[]): void {
    const incarnation = node.incarnation
    this.schedule.after(this.syncMilliseconds(node.id), () => {
      this.when(node.id, () => {
        if (node.incarnation !== incarnation || !node.up) return
        this.note(node.id, 'durable', () => describeRecords(records))
        node.synced(incarnation, this.monotonic(node))
      })
    })
  }

  effect(node: SimNode, effect: Exclude<Effect, { readonly kind: 'persist' | 'send' }>): void {
    const mark = effect.kind === 'became-leader' ? 'leads' : effect.kind === 'decided' ? 'decided' : 'other'
    this.note(node.id, mark, () => describe(effect))
    switch (effect.kind) {
      case 'decided':
        this.checker.decides(node, effect.index, [...this.nodes.values()])
        node.applied = effect.index
        this.checker.completes(node)
        this.checker.catchesUp(node)
        return this.#trim(node)
      case 'became-leader':
        this.checker.leads(node, effect.ballot)
        return this.faults.happens(node)
      case 'read-ready':
        return this.checker.reads(node, effect.id, effect.index)
      case 'read-log':
        return this.#readLog(node, effect)
      case 'need-checkpoint':
        return this.#fetchCheckpoint(node, effect.index, effect.from)
      case 'configuration-changed':
        this.checker.completes(node)
        return this.faults.happens(node)
      case 'leader-changed':
        return this.checker.catchesUp(node)
      case 'read-failed':
        return
    }
  }

  // ---- nodes ----

  pool(): readonly NodeId[] {
    return Array.from({ length: this.plan.nodes }, (_, at) => nodeId(at + 1))
  }

  bring(id: NodeId, configuration: Configuration): void {
    if (this.nodes.has(id)) return
    const node = new SimNode(id, new DurableLog({ ...EMPTY_STATE, configuration }), this, this.plan.options)
    this.nodes.set(id, node)
    this.start(node)
  }

  start(node: SimNode): void {
    this.note(node.id, 'start', 'START')
    node.clockRate = 1 + (this.random.integer(-2, 2) / 2) * this.plan.clockRateError
    node.start(this.monotonic(node))
    this.checker.starts(node)
    this.#tick(node, node.incarnation)
    this.reconnectToAll(node.id)
    this.faults.happens(node)
  }

  end(node: SimNode): boolean {
    if (!node.up) return false
    const kept = this.random.integer(0, node.disk.unsynced)
    this.note(node.id, 'crash', `CRASH, keeps ${kept} of ${node.disk.unsynced} pieces`)
    node.crash(kept)
    return true
  }

  #tick(node: SimNode, incarnation: number): void {
    this.schedule.after(TICK_MILLISECONDS * (0.5 + this.random.next()), () => {
      if (node.incarnation !== incarnation || !node.up) return
      this.when(node.id, () => this.step(node, { kind: 'tick', now: 0 }))
      this.#tick(node, incarnation)
    })
  }

  /** Every event carries the time of the node's own clock. */
  step(node: SimNode, event: Event): void {
    this.steps++
    node.step({ ...event, now: this.monotonic(node) })
  }

  tell(node: SimNode, kind: Sight, peer: NodeId): void {
    this.step(node, { kind, now: 0, peer })
  }

  order(node: SimNode, order: Order): void {
    this.when(node.id, () => {
      if (!node.up) return
      this.step(node, { now: 0, ...order })
      if (order.kind === 'withdraw') this.checker.withdraws(node)
    })
  }

  inflictMore(fault: Fault): void {
    throw new Error(`the core has no ${fault}`)
  }

  override isHealed(id: NodeId): boolean {
    const node = this.nodes.get(id)!
    return node.up && node.disk.doubtfulFrom === null
  }

  damage(node: SimNode): string | null {
    return node.disk.rot(this.random) ? `from ${node.disk.doubtfulFrom}` : null
  }

  // ---- what is not in memory any more ----

  /** What is applied may leave memory, where the log is read back. */
  #trim(node: SimNode): void {
    if (!this.plan.options.readsLog || !this.random.chance(0.05)) return
    const { incarnation, applied } = node
    this.schedule.after(0, () => {
      if (node.up && node.incarnation === incarnation)
        this.step(node, { kind: 'trim', now: 0, index: logIndex(applied) })
    })
  }

  #readLog(node: SimNode, { to, from, upTo }: Extract<Effect, { readonly kind: 'read-log' }>): void {
    this.count('reads of the log')
    const { incarnation } = node
    const { first, image } = node.disk
    const entries = from < first ? [] : slice(image.log, from, upTo, this.plan.options.maxBatchBytes ?? Infinity)
    this.schedule.after(this.random.next() * 20, () => {
      if (!node.up || node.incarnation !== incarnation) return
      this.when(node.id, () => this.step(node, { kind: 'log-read', now: 0, to, from, entries, first }))
    })
  }

  // ---- checkpoints ----

  #fetchCheckpoint(node: SimNode, index: number, from: readonly NodeId[]): void {
    const incarnation = node.incarnation
    this.schedule.after(5 + this.random.next() * 50, () => {
      if (node.incarnation !== incarnation || !node.up) return
      for (const id of from) {
        const source = this.nodes.get(id)
        if (!source?.up || this.network.isBlocked(id, node.id)) continue
        if ((source.disk.checkpoint?.index ?? 0) < index && source.applied >= index) this.checkpoint(source)
        const checkpoint = source.disk.checkpoint
        if (checkpoint === null || checkpoint.index < index) continue
        return this.#install(node, checkpoint)
      }
    })
  }

  #install(node: SimNode, checkpoint: Checkpoint): void {
    const { index, configuration, start } = checkpoint
    if (!acceptsCheckpoint(node.replica!, index, configuration)) return
    this.note(node.id, 'other', `installs the checkpoint of ${index}`)
    node.applied = index
    // Durable before the log knows of it; others may ask for it from now on.
    node.disk.checkpoint = checkpoint
    this.step(node, { kind: 'checkpoint-installed', now: 0, index, configuration, start })
    this.faults.happens(node)
  }

  checkpoint(node: SimNode): void {
    const { applied } = node
    const { log } = node.disk.image
    // Of a checkpoint that is being installed there is nothing in the log yet.
    const isInLog = log.first <= applied && lastIndex(log) >= applied
    if (applied <= (node.disk.checkpoint?.index ?? 0) || !isInLog) return
    const since = this.checker.configurations.findLast((one) => one.start <= applied)!
    const checkpoint = { index: logIndex(applied), configuration: since.configuration, start: logIndex(since.start) }
    node.disk.truncateHead(checkpoint)
    this.note(node.id, 'other', `checkpoint at ${applied}`)
    this.step(node, { kind: 'trim', now: 0, index: checkpoint.index })
  }

  // ---- clients ----

  begin(): void {
    for (let count = 0; count < 3; count++) this.#client()
  }

  #client(): void {
    if (!this.peace) this.schedule.after(this.random.next() * 12, () => this.#client())
    for (const node of this.leaders) this.when(node.id, () => this.#work(node))
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

  // ---- the end ----

  run(): void {
    for (const time of this.life()) this.#until(time)
  }

  #until(time: number): void {
    const reached = { yet: false }
    this.schedule.at(time, () => {
      reached.yet = true
    })
    while (!reached.yet && this.schedule.next());
  }

  isStuck(): boolean {
    if (this.now < this.plan.faultMilliseconds + 20 * ELECTION_MILLISECONDS) return false
    return isLeftToAPerson(this, this.faults.damaged)
  }

  isSettled(): boolean {
    // A change under way may need it after all.
    if (this.away !== null && !mayLack(this, this.away, this.gone)) this.#leaves(null)
    return this.#settling.isDone
  }

  override makePeace(): void {
    const { voters } = this.checker.configuration
    const random = new Random(this.plan.seed ^ 0xab5e48)
    const id = (random.chance(0.6) && random.pick(this.leaders)?.id) || random.pick(voters)!.id
    if (this.plan.lacksOne && this.faults.damaged === null && mayLack(this, id, this.gone)) this.#leaves(id)
    super.makePeace()
  }

  /** From now on this node is away, or nobody. */
  #leaves(id: NodeId | null): void {
    const before = this.away
    this.away = id
    this.#settling.missing = id
    if (id === null) return this.restart(this.nodes.get(before!)!)
    this.count('peace without one')
    const node = this.nodes.get(id)
    if (node) this.crash(node)
  }

  *judge(): Generator<number, void> {
    // Every invariant was looked after at every step.
  }

  waits(): string {
    return ''
  }

  // ---- for tests that choose the faults themselves ----

  /** Virtual time passes. */
  advance(milliseconds: number): void {
    this.#until(this.now + milliseconds)
  }

  /** The process of a node ends; the others may see it by their connections (`closedChance`). */
  kill(node: SimNode): void {
    this.crash(node)
  }

  /** The connection of two nodes closes at both ends, and is made anew after a while; nothing passes between. */
  blip(a: NodeId, b: NodeId, milliseconds: number): void {
    this.disconnect(a, b)
    this.disconnect(b, a)
    this.network.block(a, b)
    this.network.block(b, a)
    this.schedule.after(milliseconds, () => {
      this.network.unblock(a, b)
      this.network.unblock(b, a)
      this.reconnect(a, b)
    })
  }

  // ---- for people ----

  pictureOf(node: SimNode): string {
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
}

export interface Outcome {
  readonly seed: number
  readonly operations: number
  readonly steps: number
  readonly decided: number
  readonly configurations: number
  /** What happened, how often. */
  readonly counts: Readonly<Record<string, number>>
  /** The last lines of what happened. */
  readonly trace: string
  readonly violation: { readonly message: string; readonly trace: string } | null
}

/** Runs one seed; a violation of an invariant, or of one inside the core, is part of the outcome. */
export function runSeed(
  seed: number,
  traceLines = 60,
  simulation = new Simulation(planOf(seed), Math.max(TRACE_LINES, traceLines)),
): Outcome {
  let violation: Outcome['violation'] = null
  try {
    simulation.run()
  } catch (error) {
    const what = error instanceof Violation ? error.message : ((error as Error).stack ?? String(error))
    violation = { message: what, trace: simulation.ending(traceLines) }
  }
  const { operations, steps, checker, counts } = simulation
  return {
    seed,
    operations,
    steps,
    decided: checker.decided.length,
    configurations: checker.configurations.length,
    counts,
    trace: simulation.ending(traceLines),
    violation,
  }
}
