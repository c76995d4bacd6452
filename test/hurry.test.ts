/** Whom the leader hurries: one voter of three while it answers quickly, all where somebody hangs, and whoever is waited for. */
import { describe, expect, it } from 'vitest'
import type { Effect, Event } from '../src/consensus/events.ts'
import type { Message } from '../src/consensus/messages.ts'
import { Hurry, LATE_MILLISECONDS } from '../src/turn/hurry.ts'
import {
  type Configuration,
  type Entry,
  ZERO_BALLOT,
  configurationId,
  logIndex,
  nodeId,
  volumeId,
} from '../src/vocabulary.ts'

const ballot = ZERO_BALLOT
const configuration = (voters: readonly number[], learners: readonly number[] = []): Configuration => {
  const member = (id: number) => ({ id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })
  const members = { voters: voters.map(member), learners: learners.map(member) }
  return { id: configurationId(1), ...members, preferredLeader: nodeId(0) }
}
const THREE = configuration([1, 2, 3])
const commands: Entry = { kind: 'commands', index: logIndex(1), payload: new Uint8Array(1) }
const accept = (...entries: Entry[]): Message => ({ kind: 'accept-decide', ballot, decided: logIndex(0), entries })
const probe: Message = { kind: 'read-probe', ballot, id: 1 }

/** Node 1 leads; entries are decided with the answer of one, so and so late. */
class Leader {
  readonly hurry = new Hurry(nodeId(1))
  now = 0
  #last = 0
  readonly #configuration: Configuration

  constructor(of: Configuration = THREE) {
    this.#configuration = of
    this.#step({ kind: 'tick', now: 0 }, { kind: 'leader-changed', leader: nodeId(1), ballot })
  }

  #step(event: Event, ...effects: Effect[]): void {
    this.hurry.stepped(event, effects, logIndex(this.#last))
  }

  /** `count` entries, one after the other. */
  write(count: number, from: number, milliseconds: number): this {
    for (let written = 0; written < count; written++) {
      this.#last++
      this.#step({ kind: 'propose', now: this.now, payload: new Uint8Array(1) })
      this.now += milliseconds
      const index = logIndex(this.#last)
      const accepted: Message = { kind: 'accepted', ballot, index }
      this.#step({ kind: 'message', now: this.now, from: nodeId(from), message: accepted }, { kind: 'decided', index })
    }
    return this
  }

  read(count: number, from: number, milliseconds: number): this {
    for (let id = 1; id <= count; id++) {
      this.#step({ kind: 'read', now: this.now, id })
      this.now += milliseconds
      const ack: Message = { kind: 'read-ack', ballot, id }
      const ready: Effect = { kind: 'read-ready', id, index: logIndex(0) }
      this.#step({ kind: 'message', now: this.now, from: nodeId(from), message: ack }, ready)
    }
    return this
  }

  disconnect(peer: number): this {
    this.#step({ kind: 'disconnected', now: this.now, peer: nodeId(peer) })
    return this
  }

  /** Who is sent this at once. */
  hurried(message: Message = accept(commands)): number[] {
    return [...this.#configuration.voters, ...this.#configuration.learners]
      .map(({ id }) => id)
      .filter((id) => id !== 1 && !this.hurry.mayWait(id, message, this.#configuration, this.now))
  }
}

describe('a leader hurries', () => {
  it('all at first, then the one of three that answered first', () => {
    const leader = new Leader()
    expect(leader.write(10, 3, 0.5).hurried()).toEqual([2, 3])
    expect(leader.write(300, 3, 0.5).hurried()).toEqual([3])
    expect(leader.hurried(probe)).toEqual([3])
  })

  it('two of five', () => {
    const leader = new Leader(configuration([1, 2, 3, 4, 5]))
    leader.write(60, 4, 0.5).write(50, 2, 0.5).write(1000, 4, 0.5)
    expect(leader.hurried()).toEqual([2, 4])
  })

  it('learners, who are waited for, and everybody with a change of members', () => {
    const leader = new Leader(configuration([1, 2, 3], [4])).write(1000, 3, 0.5)
    expect(leader.hurried()).toEqual([3, 4])
    expect(leader.hurried(accept({ kind: 'stop-sign', index: logIndex(2), next: THREE }))).toEqual([2, 3, 4])
    expect(leader.hurried({ kind: 'beacon', ballot, decided: logIndex(0), end: logIndex(0) })).toEqual([2, 3, 4])
  })

  it.each(['write', 'read'] as const)(
    'all for a while, where one that hangs makes each %s late; then the other',
    (what) => {
      const leader = new Leader().write(300, 3, 0.5)
      expect(leader.hurried()).toEqual([3])
      // Node 3 hangs: node 2 answers what left late.
      leader[what](7, 2, LATE_MILLISECONDS + 1)
      expect(leader.hurried()).toEqual([3])
      expect(leader[what](1, 2, LATE_MILLISECONDS + 1).hurried()).toEqual([2, 3])
      expect(leader[what](2500, 2, 0.5).hurried()).toEqual([2])
    },
  )

  it('all for longer each time, where answers stay late', () => {
    const leader = new Leader()
    let changes = 0
    for (let before = leader.hurried().length; leader.now < 300_000;) {
      const after = leader.write(1, 2, 10).hurried().length
      if (after < before) changes++
      before = after
    }
    expect(changes).toBeGreaterThan(4)
    expect(changes).toBeLessThan(12)
  })

  it('one in spite of a late answer now and then', () => {
    const leader = new Leader().write(300, 2, 0.5)
    for (let round = 0; round < 100; round++) {
      leader.write(9, 2, 0.5).write(1, 2, 20)
      expect(leader.hurried()).toEqual([2])
    }
  })

  it('all, when the connection to the one is gone', () => {
    const leader = new Leader().write(300, 2, 0.5)
    expect(leader.hurried()).toEqual([2])
    expect(leader.disconnect(3).hurried()).toEqual([2])
    expect(leader.disconnect(2).hurried()).toEqual([2, 3])
    expect(leader.write(300, 3, 0.5).hurried()).toEqual([3])
  })
})
