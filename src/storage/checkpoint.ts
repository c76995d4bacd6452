/**
 * Checkpoints: `<index, 16 digits>/` with `data` and `manifest`, in the checkpoint volume.
 *
 *   data      the chunks one behind the other, as the manifest says
 *   chunk     zstd of: slice…          slice: 4 bytes length, then what the machine gave in one piece
 *   manifest  offset  bytes
 *                  0  8   "LOKICKPT"
 *                  8  4   format version, 1
 *                 12  4   CRC-32 of the manifest with these four bytes as zeros
 *                 16  string cluster, uint index, uint start, configuration, string SHA-256 of all slices (hex),
 *                     uint slices, uint bytes of all slices, uint chunks,
 *                     chunk…: uint stored bytes, uint32 CRC-32 of them
 *
 * A checkpoint is written under `writing`, synced, and published by a rename and a directory sync: it is there
 * as a whole or not at all. A manifest is the same on every node that has the checkpoint, so that a peer can
 * fetch the chunks one by one, from anywhere, and knows each for good or bad (checkpoint-receiver.ts).
 */
import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { constants, crc32, zstdCompress, zstdDecompress } from 'node:zlib'
import { ByteReader, ByteWriter, readConfiguration, writeConfiguration } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { type ClusterId, type Configuration, type LogIndex, clusterId, logIndex } from '../vocabulary.ts'
import { type Disk, publishFile, readWhole } from './disk.ts'

const MAGIC = Buffer.from('LOKICKPT', 'latin1')
const FORMAT = 1
/** Slices are gathered into chunks of about this size before compression. */
const CHUNK_TARGET_BYTES = 1024 * 1024
/** The data is synced each time so much was written, so that no sync of the log waits behind a heap of it. */
const SYNC_EVERY_BYTES = 8 * 1024 * 1024
/** No honest chunk unpacks to more; guards the memory against a damaged or hostile one. */
export const MAXIMUM_CHUNK_BYTES = 1024 * 1024 * 1024

const compress = promisify(zstdCompress) as (bytes: Buffer, options: object) => Promise<Buffer>
const decompress = promisify(zstdDecompress) as (bytes: Buffer, options: object) => Promise<Buffer>

/** What a checkpoint covers: everything up to `index`, under `configuration`, in force since `start`. */
export interface CheckpointHead {
  readonly index: LogIndex
  readonly configuration: Configuration
  readonly start: LogIndex
}

export interface ChunkInfo {
  readonly offset: number
  readonly bytes: number
  readonly crc: number
}

export interface CheckpointInfo extends CheckpointHead {
  /** Name of its directory. */
  readonly id: string
  readonly cluster: ClusterId | null
  readonly hash: string
  readonly slices: number
  /** Bytes of all slices, as the machine gave them. */
  readonly bytes: number
  readonly storedBytes: number
  readonly chunks: readonly ChunkInfo[]
}

export const checkpointName = (index: LogIndex): string => String(index).padStart(16, '0')
export const isCheckpointName = (name: string): boolean => /^\d{16}$/.test(name)

export function encodeManifest(info: Omit<CheckpointInfo, 'id' | 'storedBytes'>): Buffer {
  const writer = new ByteWriter()
  writer.raw(MAGIC).uint32(FORMAT).uint32(0)
  writer
    .string(info.cluster ?? '')
    .uint(info.index)
    .uint(info.start)
  writeConfiguration(writer, info.configuration)
  writer.string(info.hash).uint(info.slices).uint(info.bytes).uint(info.chunks.length)
  for (const chunk of info.chunks) writer.uint(chunk.bytes).uint32(chunk.crc)
  const bytes = writer.finish()
  bytes.writeUInt32LE(crc32(bytes), 12)
  return bytes
}

/** Throws `CHECKPOINT_DAMAGED`, `FORMAT_TOO_NEW`; `path` is for the message. */
export function decodeManifest(bytes: Buffer, path: string): CheckpointInfo {
  if (bytes.length < 16 || bytes.compare(MAGIC, 0, 8, 0, 8) !== 0) {
    throw new LokiError('CHECKPOINT_DAMAGED', `${path}: no magic`)
  }
  const copy = Buffer.from(bytes)
  copy.writeUInt32LE(0, 12)
  if (crc32(copy) !== bytes.readUInt32LE(12)) throw new LokiError('CHECKPOINT_DAMAGED', `${path}: checksum`)
  const format = bytes.readUInt32LE(8)
  if (format !== FORMAT) throw new LokiError('FORMAT_TOO_NEW', `${path} has format ${format}, this version knows 1`)
  const reader = new ByteReader(copy, 16)
  const cluster = reader.string()
  const index = logIndex(reader.uint())
  const start = logIndex(reader.uint())
  const configuration = readConfiguration(reader)
  const hash = reader.string()
  const slices = reader.uint()
  const total = reader.uint()
  const chunks: ChunkInfo[] = []
  let offset = 0
  for (let left = reader.uint(); left > 0; left--) {
    const chunk = { offset, bytes: reader.uint(), crc: reader.uint32() }
    if (chunk.bytes > MAXIMUM_CHUNK_BYTES) throw new LokiError('CHECKPOINT_DAMAGED', `${path}: a chunk is too large`)
    chunks.push(chunk)
    offset += chunk.bytes
  }
  return {
    id: checkpointName(index),
    cluster: cluster === '' ? null : clusterId(cluster),
    index,
    start,
    configuration,
    hash,
    slices,
    bytes: total,
    storedBytes: offset,
    chunks,
  }
}

/** Bytes of one chunk as they are stored, where its checksum holds; null where it does not. */
async function storedChunk(disk: Disk, path: string, chunk: ChunkInfo): Promise<Buffer | null> {
  const file = await disk.open(path, 'read')
  try {
    const bytes = await file.read(chunk.offset, chunk.bytes)
    return bytes.length === chunk.bytes && crc32(bytes) === chunk.crc ? bytes : null
  } finally {
    await file.close()
  }
}

/** Stored bytes of a chunk, verified; null if there is no such chunk. Throws `CHECKPOINT_DAMAGED`. */
export async function readStoredChunk(
  disk: Disk,
  directory: string,
  info: CheckpointInfo,
  chunk: number,
): Promise<Buffer | null> {
  const wanted = info.chunks[chunk]
  if (wanted === undefined) return null
  const path = `${directory}/${info.id}/data`
  const bytes = await storedChunk(disk, path, wanted)
  if (bytes === null) throw new LokiError('CHECKPOINT_DAMAGED', `${path}: chunk ${chunk} is damaged`)
  return bytes
}

/** The slices of a checkpoint, verified, in the order in which the machine gave them. Throws `CHECKPOINT_DAMAGED`. */
export async function* readSlices(disk: Disk, directory: string, info: CheckpointInfo): AsyncGenerator<Buffer, void> {
  const hash = createHash('sha256')
  let slices = 0
  for (let chunk = 0; chunk < info.chunks.length; chunk++) {
    const stored = (await readStoredChunk(disk, directory, info, chunk))!
    const plain = await decompress(stored, { maxOutputLength: MAXIMUM_CHUNK_BYTES })
    const reader = new ByteReader(plain)
    while (reader.remaining > 0) {
      const slice = reader.raw(reader.uint32())
      hash.update(slice)
      slices++
      yield slice
    }
  }
  if (slices !== info.slices || hash.digest('hex') !== info.hash) {
    throw new LokiError('CHECKPOINT_DAMAGED', `${directory}/${info.id}: the chunks are not those that were written`)
  }
}

/** Reads the manifest and checks every chunk against it. Throws `CHECKPOINT_DAMAGED`, `FORMAT_TOO_NEW`. */
export async function verifyCheckpoint(disk: Disk, directory: string, name: string): Promise<CheckpointInfo> {
  const path = `${directory}/${name}/manifest`
  const manifest = await readWhole(disk, path)
  if (manifest === null) throw new LokiError('CHECKPOINT_DAMAGED', `${path} is missing`)
  const info = decodeManifest(manifest, path)
  if (info.id !== name) throw new LokiError('CHECKPOINT_DAMAGED', `${path} is the manifest of ${info.id}`)
  if (info.chunks.length > 0) {
    if (!(await disk.list(`${directory}/${name}`))?.includes('data')) {
      throw new LokiError('CHECKPOINT_DAMAGED', `${directory}/${name}/data is missing`)
    }
    const file = await disk.open(`${directory}/${name}/data`, 'read')
    try {
      for (const [number, chunk] of info.chunks.entries()) {
        const bytes = await file.read(chunk.offset, chunk.bytes)
        if (bytes.length !== chunk.bytes || crc32(bytes) !== chunk.crc) {
          throw new LokiError('CHECKPOINT_DAMAGED', `${directory}/${name}/data: chunk ${number} is damaged`)
        }
      }
    } finally {
      await file.close()
    }
  }
  return info
}

/** Gathers slices and writes them as chunks; `finish` publishes. One writer at a time for a directory. */
export async function writeCheckpointFiles(
  disk: Disk,
  directory: string,
  head: CheckpointHead & { readonly cluster: ClusterId | null },
  next: () => Buffer | null,
  pause: () => Promise<void>,
): Promise<CheckpointInfo> {
  const work = `${directory}/writing`
  await disk.removeDirectory(work)
  await disk.makeDirectory(work)
  const file = await disk.open(`${work}/data`, 'create')
  const hash = createHash('sha256')
  const chunks: ChunkInfo[] = []
  const writer = new ByteWriter(2 * CHUNK_TARGET_BYTES)
  let offset = 0
  let unsynced = 0
  let slices = 0
  let total = 0
  const flush = async (): Promise<void> => {
    const stored = await compress(writer.view(), { params: { [constants.ZSTD_c_compressionLevel]: 1 } })
    writer.reset()
    await file.write(stored, offset)
    chunks.push({ offset, bytes: stored.length, crc: crc32(stored) })
    offset += stored.length
    unsynced += stored.length
    if (unsynced < SYNC_EVERY_BYTES) return
    unsynced = 0
    await file.sync()
  }
  try {
    for (let slice = next(); slice !== null; slice = next()) {
      hash.update(slice)
      writer.uint32(slice.length).raw(slice)
      slices++
      total += slice.length
      if (writer.length >= CHUNK_TARGET_BYTES) await flush()
      await pause()
    }
    if (writer.length > 0) await flush()
    await file.sync()
  } finally {
    await file.close()
  }
  const manifest = encodeManifest({ ...head, hash: hash.digest('hex'), slices, bytes: total, chunks })
  return publishCheckpoint(disk, directory, 'writing', manifest)
}

/** By another name first, durably: a crash must not leave half of it under a name that promises a whole one. */
export async function removeCheckpoint(disk: Disk, directory: string, name: string): Promise<void> {
  const removing = `${directory}/removing-${name}`
  await disk.removeDirectory(removing)
  await disk.rename(`${directory}/${name}`, removing)
  await disk.syncDirectory(directory)
  await disk.removeDirectory(removing)
}

/** Gives the directory `work`, whose data is durable, its manifest and its name. Gives what is there then. */
export async function publishCheckpoint(
  disk: Disk,
  directory: string,
  work: string,
  manifest: Buffer,
): Promise<CheckpointInfo> {
  const info = decodeManifest(manifest, `${directory}/${work}/manifest`)
  const { id } = info
  await publishFile(disk, `${directory}/${work}`, 'manifest', manifest)
  if ((await disk.list(directory))?.includes(id)) {
    // A whole one stays: between its removal and the rename, a crash would leave none.
    const whole = await verifyCheckpoint(disk, directory, id).catch(() => null)
    if (whole !== null) {
      await disk.removeDirectory(`${directory}/${work}`)
      return whole
    }
    await removeCheckpoint(disk, directory, id)
  }
  await disk.rename(`${directory}/${work}`, `${directory}/${id}`)
  await disk.syncDirectory(directory)
  return info
}
