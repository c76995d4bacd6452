/**
 * What a replica is: its options, its state with that of each part of the core, and the questions that all of them ask
 * of it. Changes are made in changes.ts and in the part that owns the field. PURE.
 */
import type { Ballot, Configuration, Entry, LogIndex, NodeId, Room } from '../vocabulary.ts'
import type { Effect, Milliseconds } from './events.ts'
import type { Log } from './log.ts'
import type { HeartbeatReply, Prepare, Promise_ } from './messages.ts'
import { isVoter } from './quorum.ts'

export interface Options {
  /** A heartbeat round; a leader that is out of sight for one to two of them is replaced. */
  readonly electionTimeoutMilliseconds: number
  /** How long something unanswered waits until it is sent again; also the period of the leader's beacon. */
  readonly resendMilliseconds: number
  /** Breaks ties between candidates of the same n; larger wins. */
  readonly priority: number
  /** Largest sum of entries in one message (one entry always fits). */
  readonly maxBatchBytes: number
  /** Entries sent to one follower and not yet accepted by it. */
  readonly maxInFlightBytes: number
  /** Entries proposed and not yet decided; beyond it no proposal is taken. */
  readonly maxUndecidedBytes: number
  /** Entries kept in memory although nobody here needs them, for peers that lag a little. */
  readonly keepEntriesBytes: number
  /** Whether storage reads back what is no longer in memory: the shell answers `read-log`. */
  readonly readsLog: boolean
  /** A stop-sign is proposed when a quorum of the new voters lags by no more than this. */
  readonly reconfigurationLagEntries: number
  /** Decided entries asked of one node at a time. */
  readonly fetchSegmentEntries: number
}

export const DEFAULT_OPTIONS: Options = {
  electionTimeoutMilliseconds: 300,
  resendMilliseconds: 100,
  priority: 0,
  maxBatchBytes: 1024 * 1024,
  maxInFlightBytes: 8 * 1024 * 1024,
  maxUndecidedBytes: 32 * 1024 * 1024,
  keepEntriesBytes: 16 * 1024 * 1024,
  readsLog: false,
  reconfigurationLagEntries: 256,
  fetchSegmentEntries: 512,
}

/** How many bytes of entries went to nodes that asked, and came from whom: since this process began. */
export interface Migration {
  sentBytes: number
  readonly receivedBytes: Map<NodeId, number>
}

export interface Fetch {
  /** The largest index that is known to be decided somewhere. */
  goal: number
  /** Nodes that are known to be ahead, beside the members of the configuration. */
  hinted: Set<NodeId>
  pending: Map<NodeId, { readonly from: number; readonly upTo: number; readonly at: number }>
  buffered: Map<number, readonly Entry[]>
  bufferedBytes: number
  /** Sources that did not answer, and until when they are not asked. */
  avoided: Map<NodeId, number>
  polledAt: number
  turn: number
  /** A leader wants this node as a voter: poll often. */
  invitedUntil: number
  askedCheckpointAt: number
}

/** What the others have promised, as far as they have answered. */
export interface Recall {
  readonly heard: Set<NodeId>
  floor: Ballot
  askedAt: number
}

export interface Election {
  /** This node's own ballot; n = 0 until it takes over in this process. */
  own: Ballot
  /** The largest elected ballot it knows of in this configuration. */
  leader: Ballot
  /** Who was to lead this configuration when it began; 0: not known. */
  readonly agreed: NodeId
  happy: boolean
  round: number
  startedAt: number
  /** How long a round lasts: an election timeout, or less while this voter is in a hurry. */
  roundMilliseconds: number
  /** The round under way was judged before its time, because everybody within reach had answered. */
  judged: boolean
  hurriedAt: number
  /** The last round was judged without the answer of a leader that was heard of in another way. */
  excused: boolean
  /** The leader that made this voter happy until its connection was closed; null: none. */
  suspect: NodeId | null
  lastTick: number
  replies: Map<NodeId, HeartbeatReply>
  /** Rounds in a row in which a voter could not follow this leader because it has promised more to somebody. */
  outbidRounds: number
  /** The ballot in which this node was seen to lead. */
  led: Ballot | null
}

/** What a voter has granted, to whom, and until when; and who waits for the end of it. */
export interface Grant {
  /** Only this node may be promised something; 0: nobody. */
  readonly holder: NodeId
  /** When the holder sent the question, by its clock. */
  readonly sent: number
  readonly until: Milliseconds
}

/** The leader's side. Times are its own clock's, rounded down. */
export interface Lease {
  askedAt: Milliseconds
  /** Grants of questions from this time or before do not count. */
  releasedAt: number
  /** The newest question that each follower has granted. */
  readonly granted: Map<NodeId, number>
}

/** How far the leader knows one voter to be. */
export interface Progress {
  /** `unknown`: needs Prepare. `syncing`: AcceptSync is on its way. `replicating`: holds a prefix of our log. */
  state: 'unknown' | 'syncing' | 'replicating'
  /** Accepted in this ballot, durably, up to here; and when it said so last. */
  acked: number
  acceptedAt: number
  /** Next entry to send. */
  next: number
  inFlightBytes: number
  /** The decided index it was last told. */
  decidedSent: number
  /** When Prepare, or the beacon, last went out. */
  sentAt: number
}

export interface Leadership {
  readonly ballot: Ballot
  phase: 'prepare' | 'accept'
  readonly since: number
  /** The configuration before agreed on this leader: the other members may still be on their way into this one. */
  readonly agreed: boolean
  readonly promises: Map<NodeId, Promise_>
  readonly progress: Map<NodeId, Progress>
  /** (accepted ballot, last index) of the log that was adopted. */
  adopted: { readonly ballot: Ballot; readonly index: LogIndex }
  /** Nothing chosen in a smaller ballot is above this. */
  adoptedEnd: LogIndex
  /** Decided in this ballot. Followers hear of no more, see `tally`. */
  decided: LogIndex
  undecidedBytes: number
  readonly lease: Lease
  transfer: { readonly to: NodeId; readonly since: number; toldAt: number } | null
  /** A change of membership whose new voters are still catching up. */
  reconfiguration: { readonly next: Configuration; invitedAt: number } | null
  /** How far nodes say they are that are not voters yet: what they hold decided. */
  readonly reports: Map<NodeId, number>
}

export interface PendingRead {
  readonly id: number
  index: LogIndex
  sentAt: number
  acks: Set<NodeId>
  confirmed: boolean
}

/**
 * What a voter does in its configuration; everyone else is `idle`.
 * - `recover`: does not know what the leader has; asks for Prepare, or fetches first.
 * - `promised`: has promised, and waits for AcceptSync.
 * - `accept`: holds a prefix of the leader's log and follows it.
 * - `lead`: see `leadership`.
 */
export type Phase = 'idle' | 'recover' | 'promised' | 'accept' | 'lead'

/** Mutable, owned by the shell, changed by `step` only. */
export interface Replica {
  readonly self: NodeId
  /** Another number at each start of this node. */
  readonly start: number
  readonly options: Options
  now: Milliseconds
  /** Of the step under way, in order. */
  effects: Effect[]

  log: Log
  promise: Ballot
  acceptedBallot: Ballot
  /** Known to be decided, and in the log. */
  known: LogIndex
  /** Decided, in the log, and durable here: what the shell may apply. */
  decided: LogIndex
  configuration: Configuration
  configurationStart: LogIndex
  /** Not null: entries (and promises) after it may be lost to rot; until the next AcceptSync. */
  doubtfulFrom: LogIndex | null
  promiseLost: boolean
  room: Room
  /** When a promise was last said. */
  promisedAt: Milliseconds
  /** Voters that said that their disk is nearly full. */
  readonly fullPeers: Set<NodeId>
  /** Not null: what was promised is not known yet. */
  recall: Recall | null
  /** Decided entries up to here have been looked through for stop-signs. */
  lookedThrough: number

  /** What storage has confirmed. */
  durable: LogIndex
  durableBallot: Ballot
  durablePromise: Ballot
  generation: number
  /** The last `decided` record, and when. */
  recordedDecided: LogIndex
  recordedAt: Milliseconds

  phase: Phase
  election: Election
  leadership: Leadership | null
  /** The lease that this voter has granted. */
  grant: Grant
  /** A candidate that waits for the end of that lease. */
  heldPrepare: { readonly from: NodeId; readonly message: Prepare } | null
  /** The ballot whose elected leader was heard of; null: none, or out of sight. */
  followed: Ballot | null
  reads: PendingRead[]
  fetch: Fetch
  readonly migration: Migration
  /** Messages of a configuration that has not started here yet, kept for its start. */
  early: { readonly from: NodeId; readonly message: Prepare } | null
  /** This replica is to lead the configuration of that id as soon as it starts here; 0: none. */
  leadsFrom: number
  /** Was named by a configuration (or has voted) and is not any more. */
  removed: boolean
  /** What was decided when this process rejoined; null: it has not yet. */
  rejoinedAt: LogIndex | null
  lastHeard: Map<NodeId, Milliseconds>
  /** When bytes of a large message last went to these, or came from them. */
  lastMoved: Map<NodeId, Milliseconds>
  /** The connection to these was closed, and nothing was heard of them since. */
  unreachable: Set<NodeId>
  lastPrepareRequest: Milliseconds
  lastResend: { from: number; at: Milliseconds }
  announced: { leader: NodeId | null; ballot: Ballot }
}

/** The other voters of the current configuration. */
export const peers = (replica: Replica): NodeId[] =>
  replica.configuration.voters.map((member) => member.id).filter((id) => id !== replica.self)

/**
 * It may hold less than all up to the stop-sign that began its configuration: rot took it, or it has joined and was told
 * of this configuration (the start of any but the first one is 0 until it comes upon the stop-sign).
 */
export const holdsPrefix = ({ configuration, configurationStart, decided }: Replica): boolean =>
  decided >= configurationStart && (configurationStart > 0 || configuration.id === 1)

/**
 * Whether this replica has a say in its configuration: who does not hold all up to the stop-sign that began it has
 * none. Others may still have to decide that stop-sign, and would wait for it in vain.
 */
export const votes = (replica: Replica): boolean => isVoter(replica.configuration, replica.self) && holdsPrefix(replica)

/** The configuration that a stop-sign at the end of the log is about to start, decided or not; null: none. */
export function pendingConfiguration(replica: Replica): Configuration | null {
  const last = replica.log.entries.at(-1)
  return last?.kind === 'stop-sign' && last.next.id > replica.configuration.id ? last.next : null
}

/** Heard of lately, and not known to be gone: a message to it is likely to arrive. */
export function isInSight(replica: Replica, id: NodeId): boolean {
  if (id === replica.self) return true
  const heard = replica.lastHeard.get(id) ?? -Infinity
  return replica.now - heard <= 2 * replica.options.electionTimeoutMilliseconds && !replica.unreachable.has(id)
}

export const isLeading = (replica: Replica): boolean => replica.leadership?.phase === 'accept'
