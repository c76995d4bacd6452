/**
 * Changes of membership as the admin port asks for them: checked against what is in force, then handed to the
 * core. Every one names the configuration it expects, and is idempotent. All but `transfer` to who leads already
 * are for the leader; others answer NOT_LEADER and name it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { isVoter, majority, prepareQuorum, quorumProblem } from '../consensus/quorum.ts'
import type { ConfigurationRequest, MemberJson, MemberRequest } from '../contract.ts'
import type { MemberResponse, TransferRequest } from '../contract.ts'
import { LokiError } from '../errors.ts'
import type { Settings } from '../settings.ts'
import type { Turn } from '../turn/turn.ts'
import type { Configuration, ConfigurationOptions, Member, NodeId } from '../vocabulary.ts'
import { configurationId, nodeId, optionsOf, sameOptions, volumeId } from '../vocabulary.ts'

/** What a change needs of this node (member.ts). */
export interface Changeable {
  readonly turn: Turn
  readonly isLeader: boolean
  readonly settings: Settings
  /** These will be dialled, and may dial. */
  expect(members: readonly Member[]): void
}

const ALLOT_MILLISECONDS = 5000

export const toMember = (member: MemberJson): Member => ({
  id: nodeId(member.id),
  volume: volumeId(member.volumeId),
  address: member.address,
})

function expectLeader(member: Changeable): void {
  if (member.isLeader) return
  throw new LokiError('NOT_LEADER', `the leader is node ${member.turn.status.leader ?? 'none'}`)
}

function expectConfiguration(member: Changeable, expected: number): void {
  const current = member.turn.status.configuration.id
  if (current === expected) return
  throw new LokiError('CONFIGURATION_CHANGED', `configuration ${current} is in force, ${expected} was expected`)
}

function sameIds(a: readonly NodeId[], b: readonly NodeId[]): boolean {
  const sorted = (ids: readonly NodeId[]): string => ids.toSorted((x, y) => x - y).join()
  return sorted(a) === sorted(b)
}

/** A cluster has one genesis: who is a member refuses another list of founders. Throws `IDENTITY_CONFLICT`. */
export function expectGenesis(member: Changeable, { id: wanted, voters: founders }: Configuration): void {
  // It is asked to join, and has.
  if (wanted !== 1) return
  const { machine, status } = member.turn
  const { id: current, voters } = status.configuration
  const isFounder = (one: Member): boolean => voters.some(({ id, volume }) => id === one.id && volume === one.volume)
  const isSame =
    current === 1
      ? founders.length === voters.length && founders.every(isFounder)
      : machine.applied === 0 || founders.every(({ id, volume }) => machine.idOf(volume) === id)
  if (isSame) return
  const ids = founders.map(({ id }) => id).join(', ')
  throw new LokiError('IDENTITY_CONFLICT', `this cluster had another genesis than founders ${ids} on these volumes`)
}

/** The node id of a volume: the one it has, or the next one, decided by the log. */
export async function allotId(member: Changeable, request: MemberRequest): Promise<MemberResponse> {
  expectLeader(member)
  const volume = volumeId(request.volumeId)
  member.turn.propose({ kind: 'allot-id', volume })
  for (const deadline = performance.now() + ALLOT_MILLISECONDS; performance.now() < deadline; await sleep(5)) {
    const id = member.turn.machine.idOf(volume)
    if (id !== null) return { id }
  }
  throw new LokiError('NO_LEADER', 'the id was not decided in time')
}

/** What the settings make of a configuration with so many voters. Throws `QUORUM_INVALID`. */
function wantedOptions(settings: Settings, voters: number): ConfigurationOptions {
  // Two voters or one have no choice, and whoever is alone needs nobody's word to read.
  const acceptQuorum = voters < 3 ? 0 : settings.acceptQuorum
  const problem = acceptQuorum === 0 ? null : quorumProblem(voters, acceptQuorum)
  if (problem !== null) throw new LokiError('QUORUM_INVALID', problem)
  const leaseMilliseconds = voters === 1 ? 0 : settings.leaseMilliseconds
  return optionsOf({ acceptQuorum: acceptQuorum === majority(voters) ? 0 : acceptQuorum, leaseMilliseconds })
}

/**
 * A leader whose settings say something else than the configuration brings them into force: what all members must
 * agree on goes through the log. Throws `QUORUM_INVALID`; the configuration in force stays then. While too few members
 * are in sight nothing is under way: it would wait for those that may never come back, and keep out the change that
 * replaces them.
 */
export function followSettings(member: Changeable): void {
  const { configuration, configurationComplete, reconfiguration, transferTo, progress } = member.turn.status
  if (!member.isLeader || !configurationComplete || transferTo !== null) return
  const { id, voters, learners } = configuration
  const wanted = wantedOptions(member.settings, voters.length)
  if (sameOptions(wanted, configuration)) return
  const next = { id: configurationId(id + 1), voters, learners, preferredLeader: nodeId(0), ...wanted }
  const inSight = progress.filter((one) => one.connected && isVoter(configuration, one.id)).length
  const isPossible = inSight >= prepareQuorum(next)
  if (reconfiguration === null && isPossible) member.turn.reconfigure(next)
  if (reconfiguration?.state !== 'catching-up' || isPossible) return
  const ids = voters.map((voter) => voter.id)
  if (sameIds(reconfiguration.voters, ids)) member.turn.withdraw()
}

/** Begins a change, or does nothing where it is under way or done. */
export function reconfigure(member: Changeable, request: ConfigurationRequest): void {
  expectLeader(member)
  const { configuration: current, reconfiguration: running } = member.turn.status
  const voters = request.voters.map(toMember)
  const learners = request.learners.map(toMember)
  const ids = voters.map(({ id }) => id)
  const currentIds = current.voters.map(({ id }) => id)
  if (current.id === request.expectedConfigurationId + 1 && sameIds(currentIds, ids)) return
  expectConfiguration(member, request.expectedConfigurationId)
  for (const { id, volume } of [...voters, ...learners]) {
    const known = current.voters.some((voter) => voter.id === id && voter.volume === volume)
    if (!known && member.turn.machine.idOf(volume) !== id) {
      throw new LokiError('MEMBER_UNKNOWN', `node ${id} on volume ${volume}: ask POST /v1/members for its id first`)
    }
  }
  const preferredLeader = nodeId(request.preferredLeader ?? 0)
  if (preferredLeader !== 0 && !ids.includes(preferredLeader)) {
    throw new LokiError('BAD_REQUEST', `preferredLeader: node ${preferredLeader} is not among the voters`)
  }
  if (running) {
    if (sameIds(running.voters, ids)) return
    throw new LokiError('RECONFIGURATION_RUNNING', `to voters ${running.voters.join(', ')}`)
  }
  const options = wantedOptions(member.settings, voters.length)
  member.expect([...voters, ...learners])
  member.turn.reconfigure({ id: configurationId(current.id + 1), voters, learners, preferredLeader, ...options })
  if (!member.turn.status.reconfiguration) throw new LokiError('NOT_LEADER', 'leadership was lost at this moment')
}

/** Does nothing where nothing is under way. */
export function withdraw(member: Changeable): void {
  expectLeader(member)
  const running = member.turn.status.reconfiguration
  if (running?.state === 'proposed') {
    throw new LokiError('RECONFIGURATION_RUNNING', `to voters ${running.voters.join(', ')}: it is in the log already`)
  }
  member.turn.withdraw()
}

export function transfer(member: Changeable, request: TransferRequest): void {
  if (member.turn.status.leader === request.to) return
  expectLeader(member)
  expectConfiguration(member, request.expectedConfigurationId)
  if (!isVoter(member.turn.status.configuration, nodeId(request.to))) {
    throw new LokiError('BAD_REQUEST', `to: node ${request.to} is no voter`)
  }
  member.turn.transfer(nodeId(request.to))
  // To itself was answered above; a leader that has just stepped down takes no order, nor does one that would be missed.
  if (member.turn.status.transferTo !== request.to)
    throw new LokiError(
      'NOT_LEADER',
      'leadership was lost at this moment, or too few voters are in sight to elect another',
    )
}
