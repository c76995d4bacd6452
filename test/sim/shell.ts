/**
 * Whole nodes in a world of faults (world.ts): consensus, storage, machine, relay and the shell's turn as they are, on
 * a simulated disk, with clients on every node. Everything that happens follows from the seed.
 *
 * `runShellSeed(seed)`: faults for a while, then peace, in which every client gets its answers and every voter the
 * whole log; at the end the states are the same and the history of the clients is linearizable.
 *
 * It is asynchronous because storage is: after an act that settled a promise, everything that follows from it
 * runs to its end before time goes on.
 */
import { acceptQuorum, intactQuorum, prepareQuorum } from '../../src/consensus/quorum.ts'
import { isLeader, statusOf } from '../../src/consensus/replica.ts'
import { SESSION_EXPIRY_MILLISECONDS } from '../../src/machine/sessions.ts'
import { FrameDecoder, FrameWriter } from '../../src/edge/peer/frames.ts'
import { type Block, decodeEntry } from '../../src/machine/entry.ts'
import type { LokiError } from '../../src/errors.ts'
import type { PeerMessage } from '../../src/turn/ports.ts'
import { type Configuration, type Member, type NodeId, type VolumeId, logIndex } from '../../src/vocabulary.ts'
import { Violation } from './checker.ts'
import { takesAPerson } from './settling.ts'
import { Random } from './random.ts'
import { Clients } from './shell-clients.ts'
import { type ShellHost, ShellNode, type ShellSettings } from './shell-node.ts'
import { type Fault, ELECTION_MILLISECONDS } from './plan.ts'
import { type ShellPlan, shellPlanOf } from './shell-plan.ts'
import type { Outcome } from './simulation.ts'
import { Stirring } from './stirring.ts'
import { type Order, type Sight, TICK_MILLISECONDS, World, volumeOf } from './world.ts'

const TRACE_LINES = 500
const WALL_CLOCK_MILLISECONDS = 1_800_000_000_000
/** States are compared at every so manieth index. */
const HASH_EVERY_ENTRIES = 8
const FRAME_BYTES = 1 << 24
const LEAP_MILLISECONDS = 2 * SESSION_EXPIRY_MILLISECONDS

export class ShellSimulation extends World<ShellNode> implements ShellHost {
  readonly settings: ShellSettings
  readonly clients: Clients
  readonly #shellPlan: ShellPlan
  readonly #stirring = new Stirring(this.schedule)
  readonly #clockOffset = new Map<NodeId, number>()
  readonly #leaps: Random
  readonly #turns: Random
  readonly #hashes = new Map<number, { readonly hash: string; readonly by: NodeId }>()
  /** By session: what follows the last command that was sent on. */
  readonly #sentOf = new Map<string, number>()
  /** The same of what is decided, of so many entries. */
  readonly #decidedOf = new Map<string, number>()
  #counted = 0
  #volumes = 0
  sessionsMayEnd: boolean
  #peaceAt = Infinity

  constructor(plan: ShellPlan, traceLimit = TRACE_LINES) {
    super(plan, traceLimit)
    this.#shellPlan = plan
    this.#leaps = new Random(plan.seed ^ 0x1ea9)
    this.#turns = new Random(plan.seed ^ 0x7043)
    this.settings = plan.settings
    this.sessionsMayEnd = (plan.settings.machine.sessionExpiryMilliseconds ?? Infinity) < SESSION_EXPIRY_MILLISECONDS
    this.clients = new Clients(plan.clients, this.random, this)
    const genesis = this.genesis()
    for (const { id, volume } of genesis.voters) {
      this.#volumes++
      this.#add(id, volume, genesis)
    }
  }

  // ---- the host of the nodes ----

  /** As setImmediate: behind everything that has arrived while the node was in its turn. */
  wake(node: ShellNode): void {
    const run = (): void => node.run()
    if (this.turnsTakeTime) this.later(node, 0, () => this.later(node, 0, run))
    else this.later(node, 0, run)
  }

  get turnsTakeTime(): boolean {
    return this.#shellPlan.turns !== null
  }

  spend(node: ShellNode, entries: number, act: () => void): void {
    const { onlyNode, milliseconds, entryMilliseconds } = this.#shellPlan.turns!
    if (onlyNode !== 0 && onlyNode !== node.id) return act()
    const spent = (milliseconds + entries * entryMilliseconds) * 2 * this.#turns.next()
    this.count('turns that take time')
    this.later(node, spent, act)
    this.occupy(node, spent)
  }

  later(node: ShellNode, milliseconds: number, act: () => void): void {
    const { incarnation } = node
    this.schedule.after(milliseconds, () => {
      this.when(node.id, () => {
        if (node.incarnation === incarnation) act()
      })
    })
  }

  wallClock(node: ShellNode): number {
    return Math.floor(WALL_CLOCK_MILLISECONDS + this.now + (this.#clockOffset.get(node.id) ?? 0))
  }

  send(node: ShellNode, to: NodeId, message: PeerMessage): void {
    const read = this.#shellPlan.wire ? onTheWire(message) : () => message
    this.transmit(node.id, to, message.message, (target) => target.receive(node.id, read()))
    const { kind } = message.message
    if (message.kind === 'relay' && message.message.kind === 'forward')
      this.#countAgain('blocks sent again', this.#sentOf, message.message.block)
    if (kind === 'promise' || kind === 'take-over' || kind === 'accept-sync') this.faults.happens(node)
  }

  #countAgain(what: string, nextOf: Map<string, number>, { session, first, commands }: Block): void {
    const name = `${session.node}.${session.incarnation}`
    const next = nextOf.get(name) ?? 0
    if (first < next && commands.length > 0) this.count(what)
    nextOf.set(name, Math.max(next, first + commands.length))
  }

  #countDecided(): void {
    for (; this.#counted < this.checker.decided.length; this.#counted++) {
      const entry = this.checker.decided[this.#counted]!
      if (entry.kind !== 'commands') continue
      for (const block of decodeEntry(entry.payload).blocks)
        this.#countAgain('blocks decided twice', this.#decidedOf, block)
    }
  }

  stir(): void {
    this.#stirring.stir()
  }

  fail(error: unknown): void {
    this.#stirring.fail(error)
  }

  refused(node: ShellNode, error: LokiError): void {
    if (!this.isDamaged(node)) {
      this.fail(new Violation(`node ${node.id} is refused: ${error.message}`))
    }
    this.note(node.id, 'crash', `is REFUSED: ${error.code} ${error.message}`)
    this.count(`starts refused: ${error.code}`)
    node.refuse()
  }

  isDamaged(node: ShellNode): boolean {
    return this.faults.damaged === node.id
  }

  doubts(node: ShellNode): void {
    this.count('doubtful starts')
    if (!this.isDamaged(node)) throw new Violation(`doubt: node ${node.id} has lost what nothing took`)
  }

  died(node: ShellNode, why: string): void {
    this.note(node.id, 'other', `its disk fails: ${why}`)
    this.count('deaths by a disk')
    this.crash(node)
    this.schedule.after(this.random.next() * 200, () => this.restart(node))
  }

  ran(node: ShellNode): void {
    this.steps++
    const { machine, replica, decided, relay } = node.turn!
    if (decided > node.decided) {
      this.checker.decides(node, decided, [...this.nodes.values()])
      node.decided = decided
      this.checker.completes(node)
      this.#countDecided()
    }
    if (machine.applied > node.applied) this.#applied(node)
    if (decided - machine.applied > (this.settings.turn.unappliedEntries ?? Infinity)) this.count('turns behind')
    if (relay.session.incarnation !== node.session) {
      node.session = relay.session.incarnation
      this.count('sessions that ended')
    }
    if (!isLeader(replica)) return
    const { ballot } = statusOf(replica)
    const name = `${ballot.configuration}.${ballot.n}.${ballot.priority}.${ballot.node}`
    if (name === node.leads) return
    node.leads = name
    this.count('leaders')
    this.note(node.id, 'leads', `leads under ${name}`)
    this.checker.leads(node, ballot)
    this.faults.happens(node)
  }

  #applied(node: ShellNode): void {
    const { machine } = node.turn!
    node.applied = machine.applied
    this.note(node.id, 'decided', `applied ${machine.applied}`)
    if (machine.timeMilliseconds < node.logTime) {
      throw new Violation(`time: that of the log goes back at node ${node.id}`)
    }
    node.logTime = machine.timeMilliseconds
    if (machine.applied % HASH_EVERY_ENTRIES === 0) this.#compareHash(node)
  }

  restored(node: ShellNode): void {
    node.logTime = node.turn!.machine.timeMilliseconds
    if (node.applied === 0) return
    if (node.applied > this.checker.decided.length) {
      throw new Violation(`node ${node.id} restores ${node.applied}, which is not decided`)
    }
    this.#compareHash(node)
  }

  /** A question of somebody who lagged, too, comes late: for what the log had until now. */
  installed(node: ShellNode): void {
    const index = node.turn!.machine.applied
    const others = this.upNodes.filter((other) => other !== node)
    const from = logIndex((this.steps % index) + 1)
    const asker = others[this.steps % Math.max(1, others.length)]
    if (this.peace || asker === undefined) return
    const message = { kind: 'fetch-decided', from, upTo: index, decided: logIndex(from - 1) } as const
    node.receive(asker.id, { kind: 'consensus', message })
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

  // ---- nodes ----

  #add(id: NodeId, volume: VolumeId, configuration: Configuration): void {
    const node = new ShellNode(id, volume, configuration, this)
    this.nodes.set(id, node)
    this.start(node)
  }

  override memberOf(id: NodeId): Member {
    return { id, volume: this.nodes.get(id)!.volume, address: `node-${id}:7400` }
  }

  /** Those that are there; sometimes one is on its way. */
  pool(leader: ShellNode): readonly NodeId[] {
    const here = [...this.nodes.keys()].filter((id) => !this.gone.has(id))
    if (here.length < this.plan.nodes && this.random.chance(0.5)) this.#grow(leader)
    return here
  }

  bring(): void {
    // Nodes come with their ids: see #grow.
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
        this.say(`operator: node ${id} is new`)
        this.#add(id, volume, turn.appliedConfiguration)
      })
    }
    ask(20)
  }

  start(node: ShellNode): void {
    if (node.phase !== 'down') return
    this.note(node.id, 'start', 'START')
    node.clockRate = 1 + (this.random.integer(-2, 2) / 2) * this.plan.clockRateError
    node.start()
    this.#tick(node)
    this.reconnectToAll(node.id)
    this.faults.happens(node)
  }

  end(node: ShellNode): boolean {
    if (node.phase === 'down' || node.phase === 'refused') return false
    this.note(node.id, 'crash', node.phase === 'starting' ? 'CRASH while it starts' : 'CRASH')
    if (node.phase === 'starting') this.count('crashes while starting')
    const { random } = this
    const kind = random.integer(0, 3)
    node.crash(() =>
      kind === 0 ? 0 : kind === 1 ? 1 : random.chance(0.4) ? 0 : random.chance(0.6) ? 1 : random.next(),
    )
    return true
  }

  #tick(node: ShellNode): void {
    this.later(node, TICK_MILLISECONDS * (0.5 + this.random.next()), () => {
      if (node.up) node.turn!.tick()
      this.#tick(node)
    })
  }

  tell(node: ShellNode, kind: Sight, peer: NodeId): void {
    node.turn![kind](peer)
  }

  order(node: ShellNode, order: Order): void {
    this.later(node, 0, () => {
      if (order.kind === 'reconfigure') node.turn?.reconfigure(order.next)
      else if (order.kind === 'withdraw') node.turn?.withdraw()
      else node.turn?.transfer(order.to)
    })
  }

  /**
   * All clocks are far ahead, and who leads next has started since and believes its own: the log ends the sessions of
   * nodes outside the configuration.
   */
  #leap(): void {
    this.count('leaps')
    this.sessionsMayEnd = true
    for (const { id } of this.nodes.values()) {
      this.#clockOffset.set(id, (this.#clockOffset.get(id) ?? 0) + LEAP_MILLISECONDS)
    }
    for (const { id } of this.checker.configuration.voters) this.faults.inflict('crash', this.nodes.get(id)!)
  }

  checkpoint(node: ShellNode): void {
    node.checkpoint()
  }

  damage(node: ShellNode): string | null {
    return node.damage(this.random)
  }

  inflictMore(fault: Fault, node: ShellNode): void {
    const { random } = this
    switch (fault) {
      case 'clock':
        if (this.#leaps.chance(this.#shellPlan.leapChance)) this.#leap()
        else this.#clockOffset.set(node.id, (random.next() - 0.5) * 2000)
        return
      case 'crashInDisk':
        // At any step of the disk, those of a start included.
        node.trouble('crash', random.integer(1, 30))
        if (random.chance(0.5)) this.faults.inflict('crash', node)
        return
      case 'diskError':
        return node.trouble('error', random.integer(1, 40))
      case 'fullDisk': {
        node.trouble('full', random.integer(0, 10_000))
        this.schedule.after(random.next() * 400, () => node.trouble('none', 0))
        return
      }
      default:
        throw new Error(`no such fault: ${fault}`)
    }
  }

  // ---- clients ----

  begin(): void {
    for (let which = 0; which < this.#shellPlan.clients; which++) this.#client(which)
  }

  #client(which: number): void {
    this.schedule.after(this.random.next() * 2 * this.#shellPlan.thinkMilliseconds, () => {
      if (this.peace) return
      this.clients.act(which, this.upNodes, this.now)
      this.#client(which)
    })
  }

  // ---- the end ----

  async run(): Promise<void> {
    for (const time of this.life()) await this.#stirring.until(time)
  }

  override makePeace(): void {
    for (const node of this.nodes.values()) {
      node.trouble('none', 0)
      if (node.up && node.isBeyondItsEnd) this.crash(node)
    }
    super.makePeace()
    this.#peaceAt = this.now
  }

  /** One storage is damaged, and without it there is no quorum: a person has to decide. */
  isStuck(): boolean {
    if (this.faults.damaged === null || this.now < this.#peaceAt + 10 * ELECTION_MILLISECONDS) return false
    const { configuration } = this.checker
    const isLong = this.now > this.#peaceAt + 100 * ELECTION_MILLISECONDS
    if (isLong && takesAPerson(this, this.faults.damaged)) return true
    const there = configuration.voters.filter(({ id }) => this.nodes.get(id)!.phase !== 'refused')
    const doubtful = there.filter(({ id }) => (this.nodes.get(id)!.replica?.doubtfulFrom ?? null) !== null)
    const intact = there.length - doubtful.length
    const elects = there.length >= prepareQuorum(configuration) && intact >= intactQuorum(configuration)
    return !elects || there.length < acceptQuorum(configuration)
  }

  /** One leader, every voter at the end of the log, every command answered. */
  isSettled(): boolean {
    const { configuration, decided } = this.checker
    const voters = configuration.voters.map(({ id }) => this.nodes.get(id)!).filter(({ phase }) => phase !== 'refused')
    // A change that wants a node whose storage is damaged beyond repair would wait for ever.
    for (const leader of this.leaders) {
      const wanted = statusOf(leader.replica!).reconfiguration?.voters ?? []
      if (wanted.some((id) => this.nodes.get(id)?.phase === 'refused')) leader.turn!.withdraw()
    }
    const isServed = this.clients.waiting(this.#knowsAnyone).length === 0
    if (voters.length === 0 || !isServed || !voters.every((node) => node.up)) return false
    return voters.every((node) => {
      const status = statusOf(node.replica!)
      const isHere = status.configuration.id === configuration.id && node.applied === decided.length
      return isHere && status.leader !== null && status.caughtUp && status.reconfiguration === null
    })
  }

  /** The last word: everything that anyone was told is still there. */
  *judge(): Generator<number, void> {
    // A node that left before may know of nobody who is still there: its members were deleted since.
    const { id } = this.checker.configuration
    const last = this.random.pick(this.upNodes.filter((node) => statusOf(node.replica!).configuration.id === id))!
    yield* this.expectSoon(() => last.up && this.clients.readAll(last) && this.isSettled())
    for (const node of this.upNodes) if (node.applied === this.checker.decided.length) this.#compareHash(node)
    this.clients.judge(this.plan.rates.clock === 0)
  }

  /** A node outside may know of members that were all deleted since: a person, or the operator, sends its clients away. */
  readonly #knowsAnyone = (node: ShellNode): boolean =>
    node.turn === null || node.turn.appliedConfiguration.voters.some(({ id }) => !this.gone.has(id))

  waits(): string {
    const waiting = this.clients.waiting(this.#knowsAnyone)
    return `; ${waiting.length} commands without an answer: ${waiting.slice(0, 5).join('; ')}`
  }

  pictureOf(node: ShellNode): string {
    if (node.replica === null) return node.phase
    const { role, leader, configuration, decided, accepted, first } = statusOf(node.replica)
    const voters = configuration.voters.map(({ id }) => id).join(' ')
    return (
      `${role} leader ${leader} configuration ${configuration.id} {${voters}} log ${first}…${accepted} ` +
      `decided ${decided} applied ${node.applied} outstanding ${node.turn!.relay.outstanding}`
    )
  }
}

/** The message as the other side reads it: encoded when it is sent. */
function onTheWire(message: PeerMessage): () => PeerMessage {
  const writer = new FrameWriter()
  if (message.kind === 'consensus') writer.consensus(message.message)
  else writer.relay(message.message)
  const bytes = writer.view()
  return () => {
    let read: PeerMessage | null = null
    new FrameDecoder(FRAME_BYTES).push(bytes, (frame) => {
      if (frame.kind === 'consensus' || frame.kind === 'relay') read = frame
    })
    return read!
  }
}

/** Runs one seed; a violation of an invariant, or of one inside the code, is part of the outcome. */
export async function runShellSeed(
  seed: number,
  traceLines = 60,
  simulation = new ShellSimulation(shellPlanOf(seed), Math.max(TRACE_LINES, traceLines)),
): Promise<Outcome> {
  let violation: Outcome['violation'] = null
  try {
    await simulation.run()
  } catch (error) {
    const what = error instanceof Violation ? error.message : ((error as Error).stack ?? String(error))
    violation = { message: what, trace: simulation.ending(traceLines) }
  }
  const { clients, steps, checker, counts } = simulation
  return {
    seed,
    operations: clients.operations,
    steps,
    decided: checker.decided.length,
    configurations: checker.configurations.length,
    counts,
    trace: simulation.ending(traceLines),
    violation,
  }
}
