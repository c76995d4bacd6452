/**
 * Checkpoints of a machine with a million keys: their size, what they do to writes beside them, and how long they take
 * to load, beside redis-server and its RDB file of the same data. `node bench/storage-checkpoint.ts <folder>` loads
 * the checkpoint of a folder once and prints the milliseconds: a process of its own, as redis-server is.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Machine, MachineRestorer } from '../src/machine/machine.ts'
import { emptyState, type MachineState } from '../src/machine/state.ts'
import { configurationId, logIndex, nodeId } from '../src/vocabulary.ts'
import { freePort } from '../test/cluster/process.ts'
import { type Row, Log, MIB, median, openBench, percentile } from './storage-log.ts'

const KEYS = 1_000_000
const OPTIONS = { maxMemoryBytes: 0 }
const configuration = { id: configurationId(1), voters: [], learners: [], preferredLeader: nodeId(0) }
/** Turns that are measured without a checkpoint, before and behind each of those with one. */
const QUIET_TURNS = 3000
const ENTRIES = 16

const keyOf = (at: number): string => `key:${String(at).padStart(12, '0')}`
/** 100 bytes, as compressible as names and numbers are. */
const valueOf = (at: number): Buffer =>
  Buffer.from(`{"name":"user ${at}","mail":"user${at}@example.org","visits":${at % 977}}`.padEnd(100).slice(0, 100))

function fill(state: MachineState): void {
  const collection = state.store.defaultCollection
  for (let at = 0; at < KEYS; at++) {
    state.store.version++
    collection.putString(keyOf(at), valueOf(at))
  }
}

/** One million keys, their checkpoint, and a log that goes on. */
class Subject {
  readonly state = emptyState()
  readonly machine: Machine
  readonly log: Log
  #next = 1

  constructor(log: Log) {
    this.log = log
    fill(this.state)
    this.machine = new Machine(OPTIONS, this.state)
  }

  /** A turn of a node: entries become durable and change keys all over the store. */
  async turn(): Promise<void> {
    await this.log.append(ENTRIES)
    const collection = this.state.store.defaultCollection
    for (let count = 0; count < ENTRIES; count++) {
      this.#next = (this.#next * 48271) % 0x7fff_ffff
      this.state.store.version++
      collection.putString(keyOf(this.#next % KEYS), valueOf(this.#next))
    }
  }

  checkpoint(): Promise<{ bytes: number; storedBytes: number }> {
    const source = this.machine.beginCheckpoint()
    const head = { index: logIndex(this.log.last), configuration, start: logIndex(0) }
    // As a node does it (CHECKPOINT_PAUSE of member.ts).
    const pause = (): Promise<void> => sleep(1)
    return this.log.storage.writeCheckpoint(head, () => source.next(), pause)
  }
}

/** Milliseconds of each turn while `until` has not come. */
async function turnsUntil(subject: Subject, until: () => boolean): Promise<number[]> {
  const times: number[] = []
  while (!until()) {
    const began = performance.now()
    await subject.turn()
    times.push(performance.now() - began)
    // Everything that waits for the loop gets its turn, as in a node.
    await new Promise((resolve) => setImmediate(resolve))
  }
  return times
}

/** Bytes on disk, and writes beside a checkpoint. */
export async function measureCheckpoint(folder: string, rounds: number): Promise<Row[]> {
  const subject = new Subject(new Log(await openBench(join(folder, 'checkpoint'))))
  const quiet: number[] = []
  const busy: number[] = []
  let took = 0
  let info = { bytes: 0, storedBytes: 0 }
  await turnsUntil(subject, counted(QUIET_TURNS))
  for (let round = 0; round < rounds; round++) {
    quiet.push(...(await turnsUntil(subject, counted(QUIET_TURNS / 2))))
    let isDone = false
    const began = performance.now()
    const taken = subject.checkpoint().finally(() => (isDone = true))
    busy.push(...(await turnsUntil(subject, () => isDone)))
    info = await taken
    took = performance.now() - began
    quiet.push(...(await turnsUntil(subject, counted(QUIET_TURNS / 2))))
  }
  await subject.log.storage.close()
  const shown = (times: readonly number[]): string =>
    `p50 ${median(times).toFixed(2)}, p99.9 ${percentile(times, 0.999).toFixed(2)}, most ${Math.max(...times).toFixed(1)} ms`
  return [
    {
      what: `turns beside a checkpoint of ${KEYS} keys (${(info.bytes / MIB).toFixed(0)} MiB in ${took.toFixed(0)} ms): p99.9 rises by, ms`,
      measured: shown(busy),
      beside: shown(quiet),
      value: percentile(busy, 0.999) - percentile(quiet, 0.999),
      bar: 10,
      better: 'smaller',
    },
    {
      what: 'bytes of a checkpoint on disk, of compressible values',
      measured: `${(info.storedBytes / MIB).toFixed(1)} MiB`,
      beside: `${(info.bytes / MIB).toFixed(1)} MiB raw`,
      value: info.storedBytes / info.bytes,
      bar: 0.5,
      better: 'smaller',
    },
  ]
}

function counted(turns: number): () => boolean {
  let count = 0
  return () => count++ >= turns
}

/** As a node at its start: verifies and reads the newest checkpoint into a machine. Milliseconds. */
async function load(folder: string): Promise<number> {
  const began = performance.now()
  const storage = await openBench(folder)
  const restorer = new MachineRestorer(OPTIONS)
  for await (const slice of storage.readCheckpoint()) restorer.add(slice)
  const machine = restorer.finish()
  const took = performance.now() - began
  if (machine.keys !== KEYS) throw new Error(`${machine.keys} keys were loaded`)
  await storage.close()
  return took
}

const loadInProcess = (folder: string): number =>
  Number(execFileSync(process.execPath, [import.meta.filename, folder], { encoding: 'utf8' }))

/** A redis-server on a folder; null where there is none on the machine. */
async function startRedis(folder: string): Promise<{ port: number; child: ChildProcess; loaded: number } | null> {
  try {
    execFileSync('redis-server', ['--version'], { stdio: 'ignore' })
  } catch {
    return null
  }
  const port = await freePort()
  const child = spawn('redis-server', ['--port', String(port), '--dir', folder, '--save', '', '--appendonly', 'no'])
  let text = ''
  child.stdout.on('data', (bytes: Buffer) => (text += bytes.toString()))
  const deadline = performance.now() + 60_000
  while (!text.includes('Ready to accept connections')) {
    if (child.exitCode !== null || performance.now() > deadline) throw new Error(`redis-server: ${text}`)
    await sleep(20)
  }
  const seconds = Number(/DB loaded from disk: ([\d.]+) seconds/.exec(text)?.[1] ?? 0)
  return { port, child, loaded: seconds * 1000 }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  await new Promise((resolve) => {
    child.once('exit', resolve)
    child.kill('SIGTERM')
  })
}

/** Fills a redis-server with the same data, and has it write its RDB file. */
async function fillRedis(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  const answered = { lines: 0, last: '' }
  socket.on('data', (bytes: Buffer) => {
    for (const byte of bytes) if (byte === 10) answered.lines++
    answered.last = bytes.toString('latin1').slice(-20)
  })
  for (let at = 0; at < KEYS; at += 1000) {
    const commands = Array.from({ length: 1000 }, (_, more) => {
      const [key, value] = [keyOf(at + more), valueOf(at + more).toString()]
      return `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n$${value.length}\r\n${value}\r\n`
    })
    if (!socket.write(commands.join(''))) await new Promise((resolve) => socket.once('drain', resolve))
  }
  socket.write('SAVE\r\n')
  const deadline = performance.now() + 60_000
  // One line for each SET, and one for SAVE.
  while (answered.lines <= KEYS) {
    if (performance.now() > deadline) throw new Error(`redis-server answered ${answered.lines}: ${answered.last}`)
    await sleep(20)
  }
  socket.destroy()
}

/** Load of a checkpoint, beside redis-server's load of its RDB file of the same data. */
export async function measureLoad(folder: string, rounds: number): Promise<Row[]> {
  // Next to no log: its replay is measured elsewhere.
  const log = new Log(await openBench(join(folder, 'load')))
  await log.append(1)
  await new Subject(log).checkpoint()
  await log.storage.close()
  const first = await startRedis(folder)
  const ours: number[] = []
  const theirs: number[] = []
  if (first !== null) {
    await fillRedis(first.port)
    await ended(first.child)
  }
  for (let round = 0; round < rounds; round++) {
    ours.push(loadInProcess(join(folder, 'load')))
    if (first === null) continue
    const again = (await startRedis(folder))!
    theirs.push(again.loaded)
    await ended(again.child)
  }
  rmSync(join(folder, 'dump.rdb'), { force: true })
  return [
    {
      what: `start from a checkpoint of ${KEYS} keys, beside redis-server's load of its RDB file: times as long`,
      measured: `${Math.min(...ours).toFixed(0)} ms`,
      beside:
        first === null ? 'skipped: there is no redis-server on this machine' : `${Math.min(...theirs).toFixed(0)} ms`,
      value: first === null ? null : Math.min(...ours) / Math.min(...theirs),
      bar: 1,
      better: 'smaller',
    },
  ]
}

if (import.meta.main) console.log(await load(process.argv[2]!))
