/**
 * A node of the simulator: a replica, its durable log, and the smallest shell that keeps the rules of
 * src/consensus/events.ts. It has no time and no network of its own: its host gives and takes.
 */
import assert from 'node:assert/strict'
import type { Effect, Event, Position } from '../../src/consensus/events.ts'
import type { Message } from '../../src/consensus/messages.ts'
import { type Options, type Replica, createReplica, position, step } from '../../src/consensus/replica.ts'
import { type Ballot, type LogRecord, type NodeId, ZERO_BALLOT, compareBallots } from '../../src/vocabulary.ts'
import type { DurableLog } from './durable-log.ts'

type Shown = Exclude<Effect, { readonly kind: 'persist' } | { readonly kind: 'send' }>

export interface Host {
  /** A message leaves. */
  send(node: SimNode, to: NodeId, message: Message): void
  /** A frame was handed to the disk: call `node.synced(incarnation)` some time later. */
  syncing(node: SimNode, records: readonly LogRecord[]): void
  /** Every effect that is neither persist nor send, in order, at once. */
  effect(node: SimNode, effect: Shown): void
}

interface Waiting {
  readonly to: NodeId
  readonly message: Message
  /** Of the log when the message was made. */
  readonly generation: number
}

interface Frame {
  readonly position: Position
  readonly sends: Waiting[]
}

const larger = (a: Ballot, b: Ballot): Ballot => (compareBallots(a, b) > 0 ? a : b)

/** Whether so many voters were heard of lately that one of them could be elected: two such sets, and one that accepts, meet. */
const seesEnough = ({ self, now, configuration, lastHeard, options }: Replica): boolean => {
  const since = now - 2 * options.electionTimeoutMilliseconds
  const heard = configuration.voters.filter(({ id }) => id === self || (lastHeard.get(id) ?? -Infinity) >= since)
  const { voters, acceptQuorum = 0 } = configuration
  return 2 * heard.length > voters.length && (acceptQuorum === 0 || heard.length + acceptQuorum > voters.length)
}

export class SimNode {
  replica: Replica | null = null
  /** Rises with each start. */
  incarnation = 0
  /** Index of the last entry that the shell has applied. */
  applied = 0
  /** This shell applies what is decided at once. */
  get decided(): number {
    return this.applied
  }
  /** The largest ballot that this node has told anyone it promised. */
  saidPromise: Ballot = ZERO_BALLOT
  /** The largest that it promised to another. */
  #promised: Ballot = ZERO_BALLOT
  /** The largest of its own that another has promised. */
  #wasPromised: Ballot = ZERO_BALLOT
  /** Rate of its monotonic clock. */
  clockRate = 1
  readonly id: NodeId
  /** Another one where the real log of a start takes its place (start-node.ts). */
  disk: DurableLog
  readonly #host: Host
  readonly #options: Partial<Options>
  #pending: LogRecord[] = []
  #waiting: Waiting[] = []
  #frame: Frame | null = null

  constructor(id: NodeId, disk: DurableLog, host: Host, options: Partial<Options>) {
    this.id = id
    this.disk = disk
    this.#host = host
    this.#options = options
  }

  get up(): boolean {
    return this.replica !== null
  }

  start(now: number): void {
    const recovered = this.disk.recover()
    this.incarnation++
    this.applied = recovered.first - 1
    this.#pending = []
    this.#waiting = []
    this.#frame = null
    this.replica = createReplica({ self: this.id, recovered, options: this.#options, now, start: this.incarnation })
    // Of what rot took others tell what it promised them, and of its own ballots those that they have promised. One that
    // nobody has is forgotten for good: nobody was led by it, and to use it once more is to use it for the first time.
    if (recovered.promiseLost) this.saidPromise = larger(this.#promised, this.#wasPromised)
    assert(
      recovered.promiseLost || compareBallots(this.replica.promise, this.saidPromise) >= 0,
      `node ${this.id} has forgotten a promise`,
    )
  }

  /** Another node has promised a ballot of this one, durably, whether this one will hear of it or not. */
  promisedBy(ballot: Ballot): void {
    this.#wasPromised = larger(this.#wasPromised, ballot)
  }

  /** Loses memory, and of what was written and not synced all but `kept` pieces. */
  crash(kept: number): void {
    this.replica = null
    this.disk.crash(kept)
  }

  step(event: Event): void {
    if (this.replica === null) return
    const { incarnation, replica } = this
    const before = replica.leadership
    const effects = step(replica, event)
    const isToldTo = event.kind === 'message' && event.message.kind === 'take-over'
    const wants = replica.leadership !== before && replica.leadership?.agreed === false && !isToldTo
    assert(!wants || seesEnough(replica), 'a candidate sees too few to be elected')
    for (const effect of effects) {
      if (effect.kind === 'persist') {
        this.#pending.push(effect.record)
      } else if (effect.kind === 'send') {
        this.#send(effect.to, effect.message, effect.afterSync)
      } else {
        this.#host.effect(this, effect)
      }
      if (this.incarnation !== incarnation || this.replica === null) return
    }
    this.#beginSync()
  }

  #send(to: NodeId, message: Message, afterSync: boolean): void {
    const { generation } = this.replica!
    if (!afterSync) return this.#leave({ to, message, generation })
    // A decided record alone is lazy: nothing waits for it.
    if (this.#pending.some((record) => record.kind !== 'decided')) this.#waiting.push({ to, message, generation })
    else if (this.#frame) this.#frame.sends.push({ to, message, generation })
    else this.#leave({ to, message, generation })
  }

  #leave({ to, message, generation }: Waiting): void {
    this.#check(message, generation)
    this.#host.send(this, to, message)
  }

  /**
   * What a message says of this node's log must be on its disk when it leaves; but for entries that proved to
   * contradict what is decided since it was made, and were dropped: they cannot have been chosen.
   */
  #check(message: Message, generation: number): void {
    const { state, log } = this.disk.image
    const last = log.first + log.entries.length - 1
    if (message.kind === 'promise') {
      assert(compareBallots(state.promise, message.ballot) >= 0, 'a promise leaves before it is durable')
      assert(this.#isBoundBy(message.ballot), 'a promise is given below one that was given')
      const same = generation === this.replica!.generation
      assert(!same || last >= message.accepted, 'a promise speaks of a log that is not durable')
      if (compareBallots(message.ballot, this.saidPromise) > 0) this.saidPromise = message.ballot
      if (compareBallots(message.ballot, this.#promised) > 0) this.#promised = message.ballot
    } else if (message.kind === 'prepare') {
      assert(compareBallots(state.promise, message.ballot) >= 0, 'a ballot is used before it is durable')
      if (compareBallots(message.ballot, this.saidPromise) > 0) this.saidPromise = message.ballot
    } else if (message.kind === 'accepted') {
      assert(this.#isBoundBy(message.ballot), 'accepted below what was promised')
      assert(compareBallots(state.acceptedBallot, message.ballot) === 0, 'accepted of a ballot that is not durable')
      assert(last >= message.index, 'accepted before it is durable')
    } else if (message.kind === 'take-over' && message.ballot.n > 0) {
      assert(seesEnough(this.replica!), 'a leader gives up what it cannot get back, for a transfer')
    }
  }

  /**
   * Nothing is said below a promise to another: for ever, rot included. Of a later configuration it may have forgotten
   * all; what was decided in this one, others hold.
   */
  #isBoundBy(ballot: Ballot): boolean {
    const isEarlier = this.disk.hasForgotten && ballot.configuration < this.#promised.configuration
    return isEarlier || compareBallots(ballot, this.#promised) >= 0
  }

  #beginSync(): void {
    if (this.#frame !== null || !this.#pending.some((record) => record.kind !== 'decided')) return
    this.#frame = { position: position(this.replica!), sends: this.#waiting }
    const records = this.#pending
    this.disk.write(records)
    this.#pending = []
    this.#waiting = []
    this.#host.syncing(this, records)
  }

  /** The disk is done with the frame that was handed to it in that incarnation. */
  synced(incarnation: number, now: number): void {
    const frame = this.#frame
    if (incarnation !== this.incarnation || frame === null || this.replica === null) return
    this.disk.sync()
    this.#frame = null
    for (const waiting of frame.sends) this.#leave(waiting)
    this.step({ kind: 'persisted', now, position: frame.position })
    if (this.replica !== null) this.#beginSync()
  }
}
