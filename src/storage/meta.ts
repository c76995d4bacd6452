/**
 * The meta file of the log: identity and first index, in two slots of 4096 bytes.
 *
 *   offset  bytes                                        (slot 0 at 0, slot 1 at 4096)
 *        0  8   "LOKIMETA"
 *        8  4   format version, 1
 *       12  4   CRC-32 of the slot with these four bytes as zeros
 *       16  uint sequence, string volume, string cluster ("": none yet), uint node (0: none yet),
 *           uint first index of the log, uint timeline when this was written
 *           zeros
 *
 * The valid slot with the larger sequence holds. A change writes and syncs the other slot, and then the one
 * that held, before anything relies on it: afterwards both say the same, and losing either costs nothing.
 */
import { crc32 } from 'node:zlib'
import { ByteReader, ByteWriter } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { type ClusterId, type LogIndex, type NodeId, type Timeline, type VolumeId } from '../vocabulary.ts'
import { clusterId, logIndex, nodeId, timeline, volumeId } from '../vocabulary.ts'
import { type Disk, type DiskFile, publishFile, readWhole } from './disk.ts'

export const META_FILE = 'meta'
const SLOT_BYTES = 4096
const MAGIC = Buffer.from('LOKIMETA', 'latin1')
const FORMAT = 1

export interface MetaContent {
  readonly volume: VolumeId
  readonly identity: { readonly cluster: ClusterId; readonly node: NodeId } | null
  /** Entries below it are gone from the log, whatever files are still there. */
  readonly first: LogIndex
  readonly timeline: Timeline
}

export function encodeMetaSlot(sequence: number, content: MetaContent): Buffer {
  const writer = new ByteWriter(SLOT_BYTES)
  writer.raw(MAGIC).uint32(FORMAT).uint32(0)
  writer.uint(sequence).string(content.volume)
  writer.string(content.identity?.cluster ?? '').uint(content.identity?.node ?? 0)
  writer.uint(content.first).uint(content.timeline)
  while (writer.length < SLOT_BYTES) writer.uint8(0)
  const bytes = writer.finish()
  bytes.writeUInt32LE(crc32(bytes), 12)
  return bytes
}

interface Slot {
  readonly sequence: number
  readonly content: MetaContent
}

/** Null for a slot that is damaged; throws `FORMAT_TOO_NEW`. */
export function decodeMetaSlot(bytes: Buffer, path: string): Slot | null {
  if (bytes.length < SLOT_BYTES || bytes.compare(MAGIC, 0, 8, 0, 8) !== 0) return null
  const copy = Buffer.from(bytes)
  copy.writeUInt32LE(0, 12)
  if (crc32(copy) !== bytes.readUInt32LE(12)) return null
  const format = bytes.readUInt32LE(8)
  if (format !== FORMAT) throw new LokiError('FORMAT_TOO_NEW', `${path} has format ${format}, this version knows 1`)
  const reader = new ByteReader(copy, 16)
  const sequence = reader.uint()
  const volume = volumeId(reader.string())
  const cluster = reader.string()
  const node = reader.uint()
  const identity = cluster === '' ? null : { cluster: clusterId(cluster), node: nodeId(node) }
  return {
    sequence,
    content: { volume, identity, first: logIndex(reader.uint()), timeline: timeline(reader.uint()) },
  }
}

export interface LoadedMeta extends Slot {
  /** The slot that `content` is from. */
  readonly slot: number
  /** Why the other slot has to be written again, if so: a crash left it as it was, or it cannot be read. */
  readonly lame: 'older' | 'damaged' | null
}

/** Reads the meta file of that volume; null if there is none. Writes nothing. Throws `META_DAMAGED`, `FORMAT_TOO_NEW`, `VOLUME_MISMATCH`. */
export async function loadMeta(disk: Disk, directory: string, volume: VolumeId): Promise<LoadedMeta | null> {
  const path = `${directory}/${META_FILE}`
  const bytes = await readWhole(disk, path)
  if (bytes === null) return null
  const slots = [0, 1].map((slot) =>
    decodeMetaSlot(bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES), `${path} (slot ${slot})`),
  )
  const [zero, one] = slots
  const slot = (one?.sequence ?? -1) > (zero?.sequence ?? -1) ? 1 : 0
  const best = slots[slot]
  if (!best) throw new LokiError('META_DAMAGED', `${path}: both slots are damaged`)
  if (best.content.volume !== volume) {
    const message = `${directory} is stamped ${volume}, and its meta file is of volume ${best.content.volume}`
    throw new LokiError('VOLUME_MISMATCH', message)
  }
  const lame = !zero || !one ? 'damaged' : zero.sequence === one.sequence ? null : 'older'
  return { ...best, slot, lame }
}

/** The open meta file; one update at a time. */
export class Meta {
  readonly #file: DiskFile
  #sequence: number
  #slot: number
  #content: MetaContent
  #running: Promise<void> = Promise.resolve()

  private constructor(file: DiskFile, loaded: LoadedMeta) {
    this.#file = file
    this.#sequence = loaded.sequence
    this.#slot = loaded.slot
    this.#content = loaded.content
  }

  static async create(disk: Disk, directory: string, content: MetaContent): Promise<Meta> {
    const slot = encodeMetaSlot(1, content)
    await publishFile(disk, directory, META_FILE, Buffer.concat([slot, slot]))
    return Meta.open(disk, directory, { sequence: 1, content, slot: 0, lame: null })
  }

  static async open(disk: Disk, directory: string, loaded: LoadedMeta): Promise<Meta> {
    const meta = new Meta(await disk.open(`${directory}/${META_FILE}`, 'write'), loaded)
    if (loaded.lame !== null) await meta.update({})
    return meta
  }

  get content(): MetaContent {
    return this.#content
  }

  /** Durable in both slots when it returns. */
  update(change: Partial<MetaContent>): Promise<void> {
    const next = this.#running.then(() => this.#write({ ...this.#content, ...change }))
    this.#running = next.catch(() => {})
    return next
  }

  async #write(content: MetaContent): Promise<void> {
    this.#sequence++
    const bytes = encodeMetaSlot(this.#sequence, content)
    const other = 1 - this.#slot
    await this.#file.write(bytes, other * SLOT_BYTES)
    await this.#file.sync()
    await this.#file.write(bytes, this.#slot * SLOT_BYTES)
    await this.#file.sync()
    this.#slot = other
    this.#content = content
  }

  async close(): Promise<void> {
    await this.#running
    await this.#file.close()
  }
}
