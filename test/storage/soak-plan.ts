/**
 * What the writer of a soak does in one life, as a function of seed and life: the process that is killed runs it, and
 * the one that kills it runs it again, to know what must be there. Entries are told by a digest.
 */
import { join } from 'node:path'
import { KeyRing } from '../../src/storage/keys.ts'
import { createHash } from 'node:crypto'
import type { LogRecord } from '../../src/vocabulary.ts'
import * as sample from './samples.ts'
import { random } from './simulated-disk.ts'

/** Where a life begins, as its start found it. */
export interface Origin {
  readonly last: number
  readonly ballot: number
  readonly decided: number
}

/** How the storage of a life is opened. */
export interface LifeOptions {
  readonly segmentBytes: number
  readonly archive: boolean
  readonly sync: 'pool' | 'inline' | 'auto'
  readonly compression: 'none' | 'zstd'
  readonly keys: KeyRing
}

/** The folder of the keys that lives take turns with. */
export const KEYS = join(import.meta.dirname, '../fixtures/data-encrypted/keys')

/** Operations that are given before the first of them is acknowledged. */
export const IN_FLIGHT = 8
const SEGMENT_BYTES = [4096, 16_384, 65_536, 1_048_576]

function pick<T>(next: () => number, from: readonly T[]): T {
  return from[Math.floor(next() * from.length)]!
}

export function lifeOptions(seed: number, life: number): LifeOptions {
  const next = random(seed * 1_000_003 + life * 2)
  return {
    segmentBytes: pick(next, SEGMENT_BYTES),
    archive: next() < 0.3,
    sync: pick(next, ['pool', 'inline', 'auto']),
    compression: pick(next, ['none', 'zstd']),
    keys: new KeyRing(KEYS, pick(next, [null, 'old', 'new'])),
  }
}

/** The operations of a life, one behind the other, without end. */
export function* operations(seed: number, life: number, origin: Origin): Generator<LogRecord[], never> {
  const next = random(seed * 1_000_003 + life * 2 + 1)
  let { last, ballot, decided } = origin
  if (last === 0) yield [sample.genesis(3)]
  for (;;) {
    const records: LogRecord[] = []
    const kind = next()
    if (kind < 0.1) records.push(sample.promised(++ballot))
    let base = last + 1
    // A leader's log replaces a suffix, or is appended.
    const isCut = kind > 0.92
    if (isCut) base = Math.max(decided + 1, last + 1 - Math.floor(next() * 6))
    const count = 1 + Math.floor(next() * 5)
    const filler = next() < 0.2 ? '\0' : 'compressible '
    const tag = ` ${life} ${filler.repeat((next() * 2000) / filler.length)}`
    records.push(
      isCut ? sample.acceptSync(++ballot, base, base + count - 1, tag) : sample.appended(base, base + count - 1, tag),
    )
    last = base + count - 1
    if (next() < 0.4) {
      decided = Math.max(decided, last - Math.floor(next() * 20))
      records.push(sample.decided(decided))
    }
    yield records
  }
}

/** The slices of the checkpoint at an index: enough that writing them takes a while. */
export function checkpointSlices(index: number): Buffer[] {
  return Array.from({ length: 12 }, (_, at) => Buffer.from(`checkpoint ${index} slice ${at} `.repeat(4000)))
}

export const digestOf = (...parts: readonly (string | Uint8Array)[]): string => {
  const hash = createHash('sha1')
  for (const part of parts) hash.update(part)
  return hash.digest('base64')
}

export const checkpointDigest = (index: number): string => digestOf(...checkpointSlices(index))

/** What a start reports, and what it is compared with. */
export interface Found extends Origin {
  readonly accepted: number
  readonly first: number
  readonly checkpoint: number
  /** Of all entries from `first` on. */
  readonly digest: string
  /** Of the checkpoint's slices; '': there is none. */
  readonly checkpointDigest: string
}

/** Everything that was given so far, up to some operation. */
export class SoakModel {
  readonly #digests = new Map<number, string>()
  last = 0
  promise = 0
  accepted = 0

  apply(records: readonly LogRecord[]): void {
    for (const record of records) {
      if (record.kind === 'promise') this.promise = record.ballot.n
      if (record.kind === 'accept-sync') {
        this.promise = this.accepted = record.ballot.n
        for (let index = record.base as number; index <= this.last; index++) this.#digests.delete(index)
      }
      if (record.kind !== 'entries' && record.kind !== 'accept-sync') continue
      for (const entry of record.entries) {
        this.#digests.set(entry.index, entry.kind === 'commands' ? digestOf(entry.payload) : 'stop-sign')
        this.last = entry.index
      }
    }
  }

  /** Null if `found` is what this says; otherwise what differs. */
  differs(found: Found): string | null {
    if (found.last !== this.last) return `last is ${found.last}, not ${this.last}`
    if (found.ballot !== this.promise) return `promise is ${found.ballot}, not ${this.promise}`
    if (found.accepted !== this.accepted) return `accepted ballot is ${found.accepted}, not ${this.accepted}`
    if (found.first > found.checkpoint + 1) return `first is ${found.first}, the checkpoint ${found.checkpoint}`
    if (found.digest !== this.#digestFrom(found.first)) return `other entries from ${found.first} to ${found.last}`
    return null
  }

  #digestFrom(first: number): string {
    return digestOf(
      ...Array.from({ length: this.last - first + 1 }, (_, at) => this.#digests.get(first + at) ?? 'none'),
    )
  }

  /** Nobody asks for entries below the first index again. */
  forgetBelow(first: number): void {
    for (const index of this.#digests.keys()) {
      if (index >= first) return
      this.#digests.delete(index)
    }
  }
}
