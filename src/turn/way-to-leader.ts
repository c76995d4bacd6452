/**
 * Whom a node sends the commands of its clients to. PURE.
 *
 * A voter sends to the leader that it follows, and to nobody without one. A node that is no voter (it learns, or
 * was removed) hears of leaders late or never: it asks who is said to lead, and where that one does not answer,
 * the voters that it knows, one after the other; they name the leader and the members of today.
 */
import type { Member, NodeId } from '../vocabulary.ts'

export class WayToLeader {
  readonly #self: NodeId
  #hint: NodeId | null = null
  #rotation = 0
  /** Who is said to lead does not answer. */
  #isLost = false

  constructor(self: NodeId) {
    this.#self = self
  }

  /** Who is said to lead, for others that ask. */
  get hint(): NodeId | null {
    return this.#hint
  }

  /** `leader`: as the core knows it. `voters`: of the newest configuration that was applied here. */
  target(leader: NodeId | null, voters: readonly Member[]): NodeId | null {
    if (leader === this.#self || this.#votes(voters)) return leader
    const named = this.#hint ?? leader
    if (named !== null && !this.#isLost) return named
    return voters[this.#rotation % voters.length]!.id
  }

  #votes(voters: readonly Member[]): boolean {
    return voters.some(({ id }) => id === this.#self)
  }

  leaderChanged(leader: NodeId | null): void {
    this.#hint = leader
    this.#isLost = false
  }

  /** Nothing came back for a while. */
  overdue(): void {
    this.#isLost = true
    this.#rotation++
  }

  reconnected(peer: NodeId): void {
    if (peer === this.#hint) this.#isLost = false
  }

  /** Somebody who does not lead names `named`. True: what is unanswered should go there. */
  redirected(named: NodeId | null, leader: NodeId | null): boolean {
    if (leader !== null && !this.#isLost) return false
    this.#rotation++
    if (named === null || named === this.#self || (named === this.#hint && !this.#isLost)) return false
    this.#hint = named
    this.#isLost = false
    return true
  }
}
