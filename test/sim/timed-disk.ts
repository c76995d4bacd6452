/**
 * A disk that takes its (virtual) time: what is written is there at once for the process and durable a while
 * later. Between the two a crash finds the sectors unsynced, and the simulated disk below decides what is left.
 */
import type { Disk, DiskFile, OpenMode } from '../../src/storage/disk.ts'
import { type SimulatedDisk, asItIs, wholeBlocks } from '../storage/simulated-disk.ts'

/** A write that was reported as done. */
export interface Written {
  /** The file's name, which may change. */
  readonly file: { path: string }
  readonly offset: number
  readonly bytes: Buffer
}

export class TimedDisk implements Disk {
  /** Of files whose writes are durable when they are done, oldest first. */
  readonly written: Written[] = []
  readonly #names: { path: string }[] = []
  readonly #platter: SimulatedDisk
  readonly #sync: () => Promise<void>

  /** `sync` is awaited before anything becomes durable; it never returns where the process has ended. */
  constructor(platter: SimulatedDisk, sync: () => Promise<void>) {
    this.#platter = platter
    this.#sync = sync
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const file = await this.#platter.open(path, mode === 'create-durable' ? 'create' : mode)
    const name = { path }
    if (mode === 'create-durable') this.#names.push(name)
    const sync = async (): Promise<void> => {
      await this.#sync()
      await file.sync()
    }
    const append = mode === 'create-durable' && this.#platter.writesBlocks ? wholeBlocks() : asItIs
    const write = async (bytes: Uint8Array, offset: number): Promise<void> => {
      const written = { file: name, offset, bytes: Buffer.from(bytes) }
      const widened = append(bytes, offset)
      await file.write(widened.bytes, widened.offset)
      if (mode !== 'create-durable') return
      await sync()
      this.written.push(written)
    }
    return {
      write,
      writeZeros: async (offset, length) => {
        await file.writeZeros(offset, length)
        if (mode === 'create-durable') await sync()
      },
      sync,
      read: (offset, length) => file.read(offset, length),
      size: () => file.size(),
      truncate: (size) => file.truncate(size),
      close: () => file.close(),
    }
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#sync()
    await this.#platter.syncDirectory(path)
  }

  rename(from: string, to: string): Promise<void> {
    for (const name of this.#names) if (name.path === from) name.path = to
    return this.#platter.rename(from, to)
  }

  unlink(path: string): Promise<void> {
    return this.#platter.unlink(path)
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#sync()
    await this.#platter.makeDirectory(path)
  }

  async removeDirectory(path: string): Promise<void> {
    await this.#sync()
    await this.#platter.removeDirectory(path)
  }

  list(path: string): Promise<string[] | null> {
    return this.#platter.list(path)
  }

  space(): Promise<{ readonly free: number; readonly total: number }> {
    return this.#platter.space()
  }
}
