/**
 * The `Disk` port over node:fs. A write returns when every byte is written (short writes are continued); a
 * durable write goes through O_DSYNC where the system has it, past the page cache where the file system takes it
 * (direct-writes.ts), and is a write and an fdatasync elsewhere.
 */
import * as fs from 'node:fs'
import * as path from 'node:path'
import { DirectWrites, type Kernel, SLICE_BYTES, takesDirectWrites, writeAll, writeAllNow } from './direct-writes.ts'
import { invariant } from '../invariant.ts'
import type { Disk, DiskFile, OpenMode } from './disk.ts'
import { processorWaitMilliseconds } from './processor-wait.ts'
import { type ReadSome, readAround } from './read-around.ts'

/** macOS has an O_DSYNC that does not reach the platter; libuv's fdatasync there does (F_FULLFSYNC). */
const durableFlag = process.platform === 'linux' ? fs.constants.O_DSYNC : 0

/** A write in line that takes less is quick, whatever it waited for. */
const WORTH_A_LOOK_MILLISECONDS = 0.3

const { O_CREAT, O_EXCL, O_RDWR, O_RDONLY } = fs.constants
const FLAGS: Readonly<Record<OpenMode, number>> = {
  create: O_RDWR | O_CREAT | O_EXCL,
  'create-durable': O_RDWR | O_CREAT | O_EXCL | durableFlag,
  write: O_RDWR,
  read: O_RDONLY,
}

/** Memory that is never touched is never taken. */
const ZEROS = Buffer.alloc(SLICE_BYTES)

class RealFile implements DiskFile {
  readonly #descriptor: number
  readonly #syncsEachWrite: boolean
  /** Null where there is none, or the file system refused. */
  readonly #direct: DirectWrites | null

  constructor(descriptor: number, syncsEachWrite: boolean, direct: DirectWrites | null) {
    this.#descriptor = descriptor
    this.#syncsEachWrite = syncsEachWrite
    this.#direct = direct
  }

  get isDirect(): boolean {
    return this.#direct !== null && !this.#direct.isRefused
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    if (this.#direct !== null && (await this.#direct.write(bytes, offset))) return
    await this.#writeCached(bytes, offset)
  }

  async writePieces(pieces: readonly Uint8Array[], offset: number): Promise<void> {
    if (this.#direct !== null && (await this.#direct.write(Buffer.concat(pieces), offset))) return
    await this.#writePiecesCached(pieces, offset)
  }

  async writeZeros(offset: number, length: number): Promise<void> {
    invariant(length <= SLICE_BYTES, `${length} zeros at a time, allowed are ${SLICE_BYTES}`)
    if (this.#direct !== null && (await this.#direct.writeZeros(offset, length))) return
    await this.#writeCached(ZEROS.subarray(0, length), offset)
  }

  async #writeCached(bytes: Uint8Array, offset: number): Promise<void> {
    await writeAll(fs, this.#descriptor, bytes, offset)
    if (this.#syncsEachWrite) await this.sync()
  }

  #writePiecesCached(pieces: readonly Uint8Array[], offset: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.writev(this.#descriptor, pieces, offset, (error, written) => {
        const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
        if (error !== null) reject(error)
        // Hardly ever: the disk took a part.
        else if (written < length)
          this.#writeCached(Buffer.concat(pieces).subarray(written), offset + written).then(resolve, reject)
        else if (this.#syncsEachWrite) this.sync().then(resolve, reject)
        else resolve()
      })
    })
  }

  writeNow(bytes: Uint8Array, offset: number): number {
    const waited = processorWaitMilliseconds()
    const began = performance.now()
    if (this.#direct === null || !this.#direct.writeNow(bytes, offset)) this.#writeCachedNow(bytes, offset)
    const took = performance.now() - began
    // On a busy machine a process waits for a processor, too, once the disk is done; that says nothing of the disk.
    return took < WORTH_A_LOOK_MILLISECONDS ? took : Math.max(0, took - (processorWaitMilliseconds() - waited))
  }

  #writeCachedNow(bytes: Uint8Array, offset: number): void {
    writeAllNow(fs, this.#descriptor, bytes, offset)
    if (this.#syncsEachWrite) fs.fdatasyncSync(this.#descriptor)
  }

  read(offset: number, length: number): Promise<Buffer> {
    const some: ReadSome = (buffer, at, bytes, place) =>
      new Promise((resolve, reject) => {
        fs.read(this.#descriptor, buffer, at, bytes, place, (error, count) => {
          if (error === null) resolve(count)
          else reject(error)
        })
      })
    return readAround(some, offset, length)
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.#descriptor, (error) => (error === null ? resolve() : reject(error)))
    })
  }

  size(): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.fstat(this.#descriptor, (error, stats) => (error === null ? resolve(stats.size) : reject(error)))
    })
  }

  truncate(size: number): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.ftruncate(this.#descriptor, size, (error) => (error === null ? resolve() : reject(error)))
    })
  }

  async close(): Promise<void> {
    await this.#direct?.close()
    await new Promise<void>((resolve, reject) => {
      fs.close(this.#descriptor, (error) => (error ? reject(error) : resolve()))
    })
  }
}

export class RealDisk implements Disk {
  readonly #kernel: Kernel
  /** By folder. */
  readonly #takesDirect = new Map<string, Promise<boolean>>()

  /** `kernel`: what writes past the page cache; another one is for tests. */
  constructor(kernel: Kernel = fs) {
    this.#kernel = kernel
  }

  async open(file: string, mode: OpenMode): Promise<DiskFile> {
    const descriptor = await new Promise<number>((resolve, reject) => {
      fs.open(file, FLAGS[mode], 0o600, (error, opened) => (error === null ? resolve(opened) : reject(error)))
    })
    if (mode !== 'create-durable') return new RealFile(descriptor, false, null)
    const folder = path.dirname(file)
    const takesDirect = this.#takesDirect.get(folder) ?? takesDirectWrites(folder, this.#kernel)
    this.#takesDirect.set(folder, takesDirect)
    return new RealFile(
      descriptor,
      durableFlag === 0,
      (await takesDirect) ? await DirectWrites.open(file, this.#kernel) : null,
    )
  }

  rename(from: string, to: string): Promise<void> {
    return fs.promises.rename(from, to)
  }

  unlink(file: string): Promise<void> {
    return fs.promises.unlink(file)
  }

  async makeDirectory(directory: string): Promise<void> {
    const first = await fs.promises.mkdir(directory, { recursive: true, mode: 0o700 })
    if (first === undefined) return
    // Each name is in the directory above it, from that of the last one up to that of the first.
    for (let above = path.dirname(directory); ; above = path.dirname(above)) {
      await this.syncDirectory(above)
      if (above === path.dirname(first)) return
    }
  }

  removeDirectory(directory: string): Promise<void> {
    return fs.promises.rm(directory, { recursive: true, force: true })
  }

  async list(directory: string): Promise<string[] | null> {
    try {
      return (await fs.promises.readdir(directory)).sort()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
  }

  async syncDirectory(directory: string): Promise<void> {
    const handle = await fs.promises.open(directory, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  async space(directory: string): Promise<{ readonly free: number; readonly total: number }> {
    const { bavail, blocks, bsize } = await fs.promises.statfs(directory)
    return { free: bavail * bsize, total: blocks * bsize }
  }
}
