/**
 * Appends to a file past the page cache (O_DIRECT), durable when they return (O_DSYNC), where the file system takes
 * them: one copy less, no pages to make and to give back, and one command in place of a write and a flush where the
 * disk has such a one. The blocks of a write are whole-blocks.ts.
 *
 * Every method says whether it has written. Where it has not, because the file system refused (then it is not asked
 * again for this file) or the memory is in use, the caller writes the same bytes through the page cache, to the same
 * place: file systems keep the two in agreement, and one that does not is found out before (`takesDirectWrites`). Any
 * other error is the caller's, as of any write. One write of a file at a time.
 *
 * The kernel wants memory that begins at a page. Node's buffers do not; that of WebAssembly does, so there is one piece
 * of it for the process, and one write at a time has it.
 */
import * as fs from 'node:fs'
import { BLOCK_BYTES, type Blocks, WholeBlocks } from './whole-blocks.ts'

const WASM_PAGE_BYTES = 65_536
/** Of one write; larger ones are several, one behind the other. Whole blocks. */
export const SLICE_BYTES = 1024 * 1024
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
  writeSync(descriptor: number, from: Uint8Array, at: number, length: number, place: number): number
  write(
    descriptor: number,
    from: Uint8Array,
    at: number,
    length: number,
    place: number,
    done: (error: NodeJS.ErrnoException | null, written: number) => void,
  ): void
}

/** Writes all of `from` at `place`, in as many calls as it takes. */
export function writeAll(kernel: Kernel, descriptor: number, from: Uint8Array, place: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const step = (done: number): void => {
      kernel.write(descriptor, from, done, from.length - done, place + done, (error, written) => {
        if (error !== null) reject(error)
        else if (done + written < from.length) step(done + written)
        else resolve()
      })
    }
    step(0)
  })
}

/** The same before it returns. */
export function writeAllNow(kernel: Kernel, descriptor: number, from: Uint8Array, place: number): void {
  for (let done = 0; done < from.length;) {
    done += kernel.writeSync(descriptor, from, done, from.length - done, place + done)
  }
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
    const pages = (2 * SLICE_BYTES) / WASM_PAGE_BYTES
    const all = Buffer.from(new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer)
    return { zeros: all.subarray(0, SLICE_BYTES), bytes: all.subarray(SLICE_BYTES), isTaken: false }
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
    const blocks = this.#begin(bytes, offset)
    if (blocks === null) return false
    try {
      writeAllNow(this.#kernel, this.#descriptor, this.#memory.bytes.subarray(0, blocks.length), blocks.offset)
    } catch (error) {
      this.#refused(error)
    }
    return !this.#isRefused
  }

  async write(bytes: Uint8Array, offset: number): Promise<boolean> {
    if (this.#memory.isTaken) {
      this.#begin(bytes, offset)
      return false
    }
    this.#memory.isTaken = true
    try {
      for (let at = 0; at < bytes.length && !this.#isRefused;) {
        // All but the last one end with a block.
        const slice = bytes.subarray(at, at + SLICE_BYTES - ((offset + at) % BLOCK_BYTES))
        const blocks = this.#blocks.append(slice, offset + at, this.#memory.bytes)
        if (blocks === null) return false
        const whole = this.#memory.bytes.subarray(0, blocks.length)
        await writeAll(this.#kernel, this.#descriptor, whole, blocks.offset)
        at += slice.length
      }
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
      await writeAll(this.#kernel, this.#descriptor, this.#memory.zeros.subarray(0, length), offset)
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
  #begin(bytes: Uint8Array, offset: number): Blocks | null {
    if (this.#isRefused) return null
    return this.#blocks.append(bytes, offset, this.#memory.isTaken ? NOTHING : this.#memory.bytes)
  }

  #refused(error: unknown): void {
    if (!REFUSALS.has((error as NodeJS.ErrnoException).code)) throw error
    this.#isRefused = true
  }
}

/** Deleted at a start where a crash left it, as all that ends so. */
const PROBE_FILE = 'probe.wal.tmp'

/**
 * Whether the file system of a folder takes such writes, and agrees with the page cache: a block that was read before
 * it was written must be read anew.
 */
export async function takesDirectWrites(folder: string, kernel: Kernel): Promise<boolean> {
  const path = `${folder}/${PROBE_FILE}`
  try {
    const cached = await fs.promises.open(path, 'w+', 0o600)
    const direct = await DirectWrites.open(path, kernel)
    const isThere = async (byte: number): Promise<boolean> => {
      const { buffer, bytesRead } = await cached.read(Buffer.alloc(BLOCK_BYTES), 0, BLOCK_BYTES, 0)
      return bytesRead === BLOCK_BYTES && buffer.every((each) => each === byte)
    }
    try {
      if (direct === null || !(await direct.writeZeros(0, BLOCK_BYTES)) || !(await isThere(0))) return false
      return (await direct.write(Buffer.alloc(BLOCK_BYTES, 0xff), 0)) && (await isThere(0xff))
    } finally {
      await direct?.close()
      await cached.close()
      await fs.promises.unlink(path)
    }
  } catch {
    // Whatever it is: the log is written without, and has errors of its own.
    return false
  }
}
