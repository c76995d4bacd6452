/**
 * Checkpoints: `<index, 16 digits>/` with `data` and `manifest`, in the checkpoint volume.
 *
 *   data      the chunks one behind the other, as the manifest says
 *   chunk     zstd of a part of: slice…    slice: 4 bytes length, then what the machine gave in one piece
 *   manifest  offset  bytes
 *                  0  8   "LOKICKPT"
 *                  8  4   format version, 1
 *                 12  4   CRC-32 of the manifest with these four bytes as zeros
 *                 16  string cluster, uint index, uint start, configuration, string SHA-256 of all slices (hex),
 *                     uint slices, uint bytes of all slices, uint chunks,
 *                     chunk…: uint stored bytes, uint32 CRC-32 of them
 *
 * With a key (keys.ts), each chunk is a sealed piece, with its number, and the manifest is around a sealed one:
 *
 *   manifest  offset  bytes
 *                  0  8   "LOKICKPT"
 *                  8  4   format version, 2
 *                 12  4   CRC-32 of the manifest with these four bytes as zeros
 *                 16  key need, uint chunks, chunk…: uint stored bytes, uint32 CRC-32 of them,
 *                     bytes: a manifest of format 1, of the chunks in the clear, sealed with the number 2^53 - 1
 *
 * To a peer both go in the clear, in format 1, over a link that asks for the token of the cluster: nodes may have
 * different keys, and the receiver seals with its own before it writes anything.
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
import { type Disk, type DiskFile, publishFile, readWhole } from './disk.ts'
import { FileCipher, type KeyRing, NO_KEYS, TAG_BYTES, readKeyNeed, writeKeyNeed } from './keys.ts'

const MAGIC = Buffer.from('LOKICKPT', 'latin1')
const FORMAT = 1
const FORMAT_SEALED = 2
const MANIFEST_NUMBER = Number.MAX_SAFE_INTEGER
const NOTHING = new Uint8Array()
/** Slices are gathered into chunks of about this size before compression. */
const CHUNK_TARGET_BYTES = 1024 * 1024
/** Of a slice that is larger (one key may be a gigabyte) so much goes into each chunk: a peer sends chunks whole. */
const SLICE_PART_BYTES = 16 * 1024 * 1024
/** Packed and unpacked in pieces of these sizes: mostly one. (Memory outside the heap is what its collector runs for.) */
const PACK_BYTES = 256 * 1024
const UNPACK_BYTES = CHUNK_TARGET_BYTES + 256 * 1024
/** Read and unpacked beside the caller, who takes one after the other. */
const CHUNKS_AHEAD = 3
/** The data is synced each time so much was written, so that no sync of the log waits behind a heap of it. */
const SYNC_EVERY_BYTES = 8 * 1024 * 1024
/** Above what any chunk unpacks to; guards the memory against a damaged or hostile one. */
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
  /** The chunks in the clear, as a peer gets them. */
  readonly chunks: readonly ChunkInfo[]
  /** The chunks as they are in `data`: the same, or sealed by `cipher`. */
  readonly stored: readonly ChunkInfo[]
  readonly storedBytes: number
  readonly cipher: FileCipher | null
}

export const checkpointName = (index: LogIndex): string => String(index).padStart(16, '0')
export const isCheckpointName = (name: string): boolean => /^\d{16}$/.test(name)

/** For a peer: in the clear. */
export function encodeManifest(info: Omit<CheckpointInfo, 'id' | 'storedBytes' | 'stored' | 'cipher'>): Buffer {
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

/** For the disk: sealed where the checkpoint has a cipher. */
export function encodeStoredManifest(info: Omit<CheckpointInfo, 'id' | 'storedBytes'>): Buffer {
  const plain = encodeManifest(info)
  if (info.cipher === null) return plain
  const writer = new ByteWriter()
  writer.raw(MAGIC).uint32(FORMAT_SEALED).uint32(0)
  writeKeyNeed(writer, info.cipher.need)
  writer.uint(info.stored.length)
  for (const chunk of info.stored) writer.uint(chunk.bytes).uint32(chunk.crc)
  writer.bytes(sealPiece(info.cipher, plain, MANIFEST_NUMBER))
  const bytes = writer.finish()
  bytes.writeUInt32LE(crc32(bytes), 12)
  return bytes
}

/** A chunk, or a manifest, as it is stored: `plain` itself, or sealed. */
export function sealPiece(cipher: FileCipher | null, plain: Uint8Array, number: number): Uint8Array {
  if (cipher === null) return plain
  const bytes = Buffer.from(plain)
  const tag = cipher.seal(bytes, number, NOTHING)
  return Buffer.concat([bytes, tag])
}

/** Null where a sealed piece does not open. */
export const openPiece = (cipher: FileCipher | null, stored: Buffer, number: number): Buffer | null =>
  cipher === null ? stored : cipher.open(stored, number, NOTHING)

/** Throws `CHECKPOINT_DAMAGED`, `FORMAT_TOO_NEW`, `ENCRYPTION_KEY_…`; `path` is for the message. */
export function decodeManifest(bytes: Buffer, path: string, keys: KeyRing = NO_KEYS): CheckpointInfo {
  if (bytes.length < 16 || bytes.compare(MAGIC, 0, 8, 0, 8) !== 0) {
    throw new LokiError('CHECKPOINT_DAMAGED', `${path}: no magic`)
  }
  const copy = Buffer.from(bytes)
  copy.writeUInt32LE(0, 12)
  if (crc32(copy) !== bytes.readUInt32LE(12)) throw new LokiError('CHECKPOINT_DAMAGED', `${path}: checksum`)
  const format = bytes.readUInt32LE(8)
  if (format === FORMAT_SEALED) return decodeSealed(copy, path, keys)
  if (format !== FORMAT) throw new LokiError('FORMAT_TOO_NEW', `${path} has format ${format}, this version knows 2`)
  const reader = new ByteReader(copy, 16)
  const cluster = reader.string()
  const index = logIndex(reader.uint())
  const start = logIndex(reader.uint())
  const configuration = readConfiguration(reader)
  const hash = reader.string()
  const slices = reader.uint()
  const total = reader.uint()
  const chunks = readChunks(reader, path)
  return {
    id: checkpointName(index),
    cluster: cluster === '' ? null : clusterId(cluster),
    index,
    start,
    configuration,
    hash,
    slices,
    bytes: total,
    chunks,
    stored: chunks,
    storedBytes: bytesOf(chunks),
    cipher: null,
  }
}

const bytesOf = (chunks: readonly ChunkInfo[]): number => chunks.reduce((sum, { bytes }) => sum + bytes, 0)

function readChunks(reader: ByteReader, path: string): ChunkInfo[] {
  const chunks: ChunkInfo[] = []
  let offset = 0
  for (let left = reader.uint(); left > 0; left--) {
    const chunk = { offset, bytes: reader.uint(), crc: reader.uint32() }
    if (chunk.bytes > MAXIMUM_CHUNK_BYTES) throw new LokiError('CHECKPOINT_DAMAGED', `${path}: a chunk is too large`)
    chunks.push(chunk)
    offset += chunk.bytes
  }
  return chunks
}

/** A manifest of format 2, whose CRC holds. */
function decodeSealed(bytes: Buffer, path: string, keys: KeyRing): CheckpointInfo {
  const reader = new ByteReader(bytes, 16)
  const cipher = FileCipher.open(keys, readKeyNeed(reader), 'checkpoint', path)
  const stored = readChunks(reader, path)
  const plain = cipher.open(reader.bytes(), MANIFEST_NUMBER, NOTHING)
  if (plain === null) throw new LokiError('CHECKPOINT_DAMAGED', `${path} does not open`)
  const info = decodeManifest(plain, path)
  const isOf = stored.length === info.chunks.length
  if (info.cipher !== null || !isOf || stored.some(({ bytes }, at) => bytes !== info.chunks[at]!.bytes + TAG_BYTES)) {
    throw new LokiError('CHECKPOINT_DAMAGED', `${path} is around the manifest of another checkpoint`)
  }
  return { ...info, stored, storedBytes: bytesOf(stored), cipher }
}

/** A chunk in the clear, verified; null if there is no such chunk. Throws `CHECKPOINT_DAMAGED`. */
export async function readChunk(
  disk: Disk,
  directory: string,
  info: CheckpointInfo,
  number: number,
): Promise<Buffer | null> {
  const stored = info.stored[number]
  if (stored === undefined) return null
  const path = `${directory}/${info.id}/data`
  const file = await disk.open(path, 'read')
  try {
    const piece = await readPiece(file, stored)
    const plain = piece === null ? null : openPiece(info.cipher, piece, number)
    if (plain !== null) return plain
  } finally {
    await file.close()
  }
  throw new LokiError('CHECKPOINT_DAMAGED', `${path}: chunk ${number} is damaged`)
}

/** A chunk as it is stored; null where its bytes are not those that were written. */
async function readPiece(file: DiskFile, { offset, bytes, crc }: ChunkInfo): Promise<Buffer | null> {
  const piece = await file.read(offset, bytes)
  return piece.length === bytes && crc32(piece) === crc ? piece : null
}

async function readUnpacked(disk: Disk, directory: string, info: CheckpointInfo, chunk: number): Promise<Buffer> {
  const packed = (await readChunk(disk, directory, info, chunk))!
  const chunkSize = Math.min(UNPACK_BYTES, Math.max(64 * 1024, 16 * packed.length))
  return decompress(packed, { maxOutputLength: MAXIMUM_CHUNK_BYTES, chunkSize }).catch((error: Error) => {
    // Its checksum holds: what was given to it was no chunk.
    throw new LokiError('CHECKPOINT_DAMAGED', `${directory}/${info.id}: chunk ${chunk}: ${error.message}`)
  })
}

/** Slices out of chunks: one may begin in a chunk and end in a later one. */
class Slices {
  #parts: Buffer[] = []
  #bytes = 0
  /** Before so many bytes are here, no slice is whole. */
  #wanted = 4

  /** Whether nothing is left of what was added. */
  get isDone(): boolean {
    return this.#bytes === 0
  }

  *add(unpacked: Buffer): Generator<Buffer, void> {
    this.#parts.push(unpacked)
    this.#bytes += unpacked.length
    if (this.#bytes < this.#wanted) return
    const reader = new ByteReader(this.#parts.length === 1 ? unpacked : Buffer.concat(this.#parts))
    this.#wanted = 4
    while (reader.remaining >= 4) {
      const { offset } = reader
      const length = reader.uint32()
      if (length > reader.remaining) {
        reader.offset = offset
        this.#wanted = 4 + length
        break
      }
      yield reader.raw(length)
    }
    this.#bytes = reader.remaining
    this.#parts = this.#bytes === 0 ? [] : [reader.raw(reader.remaining)]
  }
}

/** The slices of a checkpoint, verified, in the order in which the machine gave them. Throws `CHECKPOINT_DAMAGED`. */
export async function* readSlices(disk: Disk, directory: string, info: CheckpointInfo): AsyncGenerator<Buffer, void> {
  const hash = createHash('sha256')
  const slices = new Slices()
  let count = 0
  // The next chunks are read and unpacked while the caller has this one. An error waits for its turn.
  const unpacked = (chunk: number): Promise<Buffer> => {
    const plain = readUnpacked(disk, directory, info, chunk)
    plain.catch(() => {})
    return plain
  }
  const ahead = Array.from({ length: Math.min(CHUNKS_AHEAD, info.chunks.length) }, (_, chunk) => unpacked(chunk))
  for (let chunk = 0; chunk < info.chunks.length; chunk++) {
    const bytes = await ahead.shift()!
    if (chunk + CHUNKS_AHEAD < info.chunks.length) ahead.push(unpacked(chunk + CHUNKS_AHEAD))
    for (const slice of slices.add(bytes)) {
      hash.update(slice)
      count++
      yield slice
    }
  }
  if (!slices.isDone || count !== info.slices || hash.digest('hex') !== info.hash) {
    throw new LokiError('CHECKPOINT_DAMAGED', `${directory}/${info.id}: the chunks are not those that were written`)
  }
}

/** Reads the manifest and checks every chunk against it. Throws as `decodeManifest`. */
export async function verifyCheckpoint(
  disk: Disk,
  directory: string,
  name: string,
  keys: KeyRing = NO_KEYS,
): Promise<CheckpointInfo> {
  const path = `${directory}/${name}/manifest`
  const manifest = await readWhole(disk, path)
  if (manifest === null) throw new LokiError('CHECKPOINT_DAMAGED', `${path} is missing`)
  const info = decodeManifest(manifest, path, keys)
  if (info.id !== name) throw new LokiError('CHECKPOINT_DAMAGED', `${path} is the manifest of ${info.id}`)
  if (info.chunks.length > 0) {
    if (!(await disk.list(`${directory}/${name}`))?.includes('data')) {
      throw new LokiError('CHECKPOINT_DAMAGED', `${directory}/${name}/data is missing`)
    }
    const file = await disk.open(`${directory}/${name}/data`, 'read')
    try {
      for (const [number, chunk] of info.stored.entries()) {
        if ((await readPiece(file, chunk)) === null) {
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
  keys: KeyRing = NO_KEYS,
): Promise<CheckpointInfo> {
  const work = `${directory}/writing`
  await disk.removeDirectory(work)
  await disk.makeDirectory(work)
  const file = await disk.open(`${work}/data`, 'create')
  const hash = createHash('sha256')
  const cipher = FileCipher.create(keys, 'checkpoint', work)
  const chunks: ChunkInfo[] = []
  const stored: ChunkInfo[] = cipher === null ? chunks : []
  const writer = new ByteWriter(64 * 1024)
  let unsynced = 0
  let slices = 0
  let total = 0
  const flush = async (): Promise<void> => {
    const packed = await compress(writer.view(), {
      chunkSize: Math.min(PACK_BYTES, writer.length + 64),
      params: { [constants.ZSTD_c_compressionLevel]: 1 },
    })
    writer.reset()
    const piece = sealPiece(cipher, packed, chunks.length)
    if (cipher !== null) addChunk(chunks, packed)
    await file.write(piece, addChunk(stored, piece))
    unsynced += piece.length
    if (unsynced < SYNC_EVERY_BYTES) return
    unsynced = 0
    await file.sync()
  }
  try {
    for (let slice = next(); slice !== null; slice = next()) {
      hash.update(slice)
      writer.uint32(slice.length)
      for (let at = 0; at < slice.length; at += SLICE_PART_BYTES) {
        writer.raw(slice.subarray(at, at + SLICE_PART_BYTES))
        if (writer.length >= CHUNK_TARGET_BYTES) await flush()
      }
      slices++
      total += slice.length
      await pause()
    }
    if (writer.length > 0) await flush()
    await file.sync()
  } finally {
    await file.close()
  }
  const info = { ...head, hash: hash.digest('hex'), slices, bytes: total, chunks, stored, cipher }
  return publishCheckpoint(disk, directory, 'writing', encodeStoredManifest(info), keys)
}

/** Gives the offset of the chunk. */
function addChunk(chunks: ChunkInfo[], bytes: Uint8Array): number {
  const last = chunks.at(-1)
  const offset = last === undefined ? 0 : last.offset + last.bytes
  chunks.push({ offset, bytes: bytes.length, crc: crc32(bytes) })
  return offset
}

/** By another name first, durably: a crash must not leave half of it under a name that promises a whole one. */
export async function removeCheckpoint(disk: Disk, directory: string, name: string): Promise<void> {
  const removing = `${directory}/removing-${name}`
  await disk.removeDirectory(removing)
  await disk.rename(`${directory}/${name}`, removing)
  await disk.syncDirectory(directory)
  await disk.removeDirectory(removing)
}

/** All but those that are kept. */
export async function removeOtherCheckpoints(
  disk: Disk,
  directory: string,
  kept: readonly CheckpointInfo[],
): Promise<void> {
  const ids = new Set(kept.map(({ id }) => id))
  for (const name of (await disk.list(directory)) ?? []) {
    if (isCheckpointName(name) && !ids.has(name)) await removeCheckpoint(disk, directory, name)
  }
}

/** Gives the directory `work`, whose data is durable, its manifest and its name. Gives what is there then. */
export async function publishCheckpoint(
  disk: Disk,
  directory: string,
  work: string,
  manifest: Buffer,
  keys: KeyRing,
): Promise<CheckpointInfo> {
  const info = decodeManifest(manifest, `${directory}/${work}/manifest`, keys)
  const { id } = info
  await publishFile(disk, `${directory}/${work}`, 'manifest', manifest)
  if ((await disk.list(directory))?.includes(id)) {
    // A whole one stays: between its removal and the rename, a crash would leave none.
    const whole = await verifyCheckpoint(disk, directory, id, keys).catch(() => null)
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
