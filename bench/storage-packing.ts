/**
 * `node bench/storage-packing.ts [folder]`: what compression and encryption cost the log, and save. Turns of entries
 * that look like JSON documents, in rounds of all four settings one after the other, so that what else happens on the
 * machine hits all of them; the log and its replay are compared with the log as it is.
 */
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KeyRing } from '../src/storage/keys.ts'
import type { Storage, StorageOptions } from '../src/storage/storage.ts'
import type { Entry, LogRecord } from '../src/vocabulary.ts'
import { logIndex } from '../src/vocabulary.ts'
import { MIB, openBench, time } from './storage-log.ts'

const BATCHES = [1, 16, 64, 256]
const ROUNDS = 8
const BLOCK_TURNS = 40
const WORDS = ['orders', 'customer', 'shipped', 'Prague', 'Brno', 'pending', 'invoice', 'amount', 'EUR', 'returned']

let seed = 1
const next = (): number => (seed = (seed * 48_271) % 2_147_483_647)
const word = (): string => WORDS[next() % WORDS.length]!

function document(): Buffer {
  const fields = `"id":${next()},"state":"${word()}","city":"${word()}","item":"${word()}-${next() % 10_000}"`
  return Buffer.from(`set ${word()}:${next() % 1_000_000} {${fields},"price":${(next() % 100_000) / 100}}`)
}

class Log {
  readonly name: string
  readonly change: Partial<StorageOptions>
  storage!: Storage
  #last = 0

  constructor(name: string, change: Partial<StorageOptions>) {
    this.name = name
    this.change = change
  }

  append(documents: readonly Buffer[]): Promise<void> {
    const entries = documents.map((payload): Entry => ({ kind: 'commands', index: logIndex(++this.#last), payload }))
    const records: LogRecord[] = [{ kind: 'entries', entries }]
    return new Promise((resolve) => this.storage.write(records, resolve))
  }
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

const folder = fs.mkdtempSync(join(process.argv[2] ?? tmpdir(), 'bench-packing-'))
try {
  fs.writeFileSync(join(folder, 'secret'), randomBytes(32))
  const keys = new KeyRing(folder, 'secret')
  const logs = [
    new Log('as it is', {}),
    new Log('zstd', { compression: 'zstd' }),
    new Log('key', { keys }),
    new Log('zstd, key', { compression: 'zstd', keys }),
  ]
  // In line for all: which way the measured pace of each would choose is not what is compared.
  for (const log of logs) log.storage = await openBench(join(folder, log.name), { ...log.change, sync: 'inline' })
  process.stdout.write(`entries a turn   ${logs.map(({ name }) => name.padStart(16)).join('')}   (turn in ms, bytes)\n`)
  for (const batch of BATCHES) {
    const times = logs.map((): number[] => [])
    const bytes = logs.map(({ storage }) => -storage.status().bytes)
    for (let round = 0; round <= ROUNDS; round++) {
      const turns = Array.from({ length: BLOCK_TURNS }, () => Array.from({ length: batch }, document))
      for (const [at, log] of logs.entries()) {
        let turn = 0
        const took = await time(BLOCK_TURNS, () => log.append(turns[turn++]!))
        // The first round warms up.
        if (round > 0) times[at]!.push(...took)
      }
    }
    for (const [at, { storage }] of logs.entries()) bytes[at]! += storage.status().bytes
    const cells = logs.map((_, at) => {
      const part = (bytes[at]! / bytes[0]!).toFixed(2)
      return `${median(times[at]!).toFixed(3)} x ${part}`.padStart(16)
    })
    process.stdout.write(`${String(batch).padStart(14)}   ${cells.join('')}\n`)
  }
  for (const log of logs) await log.storage.close()
  const replays = logs.map((): number[] => [])
  for (let round = 0; round < 3; round++) {
    for (const [at, log] of logs.entries()) {
      const began = performance.now()
      const storage = await openBench(join(folder, log.name), log.change)
      replays[at]!.push(storage.recovered.entries.length / (performance.now() - began) / 1000)
      await storage.close()
    }
  }
  const size = (name: string): number => {
    const wal = join(folder, name, 'wal')
    return fs.readdirSync(wal).reduce((sum, file) => sum + fs.statSync(join(wal, file)).size, 0) / MIB
  }
  const cells = logs.map((_, at) => median(replays[at]!).toFixed(2).padStart(16))
  process.stdout.write(`replay, M/s      ${cells.join('')}\n`)
  process.stdout.write(`on disk, MiB     ${logs.map(({ name }) => size(name).toFixed(1).padStart(16)).join('')}\n`)
} finally {
  fs.rmSync(folder, { recursive: true, force: true })
}
