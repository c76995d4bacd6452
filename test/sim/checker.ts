/**
 * What must hold after every step, whatever was done to the cluster. Each check throws a Violation with the
 * name of the invariant (docs/SPEC.md lists them).
 */
import { acceptQuorum, isVoter } from '../../src/consensus/quorum.ts'
import { sameEntry } from '../../src/consensus/log.ts'
import { type Replica, entriesBetween, statusOf } from '../../src/consensus/replica.ts'
import {
  type Ballot,
  type Configuration,
  type DurableState,
  type Entry,
  type LogIndex,
  type NodeId,
  ZERO_BALLOT,
  compareBallots,
  logIndex,
} from '../../src/vocabulary.ts'

export class Violation extends Error {
  override name = 'Violation'
}

/** What the checker looks at of a node: of one with the whole shell as of one with the core alone. */
export interface CheckedNode {
  readonly id: NodeId
  /** Tells its starts apart. */
  readonly incarnation: number
  readonly replica: Replica | null
  /** Index of the last entry that it has applied. */
  readonly applied: number
  /** Index of the last entry that is decided here, as far as the checker was told. */
  readonly decided: number
  readonly disk: { holds(entry: Entry): boolean; readonly image: { readonly state: DurableState } }
}

const show = (ballot: Ballot): string => `${ballot.configuration}.${ballot.n}.${ballot.priority}.${ballot.node}`

export class Checker {
  /** The one decided sequence; `decided[0]` has index 1. */
  readonly decided: Entry[] = []
  /** Configurations in the order in which they were decided, each with the index of its stop-sign. */
  readonly configurations: { readonly configuration: Configuration; readonly start: number }[] = []
  /** One storage was damaged: one copy may be missing. */
  damaged = false
  #leaders = new Map<string, string>()
  /** The newest configuration that is complete. */
  #complete = 1
  /** The largest ballot that anybody led. */
  #largest: Ballot = ZERO_BALLOT
  /** What was decided when voters started that have not caught up yet. */
  readonly #missed = new Map<NodeId, number>()
  #reads = new Map<string, number>()

  constructor(genesis: Configuration) {
    this.configurations.push({ configuration: genesis, start: 0 })
  }

  get configuration(): Configuration {
    return this.configurations.at(-1)!.configuration
  }

  /**
   * Everything up to `index` is decided at a node: it must be what was decided there at every other node. To be told
   * when that is so, and not when it is applied: until then the node may accept in a larger ballot, and the copies
   * of before would not count any more.
   */
  decides(node: CheckedNode, index: LogIndex, all: readonly CheckedNode[]): void {
    const entries = entriesBetween(node.replica!, logIndex(node.decided + 1), index)
    if (entries.length !== index - node.decided) {
      throw new Violation(`node ${node.id}: entries ${node.decided + 1} to ${index} are decided and not there`)
    }
    for (const entry of entries) {
      if (!node.disk.holds(entry))
        throw new Violation(`node ${node.id} decides ${entry.index}, which is not durable here`)
      const known = this.decided[entry.index - 1]
      if (known === undefined) this.#decide(node, entry, all)
      else if (!sameEntry(known, entry)) {
        throw new Violation(`agreement: node ${node.id} decides another entry at index ${entry.index}`)
      }
    }
  }

  #decide(node: CheckedNode, entry: Entry, all: readonly CheckedNode[]): void {
    if (entry.index !== this.decided.length + 1) throw new Violation(`node ${node.id} decides ${entry.index} too early`)
    this.decided.push(entry)
    const { configuration } = this.configurations.at(-1)!
    // Copies of a smaller ballot do not count: a leader in between may have chosen something else.
    const { acceptedBallot } = node.disk.image.state
    let copies = 0
    for (const other of all) {
      if (!isVoter(configuration, other.id) || !other.disk.holds(entry)) continue
      if (compareBallots(other.disk.image.state.acceptedBallot, acceptedBallot) >= 0) copies++
    }
    const needed = acceptQuorum(configuration) - (this.damaged ? 1 : 0)
    if (copies < needed) throw new Violation(`durability: entry ${entry.index} is decided with ${copies} copies`)
    if (entry.kind === 'stop-sign') this.configurations.push({ configuration: entry.next, start: entry.index })
  }

  /** One process leads a ballot. */
  leads(node: CheckedNode, ballot: Ballot): void {
    const process = `node ${node.id} start ${node.incarnation}`
    const other = this.#leaders.get(show(ballot))
    if (other !== undefined) throw new Violation(`one leader a ballot: ${show(ballot)} by ${other} and ${process}`)
    this.#leaders.set(show(ballot), process)
    if (compareBallots(ballot, this.#largest) > 0) this.#largest = ballot
  }

  starts(node: CheckedNode): void {
    if (statusOf(node.replica!).phase === 'member') this.#missed.set(node.id, this.decided.length)
    else this.#missed.delete(node.id)
  }

  /** An AcceptSync from before its start has come: that brings it to where the leader was then, when so much was decided. */
  excuses(id: NodeId, decided: number): void {
    const missed = this.#missed.get(id)
    if (missed !== undefined) this.#missed.set(id, Math.min(missed, decided))
  }

  /**
   * A voter that says that it has caught up since its start has decided all that was decided then; what a leader of a
   * smaller ballot told it may be less.
   */
  catchesUp(node: CheckedNode): void {
    const missed = this.#missed.get(node.id)
    if (missed === undefined || !statusOf(node.replica!).caughtUp) return
    this.#missed.delete(node.id)
    const { promise, decided } = node.replica!
    if (decided >= missed || compareBallots(promise, this.#largest) < 0) return
    throw new Violation(`caught up: node ${node.id} says so at ${decided}, ${missed} was decided when it started`)
  }

  /** Nobody calls its configuration complete before the first entry of it is decided: those that have left may be deleted. */
  completes(node: CheckedNode): void {
    const { configuration, configurationComplete } = statusOf(node.replica!)
    if (!configurationComplete || configuration.id <= this.#complete) return
    const since = this.configurations.find((one) => one.configuration.id === configuration.id)
    if (since === undefined || this.decided.length <= since.start) {
      throw new Violation(
        `complete: node ${node.id} says so of configuration ${configuration.id}, which has decided nothing`,
      )
    }
    this.#complete = configuration.id
  }

  /** A leader that was told to withdraw a change goes on with none, unless it is in its log. */
  withdraws(node: CheckedNode): void {
    if (node.replica === null || statusOf(node.replica).reconfiguration?.state !== 'catching-up') return
    throw new Violation(`withdrawn: node ${node.id} goes on with a change`)
  }

  asks(node: CheckedNode, id: number): void {
    this.#reads.set(`${node.id}.${node.incarnation}.${id}`, this.decided.length)
  }

  /** A read must see everything that anyone had decided before it was asked. */
  reads(node: CheckedNode, id: number, index: LogIndex): void {
    const least = this.#reads.get(`${node.id}.${node.incarnation}.${id}`)
    if (least === undefined) throw new Violation(`node ${node.id} answers read ${id}, which was not asked`)
    if (index < least) throw new Violation(`linearizability: node ${node.id} reads at ${index}, ${least} was decided`)
    if (index > node.applied) throw new Violation(`node ${node.id} reads at ${index} and has applied ${node.applied}`)
  }
}
