/**
 * Compression of the payload of a frame, zstd at its quickest level. Functions over bytes, no files.
 *
 *   uint bytes of the payload, uint bytes of the zstd frame, the zstd frame, then anything (padding)
 *
 * Small payloads are left as they are: the call alone costs some twenty microseconds, as much as a sync on a good
 * disk. Large ones are compressed by the thread pool, so that the node goes on meanwhile.
 */
import { promisify } from 'node:util'
import { type ZstdOptions, constants, zstdCompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { ByteReader, ByteWriter } from '../bytes.ts'
import { MAXIMUM_FRAME_BYTES } from './frames.ts'

/** Smaller payloads are not compressed. */
export const COMPRESS_LEAST_BYTES = 512
/** Larger ones are compressed beside the event loop. */
const COMPRESS_INLINE_BYTES = 64 * 1024

const compressBeside = promisify(zstdCompress) as (bytes: Buffer, options: ZstdOptions) => Promise<Buffer>

/** Replaces what is behind `start` in `writer` by its compressed form; false where that would not be smaller. */
export async function compressPayload(writer: ByteWriter, start: number): Promise<boolean> {
  const size = writer.length - start
  if (size < COMPRESS_LEAST_BYTES) return false
  const options = { params: { [constants.ZSTD_c_compressionLevel]: 1 }, chunkSize: size }
  const plain = writer.view().subarray(start)
  const packed = size <= COMPRESS_INLINE_BYTES ? zstdCompressSync(plain, options) : await compressBeside(plain, options)
  // Two lengths in front; and a gain that is worth the work of every reader.
  if (packed.length + 16 > size - size / 16) return false
  writer.length = start
  writer.uint(size).bytes(packed)
  return true
}

/** The payload again, with memory of its own; null where the bytes are no compressed payload. */
export function decompressPayload(payload: Buffer): Buffer | null {
  try {
    const reader = new ByteReader(payload)
    const size = reader.uint()
    if (size > MAXIMUM_FRAME_BYTES) return null
    const plain = zstdDecompressSync(reader.bytes(), { chunkSize: Math.max(64, size), maxOutputLength: size })
    return plain.length === size ? plain : null
  } catch {
    return null
  }
}
