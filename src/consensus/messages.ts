/**
 * The messages that replicas send each other, and their bytes. PURE.
 *
 *   message   uint8 kind (the numbers in KINDS), then the fields in the order of the interface
 *   ballot    see bytes.ts      index, round, id   uint      boolean   one byte, 0 or 1
 *   entries   uint count, entry…   (contiguous: index of each is the one before + 1)
 *
 * The kinds are numbers that are never reused; an unknown one is FRAME_MALFORMED. A newer version may add
 * kinds and add fields behind the last one: what is left over in the frame is ignored.
 *
 * Nothing needs a sequence number: in a ballot the log of the leader only grows, and a follower that has
 * taken the AcceptSync of a ballot holds a prefix of it. So the index of an entry is its sequence number: a
 * gap is a lost message, an index already there a double one.
 */
import { type ByteReader, type ByteWriter, readBallot, readConfiguration, readEntry } from '../bytes.ts'
import { writeBallot, writeConfiguration, writeEntry } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { type Ballot, type Configuration, type ConfigurationId, type Entry, type LogIndex } from '../vocabulary.ts'
import { configurationId, logIndex } from '../vocabulary.ts'

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
/** Phase 2 begins for the receiver: its log from `base` on is replaced by `entries`, atomically with `ballot`. */
export interface AcceptSync {
  readonly kind: 'accept-sync'
  readonly ballot: Ballot
  readonly decided: LogIndex
  readonly base: LogIndex
  readonly entries: readonly Entry[]
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

/** The number of each kind on the wire. */
const KINDS = {
  'heartbeat-request': 1,
  'heartbeat-reply': 2,
  'prepare-request': 3,
  prepare: 4,
  promise: 5,
  'accept-sync': 6,
  'accept-decide': 7,
  accepted: 8,
  decide: 9,
  beacon: 10,
  resend: 11,
  'not-accepted': 12,
  'read-probe': 13,
  'read-ack': 14,
  'take-over': 15,
  'catch-up': 16,
  'fetch-decided': 17,
  'decided-entries': 18,
  'no-longer-here': 19,
  sealed: 20,
  invite: 21,
  'lease-request': 22,
  'lease-grant': 23,
  'lease-release': 24,
} as const satisfies Record<Message['kind'], number>

/** The configuration a message belongs to; null where it means something in all of them. */
export function configurationOf(message: Message): ConfigurationId | null {
  switch (message.kind) {
    case 'heartbeat-request':
    case 'heartbeat-reply':
    case 'prepare-request':
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

function writeEntries(writer: ByteWriter, entries: readonly Entry[]): void {
  writer.uint(entries.length)
  for (const entry of entries) writeEntry(writer, entry)
}

/** Payloads are copied: they stay in the log while the frame they came in is used again. */
function readEntries(reader: ByteReader): Entry[] {
  const entries: Entry[] = []
  for (let left = reader.uint(); left > 0; left--) {
    const entry = readEntry(reader)
    const previous = entries.at(-1)
    if (previous !== undefined && entry.index !== previous.index + 1) {
      throw new LokiError('FRAME_MALFORMED', `entry ${entry.index} follows entry ${previous.index}`)
    }
    entries.push(entry.kind === 'commands' ? { ...entry, payload: Uint8Array.from(entry.payload) } : entry)
  }
  return entries
}

/** Appends the bytes of `message` to `writer`. */
export function encodeMessage(writer: ByteWriter, message: Message): void {
  writer.uint8(KINDS[message.kind])
  switch (message.kind) {
    case 'heartbeat-request':
      writer.uint(message.configuration).uint(message.round)
      return
    case 'heartbeat-reply':
      writer.uint(message.configuration).uint(message.round)
      writeBallot(writer, message.ballot)
      writeBallot(writer, message.leader)
      writer.boolean(message.happy)
      return
    case 'prepare-request':
      writer.uint(message.configuration)
      return
    case 'fetch-decided':
      writer.uint(message.from).uint(message.upTo).uint(message.decided)
      return
    case 'decided-entries':
      writer.uint(message.from).uint(message.decided)
      writeBallot(writer, message.leader)
      writeEntries(writer, message.entries)
      return
    case 'no-longer-here':
      writer.uint(message.first).uint(message.decided)
      return
    case 'sealed':
      writer.uint(message.index)
      writeConfiguration(writer, message.next)
      return
    case 'invite':
      writer.uint(message.configuration).uint(message.decided)
      return
    default:
      writeBallot(writer, message.ballot)
      encodeBalloted(writer, message)
  }
}

type Balloted = Extract<Message, { readonly ballot: Ballot }>

/** What follows the ballot in the messages that begin with one. */
function encodeBalloted(writer: ByteWriter, message: Exclude<Balloted, HeartbeatReply>): void {
  switch (message.kind) {
    case 'prepare':
      writer.uint(message.decided)
      writeBallot(writer, message.acceptedBallot)
      writer.uint(message.accepted)
      return
    case 'promise':
      writeBallot(writer, message.acceptedBallot)
      writer.uint(message.decided).uint(message.accepted).uint(message.doubtfulFrom).uint(message.base)
      writeEntries(writer, message.entries)
      return
    case 'accept-sync':
      writer.uint(message.decided).uint(message.base)
      writeEntries(writer, message.entries)
      return
    case 'accept-decide':
      writer.uint(message.decided)
      writeEntries(writer, message.entries)
      return
    case 'accepted':
      writer.uint(message.index)
      return
    case 'decide':
      writer.uint(message.decided)
      return
    case 'beacon':
      writer.uint(message.decided).uint(message.end)
      return
    case 'resend':
      writer.uint(message.from)
      return
    case 'not-accepted':
      writeBallot(writer, message.promise)
      return
    case 'read-probe':
    case 'read-ack':
      writer.uint(message.id)
      return
    case 'lease-request':
    case 'lease-grant':
    case 'lease-release':
      writer.uint(message.sent)
      return
    case 'take-over':
      return
    case 'catch-up':
      writer.uint(message.decided)
  }
}

const index = (reader: ByteReader): LogIndex => logIndex(reader.uint())

/** Reads one message; throws `LokiError('FRAME_MALFORMED')`. Bytes behind it are left unread. */
export function decodeMessage(reader: ByteReader): Message {
  const number = reader.uint8()
  switch (number) {
    case KINDS['heartbeat-request']:
      return { kind: 'heartbeat-request', configuration: configurationId(reader.uint()), round: reader.uint() }
    case KINDS['heartbeat-reply']:
      return {
        kind: 'heartbeat-reply',
        configuration: configurationId(reader.uint()),
        round: reader.uint(),
        ballot: readBallot(reader),
        leader: readBallot(reader),
        happy: reader.boolean(),
      }
    case KINDS['prepare-request']:
      return { kind: 'prepare-request', configuration: configurationId(reader.uint()) }
    case KINDS['fetch-decided']:
      return { kind: 'fetch-decided', from: index(reader), upTo: index(reader), decided: index(reader) }
    case KINDS['decided-entries']: {
      const message: DecidedEntries = {
        kind: 'decided-entries',
        from: index(reader),
        decided: index(reader),
        leader: readBallot(reader),
        entries: readEntries(reader),
      }
      return startingAt(message, message.from)
    }
    case KINDS['no-longer-here']:
      return { kind: 'no-longer-here', first: index(reader), decided: index(reader) }
    case KINDS.sealed:
      return { kind: 'sealed', index: index(reader), next: readConfiguration(reader) }
    case KINDS.invite:
      return { kind: 'invite', configuration: configurationId(reader.uint()), decided: index(reader) }
    default:
      return decodeBalloted(reader, number)
  }
}

function decodeBalloted(reader: ByteReader, number: number): Message {
  const isLease = number >= KINDS['lease-request'] && number <= KINDS['lease-release']
  if (!isLease && (number < KINDS.prepare || number > KINDS['catch-up'])) {
    throw new LokiError('FRAME_MALFORMED', `unknown kind of message ${number}`)
  }
  const ballot = readBallot(reader)
  switch (number) {
    case KINDS.prepare: {
      const decided = index(reader)
      return { kind: 'prepare', ballot, decided, acceptedBallot: readBallot(reader), accepted: index(reader) }
    }
    case KINDS.promise: {
      const message: Promise_ = {
        kind: 'promise',
        ballot,
        acceptedBallot: readBallot(reader),
        decided: index(reader),
        accepted: index(reader),
        doubtfulFrom: index(reader),
        base: index(reader),
        entries: readEntries(reader),
      }
      return startingAt(message, message.base)
    }
    case KINDS['accept-sync']: {
      const decided = index(reader)
      const message: AcceptSync = {
        kind: 'accept-sync',
        ballot,
        decided,
        base: index(reader),
        entries: readEntries(reader),
      }
      return startingAt(message, message.base)
    }
    case KINDS['accept-decide']:
      return { kind: 'accept-decide', ballot, decided: index(reader), entries: readEntries(reader) }
    case KINDS.accepted:
      return { kind: 'accepted', ballot, index: index(reader) }
    case KINDS.decide:
      return { kind: 'decide', ballot, decided: index(reader) }
    case KINDS.beacon:
      return { kind: 'beacon', ballot, decided: index(reader), end: index(reader) }
    case KINDS.resend:
      return { kind: 'resend', ballot, from: index(reader) }
    case KINDS['not-accepted']:
      return { kind: 'not-accepted', ballot, promise: readBallot(reader) }
    case KINDS['read-probe']:
      return { kind: 'read-probe', ballot, id: reader.uint() }
    case KINDS['read-ack']:
      return { kind: 'read-ack', ballot, id: reader.uint() }
    case KINDS['take-over']:
      return { kind: 'take-over', ballot }
    case KINDS['lease-request']:
      return { kind: 'lease-request', ballot, sent: reader.uint() }
    case KINDS['lease-grant']:
      return { kind: 'lease-grant', ballot, sent: reader.uint() }
    case KINDS['lease-release']:
      return { kind: 'lease-release', ballot, sent: reader.uint() }
    default:
      return { kind: 'catch-up', ballot, decided: index(reader) }
  }
}

/** Refuses a message whose entries do not begin where it says. */
function startingAt<M extends Message & { readonly entries: readonly Entry[] }>(message: M, first: LogIndex): M {
  const entry = message.entries[0]
  if (entry !== undefined && entry.index !== first) {
    throw new LokiError('FRAME_MALFORMED', `${message.kind}: first entry is ${entry.index}, not ${first}`)
  }
  return message
}
