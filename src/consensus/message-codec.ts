/**
 * The bytes of the messages that replicas send each other (messages.ts). PURE.
 *
 *   message   uint8 kind (the numbers in KINDS), then the fields in the order of the interface
 *   ballot    see bytes.ts      index, round, id   uint      boolean   one byte, 0 or 1
 *   entries   uint count, entry…   (contiguous: index of each is the one before + 1)
 *
 * The kinds are numbers that are never reused; an unknown one is FRAME_MALFORMED. A newer version may add
 * kinds and add fields behind the last one: what is left over in the frame is ignored.
 */
import { type ByteReader, type ByteWriter, readBallot, readConfiguration, readEntry } from '../bytes.ts'
import { writeBallot, writeConfiguration, writeEntry } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { type Ballot, type Entry, type LogIndex, configurationId, logIndex } from '../vocabulary.ts'
import type { AcceptSync, DecidedEntries, HeartbeatReply, Message, Promise_ } from './messages.ts'

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
  'ask-promise': 25,
  'tell-promise': 26,
} as const satisfies Record<Message['kind'], number>

function writeEntries(writer: ByteWriter, entries: readonly Entry[]): void {
  writer.uint(entries.length)
  for (const entry of entries) writeEntry(writer, entry)
}

/** A frame of so many bytes has memory of its own (see edge/peer/frames.ts); a shorter one has a part of Node's pool. */
const OWN_MEMORY_BYTES = Buffer.poolSize / 2

/**
 * Payloads stay in the log. A short one is copied: for its sake a piece of the pool would be kept, with all that was
 * there beside it. A long one stays where it is: all that its frame has is entries, which leave the log together.
 */
const keptPayload = (payload: Uint8Array): Uint8Array =>
  payload.length < OWN_MEMORY_BYTES ? new Uint8Array(payload) : payload

function readEntries(reader: ByteReader): Entry[] {
  const entries: Entry[] = []
  for (let left = reader.uint(); left > 0; left--) {
    const entry = readEntry(reader)
    const previous = entries.at(-1)
    if (previous !== undefined && entry.index !== previous.index + 1) {
      throw new LokiError('FRAME_MALFORMED', `entry ${entry.index} follows entry ${previous.index}`)
    }
    entries.push(entry.kind === 'commands' ? { ...entry, payload: keptPayload(entry.payload) } : entry)
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
      writer.boolean(message.happy).boolean(message.full ?? false)
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
    case 'ask-promise':
      writer.uint(message.configuration).uint(message.start)
      return
    case 'tell-promise':
      writeBallot(writer.uint(message.configuration).uint(message.start), message.promise)
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
      writer.uint(message.doubtfulFrom ?? 0)
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
    case KINDS['heartbeat-reply']: {
      const reply: HeartbeatReply = {
        kind: 'heartbeat-reply',
        configuration: configurationId(reader.uint()),
        round: reader.uint(),
        ballot: readBallot(reader),
        leader: readBallot(reader),
        happy: reader.boolean(),
      }
      return reader.boolean() ? { ...reply, full: true } : reply
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
    case KINDS['ask-promise']:
      return { kind: 'ask-promise', configuration: configurationId(reader.uint()), start: reader.uint() }
    case KINDS['tell-promise']: {
      const id = configurationId(reader.uint())
      return { kind: 'tell-promise', configuration: id, start: reader.uint(), promise: readBallot(reader) }
    }
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
      const doubtfulFrom = index(reader)
      return startingAt(doubtfulFrom > 0 ? { ...message, doubtfulFrom } : message, message.base)
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
