/**
 * Doubt: a voter has lost entries to rot (`doubtfulFrom`: from there on, decided ones perhaps among them). What it may
 * do until a leader has brought all of it back, and what others may believe of it. PURE.
 *
 * At most one voter is in doubt; everybody else may crash, and come back with what was durable. Each rule, and what
 * would break without it:
 *
 * 1. It does not take over (leader.ts, mayTakeOver): its log may lack what is decided.
 * 2. A candidate needs enough promises of others, `intactQuorum` (leader.ts, isEnough): each accept quorum has one of
 *    them, so every decided entry has an intact copy among them.
 * 3. Its log is never adopted (leader.ts, mostAdvanced): it may have accepted in the largest ballot of all, as the
 *    leader of it perhaps, and hold less of that than others hold of the one before.
 * 4. What ends the doubt is an AcceptSync that was made for a promise with this very doubt, and reaches to the end
 *    of the leader's log (leader.ts, synchronize). It may have accepted, in this leader's ballot, any of that, and the
 *    leader may have counted it: with less, it would be taken for intact without it. So does the beginning of a
 *    configuration in which it has never been (leaveDoubtBehind).
 * 5. Where promises may be lost (`promiseLost`), it promises nothing, and takes nothing of a leader, before every
 *    other voter has said what it has promised, in answer to a question of this start; the largest it takes upon
 *    itself. Whoever it had promised something has promised that before. Otherwise it could accept in a ballot
 *    that is smaller than one it had helped to elect, and that has adopted less.
 * 6. It confirms no read and grants no lease (reads.ts, leases.ts), for the same reason.
 *
 * It may learn what is decided from anyone, as ever (catch-up.ts): that is true whatever it has lost.
 */
import { type NodeId, compareBallots } from '../vocabulary.ts'
import type { AskPromise, TellPromise } from './messages.ts'
import { persist, promise, requestPrepare, send } from './changes.ts'
import { type Replica, peers, votes } from './state.ts'

/** Whether this voter may have promised something that it does not know, and has not heard of all others yet. */
export const isForgetful = (replica: Replica): boolean => replica.recall !== null

/** At a start, and in each configuration that begins while the doubt lasts. */
export function beginRecall(replica: Replica): void {
  const { doubtfulFrom, promiseLost, promise: floor } = replica
  const forgets = doubtfulFrom !== null && promiseLost && votes(replica)
  replica.recall = forgets ? { heard: new Set(), floor, askedAt: -Infinity } : null
}

/** Asks those who have not answered. A question depends on nothing durable. */
export function tickRecall(replica: Replica): void {
  const { recall, now, options, start } = replica
  if (recall === null || now - recall.askedAt < options.resendMilliseconds) return
  recall.askedAt = now
  const configuration = replica.configuration.id
  for (const to of peers(replica)) {
    if (!recall.heard.has(to)) send(replica, to, { kind: 'ask-promise', configuration, start }, 'now')
  }
}

/** What is promised and not durable yet has gone to nobody; to say it already does no harm. */
export function onAskPromise(replica: Replica, from: NodeId, { configuration, start }: AskPromise): void {
  send(replica, from, { kind: 'tell-promise', configuration, start, promise: replica.promise }, 'now')
}

export function onTellPromise(replica: Replica, from: NodeId, message: TellPromise): void {
  const { recall } = replica
  if (recall === null || message.start !== replica.start) return
  recall.heard.add(from)
  if (compareBallots(message.promise, recall.floor) > 0) recall.floor = message.promise
  if (recall.heard.size < peers(replica).length) return
  replica.recall = null
  if (compareBallots(recall.floor, replica.promise) > 0) promise(replica, recall.floor)
  requestPrepare(replica, peers(replica))
}

/**
 * A later configuration begins here: all of the ones before is decided, and here. Of this one nothing was accepted,
 * promised or granted, so nothing can be lost; unless that it was here before is what was forgotten.
 */
export function leaveDoubtBehind(replica: Replica): void {
  if (!replica.promiseLost) endDoubt(replica)
}

/** Everything is here again, and written down in the same frame. */
export function endDoubt(replica: Replica): void {
  if (replica.doubtfulFrom === null) return
  replica.doubtfulFrom = null
  replica.promiseLost = false
  replica.recall = null
  persist(replica, { kind: 'doubt-over' })
}
