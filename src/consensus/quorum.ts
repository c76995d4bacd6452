/**
 * How many are enough. PURE.
 *
 * Majorities, or, where the configuration says so, fewer that accept and more that promise (flexible quorums:
 * Howard, Malkhi, Spiegelman, 2016). What must hold, and holds by the two formulas:
 *
 * - each prepare quorum meets each accept quorum (prepare + accept > voters): a new leader hears of everything
 *   that was decided. What confirms a read, or grants a lease, is an accept quorum for the same reason: whoever
 *   leads next needs a promise of one of them.
 * - two prepare quorums meet, so that the election does not go to and fro between two halves.
 *
 * The number is part of the configuration, because members that disagree on it would decide without each other.
 */
import type { Configuration, NodeId } from '../vocabulary.ts'

export const majority = (voters: number): number => Math.floor(voters / 2) + 1

/** Accepted that make an entry decided; also the number of replicas that confirm a read, or grant a lease. */
export const acceptQuorum = (configuration: Configuration): number =>
  configuration.acceptQuorum ?? majority(configuration.voters.length)

/** Promises that make a leader; also how many must hold the prefix before a configuration can start. */
export const prepareQuorum = (configuration: Configuration): number =>
  Math.max(majority(configuration.voters.length), configuration.voters.length - acceptQuorum(configuration) + 1)

/**
 * Promises of voters that have not lost anything to rot, so many of which a leader needs: each accept quorum has one of
 * them (doubt.ts). With one voter in doubt that is all but it, or fewer.
 */
export const intactQuorum = (configuration: Configuration): number =>
  configuration.voters.length - acceptQuorum(configuration) + 1

/**
 * Why so many voters cannot have `accept` as their accept quorum, or null. One would lose what was acknowledged
 * with the first disk; more than a majority only makes writes slower.
 */
export function quorumProblem(voters: number, accept: number): string | null {
  if (accept >= Math.min(2, majority(voters)) && accept <= majority(voters)) return null
  return `an accept quorum of ${accept} among ${voters} voters: 2 to ${majority(voters)} are possible`
}

export const isVoter = (configuration: Configuration, node: NodeId): boolean =>
  configuration.voters.some((member) => member.id === node)

export const isLearner = (configuration: Configuration, node: NodeId): boolean =>
  configuration.learners.some((member) => member.id === node)

/** The largest index that at least `count` of `indices` have reached; 0 where there are fewer. */
export function reachedBy(indices: readonly number[], count: number): number {
  return indices.toSorted((a, b) => b - a)[count - 1] ?? 0
}
