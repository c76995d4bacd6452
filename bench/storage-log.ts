/**
 * Appends and replay of the log, beside the physical limit: a bare loop of write + fdatasync of the same bytes over
 * blocks that were written before, through the thread pool and in line; the faster of the two is the limit. Blocks of
 * turns are interleaved, so that what else happens on the machine hits all of them; of each, the rate that one block in
 * ten exceeds is compared: what else happens makes blocks slower, never faster.
 */
import * as fs from 'node:fs'
import { join } from 'node:path'
import { RealDisk } from '../src/storage/real-disk.ts'
import { type Storage, type StorageOptions, openStorage } from '../src/storage/storage.ts'
import type { LogRecord } from '../src/vocabulary.ts'
import { logIndex, volumeId } from '../src/vocabulary.ts'

/** A line of the table that storage.ts prints. */
export interface Row {
  readonly what: string
  readonly measured: string
  /** The limit or the peer that it is measured beside; '' where there is none. */
  readonly beside: string
  /** What is compared with the bar; null where the peer is missing. */
  readonly value: number | null
  readonly bar: number
  readonly better: 'larger' | 'smaller'
}

export const MIB = 1024 * 1024
const ENTRY_BYTES = 100
const payload = Buffer.alloc(ENTRY_BYTES, 'v')
const BATCHES = [1, 4, 16, 64, 256]
const BARE_BYTES = 32 * MIB
/** Each candidate has so many turns before the next one has as many. */
const BLOCK_TURNS = 25

export function openBench(folder: string, change: Partial<StorageOptions> = {}): Promise<Storage> {
  return openStorage({
    disk: new RealDisk(),
    walDirectory: join(folder, 'wal'),
    checkpointDirectory: join(folder, 'checkpoints'),
    segmentBytes: 64 * MIB,
    archive: false,
    random: () => volumeId('b'.repeat(32)),
    onFatal: (error) => {
      throw error
    },
    ...change,
  })
}

/** Milliseconds of each turn. */
export async function time(turns: number, turn: () => Promise<void> | void): Promise<number[]> {
  const times: number[] = []
  for (let count = 0; count < turns; count++) {
    const began = performance.now()
    await turn()
    times.push(performance.now() - began)
  }
  return times
}

export const percentile = (times: readonly number[], part: number): number =>
  times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * part))]!
export const median = (values: readonly number[]): number => percentile(values, 0.5)
/** Of the rates of blocks. */
const undisturbed = (rates: readonly number[]): number => percentile(rates, 0.9)
const perSecond = (times: readonly number[]): number => (times.length / times.reduce((a, b) => a + b, 0)) * 1000

/** Turns of entries on a storage, one sync each. */
export class Log {
  readonly storage: Storage
  last: number
  readonly #ready: LogRecord[][] = []

  constructor(storage: Storage) {
    this.storage = storage
    this.last = storage.status().last
  }

  append(entries: number): Promise<void> {
    const records = this.#ready.shift() ?? this.#make(entries)
    return new Promise((resolve) => this.storage.write(records, resolve))
  }

  /** Makes the entries of so many turns: they are there when a turn begins. */
  prepare(entries: number, turns: number): void {
    for (let count = 0; count < turns; count++) this.#ready.push(this.#make(entries))
  }

  #make(entries: number): LogRecord[] {
    const made = Array.from({ length: entries }, () => ({
      kind: 'commands' as const,
      index: logIndex(++this.last),
      payload,
    }))
    return [{ kind: 'entries', entries: made }]
  }
}

interface Bare {
  readonly pool: () => Promise<void>
  readonly inline: () => void
  readonly close: () => void
}

function bareLoop(folder: string, bytes: number): Bare {
  const file = fs.openSync(join(folder, 'bare'), 'w+')
  fs.writeSync(file, Buffer.alloc(BARE_BYTES))
  fs.fdatasyncSync(file)
  const buffer = Buffer.alloc(bytes, 1)
  let offset = 0
  const place = (): number => {
    offset = (offset + bytes) % (BARE_BYTES - MIB)
    return offset
  }
  return {
    pool: () =>
      new Promise((resolve) => {
        fs.write(file, buffer, 0, bytes, place(), () => fs.fdatasync(file, () => resolve()))
      }),
    inline: () => {
      fs.writeSync(file, buffer, 0, bytes, place())
      fs.fdatasyncSync(file)
    },
    close: () => fs.closeSync(file),
  }
}

/** Bytes of the frame that a turn of so many entries is. */
async function frameBytes(log: Log, entries: number): Promise<number> {
  const before = log.storage.status().bytes
  await log.append(entries)
  return log.storage.status().bytes - before
}

/** Turns a second by batch, beside the bare loops. */
export async function measureAppends(folder: string, turns: number, rounds: number, warmUpTurns = 600): Promise<Row[]> {
  const pool = new Log(await openBench(join(folder, 'pool'), { sync: 'pool' }))
  const auto = new Log(await openBench(join(folder, 'auto')))
  // The way of writing is chosen and the next segment is prepared before anything counts.
  for (const log of [pool, auto]) await time(warmUpTurns, () => log.append(300))
  const rows: Row[] = []
  for (const entries of BATCHES) {
    const bare = bareLoop(folder, await frameBytes(pool, entries))
    const candidates = [bare.pool, bare.inline, () => pool.append(entries), () => auto.append(entries)]
    const rates: number[][] = candidates.map(() => [])
    for (let done = 0; done < turns * rounds; done += BLOCK_TURNS) {
      for (const log of [pool, auto]) log.prepare(entries, BLOCK_TURNS)
      for (const [at, turn] of candidates.entries()) rates[at]!.push(perSecond(await time(BLOCK_TURNS, turn)))
    }
    bare.close()
    const [barePool, bareInline, byPool, byAuto] = rates.map(undisturbed) as [number, number, number, number]
    const limit = Math.max(barePool, bareInline)
    rows.push({
      what: `turns of ${entries} × ${ENTRY_BYTES} bytes, one sync each`,
      measured: `${byAuto.toFixed(0)} a second (by the pool ${byPool.toFixed(0)})`,
      beside: `${limit.toFixed(0)} (write + fdatasync: pool ${barePool.toFixed(0)}, in line ${bareInline.toFixed(0)})`,
      value: byAuto / limit,
      bar: 0.8,
      better: 'larger',
    })
  }
  await pool.storage.close()
  await auto.storage.close()
  return rows
}

/** Entries a second that a start reads back, or MiB where that comes first. */
export async function measureReplay(folder: string, rounds: number): Promise<Row[]> {
  const log = new Log(await openBench(join(folder, 'replay')))
  while (log.last < 1_000_000) await log.append(500)
  const { bytes } = log.storage.status()
  await log.storage.close()
  const rates: number[] = []
  for (let round = 0; round < rounds; round++) {
    const began = performance.now()
    const again = await openBench(join(folder, 'replay'))
    rates.push((again.recovered.entries.length / (performance.now() - began)) * 1000)
    await again.close()
  }
  const rate = Math.max(...rates)
  const mebibytes = (rate / log.last) * (bytes / MIB)
  return [
    {
      what: 'replay of small entries (1 million a second or 200 MB, whichever comes first)',
      measured: `${(rate / 1e6).toFixed(2)} million a second, ${mebibytes.toFixed(0)} MiB`,
      beside: '',
      value: Math.max(rate / 1e6, (mebibytes * MIB) / 200e6),
      bar: 1,
      better: 'larger',
    },
  ]
}
