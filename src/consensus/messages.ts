/**
 * The messages that replicas send each other; their bytes are in message-codec.ts. PURE.
 *
 * Nothing needs a sequence number: in a ballot the log of the leader only grows, and a follower that has
 * taken the AcceptSync of a ballot holds a prefix of it. So the index of an entry is its sequence number: a
 * gap is a lost message, an index already there a double one.
 */
import type { Ballot, Configuration, ConfigurationId, Entry, LogIndex } from '../vocabulary.ts'

/** Asks for a reply of this round (ballot leader election). To all other voters, each election timeout. */
export interface HeartbeatRequest {
  readonly kind: 'heartbeat-request'
  readonly configuration: ConfigurationId
  readonly round: number
}
/** `ballot`: the sender's own; `leader`: the largest elected one it knows; `happy`: it sees that leader in quorum contact. */
export interface HeartbeatReply {
  readonly kind: 'heartbeat-reply'
  readonly configuration: ConfigurationId
  readonly round: number
  readonly ballot: Ballot
  readonly leader: Ballot
  readonly happy: boolean
  /** The disk of the sender is nearly full. */
  readonly full?: boolean
}
/** "I do not know what my leader has: send me Prepare." After a restart, a new configuration, a catch-up. */
export interface PrepareRequest {
  readonly kind: 'prepare-request'
  readonly configuration: ConfigurationId
}
/** Phase 1: asks to promise `ballot`, and says how far the candidate's log is. */
export interface Prepare {
  readonly kind: 'prepare'
  readonly ballot: Ballot
  readonly decided: LogIndex
  readonly acceptedBallot: Ballot
  readonly accepted: LogIndex
}
/**
 * The promise, and where the sender's log is ahead of the candidate's: `entries` from `base` to `accepted`.
 * Where `base` is beyond what the candidate can join its own log to, it fetches decided entries up to
 * `base - 1` first. `doubtfulFrom`: entries at and above it may have been lost to rot; 0: no doubt.
 */
export interface Promise_ {
  readonly kind: 'promise'
  readonly ballot: Ballot
  readonly acceptedBallot: Ballot
  readonly decided: LogIndex
  readonly accepted: LogIndex
  readonly doubtfulFrom: LogIndex
  readonly base: LogIndex
  readonly entries: readonly Entry[]
}
/**
 * Phase 2 begins for the receiver: its log from `base` on is replaced by `entries`, atomically with `ballot`.
 * `doubtfulFrom`: of the promise that this answers; `entries` then reach to the end of the leader's log (doubt.ts).
 */
export interface AcceptSync {
  readonly kind: 'accept-sync'
  readonly ballot: Ballot
  readonly decided: LogIndex
  readonly base: LogIndex
  readonly entries: readonly Entry[]
  readonly doubtfulFrom?: LogIndex
}
/** The next entries of the ballot's log; `decided` rides along. */
export interface AcceptDecide {
  readonly kind: 'accept-decide'
  readonly ballot: Ballot
  readonly decided: LogIndex
  readonly entries: readonly Entry[]
}
/** Everything up to `index` of the ballot's log is durable at the sender. */
export interface Accepted {
  readonly kind: 'accepted'
  readonly ballot: Ballot
  readonly index: LogIndex
}
/** Everything up to `decided` is decided; sent when there is no entry to ride on. */
export interface Decide {
  readonly kind: 'decide'
  readonly ballot: Ballot
  readonly decided: LogIndex
}
/** The leader's sign of life: it has sent entries up to `end`. Answered by Accepted, and by Resend where they are not there. */
export interface Beacon {
  readonly kind: 'beacon'
  readonly ballot: Ballot
  readonly decided: LogIndex
  readonly end: LogIndex
}
/** An entry before those that came is missing: send again from `from`. */
export interface Resend {
  readonly kind: 'resend'
  readonly ballot: Ballot
  readonly from: LogIndex
}
/** `ballot` is refused: the sender has promised `promise`. */
export interface NotAccepted {
  readonly kind: 'not-accepted'
  readonly ballot: Ballot
  readonly promise: Ballot
}
/** "Are you still promised to my ballot?" Confirms every read up to `id`. */
export interface ReadProbe {
  readonly kind: 'read-probe'
  readonly ballot: Ballot
  readonly id: number
}
export interface ReadAck {
  readonly kind: 'read-ack'
  readonly ballot: Ballot
  readonly id: number
}
/**
 * "Promise nothing to others for one lease"; granted; what was granted to requests up to `sent` is given back.
 * `sent`: when the request left, by the leader's clock, in whole milliseconds (see leases.ts).
 */
interface LeaseMessage<Kind> {
  readonly kind: Kind
  readonly ballot: Ballot
  readonly sent: number
}
export type LeaseRequest = LeaseMessage<'lease-request'>
export type LeaseGrant = LeaseMessage<'lease-grant'>
export type LeaseRelease = LeaseMessage<'lease-release'>
/** "What have you promised?" `start` names this start of a sender that may have lost promises to rot (doubt.ts). */
export interface AskPromise {
  readonly kind: 'ask-promise'
  readonly configuration: ConfigurationId
  readonly start: number
}
export interface TellPromise {
  readonly kind: 'tell-promise'
  readonly configuration: ConfigurationId
  readonly start: number
  readonly promise: Ballot
}
/**
 * The leader asks the receiver to lead at once, without an election timeout. In a transfer `ballot` is the
 * leader's; after a stop-sign it is (next configuration, 0, 0, 0) and holds when the receiver starts that configuration.
 */
export interface TakeOver {
  readonly kind: 'take-over'
  readonly ballot: Ballot
}
/** The leader cannot bring the receiver up in one message: fetch decided entries up to `decided`, then ask for Prepare. */
export interface CatchUp {
  readonly kind: 'catch-up'
  readonly ballot: Ballot
  readonly decided: LogIndex
}
/** Asks for decided entries `from`…`upTo` (`upTo` < `from`: only who leads and what is decided); the sender holds all up to `decided`. */
export interface FetchDecided {
  readonly kind: 'fetch-decided'
  readonly from: LogIndex
  readonly upTo: LogIndex
  readonly decided: LogIndex
}
/** Decided entries from `from` on, as many as fit; `decided` and `leader` (n = 0: not known) as the sender knows them. */
export interface DecidedEntries {
  readonly kind: 'decided-entries'
  readonly from: LogIndex
  readonly decided: LogIndex
  readonly leader: Ballot
  readonly entries: readonly Entry[]
}
/** What was asked for is below the `first` entry of the sender's log, in checkpoints only. */
export interface NoLongerHere {
  readonly kind: 'no-longer-here'
  readonly first: LogIndex
  readonly decided: LogIndex
}
/** Configuration `next.id - 1` has ended with the stop-sign at `index`. */
export interface Sealed {
  readonly kind: 'sealed'
  readonly index: LogIndex
  readonly next: Configuration
}
/** The leader of `configuration` means to make the receiver a voter: fetch from it and report progress. */
export interface Invite {
  readonly kind: 'invite'
  readonly configuration: ConfigurationId
  readonly decided: LogIndex
}

export type Message =
  | HeartbeatRequest
  | HeartbeatReply
  | PrepareRequest
  | Prepare
  | Promise_
  | AcceptSync
  | AcceptDecide
  | Accepted
  | Decide
  | Beacon
  | Resend
  | NotAccepted
  | ReadProbe
  | ReadAck
  | TakeOver
  | CatchUp
  | FetchDecided
  | DecidedEntries
  | NoLongerHere
  | Sealed
  | Invite
  | LeaseRequest
  | LeaseGrant
  | LeaseRelease
  | AskPromise
  | TellPromise

/** The configuration a message belongs to; null where it means something in all of them. */
export function configurationOf(message: Message): ConfigurationId | null {
  switch (message.kind) {
    case 'heartbeat-request':
    case 'heartbeat-reply':
    case 'prepare-request':
    case 'ask-promise':
    case 'tell-promise':
      return message.configuration
    case 'fetch-decided':
    case 'decided-entries':
    case 'no-longer-here':
    case 'sealed':
    case 'invite':
      return null
    case 'prepare':
    case 'promise':
    case 'accept-sync':
    case 'accept-decide':
    case 'accepted':
    case 'decide':
    case 'beacon':
    case 'resend':
    case 'not-accepted':
    case 'read-probe':
    case 'read-ack':
    case 'take-over':
    case 'catch-up':
    case 'lease-request':
    case 'lease-grant':
    case 'lease-release':
      return message.ballot.configuration
  }
}
