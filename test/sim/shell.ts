/**
 * A cluster of whole nodes in virtual time, from one seed: consensus, storage, machine, relay and the shell's turn
 * as they are, on a simulated network, disk and clock, with clients on every node, an operator that changes the
 * members, and a run of faults. Everything that happens follows from the seed.
 *
 * `runShellSeed(seed)`: faults for a while, then peace, in which every client gets its answers and every voter the
 * whole log; at the end the states are the same and the history of the clients is linearizable.
 *
 * It is asynchronous because storage is: after an act that settled a promise, everything that follows from it
 * runs to its end before time goes on.
 */
import { isLearner, isVoter } from '../../src/consensus/quorum.ts'
import { isLeader, statusOf } from '../../src/consensus/replica.ts'
import { FrameDecoder, FrameWriter } from '../../src/edge/peer-frames.ts'
import type { LokiError } from '../../src/errors.ts'
import type { PeerMessage } from '../../src/turn-ports.ts'
import {
  type Configuration,
  type Member,
  type NodeId,
  type VolumeId,
  configurationId,
  logIndex,
  nodeId,
  volumeId,
} from '../../src/vocabulary.ts'
import { Checker, Violation } from './checker.ts'
import { Network, chooseCut } from './network.ts'
import { Random } from './random.ts'
import { Schedule } from './schedule.ts'
import { Clients } from './shell-clients.ts'
import { type ShellHost, ShellNode, type ShellSettings } from './shell-node.ts'
import { ELECTION_MILLISECONDS, type ShellFault, type ShellPlan, shellPlanOf } from './shell-plan.ts'
import { describe } from './simulation.ts'

const TICK_MILLISECONDS = 10
const SETTLE_MILLISECONDS = 300 * ELECTION_MILLISECONDS
const TRACE_LINES = 500
const WALL_CLOCK_MILLISECONDS = 1_800_000_000_000
/** States are compared at every so manieth index. */
const HASH_EVERY_ENTRIES = 8
const FRAME_BYTES = 1 << 24

const memberOf = (node: { readonly id: NodeId; readonly volume: VolumeId }): Member => ({
  id: node.id,
  volume: node.volume,
  address: `node-${node.id}:7400`,
})

const isNamed = (configuration: Configuration, id: NodeId): boolean =>
  isVoter(configuration, id) || isLearner(configuration, id)

const volumeOf = (number: number): VolumeId => volumeId(String(number).padStart(32, '0'))

export class ShellSimulation implements ShellHost {
  readonly plan: ShellPlan
  readonly settings: ShellSettings
  readonly random: Random
  readonly schedule = new Schedule()
  readonly network: Network
  readonly nodes = new Map<NodeId, ShellNode>()
  readonly checker: Checker
  readonly clients: Clients
  steps = 0
  readonly counts: Record<string, number> = {}
  #stirred = false
  #failure: { readonly error: unknown } | null = null
  #trace: (() => string)[] = []
  #pausedUntil = new Map<NodeId, number>()
  #waiting = new Map<NodeId, (() => void)[]>()
  #clockOffset = new Map<NodeId, number>()
  #hashes = new Map<number, { readonly hash: string; readonly by: NodeId }>()
  #gone = new Set<NodeId>()
  /** Storage that was damaged: of one node at most. */
  #damaged = new Set<NodeId>()
  #volumes = 0
  #peace = false

  constructor(plan: ShellPlan) {
    this.plan = plan
    this.settings = plan.settings
    this.random = new Random(plan.seed ^ 0x5eed)
    this.network = new Network(plan.network, this.random)
    this.clients = new Clients(plan.clients, this.random, this)
    const founders = Array.from({ length: Math.min(plan.founders, plan.nodes) }, (_, at) =>
      memberOf({ id: nodeId(at + 1), volume: volumeOf(++this.#volumes) }),
    )
    const genesis = { id: configurationId(1), voters: founders, learners: [], preferredLeader: nodeId(0) }
    this.checker = new Checker(genesis)
    for (const { id, volume } of founders) this.#add(id, volume, genesis)
  }

  // ---- the host of the nodes ----------------------------------------------------------------------------------------

  get now(): number {
    return this.schedule.now
  }

  later(node: ShellNode, milliseconds: number, act: () => void): void {
    const { incarnation } = node
    this.schedule.after(milliseconds, () => {
      this.#when(node.id, () => {
        if (node.incarnation === incarnation) act()
      })
    })
  }

  syncMilliseconds(): number {
    return this.plan.syncMilliseconds * (this.random.chance(0.02) ? 20 : this.random.next())
  }

  wallClock(node: ShellNode): number {
    return Math.floor(WALL_CLOCK_MILLISECONDS + this.now + (this.#clockOffset.get(node.id) ?? 0))
  }

  send(node: ShellNode, to: NodeId, message: PeerMessage): void {
    const arrivals = this.network.arrivals(node.id, to, this.now)
    this.note(() => `${node.id} -> ${to} ${describe(message.message as never)}${arrivals.length === 0 ? ' LOST' : ''}`)
    if (arrivals.length === 0) return
    const read = this.plan.wire ? onTheWire(message) : () => message
    for (const at of arrivals) {
      this.schedule.at(at, () => {
        this.#when(to, () => {
          const target = this.nodes.get(to)
          if (target?.up) target.receive(node.id, read())
        })
      })
    }
  }

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1
  }

  stir(): void {
    this.#stirred = true
  }

  fail(error: unknown): void {
    this.#failure ??= { error }
  }

  refused(node: ShellNode, error: LokiError): void {
    if (!this.#damaged.has(node.id)) this.fail(new Violation(`node ${node.id} is refused: ${error.message}`))
    this.note(() => `${node.id} is REFUSED: ${error.code} ${error.message}`)
    this.count(`starts refused: ${error.code}`)
    node.refuse()
  }

  ran(node: ShellNode): void {
    this.steps++
    const { machine, replica } = node.turn!
    if (machine.applied > node.applied) {
      this.checker.applies(node, machine.applied, [...this.nodes.values()])
      node.applied = machine.applied
      if (machine.timeMilliseconds < node.logTime)
        throw new Violation(`time: that of the log goes back at node ${node.id}`)
      node.logTime = machine.timeMilliseconds
      if (machine.applied % HASH_EVERY_ENTRIES === 0) this.#compareHash(node)
    }
    if (!isLeader(replica)) return
    const { ballot } = statusOf(replica)
    const name = `${ballot.configuration}.${ballot.n}.${ballot.priority}.${ballot.node}`
    if (name === node.leads) return
    node.leads = name
    this.count('leaders')
    this.checker.leads(node, ballot)
  }

  restored(node: ShellNode): void {
    node.logTime = node.turn!.machine.timeMilliseconds
    if (node.applied === 0) return
    if (node.applied > this.checker.decided.length) {
      throw new Violation(`node ${node.id} restores ${node.applied}, which is not decided`)
    }
    this.#compareHash(node)
  }

  #compareHash(node: ShellNode): void {
    const hash = node.turn!.machine.hash()
    const known = this.#hashes.get(node.applied)
    if (known === undefined) this.#hashes.set(node.applied, { hash, by: node.id })
    else {
      this.count('states compared')
      if (known.hash === hash) return
      throw new Violation(`state: nodes ${known.by} and ${node.id} differ at index ${node.applied}`)
    }
  }

  // ---- nodes --------------------------------------------------------------------------------------------------------

  #add(id: NodeId, volume: VolumeId, configuration: Configuration): void {
    const node = new ShellNode(id, volume, configuration, this)
    this.nodes.set(id, node)
    this.#start(node)
  }

  #start(node: ShellNode): void {
    node.clockRate = 0.97 + this.random.next() * 0.06
    node.start()
    this.#tick(node)
    for (const other of this.nodes.values()) if (other.up && other !== node) this.#reconnect(node.id, other.id)
  }

  #tick(node: ShellNode): void {
    this.later(node, TICK_MILLISECONDS * (0.5 + this.random.next()), () => {
      if (node.up) node.turn!.tick()
      this.#tick(node)
    })
  }

  /** A paused node does everything later, in order. */
  #when(id: NodeId, act: () => void): void {
    if ((this.#pausedUntil.get(id) ?? 0) <= this.now) return act()
    const waiting = this.#waiting.get(id) ?? []
    waiting.push(act)
    this.#waiting.set(id, waiting)
  }

  #crash(node: ShellNode): void {
    if (node.phase === 'down' || node.phase === 'refused') return
    this.note(() => `${node.id} CRASH`)
    this.count('crashes')
    const { random } = this
    const kind = random.integer(0, 3)
    node.crash(() =>
      kind === 0 ? 0 : kind === 1 ? 1 : random.chance(0.4) ? 0 : random.chance(0.6) ? 1 : random.next(),
    )
  }

  #restart(node: ShellNode): void {
    if (node.phase !== 'down' || this.#gone.has(node.id)) return
    this.note(() => `${node.id} START`)
    this.#start(node)
  }

  #reconnect(a: NodeId, b: NodeId): void {
    if (!this.plan.network.stream) return
    for (const [one, other] of [[a, b] as const, [b, a] as const]) {
      this.#when(one, () => {
        const node = this.nodes.get(one)
        if (node?.up) node.turn!.reconnected(other)
      })
    }
  }

  #upNodes(): ShellNode[] {
    return [...this.nodes.values()].filter((node) => node.up)
  }

  #leaders(): ShellNode[] {
    return this.#upNodes().filter((node) => isLeader(node.replica!))
  }

  // ---- clients and the operator -------------------------------------------------------------------------------------

  #client(which: number): void {
    this.schedule.after(this.random.next() * 2 * this.plan.thinkMilliseconds, () => {
      if (this.#peace) return
      this.clients.act(which, this.#upNodes(), this.now)
      this.#client(which)
    })
  }

  /** Any set after any set, new nodes joining first: an id of the log, a start, the reconfiguration. */
  #reconfigure(): void {
    this.#remove()
    const leader = this.random.pick(this.#leaders())
    if (leader === undefined) return
    const here = [...this.nodes.values()].filter((node) => !this.#gone.has(node.id))
    if (here.length < this.plan.nodes && this.random.chance(0.5)) this.#grow(leader)
    const shuffled = this.random.shuffle(here)
    const voters = shuffled.slice(0, this.random.integer(1, 5))
    const learners = shuffled.slice(voters.length, voters.length + (this.random.chance(0.3) ? 1 : 0))
    const { configuration, reconfiguration } = statusOf(leader.replica!)
    if (voters.length === 0 || reconfiguration !== null) return
    const next: Configuration = {
      id: configurationId(configuration.id + 1),
      voters: voters.map(memberOf),
      learners: learners.map(memberOf),
      preferredLeader: this.random.chance(0.5) ? voters[0]!.id : nodeId(0),
    }
    this.note(
      () => `operator: ${next.id} = {${voters.map(({ id }) => id).join(' ')}} preferred ${next.preferredLeader}`,
    )
    leader.turn!.reconfigure(next)
    if (this.random.chance(0.2)) this.later(leader, this.random.next() * 200, () => leader.turn?.withdraw())
  }

  /** A new volume gets its id from the log, and its node starts as a learner to be. */
  #grow(leader: ShellNode): void {
    const volume = volumeOf(++this.#volumes)
    const turn = leader.turn!
    turn.propose({ kind: 'allot-id', volume })
    const ask = (left: number): void => {
      this.later(leader, 20, () => {
        const id = turn.machine.idOf(volume)
        if (id === null) return left > 0 ? ask(left - 1) : undefined
        if (this.nodes.has(id)) throw new Violation(`identity: id ${id} is given to a second volume`)
        this.note(() => `operator: node ${id} is new`)
        this.#add(id, volume, turn.appliedConfiguration)
      })
    }
    ask(20)
  }

  /** What the operator may do once the configuration is complete: nodes outside of it are gone for good. */
  #remove(): void {
    for (const node of this.#upNodes()) {
      const status = statusOf(node.replica!)
      if (status.phase !== 'member' || !status.configurationComplete || status.configuration.id === 1) continue
      const later = this.checker.configurations.slice(status.configuration.id - 1)
      for (const other of this.nodes.values()) {
        if (later.some((one) => isNamed(one.configuration, other.id)) || this.#gone.has(other.id)) continue
        if (this.#isWanted(other.id) || this.#gone.size >= 2 || !this.random.chance(0.2)) continue
        this.note(() => `operator: node ${other.id} is deleted`)
        this.#crash(other)
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

  // ---- faults -------------------------------------------------------------------------------------------------------

  #fault(fault: ShellFault): void {
    const rate = this.plan.rates[fault]
    if (rate === 0) return
    this.schedule.after((this.random.next() * 2000) / rate, () => {
      if (this.#peace) return
      this.#inflict(fault)
      this.#fault(fault)
    })
  }

  #inflict(fault: ShellFault): void {
    const { random } = this
    this.#inflictOn(fault, random.pick([...this.nodes.values()].filter((one) => !this.#gone.has(one.id)))!)
  }

  #inflictOn(fault: ShellFault, node: ShellNode): void {
    const { random } = this
    if (this.#peace) return
    switch (fault) {
      case 'crash':
        this.#crash(node)
        this.schedule.after(random.next() * random.next() * 400, () => this.#restart(node))
        // A crash loop begins with a second one.
        if (random.chance(0.3)) this.schedule.after(100, () => this.#inflictOn('crash', node))
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
        return this.#reconfigure()
      case 'transfer': {
        const leader = random.pick(this.#leaders())
        const to = leader && random.pick(leader.replica!.configuration.voters)
        if (leader && to) leader.turn!.transfer(to.id)
        return
      }
      case 'checkpoint':
        if (node.up) node.checkpoint()
        return
      case 'rot':
        return this.#rot(node)
      case 'clock':
        this.#clockOffset.set(node.id, (random.next() - 0.5) * 2000)
    }
  }

  #rot(node: ShellNode): void {
    if (this.#damaged.size > 0 || !node.up) return
    this.#crash(node)
    const where = node.damage(this.random)
    if (where !== null) {
      this.note(() => `${node.id} ROT ${where}`)
      this.count('rot')
      this.#damaged.add(node.id)
      this.checker.damaged = true
    }
    this.schedule.after(this.random.next() * 400, () => this.#restart(node))
  }

  #partition(): void {
    const { random } = this
    const links = chooseCut(random, [...this.nodes.keys()])
    this.note(() => `CUT ${links.map(([from, to]) => `${from}>${to}`).join(' ')}`)
    for (const [from, to] of links) this.network.block(from, to)
    this.schedule.after(random.next() * 800, () => {
      this.note(() => `MEND ${links.map(([from, to]) => `${from}>${to}`).join(' ')}`)
      for (const [from, to] of links) this.network.unblock(from, to)
      for (const [from, to] of links) this.#reconnect(from, to)
    })
  }

  #pause(node: ShellNode, milliseconds: number): void {
    const until = this.now + milliseconds
    if ((this.#pausedUntil.get(node.id) ?? 0) >= until) return
    this.note(() => `${node.id} PAUSE ${milliseconds.toFixed(0)} ms`)
    this.#pausedUntil.set(node.id, until)
    this.schedule.at(until, () => this.#resume(node.id))
  }

  #resume(id: NodeId): void {
    if ((this.#pausedUntil.get(id) ?? 0) > this.now) return
    const waiting = this.#waiting.get(id) ?? []
    this.#waiting.delete(id)
    for (const act of waiting) act()
  }

  // ---- the run ------------------------------------------------------------------------------------------------------

  async run(): Promise<void> {
    for (let which = 0; which < this.plan.clients; which++) this.#client(which)
    for (const fault of Object.keys(this.plan.rates) as ShellFault[]) this.#fault(fault)
    await this.#until(this.plan.faultMilliseconds)
    this.#makePeace()
    if (await this.#isStuck()) return
    await this.#settle(() => this.#isSettled())
    // The last word: everything that anyone was told is still there.
    const last = this.random.pick(this.#upNodes())!
    await this.#settle(() => this.clients.readAll(last) && this.#isSettled())
    for (const node of this.#upNodes()) if (node.applied === this.checker.decided.length) this.#compareHash(node)
    this.clients.judge(this.plan.rates.clock === 0)
  }

  async #until(time: number): Promise<void> {
    const reached = { yet: false }
    this.schedule.at(time, () => {
      reached.yet = true
    })
    while (!reached.yet && this.schedule.next()) {
      if (this.#stirred) {
        this.#stirred = false
        await new Promise((resolve) => setImmediate(resolve))
      }
      if (this.#failure) throw this.#failure.error
    }
  }

  #makePeace(): void {
    this.note(() => 'PEACE')
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

  /** One storage is damaged, and without it there is no majority: a person has to decide. */
  async #isStuck(): Promise<boolean> {
    if (this.#damaged.size === 0) return false
    await this.#until(this.now + 10 * ELECTION_MILLISECONDS)
    const { voters } = this.checker.configuration
    const well = voters.filter(({ id }) => {
      const node = this.nodes.get(id)!
      return node.up && node.replica!.doubtfulFrom === null
    })
    if (well.length > voters.length / 2) return false
    this.count('left to a person')
    return true
  }

  async #settle(done: () => boolean): Promise<void> {
    const bound = this.now + SETTLE_MILLISECONDS
    while (this.now < bound) {
      await this.#until(this.now + ELECTION_MILLISECONDS / 4)
      if (done()) return
    }
    const { waiting } = this.clients
    throw new Violation(
      `settles: not within ${SETTLE_MILLISECONDS / ELECTION_MILLISECONDS} election timeouts of peace; ` +
        `${waiting.length} commands without an answer: ${waiting.slice(0, 5).join('; ')}`,
    )
  }

  /** One leader, every voter at the end of the log, every command answered. */
  #isSettled(): boolean {
    const { configuration, decided } = this.checker
    const voters = configuration.voters.map(({ id }) => this.nodes.get(id)!).filter(({ phase }) => phase !== 'refused')
    // A change that wants a node whose storage is damaged beyond repair would wait for ever.
    for (const leader of this.#leaders()) {
      const wanted = statusOf(leader.replica!).reconfiguration?.voters ?? []
      if (wanted.some((id) => this.nodes.get(id)?.phase === 'refused')) leader.turn!.withdraw()
    }
    if (this.clients.waiting.length > 0 || !voters.every((node) => node.up)) return false
    return voters.every((node) => {
      const status = statusOf(node.replica!)
      const isHere = status.configuration.id === configuration.id && node.applied === decided.length
      return isHere && status.leader !== null && status.caughtUp && status.reconfiguration === null
    })
  }

  // ---- the trace ----------------------------------------------------------------------------------------------------

  note(line: () => string): void {
    const { now } = this
    this.#trace.push(() => `${now.toFixed(1).padStart(9)}  ${line()}`)
    if (this.#trace.length > 2 * TRACE_LINES) this.#trace.splice(0, TRACE_LINES)
  }

  trace(lines: number): string {
    return this.#trace
      .slice(this.#trace.length - lines)
      .map((line) => line())
      .join('\n')
  }

  /** Where each node stands, for the end of a trace. */
  picture(): string {
    const of = (node: ShellNode): string => {
      if (node.replica === null) return node.phase
      const { role, leader, configuration, decided, accepted, first } = statusOf(node.replica)
      const voters = configuration.voters.map(({ id }) => id).join(' ')
      return `${role} leader ${leader} configuration ${configuration.id} {${voters}} log ${first}…${accepted} decided ${decided} applied ${logIndex(node.applied)} outstanding ${node.turn!.relay.outstanding}`
    }
    return [...this.nodes.values()].map((node) => `node ${node.id}: ${of(node)}`).join('\n')
  }
}

/** The message as the other side reads it: encoded when it is sent. */
function onTheWire(message: PeerMessage): () => PeerMessage {
  const writer = new FrameWriter()
  if (message.kind === 'consensus') writer.consensus(message.message)
  else writer.relay(message.message)
  const bytes = writer.take()
  return () => {
    let read: PeerMessage | null = null
    new FrameDecoder(FRAME_BYTES).push(bytes, (frame) => {
      if (frame.kind === 'consensus' || frame.kind === 'relay') read = frame
    })
    return read!
  }
}

export interface ShellOutcome {
  readonly seed: number
  readonly operations: number
  readonly steps: number
  readonly decided: number
  readonly configurations: number
  /** What happened, how often. */
  readonly counts: Readonly<Record<string, number>>
  readonly violation: { readonly message: string; readonly trace: string } | null
}

/** Runs one seed; a violation of an invariant, or of one inside the code, is part of the outcome. */
export async function runShellSeed(seed: number, traceLines = 60): Promise<ShellOutcome> {
  const simulation = new ShellSimulation(shellPlanOf(seed))
  let violation: ShellOutcome['violation'] = null
  try {
    await simulation.run()
  } catch (error) {
    const what = error instanceof Violation ? error.message : ((error as Error).stack ?? String(error))
    violation = { message: what, trace: `${simulation.trace(traceLines)}\n${simulation.picture()}` }
  }
  const { clients, steps, checker, counts } = simulation
  return {
    seed,
    operations: clients.operations,
    steps,
    decided: checker.decided.length,
    configurations: checker.configurations.length,
    counts,
    violation,
  }
}
