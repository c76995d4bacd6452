/**
 * The network of the simulator: which links work, and what happens to a message. A link goes one way.
 *
 * In stream mode messages of a link keep their order, as over TCP, and what is lost is lost together with the
 * connection (the other side gets `reconnected`); otherwise each one is lost, doubled and delayed by itself.
 */
import type { NodeId } from '../../src/vocabulary.ts'
import type { Random } from './random.ts'

export interface NetworkOptions {
  readonly stream: boolean
  readonly lossChance: number
  readonly doubleChance: number
  readonly delayMilliseconds: number
  /** Chance that a message takes up to twenty times as long. */
  readonly slowChance: number
}

export class Network {
  options: NetworkOptions
  readonly #random: Random
  #blocked = new Set<string>()
  #lastArrival = new Map<string, number>()
  #busyUntil = new Map<string, number>()

  constructor(options: NetworkOptions, random: Random) {
    this.options = options
    this.#random = random
  }

  block(from: NodeId, to: NodeId): void {
    this.#blocked.add(`${from}>${to}`)
  }

  unblock(from: NodeId, to: NodeId): void {
    this.#blocked.delete(`${from}>${to}`)
  }

  isBlocked(from: NodeId, to: NodeId): boolean {
    return this.#blocked.has(`${from}>${to}`)
  }

  heal(): void {
    this.#blocked.clear()
    this.#busyUntil.clear()
  }

  /** A large message takes so long; what is sent meanwhile waits behind it. */
  occupy(from: NodeId, to: NodeId, until: number): void {
    this.#busyUntil.set(`${from}>${to}`, until)
  }

  /** It is through, or the connection has ended. */
  release(from: NodeId, to: NodeId): void {
    this.#busyUntil.delete(`${from}>${to}`)
  }

  /** When copies of a message that is sent at `now` arrive; none: it is lost. */
  arrivals(from: NodeId, to: NodeId, now: number): number[] {
    const { stream, lossChance, doubleChance } = this.options
    const link = `${from}>${to}`
    if (this.isBlocked(from, to) || this.#random.chance(lossChance)) return []
    const since = Math.max(now, this.#busyUntil.get(link) ?? 0)
    if (!stream) {
      const copies = this.#random.chance(doubleChance) ? 2 : 1
      return Array.from({ length: copies }, () => since + this.#delay())
    }
    const at = Math.max(since + this.#delay(), this.#lastArrival.get(link) ?? 0)
    this.#lastArrival.set(link, at)
    return [at]
  }

  /** When a connection that closes at `now` shows it at the receiver's end: behind everything that came over it. */
  closes(from: NodeId, to: NodeId, now: number): number {
    return Math.max(now, this.#lastArrival.get(`${from}>${to}`) ?? 0)
  }

  #delay(): number {
    const { delayMilliseconds, slowChance } = this.options
    const most = this.#random.chance(slowChance) ? delayMilliseconds * 20 : delayMilliseconds
    return 0.1 + this.#random.next() * most
  }
}

/** Links of a partition: between two sides, out of one side, or any; most of the last two kinds in both directions. */
export function chooseCut(random: Random, ids: readonly NodeId[]): [NodeId, NodeId][] {
  const links: [NodeId, NodeId][] = []
  const kind = random.integer(0, 2)
  const side = new Set(random.shuffle(ids).slice(0, random.integer(1, ids.length)))
  for (const from of ids) {
    for (const to of ids) {
      if (from === to) continue
      const cut = kind === 0 ? side.has(from) !== side.has(to) : kind === 1 ? side.has(from) : random.chance(0.3)
      if (!cut) continue
      links.push([from, to])
      if (kind !== 1 && random.chance(0.8)) links.push([to, from])
    }
  }
  return links
}
