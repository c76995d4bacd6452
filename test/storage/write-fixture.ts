/**
 * Writes a small data folder as this version writes it, with everything in it that a data folder can hold, and says
 * what is in it: several segments and timelines, a cut, a stop-sign, sessions with remembered replies, every type of
 * value, two checkpoints, an archive, entries that are accepted and not decided.
 *
 *   node test/storage/write-fixture.ts test/fixtures/data-<name>
 *
 * A name that ends in `compressed` is written with compression, one that ends in `encrypted` with keys.
 *
 * What is under test/fixtures is never written again: `fixtures.test.ts` opens it with every later version.
 */
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ByteWriter } from '../../src/bytes.ts'
import { type Block, type SystemCommand, encodeCommand, encodeEntry } from '../../src/machine/entry.ts'
import { Machine, MachineRestorer } from '../../src/machine/machine.ts'
import { KeyRing } from '../../src/storage/keys.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { type Storage, type StorageOptions, openStorage } from '../../src/storage/storage.ts'
import { type Entry, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'
import * as sample from './samples.ts'

const SEGMENT_BYTES = 8192
const SESSION = { node: 1, incarnation: 1 }
const OTHER_SESSION = { node: 2, incarnation: 7 }
/** Compressible, not compressible, binary. */
export const TEXT = 'the quick brown fox jumps over the lazy dog '.repeat(60)
const NOISE = Buffer.concat(Array.from({ length: 40 }, (_, at) => createHash('sha256').update(`noise ${at}`).digest()))
const BINARY = Buffer.from(Array.from({ length: 256 }, (_, at) => at))

type Word = string | Buffer

function command(...words: Word[]): Uint8Array {
  const writer = new ByteWriter()
  encodeCommand(
    writer,
    '',
    words.map((word) => Buffer.from(word as string)),
  )
  return writer.finish()
}

/** What is done, one entry a line. */
const HISTORY: readonly (readonly Word[])[] = [
  ['set', 'text', TEXT],
  ['set', 'noise', NOISE],
  ['set', BINARY, BINARY],
  ['set', 'empty', ''],
  ['set', 'žluťoučký kůň', 'příliš'],
  ['set', 'due', 'in a thousand years', 'pxat', '33177117420123'],
  ['set', 'zeros', '\0'.repeat(3000)],
  ['hset', 'hash', 'a', '1', 'b', TEXT, '', 'empty field'],
  ['sadd', 'set', 'x', 'y', 'ž', NOISE],
  ['rpush', 'list', 'one', 'two', TEXT, 'one'],
  ['lpop', 'list'],
  ['incr', 'counter'],
  ['incrby', 'counter', '41'],
  ['incr', 'text'],
  ['set', 'gone', 'soon'],
  ['del', 'gone'],
  ['loki.exec', '0', Buffer.from(command('set', 'transaction', 'yes')), Buffer.from(command('get', 'counter'))],
]

class Writer {
  #storage: Storage
  #next = 1
  #sequence = 1
  #time = 1_700_000_000_000

  constructor(storage: Storage) {
    this.#storage = storage
  }

  get last(): number {
    return this.#next - 1
  }

  payload(system: readonly SystemCommand[], blocks: readonly Block[]): Buffer {
    return Buffer.from(encodeEntry((this.#time += 1000), system, blocks))
  }

  entry(payload: Uint8Array): Entry {
    return { kind: 'commands', index: logIndex(this.#next++), payload }
  }

  /** Gives the next entry back, where the log was cut. */
  cutTo(base: number): void {
    this.#next = base
  }

  block(...words: Word[]): Block {
    const first = this.#sequence++
    return { session: SESSION, acknowledged: Math.max(0, first - 5), first, commands: [command(...words)] }
  }

  append(payload: Uint8Array): Promise<void> {
    return sample.written(this.#storage, { kind: 'entries', entries: [this.entry(payload)] })
  }
}

async function checkpointAt(storage: Storage, index: number): Promise<void> {
  const machine = await machineOf(storage, index)
  const source = machine.beginCheckpoint()
  const configuration = sample.configuration(index > 40 ? 2 : 1, 3)
  const head = { index: logIndex(index), configuration, start: logIndex(index > 40 ? 40 : 0) }
  await storage.writeCheckpoint(
    head,
    () => source.next(),
    () => Promise.resolve(),
  )
  await storage.truncateHead(logIndex(index))
}

/** The machine behind the entry at `index`, from the checkpoint and the log that the storage found at its start. */
async function machineOf(storage: Storage, index: number): Promise<Machine> {
  let machine = new Machine({ maxMemoryBytes: 0 })
  if (storage.checkpoint !== null) {
    const restorer = new MachineRestorer({ maxMemoryBytes: 0 })
    for await (const slice of storage.readCheckpoint()) restorer.add(slice)
    machine = restorer.finish()
  }
  for (const entry of storage.recovered.entries) {
    if (entry.index > machine.applied && entry.index <= index) machine.apply(entry, null)
  }
  return machine
}

export const fixtureOptions = (folder: string, change: Partial<StorageOptions>): StorageOptions =>
  sample.options(new RealDisk(), folder, { segmentBytes: SEGMENT_BYTES, archive: true, ...change })

/** `first` is in force up to the second start, `then` from there on. */
export async function writeFixture(
  folder: string,
  first: Partial<StorageOptions> = {},
  then: Partial<StorageOptions> = first,
): Promise<void> {
  let change = first
  const open = (): Promise<Storage> => openStorage(fixtureOptions(folder, change))
  let storage = await open()
  await storage.setIdentity(sample.CLUSTER, nodeId(1))
  const writer = new Writer(storage)
  await sample.written(storage, sample.genesis(3), sample.promised(1))
  const start: SystemCommand[] = [
    { kind: 'adopt-members', configuration: sample.configuration(1, 3) },
    { kind: 'open-session', session: SESSION },
    { kind: 'open-session', session: OTHER_SESSION },
    { kind: 'allot-id', volume: volumeId('d'.repeat(32)) },
    { kind: 'limit-memory', maxMemoryBytes: 1 << 30 },
  ]
  const entries = [writer.entry(new Uint8Array()), writer.entry(writer.payload(start, []))]
  await sample.written(storage, {
    kind: 'accept-sync',
    ballot: sample.ballot(1),
    base: logIndex(1),
    entries,
  })
  for (const words of HISTORY) await writer.append(writer.payload([], [writer.block(...words)]))
  // What was accepted and is cut off again by another leader.
  for (let lost = 0; lost < 3; lost++) await writer.append(writer.payload([], []))
  await sample.written(storage, sample.decided(writer.last - 3), sample.promised(2))
  writer.cutTo(writer.last - 2)
  const kept = writer.entry(writer.payload([], [writer.block('set', 'cut', 'off and written again')]))
  await sample.written(storage, {
    kind: 'accept-sync',
    ballot: sample.ballot(2, 3),
    base: kept.index,
    entries: [kept],
  })
  while (writer.last < 39) {
    await writer.append(writer.payload([], [writer.block('rpush', 'log', `${writer.last} ${TEXT.slice(0, 500)}`)]))
  }
  const stop: Entry = { kind: 'stop-sign', index: logIndex(40), next: sample.configuration(2, 3) }
  await sample.written(storage, { kind: 'entries', entries: [stop] }, sample.decided(39))
  await storage.close()
  storage = await open()
  await checkpointAt(storage, 25)
  await storage.close()
  change = then
  storage = await open()
  const second = { configuration: sample.configuration(2, 3), start: logIndex(40) }
  await sample.written(storage, { kind: 'configuration', ...second }, sample.decided(40))
  const later = new Writer(storage)
  later.cutTo(41)
  const other = (first: number, ...words: Word[]): Block => ({
    session: OTHER_SESSION,
    acknowledged: 0,
    first,
    commands: [command(...words)],
  })
  for (let first = 1; first <= 12; first++) {
    await later.append(later.payload([], [other(first, 'hset', 'later', `field ${first}`, TEXT.slice(first, 800))]))
  }
  await sample.written(storage, sample.decided(50), sample.promised(3))
  await storage.close()
  storage = await open()
  await checkpointAt(storage, 45)
  await storage.close()
  // A start that had nothing to do.
  await (await open()).close()
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex').slice(0, 16)
const READS: readonly (readonly Word[])[] = [
  ...['text', 'noise', BINARY, 'empty', 'žluťoučký kůň', 'due', 'zeros', 'counter', 'gone'].map((key) => ['get', key]),
  ...['transaction', 'cut'].map((key) => ['get', key]),
  ['pexpiretime', 'due'],
  ['hgetall', 'hash'],
  ['hgetall', 'later'],
  ['smembers', 'set'],
  ['lrange', 'list', '0', '-1'],
  ['lrange', 'log', '0', '-1'],
  ['dbsize'],
]

/** A reply as JSON: bytes as text, or as length and hash where they are many. */
function shown(reply: unknown): unknown {
  if (reply instanceof Uint8Array) {
    return reply.length > 60 ? `${reply.length} bytes ${digest(reply)}` : Buffer.from(reply).toString()
  }
  if (Array.isArray(reply)) return reply.map(shown)
  if (typeof reply !== 'object' || reply === null) return reply
  return Object.fromEntries(Object.entries(reply).map(([name, value]) => [name, shown(value)]))
}

/** What a data folder holds, as JSON; opens it (a start, which writes) and closes it again. */
export async function contentsOf(folder: string, change: Partial<StorageOptions> = {}): Promise<object> {
  const storage = await openStorage(fixtureOptions(folder, change))
  try {
    const { recovered } = storage
    const machine = await machineOf(storage, recovered.state.decided)
    return JSON.parse(
      JSON.stringify({
        volume: storage.volume,
        identity: storage.identity,
        timeline: storage.timeline,
        state: recovered.state,
        first: recovered.first,
        doubtfulFrom: recovered.doubtfulFrom,
        entries: recovered.entries.map((entry) =>
          entry.kind === 'commands'
            ? `${entry.index} ${entry.payload.length} bytes ${digest(entry.payload)}`
            : `${entry.index} stop-sign ${entry.next.id}`,
        ),
        checkpoint: storage.checkpoint?.index ?? null,
        archive: (await readdir(join(folder, 'wal/archive'))).sort(),
        applied: machine.applied,
        sessions: [SESSION, OTHER_SESSION].map((session) => machine.nextSequence(session)),
        ids: machine.idOf(volumeId('d'.repeat(32))),
        maxMemoryBytes: machine.maxMemoryBytes,
        reads: READS.map((words) => [
          words.map((word) => (typeof word === 'string' ? word : `${word.length} bytes`)).join(' '),
          shown(machine.read(words.map((word) => Buffer.from(word as string)))),
        ]),
      }),
    ) as object
  } finally {
    await storage.close()
  }
}

/** An encrypted folder has its keys beside it: `old` for what was written first, `new` for the rest. */
export function settingsOf(folder: string): readonly [first: Partial<StorageOptions>, then: Partial<StorageOptions>] {
  if (folder.endsWith('compressed')) return [{ compression: 'zstd' }, { compression: 'zstd' }]
  if (!folder.endsWith('encrypted')) return [{}, {}]
  return [{ keys: new KeyRing(join(folder, 'keys'), 'old') }, { keys: new KeyRing(join(folder, 'keys'), 'new') }]
}

if (process.argv[1] === import.meta.filename) {
  const folder = process.argv[2]
  if (folder === undefined) throw new Error('usage: node test/storage/write-fixture.ts <new folder>')
  await mkdir(folder)
  if (folder.endsWith('encrypted')) {
    await mkdir(join(folder, 'keys'))
    await writeFile(join(folder, 'keys/old'), `${createHash('sha256').update('old').digest('hex')}\n`)
    await writeFile(join(folder, 'keys/new'), createHash('sha256').update('new').digest())
  }
  const [first, then] = settingsOf(folder)
  await writeFixture(join(folder, 'data'), first, then)
  // Reading is a start of its own: what it says is of a copy that looks the same.
  const copy = await mkdtemp(join(tmpdir(), 'fixture-'))
  await cp(join(folder, 'data'), copy, { recursive: true })
  await writeFile(join(folder, 'contains.json'), `${JSON.stringify(await contentsOf(copy, then), null, 1)}\n`)
  await rm(copy, { recursive: true })
}
