/**
 * Receives the checkpoint of a peer, chunk by chunk, in any order, from anybody who has it.
 *
 * Works in `receiving-<index>/` with the peer's manifest (`peer-manifest`) and `data`. After a restart the
 * chunks that are there and whole need not be sent again, but are written again. `commit` makes everything durable and publishes. No file
 * stays open between two calls: a receiver that is given up leaves nothing but its folder.
 *
 * What a peer sends is in the clear; with a key of its own, this node seals every piece before it writes it, the
 * peer's manifest included. After a change of the key a receiver begins anew.
 */
import { crc32 } from 'node:zlib'
import { LokiError } from '../errors.ts'
import { invariant } from '../invariant.ts'
import {
  type CheckpointInfo,
  type ChunkInfo,
  checkpointName,
  decodeManifest,
  encodeManifest,
  encodeStoredManifest,
  openPiece,
  publishCheckpoint,
  sealPiece,
  verifyCheckpoint,
} from './checkpoint.ts'
import { type Disk, type DiskFile, publishFile, readWhole } from './disk.ts'
import { FileCipher, type KeyRing, TAG_BYTES } from './keys.ts'

const PEER_MANIFEST = 'peer-manifest'

export class CheckpointReceiver {
  readonly info: CheckpointInfo
  readonly #disk: Disk
  readonly #directory: string
  readonly #work: string
  readonly #keys: KeyRing
  /** The pieces as they are written; the CRC of one is known once it is there. */
  readonly #stored: (ChunkInfo & { crc: number })[]
  readonly #missing: Set<number>
  readonly #published: (info: CheckpointInfo) => Promise<void>
  #closed = false

  private constructor(
    disk: Disk,
    directory: string,
    info: CheckpointInfo,
    keys: KeyRing,
    published: (info: CheckpointInfo) => Promise<void>,
  ) {
    this.info = info
    this.#disk = disk
    this.#directory = directory
    this.#work = `receiving-${info.id}`
    this.#keys = keys
    this.#stored = info.stored.map((chunk) => ({ ...chunk }))
    this.#missing = new Set(info.chunks.keys())
    this.#published = published
  }

  /** Begins, or goes on where an earlier attempt with the same manifest stopped. Throws `CHECKPOINT_DAMAGED`. */
  static async open(
    disk: Disk,
    directory: string,
    manifest: Buffer,
    keys: KeyRing,
    published: (info: CheckpointInfo) => Promise<void>,
  ): Promise<CheckpointReceiver> {
    const offered = decodeManifest(manifest, 'manifest of a peer')
    const work = `${directory}/receiving-${checkpointName(offered.index)}`
    const earlier = await earlierAttempt(disk, work, keys)
    if (earlier !== null && encodeManifest(earlier).equals(manifest)) {
      const receiver = new CheckpointReceiver(disk, directory, earlier, keys, published)
      await receiver.#resume()
      return receiver
    }
    const cipher = FileCipher.create(keys, 'checkpoint', work)
    const info = { ...offered, stored: storedAs(offered.chunks, cipher), cipher }
    await disk.removeDirectory(work)
    await disk.makeDirectory(work)
    await (await disk.open(`${work}/data`, 'create')).close()
    await publishFile(disk, work, PEER_MANIFEST, encodeStoredManifest(info))
    return new CheckpointReceiver(disk, directory, info, keys, published)
  }

  /**
   * Takes what an earlier attempt has left and is whole. It is written again, the same bytes at the same place: that it
   * can be read does not say that it was written, and a sync that comes after a failed one does not bring back what
   * that one lost (unsynced.ts).
   */
  async #resume(): Promise<void> {
    const { chunks, cipher } = this.info
    await this.#withData(async (file) => {
      for (const [number, piece] of this.#stored.entries()) {
        const bytes = await file.read(piece.offset, piece.bytes)
        if (bytes.length !== piece.bytes) continue
        const plain = openPiece(cipher, bytes, number)
        if (plain === null || crc32(plain) !== chunks[number]!.crc) continue
        await file.write(bytes, piece.offset)
        piece.crc = crc32(bytes)
        this.#missing.delete(number)
      }
    })
  }

  /** Numbers of the chunks that are not there yet, rising. */
  missing(): number[] {
    return [...this.#missing].sort((a, b) => a - b)
  }

  /** Takes a chunk in the clear. Throws `CHUNK_DAMAGED` for bytes that the manifest does not name. */
  async put(chunk: number, bytes: Uint8Array): Promise<void> {
    invariant(!this.#closed, 'the receiver is closed')
    const wanted = this.info.chunks[chunk]
    if (wanted === undefined || bytes.length !== wanted.bytes || crc32(bytes) !== wanted.crc) {
      throw new LokiError('CHUNK_DAMAGED', `chunk ${chunk} of checkpoint ${this.info.id}`)
    }
    if (!this.#missing.has(chunk)) return
    const piece = this.#stored[chunk]!
    const sealed = sealPiece(this.info.cipher, bytes, chunk)
    await this.#withData((file) => file.write(sealed, piece.offset))
    piece.crc = crc32(sealed)
    this.#missing.delete(chunk)
  }

  /** Durable and published when it returns. All chunks must be there. Throws `CHECKPOINT_DAMAGED`. */
  async commit(): Promise<CheckpointInfo> {
    invariant(this.#missing.size === 0, 'chunks are missing')
    try {
      await this.#withData((file) => file.sync())
    } catch (error) {
      // What a failed sync has lost may still be read here, and no later sync brings it back: all comes anew.
      await this.#disk.removeDirectory(`${this.#directory}/${this.#work}`)
      throw error
    }
    this.#closed = true
    const manifest = encodeStoredManifest({ ...this.info, stored: this.#stored })
    await publishCheckpoint(this.#disk, this.#directory, this.#work, manifest, this.#keys)
    const info = await verifyCheckpoint(this.#disk, this.#directory, this.info.id, this.#keys)
    await this.#published(info)
    return info
  }

  async #withData(act: (file: DiskFile) => Promise<void>): Promise<void> {
    const file = await this.#disk.open(`${this.#directory}/${this.#work}/data`, 'write')
    try {
      await act(file)
    } finally {
      await file.close()
    }
  }

  /** Takes no more; what has arrived is left for the next attempt. */
  close(): Promise<void> {
    this.#closed = true
    return Promise.resolve()
  }
}

/** Where the pieces of `chunks` are, sealed by `cipher`; their CRCs are not known yet, or those of the chunks. */
function storedAs(chunks: readonly ChunkInfo[], cipher: FileCipher | null): ChunkInfo[] {
  const more = cipher === null ? 0 : TAG_BYTES
  return chunks.map(({ offset, bytes, crc }, at) => ({
    offset: offset + at * more,
    bytes: bytes + more,
    crc: cipher === null ? crc : 0,
  }))
}

/** What an earlier attempt was receiving under the current key, or null. */
async function earlierAttempt(disk: Disk, work: string, keys: KeyRing): Promise<CheckpointInfo | null> {
  const bytes = await readWhole(disk, `${work}/${PEER_MANIFEST}`)
  // A crash may leave the one without the other.
  if (bytes === null || !(await disk.list(work))?.includes('data')) return null
  try {
    const info = decodeManifest(bytes, `${work}/${PEER_MANIFEST}`, keys)
    return (info.cipher?.need.keyId ?? null) === keys.current ? info : null
  } catch (error) {
    if (error instanceof LokiError) return null
    throw error
  }
}
