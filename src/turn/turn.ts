/**
 * The shell's turn: everything that arrived since the last one goes through the consensus core, what must be
 * durable goes to storage as one frame, messages leave, decided entries are applied and answered. PURE: time,
 * disk and network are ports, so that the simulator runs these very lines.
 *
 * A write, walked: `write` gives the command its place in this node's session; the next turn puts it into a
 * block, at the leader the blocks of all nodes become one entry; the entry goes to the disk and to the
 * followers at the same time; a quorum decides; every node applies; the node that took the command in answers.
 *
 * Order (the core's contract, see consensus/events.ts):
 * - records of a turn are handed to storage in order, as one frame;
 * - a message that depends on durability leaves when that frame and all before it are durable;
 * - when a frame is durable, the core hears of the position it held when the frame was handed over.
 */
import type { Effect, Event } from '../consensus/events.ts'
import type { Message } from '../consensus/messages.ts'
import { type Replica, acceptsProposals, isLeader, leaderOf, position, statusOf, step } from '../consensus/replica.ts'
import { isVoter } from '../consensus/quorum.ts'
import { isShortOfRoom } from '../consensus/room.ts'
import type { Origin } from '../front.ts'
import { Backlog } from './backlog.ts'
import { CommandReplies } from './command-replies.ts'
import { DecidedNotes } from './decided-notes.ts'
import { type Frame, FramesInFlight } from './frames-in-flight.ts'
import { Hurry } from './hurry.ts'
import { unreachable } from '../invariant.ts'
import { Inbox } from './inbox.ts'
import { LocalReads } from './local-reads.ts'
import { LogClock } from './log-clock.ts'
import type { Block, SystemCommand } from '../machine/entry.ts'
import type { Machine, ReplySink } from '../machine/machine.ts'
import type { Arguments, Reply } from '../machine/reply.ts'
import { ReadQueue, TurnOfReading } from './read-queue.ts'
import type { RelayMessage } from './relay-messages.ts'
import type { Relay } from './relay.ts'
import type { PeerMessage, TurnLimits, TurnPorts } from './ports.ts'
import type { Configuration, Entry, LogIndex, NodeId, Room } from '../vocabulary.ts'
import { logIndex } from '../vocabulary.ts'
import { WayToLeader } from './way-to-leader.ts'

export class Turn {
  readonly self: NodeId
  readonly replica: Replica
  machine: Machine
  readonly relay: Relay
  readonly #ports: TurnPorts
  #events: Event[] = []
  #relayed: { from: NodeId; message: RelayMessage }[] = []
  readonly #frames = new FramesInFlight()
  #awake = false
  readonly #notes = new DecidedNotes()
  readonly #hurry: Hurry
  readonly #inbox: Inbox
  readonly #limits: TurnLimits
  readonly #backlog: Backlog
  readonly #reads = new ReadQueue()
  readonly #clock = new LogClock()
  #decided: LogIndex
  readonly #local: LocalReads
  /** The configuration in force after the last applied entry, and the index of its stop-sign. */
  appliedConfiguration: Configuration
  appliedConfigurationStart: LogIndex

  readonly #replies: CommandReplies
  readonly #way: WayToLeader
  #resend = false

  constructor(
    self: NodeId,
    replica: Replica,
    machine: Machine,
    relay: Relay,
    configuration: { readonly configuration: Configuration; readonly start: LogIndex },
    ports: TurnPorts,
    limits: TurnLimits,
  ) {
    this.self = self
    this.replica = replica
    this.machine = machine
    this.relay = relay
    this.appliedConfiguration = configuration.configuration
    this.appliedConfigurationStart = configuration.start
    this.#ports = ports
    this.#hurry = new Hurry(self)
    this.#inbox = new Inbox(limits)
    this.#limits = limits
    this.#backlog = new Backlog(limits)
    this.#local = new LocalReads(limits.staleReadsMostMilliseconds ?? 0)
    this.#local.show(replica.recordedDecided) // by an earlier start; a log that lost its end has to come up to it
    this.#replies = new CommandReplies(this, limits, () => this.#wake())
    this.#way = new WayToLeader(self)
    this.#decided = machine.applied
  }

  // ---- what arrives between turns -------------------------------------------------------------------------------

  /** Takes a command for the log. False: too much is outstanding, nothing was taken. */
  write(origin: Origin, tag: number, args: Arguments): boolean {
    const taken = this.relay.takeWrite(origin, tag, args)
    if (taken) this.#wake()
    return taken
  }

  /** Takes a linearizable read. False: too much is outstanding, nothing was taken. */
  read(origin: Origin, tag: number, args: Arguments): boolean {
    const taken = this.relay.takeRead(origin, tag, args)
    if (taken) this.#wake()
    return taken
  }

  /** A read of this node's own state, at once. Undefined where that is too old (see local-reads.ts): ask with `read`. */
  readStale(command: Arguments): Reply | undefined {
    return this.#local.permits(this.machine.applied, this.#ports.now()) ? this.machine.read(command) : undefined
  }

  receive(from: NodeId, message: PeerMessage): void {
    if (message.kind === 'consensus')
      this.#events.push({ kind: 'message', now: this.#ports.now(), from, message: message.message })
    else this.#relayed.push({ from, message: message.message })
    this.#wake()
  }

  tick(): void {
    const now = this.#ports.now()
    this.#events.push({ kind: 'tick', now })
    const target = this.#target()
    if (this.relay.overdue(now, target !== null && this.#ports.isBehind?.(target))) {
      this.#resend = true
      this.#way.overdue()
    }
    const due = this.machine.nextExpiryMilliseconds()
    if (due !== null && due <= this.#time()) {
      this.#inbox.wantTime()
      if (isShortOfRoom(this.replica)) this.#reads.giveUp(now)
    }
    this.#wake()
  }

  /** What was in flight to this peer may be gone. */
  reconnected(peer: NodeId): void {
    this.#events.push({ kind: 'reconnected', now: this.#ports.now(), peer })
    this.#way.reconnected(peer)
    if (peer === this.#target()) this.#resend = true
    this.#wake()
  }

  /** A large message to this peer, or from it, moves. */
  readonly moving = (peer: NodeId): void => this.#admin({ kind: 'moving', now: this.#ports.now(), peer })
  /** No connection to this peer is left. */
  disconnected(peer: NodeId): void {
    this.#admin({ kind: 'disconnected', now: this.#ports.now(), peer })
  }

  /** At the leader: puts a system command into the next entry. */
  propose(command: SystemCommand): void {
    this.#inbox.say(command)
    this.#wake()
  }

  /** At the leader: there will be an entry soon, if only with the time in it. */
  wantTime(): void {
    this.#inbox.wantTime()
    this.#wake()
  }
  reconfigure(next: Configuration): void {
    this.#order({ kind: 'reconfigure', now: this.#ports.now(), next })
  }

  withdraw(): void {
    this.#order({ kind: 'withdraw', now: this.#ports.now() })
  }

  transfer(to: NodeId): void {
    this.#order({ kind: 'transfer', now: this.#ports.now(), to })
  }

  /** What storage has of what `readLog` asked for; where that is nothing, a checkpoint has what is below `first`. */
  logRead(to: NodeId, from: LogIndex, entries: readonly Entry[], first: LogIndex): void {
    this.#admin({ kind: 'log-read', now: this.#ports.now(), to, from, entries, first })
  }

  /** Entries up to `index` may leave memory: they are applied, and in a checkpoint or read back when they are needed. */
  trim(index: LogIndex): void {
    this.#admin({ kind: 'trim', now: this.#ports.now(), index })
  }

  /** What the disk has room for now. */
  room(room: Room): void {
    if (room !== this.replica.room) this.#order({ kind: 'room', now: this.#ports.now(), room })
  }

  /** A checkpoint from a peer is durable, and `machine` holds its state. */
  installed(machine: Machine, configuration: Configuration, start: LogIndex): void {
    this.machine = machine
    this.#decided = machine.applied
    this.appliedConfiguration = configuration
    this.appliedConfigurationStart = start
    // Replies to our own commands may be inside the checkpoint: ask for them again.
    this.#resend = true
    // At once: the core must not refuse later what is swapped in here, nor may what it replaces be read back for others.
    this.#step({ kind: 'checkpoint-installed', now: this.#ports.now(), index: this.#decided, configuration, start })
    this.#persist()
    this.#wake()
  }

  /** At once: who gave the order can see in the status whether it was taken. */
  #order(event: Event): void {
    this.#step(event)
    this.#wake()
  }

  #admin(event: Event): void {
    this.#events.push(event)
    this.#wake()
  }

  #wake(): void {
    if (this.#awake) return
    this.#awake = true
    this.#ports.wake()
  }

  // ---- the turn -------------------------------------------------------------------------------------------------

  run(): void {
    this.#awake = false
    for (const event of this.#events.splice(0)) this.#step(event)
    this.#inbox.applied(this.machine.applied)
    for (const { from, message } of this.#relayed.splice(0)) this.#relay(from, message)
    this.#speakForClients()
    this.#proposeWaiting()
    this.#askReads()
    this.#notes.release(this.#ports.now(), (to, message) => this.#say(to, message))
    // Before the disk, which may hold this process up: others work while it does.
    this.#ports.flush()
    this.#apply()
    this.#answerReads()
    this.#replies.release((to, message) => this.#tell(to, message))
    this.relay.flush()
    this.#persist()
    this.#ports.flush()
  }

  #step(event: Event): readonly Effect[] {
    const effects = step(this.replica, event)
    for (const effect of effects) this.#perform(effect)
    this.#hurry.stepped(event, effects, position(this.replica).index)
    return effects
  }

  #perform(effect: Effect): void {
    switch (effect.kind) {
      case 'persist':
        this.#frames.record(effect.record)
        break
      case 'send':
        if (effect.afterSync) this.#frames.hold(effect.to, effect.message)
        else if (!this.#notes.takes(effect.to, effect.message)) this.#say(effect.to, effect.message)
        break
      case 'decided':
        this.#decided = effect.index
        break
      case 'read-ready':
        this.#reads.confirm(effect.id, effect.index)
        break
      case 'read-failed':
        this.#reads.fail(effect.id)
        this.#resend = true
        break
      case 'leader-changed':
        this.#leaderChanged(effect.leader)
        break
      case 'became-leader':
        this.#resend = true
        // What the log must say to everyone (who the members are) is said before anything else.
        this.#inbox.wantTime()
        break
      case 'configuration-changed':
        this.#ports.configurationChanged(effect.configuration, effect.start)
        this.#resend = true
        break
      case 'read-log':
        this.#ports.readLog?.(effect.to, effect.from, effect.upTo)
        break
      case 'need-checkpoint':
        this.#ports.needCheckpoint(effect.index, effect.from)
        break
      default:
        unreachable(effect)
    }
  }

  readonly #say = (to: NodeId, message: Message): void => {
    const now = this.#ports.now()
    const mayWait = this.#hurry.mayWait(to, message, this.replica.configuration, now) && !this.#notes.isAsking(to, now)
    this.#ports.send(to, { kind: 'consensus', message }, mayWait)
  }

  #leaderChanged(leader: NodeId | null): void {
    this.#reads.forgetUndecided(this.#decided)
    this.#inbox.forgetBlocks()
    this.#way.leaderChanged(leader)
    this.#resend = true
    this.#ports.leaderChanged(leader)
  }

  // ---- commands on their way to the leader -----------------------------------------------------------------------

  readonly #target = (): NodeId | null => this.#way.target(leaderOf(this.replica), this.appliedConfiguration.voters)

  #speakForClients(): void {
    const target = this.#target()
    if (target === null) return
    const now = this.#ports.now()
    if (this.#resend) {
      this.#resend = false
      for (const batch of this.relay.restart(now)) this.#speakRead(target, batch.id, batch.commands)
    }
    for (let next = this.relay.nextBlock(now); next; next = this.relay.nextBlock(now)) {
      if (target === this.self) this.#admit(next.opens, next.block)
      else this.#tell(target, { kind: 'forward', opens: next.opens, block: next.block })
    }
    const alive = isVoter(this.appliedConfiguration, this.self) ? null : this.relay.keepAlive(now)
    if (alive) this.#tell(target, { kind: 'forward', opens: false, block: alive })
    const reads = this.relay.nextReads(now)
    if (reads) this.#speakRead(target, reads.id, reads.commands)
  }

  /** At the leader. */
  #admit(opens: boolean, block: Block): void {
    const rest = this.#replies.answerApplied(block)
    if (rest !== null) this.#inbox.admit(opens, rest)
  }

  #speakRead(target: NodeId, id: number, commands: readonly Arguments[]): void {
    if (target === this.self) this.#reads.arrive({ from: this.self, id, commands })
    else this.#tell(target, { kind: 'read', id, commands })
  }

  #tell(to: NodeId, message: RelayMessage): void {
    this.#ports.send(to, { kind: 'relay', message })
  }

  #relay(from: NodeId, message: RelayMessage): void {
    switch (message.kind) {
      case 'forward':
        this.#notes.asked(from, this.#ports.now())
        if (leaderOf(this.replica) === this.self) this.#admit(message.opens, message.block)
        else this.#redirect(from)
        break
      case 'read':
        if (leaderOf(this.replica) === this.self) this.#reads.arrive({ ...message, from })
        else this.#redirect(from)
        break
      case 'replies':
        if (message.session.incarnation !== this.relay.session.incarnation) break
        this.#local.show(message.index)
        for (const { sequence, reply } of message.replies) this.relay.answer(sequence, reply)
        break
      case 'read-replies':
        this.#local.show(message.index)
        this.#local.confirm(this.relay.answerReads(message.id, message.replies))
        break
      case 'session-ended':
        this.relay.renew(message.session, message.next)
        break
      case 'redirect':
        this.#redirected(message.leader, message.configuration)
        break
      // Checkpoints in chunks are the shell's (node.ts): they touch the disk and not the core.
      case 'fetch-manifest':
      case 'manifest':
      case 'fetch-chunk':
      case 'chunk':
        break
      default:
        unreachable(message)
    }
  }

  #redirect(to: NodeId): void {
    const leader = leaderOf(this.replica) ?? this.#way.hint
    this.#tell(to, { kind: 'redirect', leader, configuration: this.appliedConfiguration })
  }

  #redirected(leader: NodeId | null, configuration: Configuration | null): void {
    // Known members are dialled: a leader that is none of ours could not be reached, and would not know us.
    if (configuration && configuration.id > this.appliedConfiguration.id) this.#ports.heardOf(configuration)
    if (!this.#way.redirected(leader, leaderOf(this.replica))) return
    this.#resend = true
    this.#wake()
  }

  #time(): number {
    return this.#clock.read(this.#ports.now(), this.#ports.wallClock(), this.machine.timeMilliseconds)
  }

  // ---- entries ---------------------------------------------------------------------------------------------------

  readonly #takesProposals = (): boolean => acceptsProposals(this.replica) && !this.#backlog.isLong

  #proposeWaiting(): void {
    while (!this.#inbox.isEmpty && this.#takesProposals()) {
      const first = this.machine.commandsToLog(this.appliedConfiguration)
      const index = logIndex(position(this.replica).index + 1)
      const payload = this.#inbox.nextEntry(index, this.#time(), first)
      this.#step({ kind: 'propose', now: this.#ports.now(), payload })
    }
  }

  #persist(): void {
    const frame = this.#frames.take(position(this.replica), this.#say)
    if (frame) this.#ports.persist(frame.records, () => this.#durable(frame))
  }

  /** Between turns. What the core says to others now leaves at once; a turn follows if there is more than that to do. */
  #durable(frame: Frame): void {
    this.#frames.finish(frame, this.#say)
    const confirmed: Event = { kind: 'persisted', now: this.#ports.now(), position: frame.position }
    const effects = this.#backlog.holds(confirmed) ? [] : this.#step(confirmed)
    if (effects.some((effect) => effect.kind !== 'send' || effect.afterSync)) this.#wake()
    this.#ports.flush()
  }

  // ---- application -------------------------------------------------------------------------------------------------

  #apply(): void {
    const entries = this.#backlog.slice(this.replica, this.machine.applied, this.#decided)
    for (const entry of entries) this.#applyEntry(entry, this.#replies)
    const goesOn = this.#backlog.note(this.#decided - this.machine.applied)
    this.#events.push(...this.#backlog.release())
    if (goesOn || (entries.length > 0 && this.relay.hasMoreToSend)) this.#wake()
  }

  /** At a start, before anything else: applies an entry that is known decided. Nobody waits for its replies. */
  replay(entry: Entry): void {
    this.#applyEntry(entry, null)
    this.#decided = entry.index
  }

  #applyEntry(entry: Entry, sink: ReplySink | null): void {
    this.machine.apply(entry, sink)
    if (entry.kind === 'commands') return
    this.appliedConfiguration = entry.next
    this.appliedConfigurationStart = entry.index
  }

  // ---- reads -----------------------------------------------------------------------------------------------------

  #askReads(): void {
    if (!this.#reads.hasArrived) return
    if (!isLeader(this.replica)) {
      // Not leading yet: they stay. Not leading any more: the nodes they came from ask the next leader.
      if (leaderOf(this.replica) !== this.self) this.#reads.forgetArrived()
      return
    }
    let atLeast = logIndex(0)
    const due = this.machine.nextExpiryMilliseconds()
    if (due !== null && due <= this.#time()) {
      // Some key is due: its expiry is logged before it is read, so that no later leader shows it again. While
      // nothing can be proposed (a transfer, a change of members, a full pipeline) the reads wait.
      if (!this.#takesProposals()) return
      this.#inbox.wantTime()
      this.#proposeWaiting()
      atLeast = position(this.replica).index
    }
    this.#step({ kind: 'read', now: this.#ports.now(), id: this.#reads.ask(atLeast, this.#time()) })
  }

  #answerReads(): void {
    if (this.#reads.postpone(this.machine.applied, this.machine.nextExpiryMilliseconds() ?? Infinity)) this.#wake()
    const turn = new TurnOfReading((command) => this.machine.read(command), this.#limits)
    while (!turn.isOver) {
      const next = this.#reads.next(this.machine.applied, this.#ports.isBehind)
      if (!next) return
      const { from, id } = next
      if (from === this.self) this.#local.confirm(this.relay.readHere(id, turn.reader(next), 'refusal' in next))
      else this.#tell(from, { kind: 'read-replies', id, index: this.machine.applied, replies: turn.readFirst(next) })
    }
    if (this.#reads.isReady(this.machine.applied) || this.relay.hasReads) this.#wake()
  }

  get decided(): LogIndex {
    return this.#decided
  }
  get status(): ReturnType<typeof statusOf> {
    return statusOf(this.replica)
  }
}
