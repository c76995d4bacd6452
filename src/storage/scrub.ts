/**
 * The scrub: reads what lies still on the disk again and again, slowly, and compares it with its checksums, so that
 * rot is found while the state in memory is whole and can be written anew; not at the next start, when it is needed.
 *
 * Sealed segments, the archive and the checkpoints are read in slices, no faster than `bytesPerSecond`, and no slice
 * while the log or a checkpoint is being written (for a bounded time: a disk that is always busy is verified, too).
 * It changes nothing; what rot means is for `found` to say. A file that goes away meanwhile is none of its business.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LokiError, messageOf } from '../errors.ts'
import { verifyCheckpoint } from './checkpoint.ts'
import type { Disk, DiskFile } from './disk.ts'
import type { KeyRing } from './keys.ts'
import { readIndex, withoutIndex } from './segment-index.ts'
import { readSegmentHeader } from './segment-reader.ts'
import { readSegment } from './segment.ts'

const SLICE_BYTES = 256 * 1024
/** So many frames are looked at in one go. */
const FRAMES_AT_ONCE = 512
/** A slice waits no longer than so long for a disk that is busy. */
const PATIENCE_MILLISECONDS = 1000
const BUSY_MILLISECONDS = 20

/** A file (of a checkpoint: its folder) that lies still. */
export interface ScrubTarget {
  readonly kind: 'segment' | 'archived segment' | 'checkpoint'
  readonly directory: string
  readonly name: string
}

export interface Rot extends ScrubTarget {
  readonly reason: string
}

export interface ScrubPorts {
  readonly disk: Disk
  /** Opens the manifests of sealed checkpoints. */
  readonly keys: KeyRing
  /** What there is to verify now, the oldest first. */
  readonly targets: () => Promise<readonly ScrubTarget[]>
  readonly isBusy: () => boolean
  readonly found: (rot: Rot) => void
  /** A pass could not be finished. */
  readonly failed: (reason: string) => void
  readonly bytesPerSecond: number
  /** Between two passes. */
  readonly restMilliseconds: number
}

export class Scrub {
  readonly #ports: ScrubPorts
  readonly #stopped = new AbortController()
  #running: Promise<void> = Promise.resolve()
  #atOnce: Promise<Rot[]> | null = null
  #unpacedBytes = 0
  verifiedBytes = 0
  passes = 0

  constructor(ports: ScrubPorts) {
    this.#ports = ports
  }

  /** Pass after pass until `stop`, each after a rest; the first one, too: a start has read everything. */
  start(): void {
    this.#running = this.#forever().catch((error: unknown) => {
      if (!this.#stopped.signal.aborted) throw error
    })
  }

  async #forever(): Promise<void> {
    const { signal } = this.#stopped
    for (;;) {
      await sleep(this.#ports.restMilliseconds, undefined, { signal, ref: false })
      // What keeps it from reading is no reason to end a node that serves from memory: it is tried again.
      await this.pass().catch((error: unknown) => {
        signal.throwIfAborted()
        this.#ports.failed(messageOf(error))
      })
    }
  }

  /** A pass as fast as the disk can. Who asks while one is under way waits for it. */
  atOnce(): Promise<Rot[]> {
    this.#atOnce ??= this.pass(true).finally(() => {
      this.#atOnce = null
    })
    return this.#atOnce
  }

  /** One pass over everything; gives what is rotten. `atOnce`: as fast as the disk can. */
  async pass(atOnce = false): Promise<Rot[]> {
    const { targets, found, keys } = this.#ports
    const disk = new PacedDisk(this.#ports.disk, (bytes) => this.#pace(bytes, atOnce))
    const rotten: Rot[] = []
    for (const target of await targets()) {
      // Looked at twice: it may have been moved away, or replaced, while it was read.
      const isRotten =
        (await verify(disk, target, keys)) !== null && (await targets()).some((one) => isSame(one, target))
      const reason = isRotten ? await verify(disk, target, keys) : null
      this.#stopped.signal.throwIfAborted()
      if (reason === null) continue
      rotten.push({ ...target, reason })
      found(rotten.at(-1)!)
    }
    this.passes++
    return rotten
  }

  async #pace(bytes: number, atOnce: boolean): Promise<void> {
    this.verifiedBytes += bytes
    this.#unpacedBytes += bytes
    if (atOnce || this.#unpacedBytes < SLICE_BYTES / 4) return
    const { signal } = this.#stopped
    const milliseconds = (1000 * this.#unpacedBytes) / this.#ports.bytesPerSecond
    this.#unpacedBytes = 0
    await sleep(milliseconds, undefined, { signal, ref: false })
    for (let waited = 0; this.#ports.isBusy() && waited < PATIENCE_MILLISECONDS; waited += BUSY_MILLISECONDS) {
      await sleep(BUSY_MILLISECONDS, undefined, { signal, ref: false })
    }
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#running
  }
}

const isSame = (a: ScrubTarget, b: ScrubTarget): boolean => a.directory === b.directory && a.name === b.name

/** Why the target is rotten, or null. */
async function verify(disk: Disk, { kind, directory, name }: ScrubTarget, keys: KeyRing): Promise<string | null> {
  try {
    if (kind !== 'checkpoint') return await verifySegment(disk, `${directory}/${name}`)
    await verifyCheckpoint(disk, directory, name, keys)
    return null
  } catch (error) {
    if (error instanceof LokiError) return isDamage(error) ? error.message : null
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return null
    // So much of it that no block of it is read any more: the disk is broken, and what it holds is lost.
    if (code === 'EIO') return (error as Error).message
    throw error
  }
}

const isDamage = ({ code }: LokiError): boolean => code === 'LOG_DAMAGED' || code === 'CHECKPOINT_DAMAGED'

/** Without a key: the checksums are of what is stored. */
async function verifySegment(disk: Disk, path: string): Promise<string | null> {
  const decoded = await readSegmentHeader(disk, path)
  const file = await disk.open(path, 'read')
  let bytes: Buffer
  let end: { readonly end: number; readonly check: number } | null
  try {
    const size = await file.size()
    const index = await readIndex(file, size, decoded.seed, null)
    // Without an index, which the next start writes, the frames say where they end.
    end = typeof index === 'object' ? index : null
    bytes = await file.read(0, end?.end ?? size)
    // Rot in an index costs nothing: the next start writes it again.
    if (end === null) bytes = withoutIndex(bytes)
  } finally {
    await file.close()
  }
  let frames = 0
  for (const item of readSegment(bytes, decoded, end, null)) {
    if (item.kind === 'rot') return `at ${item.from}: ${item.reason}`
    if (item.kind === 'foreign') return `at ${item.end}: what follows was not chained to what is before`
    if (++frames % FRAMES_AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  return null
}

const refuse = (): Promise<never> => Promise.reject(new Error('the scrub writes nothing'))

/** A disk to read from, slice by slice, with a pause behind each. */
class PacedDisk implements Disk {
  readonly #disk: Disk
  readonly #pace: (bytes: number) => Promise<void>

  constructor(disk: Disk, pace: (bytes: number) => Promise<void>) {
    this.#disk = disk
    this.#pace = pace
  }

  async open(path: string): Promise<DiskFile> {
    const file = await this.#disk.open(path, 'read')
    const read = async (offset: number, length: number): Promise<Buffer> => {
      const slices: Buffer[] = []
      for (let at = 0; at < length; at += SLICE_BYTES) {
        const slice = await file.read(offset + at, Math.min(SLICE_BYTES, length - at))
        slices.push(slice)
        await this.#pace(slice.length)
        if (slice.length < Math.min(SLICE_BYTES, length - at)) break
      }
      return slices.length === 1 ? slices[0]! : Buffer.concat(slices)
    }
    const changes = { write: refuse, writeZeros: refuse, sync: refuse, truncate: refuse }
    return { ...changes, read, size: () => file.size(), close: () => file.close() }
  }

  list(path: string): Promise<string[] | null> {
    return this.#disk.list(path)
  }

  space(path: string): ReturnType<Disk['space']> {
    return this.#disk.space(path)
  }

  readonly rename = refuse
  readonly unlink = refuse
  readonly makeDirectory = refuse
  readonly removeDirectory = refuse
  readonly syncDirectory = refuse
}
