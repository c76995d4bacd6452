/**
 * `node bench/storage.ts [folder]`: the storage beside the physical limit, measured in the same run.
 *
 * Appends: turns of 1 to 256 entries of 100 bytes, one after the other, by the thread pool and as measured
 * (`auto`), beside a bare loop of write + fdatasync of the same bytes over blocks that were written before; rounds
 * are interleaved and medians reported. Then replay, a checkpoint of compressible values and its load, and the
 * time of a turn while a checkpoint is taken.
 */
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { RealDisk } from '../src/storage/real-disk.ts'
import { type Storage, type StorageOptions, openStorage } from '../src/storage/storage.ts'
import type { LogRecord } from '../src/vocabulary.ts'
import { configurationId, logIndex, nodeId, volumeId } from '../src/vocabulary.ts'

const TURNS = 500
const ROUNDS = 3
const ENTRY_BYTES = 100
const MIB = 1024 * 1024
const payload = Buffer.alloc(ENTRY_BYTES, 'v')
const configuration = { id: configurationId(1), voters: [], learners: [], preferredLeader: nodeId(0) }

const folder = fs.mkdtempSync(join(process.argv[2] ?? tmpdir(), 'bench-storage-'))

function open(name: string, change: Partial<StorageOptions> = {}): Promise<Storage> {
  return openStorage({
    disk: new RealDisk(),
    walDirectory: join(folder, name, 'wal'),
    checkpointDirectory: join(folder, name, 'checkpoints'),
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
async function time(turns: number, turn: () => Promise<void>): Promise<number[]> {
  const times: number[] = []
  for (let count = 0; count < turns; count++) {
    const began = performance.now()
    await turn()
    times.push(performance.now() - began)
  }
  return times
}

const sum = (times: readonly number[]): number => times.reduce((a, b) => a + b, 0)
const percentile = (times: readonly number[], part: number): number =>
  times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * part))]!
const median = (values: readonly number[]): number => percentile(values, 0.5)

function bareLoop(bytes: number): { turn: () => Promise<void>; close: () => void } {
  const file = fs.openSync(join(folder, 'bare'), 'w+')
  fs.writeSync(file, Buffer.alloc(32 * MIB))
  fs.fdatasyncSync(file)
  const buffer = Buffer.alloc(bytes, 1)
  let offset = 0
  return {
    turn: () =>
      new Promise((resolve) => {
        fs.write(file, buffer, 0, bytes, offset, () => fs.fdatasync(file, () => resolve()))
        offset = (offset + bytes) % (31 * MIB)
      }),
    close: () => fs.closeSync(file),
  }
}

class Log {
  readonly storage: Storage
  #last: number
  constructor(storage: Storage) {
    this.storage = storage
    this.#last = storage.status().last
  }
  append(entries: number): Promise<void> {
    const records: LogRecord[] = [
      {
        kind: 'entries',
        entries: Array.from({ length: entries }, () => ({ kind: 'commands', index: logIndex(++this.#last), payload })),
      },
    ]
    return new Promise((resolve) => this.storage.write(records, resolve))
  }
  get last(): number {
    return this.#last
  }
}

async function appends(): Promise<void> {
  const pool = new Log(await open('pool', { sync: 'pool' }))
  const auto = new Log(await open('auto', { sync: 'auto' }))
  for (const log of [pool, auto]) await time(400, () => log.append(300))
  process.stdout.write('turns a second        bare      pool      auto   pool/bare  auto/bare\n')
  for (const entries of [1, 16, 64, 256]) {
    const rates: [number[], number[], number[]] = [[], [], []]
    const bare = bareLoop(entries * (ENTRY_BYTES + 5) + 64)
    for (let round = 0; round < ROUNDS; round++) {
      const turns = [bare.turn, () => pool.append(entries), () => auto.append(entries)]
      for (const [at, turn] of turns.entries()) rates[at]!.push((TURNS / sum(await time(TURNS, turn))) * 1000)
    }
    bare.close()
    const [limit, byPool, byAuto] = rates.map(median) as [number, number, number]
    const cells = [limit, byPool, byAuto].map((rate) => rate.toFixed(0).padStart(10)).join('')
    const ratios = [byPool / limit, byAuto / limit].map((ratio) => ratio.toFixed(2).padStart(11)).join('')
    process.stdout.write(`${String(entries).padStart(4)} entries   ${cells}${ratios}\n`)
  }
  const { bytes } = pool.storage.status()
  await pool.storage.close()
  await auto.storage.close()
  const began = performance.now()
  const again = await open('pool')
  const seconds = (performance.now() - began) / 1000
  const count = again.recovered.entries.length
  process.stdout.write(
    `replay: ${count} entries, ${(bytes / MIB).toFixed(0)} MiB in ${seconds.toFixed(2)} s: ` +
      `${(count / seconds / 1e6).toFixed(2)} million a second\n`,
  )
  await again.close()
}

function* slices(): Generator<Buffer> {
  for (let slice = 0; slice < 1000; slice++) {
    const lines = Array.from({ length: 1000 }, (_, at) => `key:${slice * 1000 + at} ${'value '.repeat(16)}`)
    yield Buffer.from(lines.join('\n'))
  }
}

async function checkpoint(): Promise<void> {
  const log = new Log(await open('checkpoint'))
  await time(400, () => log.append(16))
  const quiet = await time(2000, () => log.append(16))
  const source = slices()
  const taking = { done: false }
  const began = performance.now()
  const head = { index: logIndex(log.last), configuration, start: logIndex(0) }
  const checkpointed = log.storage
    .writeCheckpoint(
      head,
      () => source.next().value ?? null,
      () => new Promise((resolve) => setImmediate(resolve)),
    )
    .then((info) => {
      taking.done = true
      return info
    })
  const busy: number[] = []
  while (!taking.done) busy.push(...(await time(50, () => log.append(16))))
  const info = await checkpointed
  const took = performance.now() - began
  process.stdout.write(
    `checkpoint: ${(info.bytes / MIB).toFixed(0)} MiB in ${took.toFixed(0)} ms, ` +
      `stored ${(info.storedBytes / info.bytes).toFixed(3)} of it\n` +
      `turn, p50 and p99.9 in ms: alone ${median(quiet).toFixed(2)} ${percentile(quiet, 0.999).toFixed(2)}, ` +
      `beside a checkpoint ${median(busy).toFixed(2)} ${percentile(busy, 0.999).toFixed(2)}\n`,
  )
  const loading = performance.now()
  let bytes = 0
  for await (const slice of log.storage.readCheckpoint()) bytes += slice.length
  const seconds = (performance.now() - loading) / 1000
  process.stdout.write(`load, without the machine: ${(bytes / MIB / seconds).toFixed(0)} MiB a second\n`)
  await log.storage.close()
}

try {
  await appends()
  await checkpoint()
} finally {
  fs.rmSync(folder, { recursive: true, force: true })
}
