/**
 * Leases: linearizable reads that cost no message and no wait. An option of the configuration
 * (`leaseMilliseconds`, D below; absent: none of this happens). PURE.
 *
 * Several times in each D the leader asks its followers for a lease. The question carries the time of the
 * leader's clock when it was sent; a follower that grants it promises nothing to anybody else, and does not
 * take over, until its own clock has moved on by G = D (1 + e) / (1 − e); the answer carries the same time
 * back. With the grants of an accept quorum (itself included) the leader reads alone until D after the time
 * at which the oldest question of these was sent.
 *
 * Why no read is stale. Whoever leads next needs promises of a prepare quorum, which meets that accept quorum:
 * one of them has granted (the leader itself, once it promises, leads no more). It granted after the question
 * was sent, so in true time it stays silent for at least G / (1 + e) = D / (1 − e) from there on, and the
 * leader stops after at most D / (1 − e): no clock's *rate* is wrong by more than e (CLOCK_RATE_ERROR). What
 * the clocks show, and leaps of wall clocks, do not matter. A clock that stands still does: see
 * docs/OPERATIONS.md on machines that are suspended.
 *
 * - A node that starts may have granted before: for one G it promises nothing to anyone but the owner of its
 *   promise (who prepares anew reads no more by the old ballot), and grants nothing. Doubt may have cost it that
 *   promise: then it promises to nobody.
 * - A grant counts only for questions that were sent after the last release. A transfer releases: the leader
 *   stops reading alone, tells all, and then hands over.
 * - From the moment a stop-sign is in the leader's log it has no lease for ever after: the next configuration
 *   starts only after that stop-sign is decided, which takes this leader, or one that has waited. So nothing
 *   that was granted in one configuration binds in the next.
 */
import type { NodeId } from '../vocabulary.ts'
import { compareBallots, nodeId, sameBallot } from '../vocabulary.ts'
import type { Milliseconds } from './events.ts'
import type { LeaseGrant, LeaseRelease, LeaseRequest, Prepare } from './messages.ts'
import { acceptQuorum, reachedBy } from './quorum.ts'
import { send } from './changes.ts'
import { type Grant, type Lease, type Replica, isLeading, peers, pendingConfiguration } from './state.ts'

/** The rate of no clock is wrong by more than this. Quartz is a hundred times better; a broken clock is not. */
export const CLOCK_RATE_ERROR = 0.05

/** Questions in one lease: so many may be lost. */
const REQUESTS_PER_LEASE = 4

const BEFORE_START = Infinity

export const NO_GRANT: Grant = { holder: nodeId(0), sent: 0, until: -Infinity }

export const createLease = (): Lease => ({ askedAt: -Infinity, releasedAt: -1, granted: new Map() })

const duration = (replica: Replica): Milliseconds => replica.configuration.leaseMilliseconds ?? 0

/** How long a grant binds, on the clock of whoever gave it. */
const bound = (milliseconds: Milliseconds): Milliseconds =>
  (milliseconds * (1 + CLOCK_RATE_ERROR)) / (1 - CLOCK_RATE_ERROR)

/** What a voter must assume at its start to have granted. */
export function grantAtStart(replica: Replica): Grant {
  const milliseconds = duration(replica)
  if (milliseconds === 0) return NO_GRANT
  const holder = replica.doubtfulFrom === null ? replica.promise.node : nodeId(0)
  return { holder, sent: BEFORE_START, until: replica.now + bound(milliseconds) }
}

/** Whether a grant forbids this voter to promise anything to `candidate`, itself included. */
export const isBound = (replica: Replica, candidate: NodeId): boolean =>
  replica.now < replica.grant.until && replica.grant.holder !== candidate

// ---- the leader ---------------------------------------------------------------------------------------------------

/** Whether this leader may answer reads alone now. */
export function holdsLease(replica: Replica): boolean {
  const milliseconds = duration(replica)
  if (milliseconds === 0 || !isLeading(replica) || pendingConfiguration(replica) !== null) return false
  const { lease } = replica.leadership!
  const others = acceptQuorum(replica.configuration) - 1
  const since = reachedBy([...lease.granted.values()], others)
  return others === 0 || (lease.granted.size >= others && replica.now < since + milliseconds)
}

/** Asks again in time. A question promises nothing. */
export function tickLease(replica: Replica): void {
  const milliseconds = duration(replica)
  if (milliseconds === 0 || !isLeading(replica) || pendingConfiguration(replica) !== null) return
  const { lease, transfer, ballot } = replica.leadership!
  if (transfer !== null || replica.now - lease.askedAt < milliseconds / REQUESTS_PER_LEASE) return
  lease.askedAt = replica.now
  const sent = Math.floor(replica.now)
  for (const to of peers(replica)) send(replica, to, { kind: 'lease-request', ballot, sent }, 'now')
}

export function onLeaseGrant(replica: Replica, from: NodeId, message: LeaseGrant): void {
  if (!isLeading(replica) || !sameBallot(message.ballot, replica.leadership!.ballot)) return
  const { granted, releasedAt } = replica.leadership!.lease
  if (message.sent <= releasedAt) return
  granted.set(from, Math.max(message.sent, granted.get(from) ?? 0))
}

/** A transfer begins: from here on this leader asks a quorum for each read, and its followers are free. */
export function releaseLease(replica: Replica): void {
  const { lease, ballot } = replica.leadership!
  if (duration(replica) === 0) return
  lease.granted.clear()
  lease.releasedAt = Math.floor(replica.now)
  for (const to of peers(replica)) send(replica, to, { kind: 'lease-release', ballot, sent: lease.releasedAt }, 'now')
}

// ---- the followers ------------------------------------------------------------------------------------------------

/** Depends on nothing that is not durable: who is in the accept phase has promised durably. */
export function onLeaseRequest(replica: Replica, from: NodeId, message: LeaseRequest): void {
  const { promise, phase, doubtfulFrom } = replica
  if (phase !== 'accept' || doubtfulFrom !== null || !sameBallot(promise, message.ballot)) return
  const milliseconds = duration(replica)
  if (milliseconds === 0) return
  const { grant, now } = replica
  const isOpen = now < grant.until
  // What was granted before the start is not known: it ends by itself, and no release may end it.
  if (isOpen && grant.sent === BEFORE_START) return
  const sent = isOpen && grant.holder === from ? Math.max(message.sent, grant.sent) : message.sent
  replica.grant = { holder: from, sent, until: Math.max(now + bound(milliseconds), grant.until) }
  send(replica, from, { kind: 'lease-grant', ballot: message.ballot, sent: message.sent }, 'now')
}

/** The holder reads alone no more, unless it asks anew. What was granted for a later question stays. */
export function onLeaseRelease(replica: Replica, from: NodeId, message: LeaseRelease): void {
  const { grant, promise } = replica
  if (grant.holder !== from || !sameBallot(promise, message.ballot) || grant.sent > message.sent) return
  replica.grant = NO_GRANT
}

/** A candidate asks while another holds a lease: it is answered when that is over (follower.ts). The largest ballot stays. */
export function holdPrepare(replica: Replica, from: NodeId, message: Prepare): void {
  const { heldPrepare } = replica
  if (heldPrepare !== null && compareBallots(heldPrepare.message.ballot, message.ballot) > 0) return
  replica.heldPrepare = { from, message }
}

/**
 * Nothing that was granted in the configuration before binds in this one. Who is in doubt may have been in this one
 * before: for it, the configuration begins like a start.
 */
export function forgetGrants(replica: Replica): void {
  replica.grant = replica.doubtfulFrom === null ? NO_GRANT : grantAtStart(replica)
  replica.heldPrepare = null
}
