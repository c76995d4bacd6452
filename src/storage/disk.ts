/**
 * The disk as the storage sees it: the smallest port that the real file system and the simulated one share.
 * Paths are absolute. Every method may fail; what a failure means is decided by the caller (a failed write or
 * sync of the log ends the process).
 *
 * A write that has not been made durable may after a crash be there in any subset of its 512-byte sectors; a
 * sector is old or new, never a mixture. Nothing else is assumed (no order between writes, no atomic rename
 * against data that was not synced).
 */

export interface DiskFile {
  /**
   * Writes all of `bytes` at `offset`. Not durable before `sync`, unless the file was opened `create-durable`; of such
   * a file one write at a time.
   */
  write(bytes: Uint8Array, offset: number): Promise<void>
  /**
   * As `write`, done when it returns, where the disk offers it (files opened `create-durable` only). It blocks
   * the process for one sync: for disks that were measured to be quick. Gives the milliseconds that the disk took.
   */
  writeNow?(bytes: Uint8Array, offset: number): number
  /** As `write` of pieces one behind the other, without putting them together, where the disk offers it. */
  writePieces?(pieces: readonly Uint8Array[], offset: number): Promise<void>
  /** As `write` of up to 1 MiB of zeros, without having them. */
  writeZeros(offset: number, length: number): Promise<void>
  /** Whether writes go past the page cache, where that is known. */
  readonly isDirect?: boolean
  /** Reads up to `length` bytes at `offset`; shorter only at the end of the file. */
  read(offset: number, length: number): Promise<Buffer>
  /** Makes every write that was finished before durable (fdatasync; the size is durable too). */
  sync(): Promise<void>
  size(): Promise<number>
  truncate(size: number): Promise<void>
  close(): Promise<void>
}

/**
 * `create`: fails if the file exists. `create-durable`: the same, for a file that is written from front to back, with
 * nothing but zeros behind: every write is durable when it returns (O_DSYNC: one system call in place of two), and may
 * write once more what is around it in its first and its last block (whole-blocks.ts). `write`: must exist. `read`:
 * read-only, must exist.
 */
export type OpenMode = 'create' | 'create-durable' | 'write' | 'read'

export interface Disk {
  open(path: string, mode: OpenMode): Promise<DiskFile>
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  /** With its parents; no error if it exists. */
  makeDirectory(path: string): Promise<void>
  /** With everything in it; no error if it does not exist. */
  removeDirectory(path: string): Promise<void>
  /** Names of files and directories in a directory, sorted; null if it does not exist. */
  list(path: string): Promise<string[] | null>
  /** Makes creations, renames and unlinks in the directory durable. */
  syncDirectory(path: string): Promise<void>
  /** Bytes that may still be written, and the size of the file system that holds `path`. */
  space(path: string): Promise<{ readonly free: number; readonly total: number }>
}

/** Reads a small file whole; null if it is not there. */
export async function readWhole(disk: Disk, path: string): Promise<Buffer | null> {
  const slash = path.lastIndexOf('/')
  const names = await disk.list(path.slice(0, slash))
  if (names === null || !names.includes(path.slice(slash + 1))) return null
  const file = await disk.open(path, 'read')
  try {
    return await file.read(0, await file.size())
  } finally {
    await file.close()
  }
}

/** Makes a file appear whole or not at all: temporary name, sync, rename, directory sync. */
export async function publishFile(disk: Disk, directory: string, name: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${directory}/${name}.tmp`
  if ((await disk.list(directory))?.includes(`${name}.tmp`)) await disk.unlink(temporary)
  const file = await disk.open(temporary, 'create')
  try {
    await file.write(bytes, 0)
    await file.sync()
  } finally {
    await file.close()
  }
  await disk.rename(temporary, `${directory}/${name}`)
  await disk.syncDirectory(directory)
}
