/**
 * Reads a file around the places that its disk cannot read any more (EIO): such a block comes as bytes that no checksum
 * accepts, and so is rot like any other, found where it is and repaired as such. A disk that has many of them is
 * broken, and its error is thrown.
 *
 * The filler is not zero: zeros at the end of a log are what was never written.
 */
const BLOCK_BYTES = 4096
const FILLER = 0xee
/** In one read. Each may take a disk many seconds. */
const MOST_BLOCKS = 32

/** Reads into `buffer` at `at` what is at `offset` of the file, up to `length` bytes; 0 at the end of the file. */
export type ReadSome = (buffer: Buffer, at: number, length: number, offset: number) => Promise<number>

/** `length` bytes from `offset` on; fewer only at the end of the file. */
export async function readAround(some: ReadSome, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length)
  let filled = 0
  let unreadable = 0
  while (filled < length) {
    const place = offset + filled
    const got = await some(buffer, filled, length - filled, place).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EIO' || ++unreadable > MOST_BLOCKS) throw error
      const end = Math.min(length, filled + BLOCK_BYTES - (place % BLOCK_BYTES))
      buffer.fill(FILLER, filled, end)
      return end - filled
    })
    if (got === 0) return buffer.subarray(0, filled)
    filled += got
  }
  return buffer
}
