/**
 * Receives the checkpoint of a peer, chunk by chunk, in any order, from anybody who has it.
 *
 * Works in `receiving-<index>/` with the peer's manifest (`peer-manifest`) and `data`. After a restart the
 * chunks that are there and whole need not be sent again. `commit` makes everything durable and publishes. No file
 * stays open between two calls: a receiver that is given up leaves nothing but its folder.
 */
import { crc32 } from 'node:zlib'
import { LokiError } from '../errors.ts'
import { invariant } from '../invariant.ts'
import {
  type CheckpointInfo,
  checkpointName,
  decodeManifest,
  publishCheckpoint,
  verifyCheckpoint,
} from './checkpoint.ts'
import { type Disk, type DiskFile, publishFile, readWhole } from './disk.ts'

const PEER_MANIFEST = 'peer-manifest'

export class CheckpointReceiver {
  readonly info: CheckpointInfo
  readonly #disk: Disk
  readonly #directory: string
  readonly #work: string
  readonly #manifest: Buffer
  readonly #missing: Set<number>
  readonly #published: (info: CheckpointInfo) => Promise<void>
  #closed = false

  private constructor(
    disk: Disk,
    directory: string,
    manifest: Buffer,
    missing: Set<number>,
    published: (info: CheckpointInfo) => Promise<void>,
  ) {
    this.info = decodeManifest(manifest, 'manifest of a peer')
    this.#disk = disk
    this.#directory = directory
    this.#work = `receiving-${this.info.id}`
    this.#manifest = manifest
    this.#missing = missing
    this.#published = published
  }

  /** Begins, or goes on where an earlier attempt with the same manifest stopped. Throws `CHECKPOINT_DAMAGED`. */
  static async open(
    disk: Disk,
    directory: string,
    manifest: Buffer,
    published: (info: CheckpointInfo) => Promise<void>,
  ): Promise<CheckpointReceiver> {
    const info = decodeManifest(manifest, 'manifest of a peer')
    const work = `${directory}/receiving-${checkpointName(info.index)}`
    const earlier = await readWhole(disk, `${work}/${PEER_MANIFEST}`)
    const missing = new Set(info.chunks.keys())
    if (earlier?.equals(manifest)) {
      const file = await disk.open(`${work}/data`, 'read')
      for (const [number, chunk] of info.chunks.entries()) {
        const bytes = await file.read(chunk.offset, chunk.bytes)
        if (bytes.length === chunk.bytes && crc32(bytes) === chunk.crc) missing.delete(number)
      }
      await file.close()
      return new CheckpointReceiver(disk, directory, manifest, missing, published)
    }
    await disk.removeDirectory(work)
    await disk.makeDirectory(work)
    await (await disk.open(`${work}/data`, 'create')).close()
    await publishFile(disk, work, PEER_MANIFEST, manifest)
    return new CheckpointReceiver(disk, directory, manifest, missing, published)
  }

  /** Numbers of the chunks that are not there yet, rising. */
  missing(): number[] {
    return [...this.#missing].sort((a, b) => a - b)
  }

  /** Takes the stored bytes of a chunk. Throws `CHUNK_DAMAGED` for bytes that the manifest does not name. */
  async put(chunk: number, bytes: Uint8Array): Promise<void> {
    invariant(!this.#closed, 'the receiver is closed')
    const wanted = this.info.chunks[chunk]
    if (wanted === undefined || bytes.length !== wanted.bytes || crc32(bytes) !== wanted.crc) {
      throw new LokiError('CHUNK_DAMAGED', `chunk ${chunk} of checkpoint ${this.info.id}`)
    }
    if (!this.#missing.has(chunk)) return
    await this.#withData((file) => file.write(bytes, wanted.offset))
    this.#missing.delete(chunk)
  }

  /** Durable and published when it returns. All chunks must be there. Throws `CHECKPOINT_DAMAGED`. */
  async commit(): Promise<CheckpointInfo> {
    invariant(this.#missing.size === 0, 'chunks are missing')
    await this.#withData((file) => file.sync())
    this.#closed = true
    await publishCheckpoint(this.#disk, this.#directory, this.#work, this.#manifest)
    const info = await verifyCheckpoint(this.#disk, this.#directory, this.info.id)
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
