/**
 * Linearizable reads. PURE.
 *
 * A read gets its index when it arrives: at least what this leader has decided and all that it adopted. It is
 * confirmed when a quorum says, after it arrived, that it is still promised to this ballot: whoever leads
 * later needs a promise of one of them, which comes after that answer, so nothing newer was decided when the
 * read arrived. One probe serves all reads up to its id.
 *
 * With a stop-sign in the leader's log that argument fails (the next configuration may decide without any of
 * them): from then on answers do not count, and the reads wait for the next configuration.
 *
 * A leader that holds a lease (leases.ts) needs no probe.
 */
import { compareBallots, logIndex, sameBallot, type LogIndex, type NodeId } from '../vocabulary.ts'
import { holdsLease } from './leases.ts'
import type { ReadAck, ReadProbe } from './messages.ts'
import { acceptQuorum } from './quorum.ts'
import { send } from './changes.ts'
import { type PendingRead, type Replica, isLeading, peers, pendingConfiguration } from './state.ts'

const readIndex = (replica: Replica): LogIndex => logIndex(Math.max(replica.known, replica.leadership?.adoptedEnd ?? 0))

/** A read of this node's own. Only a leader takes it, or one that is about to lead: there it waits. */
export function onRead(replica: Replica, id: number): void {
  if (replica.leadership === null) {
    replica.effects.push({ kind: 'read-failed', id })
    return
  }
  replica.reads.push({ id, index: readIndex(replica), sentAt: replica.now, acks: new Set(), confirmed: false })
  if (!holdsLease(replica)) probe(replica, id)
  confirmReads(replica)
}

/** The probe reads nothing and depends on nothing that is not durable (the promise was, before Prepare left). */
function probe(replica: Replica, id: number): void {
  if (!isLeading(replica) || pendingConfiguration(replica) !== null) return
  const { ballot } = replica.leadership!
  for (const to of peers(replica)) send(replica, to, { kind: 'read-probe', ballot, id }, 'now')
}

/** The answer needs no sync: a promise that is not durable yet is larger than the ballot that asks. */
export function onReadProbe(replica: Replica, from: NodeId, message: ReadProbe): void {
  // A node in doubt may have lost a promise: it cannot vouch for this ballot.
  if (replica.doubtfulFrom !== null) return
  if (sameBallot(replica.promise, message.ballot)) {
    send(replica, from, { kind: 'read-ack', ballot: message.ballot, id: message.id }, 'now')
  } else if (compareBallots(replica.promise, message.ballot) > 0) {
    send(replica, from, { kind: 'not-accepted', ballot: message.ballot, promise: replica.promise }, 'now')
  }
}

export function onReadAck(replica: Replica, from: NodeId, message: ReadAck): void {
  if (!isLeading(replica) || !sameBallot(message.ballot, replica.leadership!.ballot)) return
  if (pendingConfiguration(replica) !== null) return
  for (const read of replica.reads) {
    if (read.id > message.id) break
    read.acks.add(from)
  }
  confirmReads(replica)
}

/** Answers, in order, the reads that are confirmed and whose index is decided. */
export function confirmReads(replica: Replica): void {
  if (replica.reads.length === 0 || !isLeading(replica)) return
  const others = acceptQuorum(replica.configuration) - 1
  const open = pendingConfiguration(replica) === null
  const alone = holdsLease(replica)
  for (const read of replica.reads) if (alone || (open && read.acks.size >= others)) read.confirmed = true
  let ready: PendingRead | undefined
  while (replica.reads[0]?.confirmed && replica.reads[0].index <= replica.decided) ready = replica.reads.shift()
  if (ready) replica.effects.push({ kind: 'read-ready', id: ready.id, index: ready.index })
}

/** A probe may have been lost: ask again for all that wait. */
export function tickReads(replica: Replica): void {
  const oldest = replica.reads.find((read) => !read.confirmed)
  if (oldest === undefined || !isLeading(replica)) return
  if (replica.now - oldest.sentAt < replica.options.resendMilliseconds) return
  for (const read of replica.reads) read.sentAt = replica.now
  probe(replica, replica.reads.at(-1)!.id)
}

/** Leadership is lost: the next leader must be asked. */
export function failReads(replica: Replica): void {
  const last = replica.reads.at(-1)
  replica.reads = []
  if (last) replica.effects.push({ kind: 'read-failed', id: last.id })
}

/** The next configuration begins under this leader: confirm anew, at an index that covers what was adopted. */
export function restartReads(replica: Replica): void {
  for (const read of replica.reads) {
    read.index = readIndex(replica)
    read.acks = new Set()
    read.confirmed = false
    read.sentAt = replica.now
  }
  const last = replica.reads.at(-1)
  if (last) probe(replica, last.id)
}
