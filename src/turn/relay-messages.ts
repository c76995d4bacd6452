/**
 * What nodes say to each other beside consensus: commands on their way to the leader and answers on their way
 * back, and checkpoints in chunks. PURE: wire grammar, encode and decode side by side.
 *
 *   message   uint8 kind, then
 *   1 forward        session, uint8 opens, block                (see machine/entry.ts)
 *   2 replies        session, uint index, uint count, (uint sequence, reply)…
 *   3 read           uint id, uint count, (uint arguments, bytes…)…
 *   4 read-replies   uint id, uint index, uint count, reply…
 *   5 redirect       uint leader (0 none), uint8 present, configuration
 *   6 fetch-manifest uint index: the newest checkpoint of at least this index is wanted
 *   7 manifest       uint index (0: none here), bytes manifest
 *   8 fetch-chunk    uint index, uint chunk
 *   9 chunk          uint index, uint chunk, uint8 present, bytes
 *  10 session-ended  session, uint next (0: not known)
 *   session   uint node, uint incarnation
 */
import { type ByteReader, type ByteWriter, readConfiguration, writeConfiguration } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { type Block, type SessionId, decodeBlock, encodeBlock } from '../machine/entry.ts'
import { type Reply, decodeReply, encodeReply } from '../machine/reply.ts'
import { type Configuration, type LogIndex, type NodeId, logIndex, nodeId } from '../vocabulary.ts'

export type RelayMessage =
  /** Commands of one session, in order. `opens`: the session may not be known yet; open it first. */
  | { readonly kind: 'forward'; readonly opens: boolean; readonly block: Block }
  | {
      readonly kind: 'replies'
      readonly session: SessionId
      /** The state that answered had applied this index. */
      readonly index: LogIndex
      readonly replies: readonly { readonly sequence: number; readonly reply: Reply }[]
    }
  /** Linearizable reads of one turn of a node. */
  | { readonly kind: 'read'; readonly id: number; readonly commands: readonly (readonly Uint8Array[])[] }
  | {
      readonly kind: 'read-replies'
      readonly id: number
      /** The state that answered had applied this index. */
      readonly index: LogIndex
      readonly replies: readonly Reply[]
    }
  /** I do not lead; this is whom and what I know. Nothing was taken. */
  | { readonly kind: 'redirect'; readonly leader: NodeId | null; readonly configuration: Configuration | null }
  /** The session is over: of its commands those before `next` were applied, and none of the others will be. */
  | { readonly kind: 'session-ended'; readonly session: SessionId; readonly next: number }
  | { readonly kind: 'fetch-manifest'; readonly index: LogIndex }
  | { readonly kind: 'manifest'; readonly index: LogIndex; readonly manifest: Uint8Array }
  | { readonly kind: 'fetch-chunk'; readonly index: LogIndex; readonly chunk: number }
  | { readonly kind: 'chunk'; readonly index: LogIndex; readonly chunk: number; readonly bytes: Uint8Array | null }

const KINDS = {
  forward: 1,
  replies: 2,
  read: 3,
  'read-replies': 4,
  redirect: 5,
  'fetch-manifest': 6,
  manifest: 7,
  'fetch-chunk': 8,
  chunk: 9,
  'session-ended': 10,
} as const satisfies Record<RelayMessage['kind'], number>

function writeSession(writer: ByteWriter, session: SessionId): void {
  writer.uint(session.node).uint(session.incarnation)
}

const readSession = (reader: ByteReader): SessionId => ({ node: reader.uint(), incarnation: reader.uint() })

function many<T>(reader: ByteReader, read: () => T): T[] {
  const items: T[] = []
  for (let left = reader.uint(); left > 0; left--) items.push(read())
  return items
}

export function encodeRelayMessage(writer: ByteWriter, message: RelayMessage): void {
  writer.uint8(KINDS[message.kind])
  switch (message.kind) {
    case 'forward':
      writer.boolean(message.opens)
      encodeBlock(writer, message.block)
      break
    case 'replies':
      writeSession(writer, message.session)
      writer.uint(message.index).uint(message.replies.length)
      for (const { sequence, reply } of message.replies) {
        writer.uint(sequence)
        encodeReply(writer, reply)
      }
      break
    case 'read':
      writer.uint(message.id).uint(message.commands.length)
      for (const command of message.commands) {
        writer.uint(command.length)
        for (const argument of command) writer.bytes(argument)
      }
      break
    case 'read-replies':
      writer.uint(message.id).uint(message.index).uint(message.replies.length)
      for (const reply of message.replies) encodeReply(writer, reply)
      break
    case 'redirect':
      writer.uint(message.leader ?? 0).boolean(message.configuration !== null)
      if (message.configuration) writeConfiguration(writer, message.configuration)
      break
    case 'session-ended':
      writeSession(writer, message.session)
      writer.uint(message.next)
      break
    case 'fetch-manifest':
      writer.uint(message.index)
      break
    case 'manifest':
      writer.uint(message.index).bytes(message.manifest)
      break
    case 'fetch-chunk':
      writer.uint(message.index).uint(message.chunk)
      break
    case 'chunk':
      writer
        .uint(message.index)
        .uint(message.chunk)
        .boolean(message.bytes !== null)
      if (message.bytes) writer.bytes(message.bytes)
      break
  }
}

/** Throws FRAME_MALFORMED. Byte fields are views into the reader's buffer. */
export function decodeRelayMessage(reader: ByteReader): RelayMessage {
  const kind = reader.uint8()
  switch (kind) {
    case KINDS.forward:
      return { kind: 'forward', opens: reader.boolean(), block: decodeBlock(reader) }
    case KINDS.replies:
      return {
        kind: 'replies',
        session: readSession(reader),
        index: logIndex(reader.uint()),
        replies: many(reader, () => ({ sequence: reader.uint(), reply: decodeReply(reader) })),
      }
    case KINDS.read:
      return { kind: 'read', id: reader.uint(), commands: many(reader, () => many(reader, () => reader.bytes())) }
    case KINDS['read-replies']: {
      const id = reader.uint()
      const index = logIndex(reader.uint())
      return { kind: 'read-replies', id, index, replies: many(reader, () => decodeReply(reader)) }
    }
    case KINDS.redirect: {
      const leader = reader.uint()
      const configuration = reader.boolean() ? readConfiguration(reader) : null
      return { kind: 'redirect', leader: leader === 0 ? null : nodeId(leader), configuration }
    }
    case KINDS['session-ended']:
      return { kind: 'session-ended', session: readSession(reader), next: reader.uint() }
    case KINDS['fetch-manifest']:
      return { kind: 'fetch-manifest', index: logIndex(reader.uint()) }
    case KINDS.manifest:
      return { kind: 'manifest', index: logIndex(reader.uint()), manifest: reader.bytes() }
    case KINDS['fetch-chunk']:
      return { kind: 'fetch-chunk', index: logIndex(reader.uint()), chunk: reader.uint() }
    case KINDS.chunk: {
      const index = logIndex(reader.uint())
      const chunk = reader.uint()
      return { kind: 'chunk', index, chunk, bytes: reader.boolean() ? reader.bytes() : null }
    }
    default:
      throw new LokiError('FRAME_MALFORMED', `unknown kind of relay message ${kind}`)
  }
}
