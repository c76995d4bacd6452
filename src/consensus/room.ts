/**
 * Room on the disk of a voter. PURE: the shell looks, and says what it saw.
 *
 * - `little`: the disk is nearly full. The voter goes on, and says so in its heartbeat replies: where fewer than an
 *   accept quorum have room, every node refuses what grows the data, while deletes still find a quorum.
 * - `none`: it takes no more entries, from nobody, and does not take over; so its process does not end for want of
 *   room, and the others do not wait for it. It still promises and confirms reads, which writes next to nothing. When
 *   room returns it is one that has lost messages: the leader's next sign of life shows it what it lacks.
 */
import type { NodeId } from '../vocabulary.ts'
import { acceptQuorum } from './quorum.ts'
import type { Replica } from './state.ts'

export type Room = 'enough' | 'little' | 'none'

/** Whether entries may be written here. */
export const takesEntries = (replica: Replica): boolean => replica.room !== 'none'

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
