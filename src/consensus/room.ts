/**
 * Room on the disk of a voter. PURE: the shell looks, and says what it saw.
 *
 * - `little`: the disk is nearly full. The voter goes on, and says so in its heartbeat replies: where fewer than an
 *   accept quorum have room, every node refuses what grows the data, while deletes still find a quorum.
 * - `none`: it takes no more entries, from nobody; so its process does not end for want of room, and the others do not
 *   wait for it. It still promises, confirms reads and takes an AcceptSync with next to nothing in it, so that where
 *   nobody has room there is a leader that answers reads (while no key is due: its expiry must be logged first, and where
 *   it cannot be, they are refused); but it leads only where no other voter in sight has room.
 *   When room returns it is one that has lost messages: the leader's next sign of life shows it what it lacks.
 */
import type { Entry, NodeId } from '../vocabulary.ts'
import { bytesOf } from './log.ts'
import { acceptQuorum } from './quorum.ts'
import { type Replica, isInSight, peers } from './state.ts'

/** Entries of an AcceptSync that are taken, and proposals that are made, although there is no room. */
const LITTLE_BYTES = 16 * 1024

/** What a leader may have proposed and not decided: without room it goes on for the sake of what makes some, and no further. */
export const mostUndecidedBytes = (replica: Replica): number =>
  takesEntries(replica) ? replica.options.maxUndecidedBytes : LITTLE_BYTES

/** Whether entries may be written here. */
export const takesEntries = (replica: Replica): boolean => replica.room !== 'none'

/** Whether an AcceptSync with these entries may be taken. */
export const takesSync = (replica: Replica, entries: readonly Entry[]): boolean =>
  takesEntries(replica) || bytesOf(entries) <= LITTLE_BYTES

/** Whether it is not for another, who has room, to lead. */
export const mayLeadWithoutRoom = (replica: Replica): boolean =>
  takesEntries(replica) || !peers(replica).some((id) => isInSight(replica, id) && !replica.fullPeers.has(id))

/** Takes note of what a voter says of its disk. */
export function hearRoom(replica: Replica, from: NodeId, isFull: boolean): void {
  if (isFull) replica.fullPeers.add(from)
  else replica.fullPeers.delete(from)
}

/** Whether too few voters have room for what grows the data. */
export function isShortOfRoom({ configuration, self, room, fullPeers }: Replica): boolean {
  if (room === 'enough' && fullPeers.size === 0) return false
  const full = configuration.voters.filter(({ id }) => (id === self ? room !== 'enough' : fullPeers.has(id))).length
  return configuration.voters.length - full < acceptQuorum(configuration)
}
