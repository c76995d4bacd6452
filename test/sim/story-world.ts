/**
 * The world of a golden story (story.ts): replicas with a model of their disk, messages and disks that wait for nothing
 * unless they are told to, clocks, and what came of it all in lines. Between two commands everything has come to rest.
 */
import assert from 'node:assert/strict'
import type { Effect } from '../../src/consensus/events.ts'
import { slice } from '../../src/consensus/log.ts'
import type { Message } from '../../src/consensus/messages.ts'
import { acceptsCheckpoint } from '../../src/consensus/replica.ts'
import type { LogRecord, NodeId } from '../../src/vocabulary.ts'
import type { Checker } from './checker.ts'
import { type Host, SimNode } from './node.ts'
import type { Random } from './random.ts'
import { type Mark, Trace, describe, describeRecords } from './trace.ts'

const STEP_MILLISECONDS = 10

/** A command that cannot be done as things are. */
export class Cannot extends Error {
  override name = 'Cannot'
}

export function can(condition: unknown, why: string): asserts condition {
  if (!condition) throw new Cannot(why)
}

interface Flying {
  /** For the trace: when it arrived. */
  readonly arrives: number[]
  readonly from: NodeId
  readonly to: NodeId
  readonly message: Message
  /** Of the receiver, when it was sent. */
  readonly incarnation: number
  /** How much was decided then. */
  readonly decided: number
}

export class StoryWorld implements Host {
  readonly nodes = new Map<NodeId, SimNode>()
  now = 0
  readonly trace = new Trace(1_000_000)
  #moments = 0
  checker: Checker | null = null
  flying: Flying[] = []
  /** Nodes that were deleted: they never come back. */
  readonly gone = new Set<NodeId>()
  /** The node whose storage was damaged. */
  damaged: NodeId | null = null
  /** Links, `1>2`. */
  cut = new Set<string>()
  /** The next message of a kind on a link is lost, for each of these. */
  lose: { kind: string; link: string }[] = []
  /** The next message of a kind on a link is late, for each of these: it waits until what waits there may arrive. */
  late: { kind: string; link: string }[] = []
  /** The next message of a kind on a link comes twice, for each of these: the second time as what is late. */
  double: { kind: string; link: string }[] = []
  /** What is late. */
  waiting: Flying[] = []
  /** Their disks take no end. */
  held = new Set<NodeId>()
  /** What waits for them. */
  paused = new Map<NodeId, Flying[]>()
  clocks = new Map<NodeId, { readonly rate: number; readonly since: number; readonly shows: number }>()
  syncs: { readonly node: SimNode; readonly records: readonly LogRecord[] }[] = []
  /** What came of the command so far. */
  lines: string[] = []
  /** Messages are shown. */
  loud = false
  showsDecided = true
  /** Messages overtake each other. */
  disorder: Random | null = null
  loss: { readonly chance: number; readonly random: Random } | null = null
  /** What came of the last read of each node. */
  reads = new Map<NodeId, string>()

  // ---- host ----

  send(node: SimNode, to: NodeId, message: Message): void {
    const link = `${node.id}>${to}`
    if (message.kind === 'promise') this.nodes.get(to)?.promisedBy(message.ballot)
    const lost = this.lose.findIndex((one) => one.kind === message.kind && one.link === link)
    if (lost >= 0) this.lose.splice(lost, 1)
    const late = this.late.findIndex((one) => one.kind === message.kind && one.link === link)
    if (late >= 0) this.late.splice(late, 1)
    const double = this.double.findIndex((one) => one.kind === message.kind && one.link === link)
    if (double >= 0) this.double.splice(double, 1)
    const gone = lost >= 0 || this.cut.has(link) || (this.loss !== null && this.loss.random.chance(this.loss.chance))
    const fate = gone ? ' (lost)' : late >= 0 ? ' (late)' : double >= 0 ? ' (twice)' : ''
    if (this.loud || lost >= 0 || late >= 0 || double >= 0)
      this.lines.push(`${node.id} -> ${to} ${describe(message)}${fate}`)
    const arrives: number[] = []
    this.trace.add({ kind: 'message', at: this.moment(), from: node.id, to, message, arrives })
    const incarnation = this.nodes.get(to)?.incarnation ?? 0
    const flying = { arrives, from: node.id, to, message, incarnation, decided: this.checker!.decided.length }
    if (!gone) (late >= 0 ? this.waiting : this.flying).push(flying)
    if (double >= 0) this.waiting.push(flying)
  }

  /** What is late on the link arrives after all. */
  arrive(link: string): void {
    this.flying.push(...this.waiting.filter(({ from, to }) => `${from}>${to}` === link))
    this.waiting = this.waiting.filter(({ from, to }) => `${from}>${to}` !== link)
  }

  syncing(node: SimNode, records: readonly LogRecord[]): void {
    this.syncs.push({ node, records })
  }

  /** In a story everything happens at once: the trace keeps the order. */
  moment(): number {
    return this.now + ++this.#moments * 1e-6
  }

  note(node: SimNode, mark: Mark, what: string | (() => string)): void {
    this.trace.add({ kind: 'node', at: this.moment(), node: node.id, mark, what })
  }

  effect(node: SimNode, effect: Exclude<Effect, { readonly kind: 'persist' | 'send' }>): void {
    const isRepeated = effect.kind === 'need-checkpoint' && this.lines.includes(`${node.id} ${describe(effect)}`)
    if (!isRepeated && (effect.kind !== 'decided' || this.showsDecided)) {
      this.lines.push(`${node.id} ${describe(effect)}`)
    }
    const mark = effect.kind === 'became-leader' ? 'leads' : effect.kind === 'decided' ? 'decided' : 'other'
    this.note(node, mark, () => describe(effect))
    if (effect.kind === 'decided') {
      this.checker!.decides(node, effect.index, [...this.nodes.values()])
      node.applied = effect.index
      this.checker!.completes(node)
      this.checker!.catchesUp(node)
    } else if (effect.kind === 'configuration-changed') this.checker!.completes(node)
    else if (effect.kind === 'leader-changed') this.checker!.catchesUp(node)
    else if (effect.kind === 'became-leader') this.checker!.leads(node, effect.ballot)
    else if (effect.kind === 'read-ready') {
      this.checker!.reads(node, effect.id, effect.index)
      this.reads.set(node.id, String(effect.index))
    } else if (effect.kind === 'read-failed') this.reads.set(node.id, 'failed')
    else if (effect.kind === 'need-checkpoint') this.#bring(node, effect.index, effect.from)
    else if (effect.kind === 'read-log') this.#readBack(node, effect)
  }

  /** Applies what a start has found decided; the core says so with its first step. */
  replay(node: SimNode): void {
    const { decided } = node.replica!
    if (decided <= node.applied) return
    this.checker!.decides(node, decided, [...this.nodes.values()])
    node.applied = decided
  }

  /** It comes at once. */
  #readBack(node: SimNode, { to, from, upTo }: Extract<Effect, { readonly kind: 'read-log' }>): void {
    const { incarnation } = node
    const { first, image } = node.disk
    const entries = from < first ? [] : slice(image.log, from, upTo, node.replica!.options.maxBatchBytes)
    this.#later.push(() => {
      if (!node.up || node.incarnation !== incarnation) return
      node.step({ kind: 'log-read', now: this.at(node), to, from, entries, first })
    })
  }

  /** The checkpoint that is asked for comes at once, where a node in reach has it. */
  #bring(node: SimNode, index: number, from: readonly NodeId[]): void {
    const reached = from.filter((id) => this.nodes.get(id)?.up && !this.cut.has(`${id}>${node.id}`))
    const source = reached.map((id) => this.nodes.get(id)!).find(({ disk }) => (disk.checkpoint?.index ?? 0) >= index)
    if (source === undefined) return
    const { index: at, configuration, start } = source.disk.checkpoint!
    this.#later.push(() => {
      if (!node.up || !acceptsCheckpoint(node.replica!, at, configuration)) return
      this.lines.push(`${node.id} installs checkpoint ${at} of node ${source.id}`)
      this.note(node, 'other', `installs checkpoint ${at}`)
      node.applied = at
      node.disk.checkpoint = source.disk.checkpoint
      node.step({ kind: 'checkpoint-installed', now: this.at(node), index: at, configuration, start })
    })
  }
  #later: (() => void)[] = []

  // ---- time ----

  /** What the monotonic clock of a node shows. */
  at(node: SimNode): number {
    const clock = this.clocks.get(node.id)
    return clock ? clock.shows + (this.now - clock.since) * clock.rate : this.now
  }

  /** Syncs and messages, until nothing moves. */
  flow(): void {
    for (let moves = 0; ; moves++) {
      assert(moves < 20_000, 'messages without end')
      const later = this.#later.shift()
      if (later) {
        later()
        continue
      }
      const at = this.syncs.findIndex(({ node: { id } }) => !this.held.has(id) && !this.paused.has(id))
      if (at >= 0) {
        const { node, records } = this.syncs.splice(at, 1)[0]!
        this.note(node, 'durable', () => describeRecords(records))
        node.synced(node.incarnation, this.at(node))
        continue
      }
      const next = this.flying.splice(this.disorder?.integer(0, Math.max(0, this.flying.length - 1)) ?? 0, 1)[0]
      if (!next) return
      const node = this.nodes.get(next.to)
      if (this.paused.has(next.to)) this.paused.get(next.to)!.push(next)
      else {
        next.arrives.push(this.moment())
        const isOld = next.message.kind === 'accept-sync' && node?.incarnation !== next.incarnation
        if (isOld) this.checker!.excuses(next.to, next.decided)
        if (node?.up) node.step({ kind: 'message', now: this.at(node), from: next.from, message: next.message })
      }
    }
  }

  pass(milliseconds: number, done: () => boolean = () => false): number {
    for (let passed = 0; passed <= milliseconds; passed += STEP_MILLISECONDS) {
      this.flow()
      if (done()) return passed
      if (passed === milliseconds) break
      this.now += STEP_MILLISECONDS
      for (const node of this.nodes.values()) {
        if (node.up && !this.paused.has(node.id)) node.step({ kind: 'tick', now: this.at(node) })
      }
    }
    return -1
  }
}
