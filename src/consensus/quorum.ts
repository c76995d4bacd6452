/**
 * How many are enough. PURE.
 *
 * Majorities today; whoever makes them flexible keeps prepare + accept > number of voters, so that each
 * prepare quorum meets each accept quorum, and confirms reads with a set that meets each prepare quorum.
 */
import type { Configuration, NodeId } from '../vocabulary.ts'

export const majority = (voters: number): number => Math.floor(voters / 2) + 1

/** Promises that make a leader. */
export const prepareQuorum = (configuration: Configuration): number => majority(configuration.voters.length)

/** Accepted that make an entry decided; also the number of replicas that confirm a read. */
export const acceptQuorum = (configuration: Configuration): number => majority(configuration.voters.length)

/**
 * Promises needed where one of them is doubtful (entries, and even promises, may have been lost to rot): then
 * every decided entry has an intact copy among them, as long as at most one storage is damaged.
 */
export const doubtfulQuorum = (configuration: Configuration): number =>
  configuration.voters.length - acceptQuorum(configuration) + 2

export const isVoter = (configuration: Configuration, node: NodeId): boolean =>
  configuration.voters.some((member) => member.id === node)

export const isLearner = (configuration: Configuration, node: NodeId): boolean =>
  configuration.learners.some((member) => member.id === node)

/** The largest index that at least `count` of `indices` have reached; 0 where there are fewer. */
export function reachedBy(indices: readonly number[], count: number): number {
  return indices.toSorted((a, b) => b - a)[count - 1] ?? 0
}
