/**
 * Whom the leader hurries. PURE.
 *
 * A quorum decides an entry and confirms a read; every answer beyond it costs two wake-ups, and for an entry a sync,
 * that nobody waits for. So as long as answers come quickly, entries and probes of reads leave at once to as many
 * voters as are needed, and to the others together a moment later (`TurnPorts.send`).
 *
 * Nobody waits for one that hangs: what was to wait leaves a moment later all the same, and is answered; where that
 * happens again and again, everything leaves at once to all for a while, and who answers first then is hurried next.
 */
import type { Effect, Event } from '../consensus/events.ts'
import type { Message } from '../consensus/messages.ts'
import { acceptQuorum, isVoter } from '../consensus/quorum.ts'
import type { Configuration, LogIndex, NodeId } from '../vocabulary.ts'

/** The moment; an answer that takes longer is late. */
export const LATE_MILLISECONDS = 2
/** One late answer counts as much as so many quick ones … */
const LATE_WEIGHT = 8
/** … and with such a sum all are hurried … */
const LATENESS_MOST = 64
/** … for so long, each time twice as long; after the most without it, as at first. */
const ALL_LEAST_MILLISECONDS = 1000
const ALL_MOST_MILLISECONDS = 64_000
/** For so long a new leader, or one whose quickest has left, sees who answers first. */
const LOOK_MILLISECONDS = 100

type Answer = 'decided' | 'read-ready'

export class Hurry {
  readonly #self: NodeId
  /** Chosen for this configuration, when it is asked for. */
  #chosen: { readonly configuration: Configuration; readonly hurried: ReadonlySet<NodeId> } | null = null
  /** By voter: how often something became decided or confirmed with its answer. */
  readonly #answers = new Map<NodeId, number>()
  /** One entry and one read whose ways are timed, by what ends them: up to which index or id, and since when. */
  readonly #timed: Record<Answer, { readonly until: number; readonly since: number } | null> = {
    decided: null,
    'read-ready': null,
  }
  #lateness = 0
  #allUntil = -Infinity
  #allMilliseconds = ALL_LEAST_MILLISECONDS

  constructor(self: NodeId) {
    this.#self = self
  }

  /** Whether this message of the leader may leave a moment later. A change of members is waited for by all. */
  mayWait(to: NodeId, message: Message, configuration: Configuration, now: number): boolean {
    const waits =
      message.kind === 'accept-decide' ? message.entries.at(-1)?.kind === 'commands' : message.kind === 'read-probe'
    return waits && now >= this.#allUntil && isVoter(configuration, to) && !this.#choose(configuration).has(to)
  }

  #choose(configuration: Configuration): ReadonlySet<NodeId> {
    if (this.#chosen?.configuration !== configuration) {
      const answers = (id: NodeId): number => this.#answers.get(id) ?? 0
      const others = configuration.voters.map(({ id }) => id).filter((id) => id !== this.#self)
      others.sort((a, b) => answers(b) - answers(a))
      this.#chosen = { configuration, hurried: new Set(others.slice(0, acceptQuorum(configuration) - 1)) }
    }
    return this.#chosen.hurried
  }

  /** What became of an event; `last`: where the log ends now. */
  stepped(event: Event, effects: readonly Effect[], last: LogIndex): void {
    const { now } = event
    if (event.kind === 'propose') this.#timed.decided ??= { until: last, since: now }
    if (event.kind === 'read') this.#timed['read-ready'] ??= { until: event.id, since: now }
    for (const effect of effects) {
      if (effect.kind === 'decided') this.#answered('decided', effect.index, event)
      else if (effect.kind === 'read-ready') this.#answered('read-ready', effect.id, event)
      else if (effect.kind === 'leader-changed') {
        this.#timed.decided = this.#timed['read-ready'] = null
        this.#hurryAll(now, LOOK_MILLISECONDS)
      }
    }
    if (event.kind === 'disconnected' && this.#chosen?.hurried.has(event.peer)) {
      this.#hurryAll(now, LOOK_MILLISECONDS)
    }
  }

  #answered(what: Answer, upTo: number, event: Event): void {
    if (event.kind === 'message') this.#answers.set(event.from, (this.#answers.get(event.from) ?? 0) + 1)
    const timed = this.#timed[what]
    if (timed === null || upTo < timed.until) return
    this.#timed[what] = null
    this.#took(event.now - timed.since, event.now)
  }

  #took(milliseconds: number, now: number): void {
    // While all are hurried it says nothing of those that are otherwise.
    if (now < this.#allUntil) return
    const late = milliseconds > LATE_MILLISECONDS
    this.#lateness = Math.max(0, this.#lateness + (late ? LATE_WEIGHT : -1))
    if (this.#lateness < LATENESS_MOST) return
    if (now - this.#allUntil > ALL_MOST_MILLISECONDS) this.#allMilliseconds = ALL_LEAST_MILLISECONDS
    this.#hurryAll(now, this.#allMilliseconds)
    this.#allMilliseconds = Math.min(2 * this.#allMilliseconds, ALL_MOST_MILLISECONDS)
  }

  #hurryAll(now: number, milliseconds: number): void {
    this.#allUntil = now + milliseconds
    this.#lateness = 0
    this.#answers.clear()
    this.#chosen = null
  }
}
