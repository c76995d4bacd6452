/**
 * The payload of a log entry of kind `commands`: what one turn of the leader carries, encoder and decoder side
 * by side. PURE.
 *
 *   payload   empty (a leader's first entry), or:
 *             uint8 version (1), uint time in milliseconds since 1970,
 *             uint systems, system…, uint blocks, block…
 *   system    uint8 kind:
 *     1 open-session    uint node, uint incarnation
 *     2 allot-id        string volume
 *     3 adopt-members   configuration
 *     4 limit-memory    uint bytes (0: no limit)
 *   block     uint node, uint incarnation, uint acknowledged, uint first, uint commands, bytes command…
 *   command   string collection ('': the default one), uint arguments, bytes argument…
 *
 * Decoders throw `LokiError('FRAME_MALFORMED')` and give views into the bytes they read.
 */
import { ByteReader, ByteWriter, readConfiguration, writeConfiguration } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { unreachable } from '../invariant.ts'
import { type Configuration, type VolumeId, volumeId } from '../vocabulary.ts'
import type { Arguments } from './reply.ts'

/** One start of a node. `incarnation` rises with every start. */
export interface SessionId {
  readonly node: number
  readonly incarnation: number
}

/**
 * Commands of one session in one turn. Sequence numbers start at 1 and have no gaps. `acknowledged`: replies up
 * to it were delivered and may be forgotten. Each command is what `encodeCommand` wrote.
 */
export interface Block {
  readonly session: SessionId
  readonly acknowledged: number
  readonly first: number
  readonly commands: readonly Uint8Array[]
}

/** What the cluster itself has to say to its state. */
export type SystemCommand =
  | { readonly kind: 'open-session'; readonly session: SessionId }
  /** Gives a volume its node id, once and for ever. */
  | { readonly kind: 'allot-id'; readonly volume: VolumeId }
  /** Makes the members of the genesis configuration known to whoever replays the log from its start. */
  | { readonly kind: 'adopt-members'; readonly configuration: Configuration }
  /** The limit in force: part of the replicated state, or nodes with different settings would drift apart. */
  | { readonly kind: 'limit-memory'; readonly maxMemoryBytes: number }

export interface EntryContent {
  readonly time: number
  readonly system: readonly SystemCommand[]
  readonly blocks: readonly Block[]
}

const VERSION = 1
const OPEN_SESSION = 1
const ALLOT_ID = 2
const ADOPT_MEMBERS = 3
const LIMIT_MEMORY = 4

const NOTHING: EntryContent = { time: 0, system: [], blocks: [] }

/** What it gives stays in the memory of `writer`. */
export function encodeEntry(
  timeMilliseconds: number,
  system: readonly SystemCommand[],
  blocks: readonly Block[],
  writer = new ByteWriter(entryCapacity(blocks)),
): Buffer {
  const start = writer.length
  writer.uint8(VERSION).uint(timeMilliseconds).uint(system.length)
  for (const command of system) encodeSystemCommand(writer, command)
  writer.uint(blocks.length)
  for (const block of blocks) encodeBlock(writer, block)
  // Not copied: the capacity was about right, and nobody else writes here.
  return writer.since(start)
}

/** About the bytes of the payload, and rather more than fewer. */
export function entryCapacity(blocks: readonly Block[]): number {
  let capacity = 256
  for (const block of blocks) {
    capacity += 48
    for (const command of block.commands) capacity += command.length + 8
  }
  return capacity
}

export function decodeEntry(payload: Uint8Array): EntryContent {
  if (payload.length === 0) return NOTHING
  const reader = new ByteReader(payload)
  const version = reader.uint8()
  if (version !== VERSION) throw new LokiError('FRAME_MALFORMED', `unknown version of an entry ${version}`)
  const time = reader.uint()
  const system: SystemCommand[] = []
  for (let left = reader.uint(); left > 0; left--) system.push(decodeSystemCommand(reader))
  const blocks: Block[] = []
  for (let left = reader.uint(); left > 0; left--) blocks.push(decodeBlock(reader))
  if (reader.remaining !== 0) throw new LokiError('FRAME_MALFORMED', `${reader.remaining} bytes after an entry`)
  return { time, system, blocks }
}

function encodeSystemCommand(writer: ByteWriter, command: SystemCommand): void {
  switch (command.kind) {
    case 'open-session':
      writer.uint8(OPEN_SESSION).uint(command.session.node).uint(command.session.incarnation)
      return
    case 'allot-id':
      writer.uint8(ALLOT_ID).string(command.volume)
      return
    case 'adopt-members':
      writeConfiguration(writer.uint8(ADOPT_MEMBERS), command.configuration)
      return
    case 'limit-memory':
      writer.uint8(LIMIT_MEMORY).uint(command.maxMemoryBytes)
      return
    default:
      unreachable(command)
  }
}

function decodeSystemCommand(reader: ByteReader): SystemCommand {
  const kind = reader.uint8()
  switch (kind) {
    case OPEN_SESSION:
      return { kind: 'open-session', session: { node: reader.uint(), incarnation: reader.uint() } }
    case ALLOT_ID:
      return { kind: 'allot-id', volume: volumeId(reader.string()) }
    case ADOPT_MEMBERS:
      return { kind: 'adopt-members', configuration: readConfiguration(reader) }
    case LIMIT_MEMORY:
      return { kind: 'limit-memory', maxMemoryBytes: reader.uint() }
    default:
      throw new LokiError('FRAME_MALFORMED', `unknown kind of a system command ${kind}`)
  }
}

/** Also how nodes forward a block to the leader. */
export function encodeBlock(writer: ByteWriter, block: Block): void {
  writer.uint(block.session.node).uint(block.session.incarnation).uint(block.acknowledged).uint(block.first)
  writer.uint(block.commands.length)
  for (const command of block.commands) writer.bytes(command)
}

/** The commands are views into the reader's buffer. */
export function decodeBlock(reader: ByteReader): Block {
  const session = { node: reader.uint(), incarnation: reader.uint() }
  const acknowledged = reader.uint()
  const first = reader.uint()
  if (first < 1) throw new LokiError('FRAME_MALFORMED', 'sequence numbers start at 1')
  const commands: Uint8Array[] = []
  for (let left = reader.uint(); left > 0; left--) commands.push(reader.bytes())
  return { session, acknowledged, first, commands }
}

/** `collection`: '' is the default one. */
export function encodeCommand(writer: ByteWriter, collection: string, args: Arguments): void {
  writer.string(collection).uint(args.length)
  for (let i = 0; i < args.length; i++) writer.bytes(args[i]!)
}

/** The arguments are views into the reader's buffer. */
export function decodeCommand(reader: ByteReader): { collection: string; args: Uint8Array[] } {
  const collection = reader.string()
  const count = reader.uint()
  // Most have three; a list that grows takes room for seventeen at once.
  const args: Uint8Array[] = count === 3 ? [reader.bytes(), reader.bytes(), reader.bytes()] : []
  while (args.length < count) args.push(reader.bytes())
  return { collection, args }
}
