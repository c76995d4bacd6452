/**
 * Appends to a file past the page cache (O_DIRECT), durable when they return (O_DSYNC), where the file system takes
 * them: one copy less, no pages to make and to give back, and one command in place of a write and a flush where the
 * disk has such a one. The blocks of a write are whole-blocks.ts.
 *
 * Every method says whether it has written. Where it has not, because the file system refused (then it is not asked
 * again for this file), the write is too large, or the memory is in use, the caller writes the same bytes through the
 * page cache, to the same place: Linux keeps the two in agreement. Any other error is the caller's, as of any write.
 *
 * The kernel wants memory that begins at a page. Node's buffers do not; that of WebAssembly does, so there is one piece
 * of it for the process, and one write at a time has it.
 */
import * as fs from 'node:fs'
import { BLOCK_BYTES, type Blocks, WholeBlocks } from './whole-blocks.ts'

const WASM_PAGE_BYTES = 65_536
/** As much as is written in line at most (sync-pace.ts), and the blocks around it. Larger ones: not worth the copy. */
const WRITE_BYTES = 256 * 1024 + 2 * BLOCK_BYTES
/** A multiple of `BLOCK_BYTES`. */
export const ZERO_BYTES_MAXIMUM = 1024 * 1024
/** What file systems and disks say that have no such writes, or only of larger blocks. */
const REFUSALS: ReadonlySet<string | undefined> = new Set(['EINVAL', 'EOPNOTSUPP', 'ENOTSUP'])
const NOTHING = new Uint8Array(0)

/** Of the platform; the types of Node leave it out. */
declare const WebAssembly: {
  readonly Memory: new (pages: { readonly initial: number; readonly maximum: number }) => {
    readonly buffer: ArrayBuffer
  }
}

/** The system calls that write. */
export interface Kernel {
  writeSync(descriptor: number, from: Buffer, at: number, length: number, place: number): number
  write(
    descriptor: number,
    from: Buffer,
    at: number,
    length: number,
    place: number,
    done: (error: NodeJS.ErrnoException | null, written: number) => void,
  ): void
}

interface Memory {
  readonly bytes: Buffer
  readonly zeros: Buffer
  isTaken: boolean
}

/** Undefined before the first file; null: there is no such memory here. */
let memory: Memory | null | undefined

function makeMemory(): Memory | null {
  try {
    const pages = Math.ceil((WRITE_BYTES + ZERO_BYTES_MAXIMUM) / WASM_PAGE_BYTES)
    const all = Buffer.from(new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer)
    const zeros = all.subarray(0, ZERO_BYTES_MAXIMUM)
    return { zeros, bytes: all.subarray(ZERO_BYTES_MAXIMUM, ZERO_BYTES_MAXIMUM + WRITE_BYTES), isTaken: false }
  } catch {
    // It wants gigabytes of addresses (not of memory), which a limit may forbid.
    return null
  }
}

export class DirectWrites {
  readonly #descriptor: number
  readonly #memory: Memory
  readonly #kernel: Kernel
  readonly #blocks = new WholeBlocks()
  #isRefused = false

  private constructor(descriptor: number, memory: Memory, kernel: Kernel) {
    this.#descriptor = descriptor
    this.#memory = memory
    this.#kernel = kernel
  }

  /** For the file at `path`, which is there and empty; null where it cannot be. Linux only. */
  static async open(path: string, kernel: Kernel): Promise<DirectWrites | null> {
    if (process.platform !== 'linux') return null
    memory = memory === undefined ? makeMemory() : memory
    const taken = memory
    if (taken === null) return null
    const { O_WRONLY, O_DIRECT, O_DSYNC } = fs.constants
    const descriptor = await new Promise<number | null>((resolve) => {
      fs.open(path, O_WRONLY | O_DIRECT | O_DSYNC, (error, opened) => resolve(error === null ? opened : null))
    })
    return descriptor === null ? null : new DirectWrites(descriptor, taken, kernel)
  }

  get isRefused(): boolean {
    return this.#isRefused
  }

  writeNow(bytes: Uint8Array, offset: number): boolean {
    const blocks = this.#begin([bytes], offset)
    if (blocks === null) return false
    try {
      const end = blocks.offset + blocks.length
      for (let at = blocks.offset; at < end;) {
        at += this.#kernel.writeSync(this.#descriptor, this.#memory.bytes, at - blocks.offset, end - at, at)
      }
    } catch (error) {
      this.#refused(error)
    }
    return !this.#isRefused
  }

  async write(pieces: readonly Uint8Array[], offset: number): Promise<boolean> {
    const blocks = this.#begin(pieces, offset)
    if (blocks === null) return false
    this.#memory.isTaken = true
    try {
      await this.#writeAll(this.#memory.bytes, blocks)
    } catch (error) {
      this.#refused(error)
    } finally {
      this.#memory.isTaken = false
    }
    return !this.#isRefused
  }

  /** Zeros, whole blocks of them. What is appended may be in front of them and behind, not among them. */
  async writeZeros(offset: number, length: number): Promise<boolean> {
    if (this.#isRefused || offset % BLOCK_BYTES !== 0 || length % BLOCK_BYTES !== 0) return false
    try {
      await this.#writeAll(this.#memory.zeros, { offset, length })
    } catch (error) {
      this.#refused(error)
    }
    return !this.#isRefused
  }

  close(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.close(this.#descriptor, (error) => (error ? reject(error) : resolve()))
    })
  }

  /** The blocks of an append, in the memory; null where they cannot go this way. */
  #begin(pieces: readonly Uint8Array[], offset: number): Blocks | null {
    if (this.#isRefused) return null
    return this.#blocks.append(pieces, offset, this.#memory.isTaken ? NOTHING : this.#memory.bytes)
  }

  #writeAll(from: Buffer, { offset, length }: Blocks): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (done: number): void => {
        this.#kernel.write(this.#descriptor, from, done, length - done, offset + done, (error, written) => {
          if (error !== null) reject(error)
          else if (done + written < length) step(done + written)
          else resolve()
        })
      }
      step(0)
    })
  }

  #refused(error: unknown): void {
    if (!REFUSALS.has((error as NodeJS.ErrnoException).code)) throw error
    this.#isRefused = true
  }
}
