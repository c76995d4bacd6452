/**
 * The words that consensus, storage, machine and edges share. PURE: types and total functions only.
 *
 * Names are those of the literature (Omni-Paxos, EuroSys 2023): ballot, entry, stop-sign, configuration.
 */

declare const brand: unique symbol
type Branded<T, Name> = T & { readonly [brand]: Name }

/** Identity of a node in its cluster, 1 and up. It belongs to one volume id for ever and is never reused. */
export type NodeId = Branded<number, 'NodeId'>
/** Position in the one log of the cluster, 1 and up, for the whole life of the cluster; 0 means "before the first entry". */
export type LogIndex = Branded<number, 'LogIndex'>
/** Number of a configuration; the genesis configuration is 1. 0 means "none yet". */
export type ConfigurationId = Branded<number, 'ConfigurationId'>
/** Number of a timeline of a node's own log; every start opens a new one. 1 and up. */
export type Timeline = Branded<number, 'Timeline'>
/** Random stamp of a volume pair: 32 lowercase hexadecimal digits. */
export type VolumeId = Branded<string, 'VolumeId'>
/** Random name of a cluster, chosen at genesis: 32 lowercase hexadecimal digits. */
export type ClusterId = Branded<string, 'ClusterId'>

export const nodeId = (value: number): NodeId => value as NodeId
export const logIndex = (value: number): LogIndex => value as LogIndex
export const configurationId = (value: number): ConfigurationId => value as ConfigurationId
export const timeline = (value: number): Timeline => value as Timeline
export const volumeId = (value: string): VolumeId => value as VolumeId
export const clusterId = (value: string): ClusterId => value as ClusterId

/** Whether `value` has the form of a volume or cluster id. */
export const isHexId = (value: string): boolean => /^[0-9a-f]{32}$/.test(value)

/** A ballot, compared field by field in this order. `n` is 0 for "never". */
export interface Ballot {
  readonly configuration: ConfigurationId
  readonly n: number
  readonly priority: number
  readonly node: NodeId
}

/** Smaller than every ballot that a node can hold. */
export const ZERO_BALLOT: Ballot = { configuration: configurationId(0), n: 0, priority: 0, node: nodeId(0) }

/** Negative, zero or positive, as `a` is smaller than, equal to or larger than `b`. */
export function compareBallots(a: Ballot, b: Ballot): number {
  return a.configuration - b.configuration || a.n - b.n || a.priority - b.priority || a.node - b.node
}

export const sameBallot = (a: Ballot, b: Ballot): boolean => compareBallots(a, b) === 0

/** A node as a configuration knows it. `address` is `host:port` of its peer port, stable across restarts. */
export interface Member {
  readonly id: NodeId
  readonly volume: VolumeId
  readonly address: string
}

/**
 * Who votes and who only listens. `preferredLeader` is the voter that takes over at once when the
 * configuration starts, or 0 for none. What all its members must agree on for safety is part of it, too:
 * how many voters must accept (absent: a majority; see consensus/quorum.ts), and for how long a voter that
 * grants a lease promises nothing to others (absent: no leases; see consensus/leases.ts).
 */
export interface Configuration {
  readonly id: ConfigurationId
  readonly voters: readonly Member[]
  readonly learners: readonly Member[]
  readonly preferredLeader: NodeId
  readonly acceptQuorum?: number
  readonly leaseMilliseconds?: number
}

export type ConfigurationOptions = Pick<Configuration, 'acceptQuorum' | 'leaseMilliseconds'>

/** What `from` says of options, without those that say nothing. */
export function optionsOf(from: ConfigurationOptions): ConfigurationOptions {
  const { acceptQuorum = 0, leaseMilliseconds = 0 } = from
  return { ...(acceptQuorum > 0 ? { acceptQuorum } : {}), ...(leaseMilliseconds > 0 ? { leaseMilliseconds } : {}) }
}

/** Whether they say the same; what is absent says what 0 says. */
export const sameOptions = (a: ConfigurationOptions, b: ConfigurationOptions): boolean =>
  (a.acceptQuorum ?? 0) === (b.acceptQuorum ?? 0) && (a.leaseMilliseconds ?? 0) === (b.leaseMilliseconds ?? 0)

/** What the disk of a node has room for: consensus/room.ts says what follows, storage/space.ts when it is which. */
export type Room = 'enough' | 'little' | 'none'

/**
 * One entry of the log: the commands of one turn of the leader (opaque to consensus and storage), or the
 * stop-sign that ends a configuration and carries the next one.
 */
export type Entry =
  | { readonly kind: 'commands'; readonly index: LogIndex; readonly payload: Uint8Array }
  | { readonly kind: 'stop-sign'; readonly index: LogIndex; readonly next: Configuration }

/**
 * What consensus needs durable, in order of time; all of it goes through the one log.
 *
 * - `entries`: appended; contiguous to the last index of the log.
 * - `promise`: no smaller ballot will be accepted from now on.
 * - `accept-sync`: one atomic act: the accepted ballot becomes `ballot`, and everything at or above `base`
 *   is superseded by `entries` (contiguous from `base`; may be empty). `base` is above what is known decided.
 * - `decided`: known decided up to and including `index`. Lazy: it needs no sync of its own.
 * - `configuration`: in force from the entry after `start` (the index of the stop-sign; 0 at genesis).
 * - `installed`: a checkpoint up to and including `index` is durable in the checkpoint folder; the log is
 *   empty and goes on at `index + 1`. One atomic act with the state it carries.
 * - `doubt-over`: everything that was lost to rot is here again (an accept-sync under a larger ballot says so, too).
 */
export type LogRecord =
  | { readonly kind: 'entries'; readonly entries: readonly Entry[] }
  | { readonly kind: 'promise'; readonly ballot: Ballot }
  | {
      readonly kind: 'accept-sync'
      readonly ballot: Ballot
      readonly base: LogIndex
      readonly entries: readonly Entry[]
    }
  | { readonly kind: 'decided'; readonly index: LogIndex }
  | { readonly kind: 'configuration'; readonly configuration: Configuration; readonly start: LogIndex }
  | {
      readonly kind: 'installed'
      readonly index: LogIndex
      readonly configuration: Configuration
      readonly start: LogIndex
    }
  | { readonly kind: 'doubt-over' }

/** What the records of the log amount to, entries apart. Repeated in the header of every segment. */
export interface DurableState {
  readonly promise: Ballot
  readonly acceptedBallot: Ballot
  readonly decided: LogIndex
  /** Null before genesis or join. */
  readonly configuration: Configuration | null
  /** Index of the stop-sign that started `configuration`; 0 at genesis. */
  readonly configurationStart: LogIndex
}

export const EMPTY_STATE: DurableState = {
  promise: ZERO_BALLOT,
  acceptedBallot: ZERO_BALLOT,
  decided: logIndex(0),
  configuration: null,
  configurationStart: logIndex(0),
}

/**
 * What storage gives consensus at a start. `entries[0]`, where there is one, has index `first`; everything
 * below `first` is in the checkpoint. `doubtfulFrom`: entries from there on were lost to rot, decided ones perhaps
 * among them; null: no doubt. `entries` ends before it, or goes on with what was learned since.
 */
export interface RecoveredLog {
  readonly state: DurableState
  readonly first: LogIndex
  readonly entries: readonly Entry[]
  readonly doubtfulFrom: LogIndex | null
  /** In doubt: promises (and what was accepted under them) may be lost, too. */
  readonly promiseLost?: boolean
}
