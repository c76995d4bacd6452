/**
 * The disk as the storage sees it: the smallest port that the real file system and the simulated one share.
 * Paths are absolute. Every method may fail; what a failure means is decided by the caller (a failed write or
 * sync of the log ends the process).
 */

export interface DiskFile {
  /** Writes all of `bytes` at `offset`. Not durable before `sync`. */
  write(bytes: Uint8Array, offset: number): Promise<void>
  /** Reads up to `length` bytes at `offset`; shorter only at the end of the file. */
  read(offset: number, length: number): Promise<Buffer>
  /** Makes every write that was finished before durable (fdatasync; the size is durable too). */
  sync(): Promise<void>
  size(): Promise<number>
  truncate(size: number): Promise<void>
  close(): Promise<void>
}

export interface Disk {
  /** `create`: fails if the file exists. `write`: must exist. `read`: read-only, must exist. */
  open(path: string, mode: 'create' | 'write' | 'read'): Promise<DiskFile>
  rename(from: string, to: string): Promise<void>
  unlink(path: string): Promise<void>
  makeDirectory(path: string): Promise<void>
  removeDirectory(path: string): Promise<void>
  /** Names of files and directories in a directory; null if it does not exist. */
  list(path: string): Promise<string[] | null>
  /** Makes creations, renames and unlinks in the directory durable. */
  syncDirectory(path: string): Promise<void>
  /** Bytes that may still be written, and the size of the file system that holds `path`. */
  space(path: string): Promise<{ readonly free: number; readonly total: number }>
}
