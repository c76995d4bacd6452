/**
 * Entries read back for others: one reading at a time for each, the newest question waits, failures end
 * nothing; and nothing is read that a checkpoint has taken the place of.
 */
import { expect, test } from 'vitest'
import { createReplica } from '../src/consensus/replica.ts'
import { Machine } from '../src/machine/machine.ts'
import { ReadBack, goesOnAt } from '../src/node/read-back.ts'
import { Relay } from '../src/turn/relay.ts'
import { openStorage } from '../src/storage/storage.ts'
import { Turn } from '../src/turn/turn.ts'
import { type Entry, type LogRecord, configurationId, logIndex, nodeId, volumeId } from '../src/vocabulary.ts'
import { simulated, slicesOf } from './storage/history.ts'
import * as sample from './storage/samples.ts'
import { SimulatedDisk } from './storage/simulated-disk.ts'

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const [two, three] = [nodeId(2), nodeId(3)]

/** Readings that end when they are told to. */
function bench() {
  const readings: { from: number; end: (error?: Error) => void }[] = []
  const answered: string[] = []
  const readBack = new ReadBack({
    read: ({ from }) =>
      new Promise<readonly Entry[]>((resolve, reject) => {
        readings.push({ from, end: (error) => (error ? reject(error) : resolve([])) })
      }),
    answer: (to, from) => answered.push(`${to}: ${from}`),
    failed: (from, { message }) => answered.push(`${from}: ${message}`),
  })
  const ask = (to: typeof two, from: number): void =>
    readBack.ask(to, { from: logIndex(from), upTo: logIndex(from + 9) })
  return { ask, readings, answered }
}

test('however often a node asks, one reading is under way for it, and the newest question comes next', async () => {
  const { ask, readings, answered } = bench()
  for (let from = 1; from <= 50; from++) ask(two, from)
  ask(three, 7)
  expect(readings.map(({ from }) => from)).toEqual([1, 7])
  readings[0]!.end()
  await settled()
  expect(readings.map(({ from }) => from)).toEqual([1, 7, 50])
  for (const { end } of readings) end()
  await settled()
  expect(answered).toEqual(['2: 1', '3: 7', '2: 50'])
  ask(two, 60)
  expect(readings.at(-1)!.from).toBe(60)
})

test('a reading that fails is told of, and the next question is read', async () => {
  const { ask, readings, answered } = bench()
  ask(two, 1)
  ask(two, 2)
  readings[0]!.end(new Error('gone'))
  await settled()
  readings[1]!.end()
  await settled()
  expect(answered).toEqual(['1: gone', '2: 1', '2: 2'])
})

/** A follower whose log is not decided, and a machine from the checkpoint of a peer. */
function behind(logEnd: number, checkpoint: number) {
  const voters = [1, 2, 3].map((id) => ({
    id: nodeId(id),
    volume: volumeId(String(id).repeat(32)),
    address: `n${id}:1`,
  }))
  const configuration = { id: configurationId(1), voters, learners: [], preferredLeader: nodeId(0) }
  const ballot = { configuration: configuration.id, n: 1, priority: 0, node: three }
  const entry = (index: number): Entry => ({ kind: 'commands', index: logIndex(index), payload: new Uint8Array(0) })
  const state = { promise: ballot, acceptedBallot: ballot, decided: logIndex(0), configuration }
  const entries = Array.from({ length: logEnd }, (_, at) => entry(at + 1))
  const start = logIndex(0)
  const recovered = { state: { ...state, configurationStart: start }, first: logIndex(1), entries, doubtfulFrom: null }
  const machine = new Machine({ maxMemoryBytes: 0 })
  for (let index = 1; index <= checkpoint; index++) machine.apply(entry(index), null)
  const replica = createReplica({ self: nodeId(1), recovered, now: 0, options: { readsLog: true } })
  return { configuration, start, machine, replica }
}

test('the log is read back when it knows that a checkpoint took its place, and not before', () => {
  const { configuration, start, machine, replica } = behind(20, 30)
  const asked: string[] = []
  const limits = { outstandingCommands: 1, outstandingBytes: 1, blockBytes: 1, forwardedBytes: 1, entryBytes: 1 }
  const relay = new Relay({ node: 1, incarnation: 1 }, { ...limits, resendMilliseconds: 1, resendMostMilliseconds: 1 })
  const ports = {
    now: () => 0,
    wallClock: () => 0,
    persist: (records: readonly LogRecord[]) => void asked.push(...records.map(({ kind }) => kind)),
    readLog: (_to: number, from: number, upTo: number) => void asked.push(`read ${from} to ${upTo}`),
    send: () => undefined,
    flush: () => undefined,
    wake: () => undefined,
    needCheckpoint: () => undefined,
    configurationChanged: () => undefined,
    leaderChanged: () => undefined,
    heardOf: () => undefined,
  }
  const turn = new Turn(
    nodeId(1),
    replica,
    new Machine({ maxMemoryBytes: 0 }),
    relay,
    { configuration, start },
    ports,
    limits,
  )
  const question = { kind: 'fetch-decided', from: logIndex(15), upTo: logIndex(40), decided: logIndex(14) } as const
  turn.receive(two, { kind: 'consensus', message: question })
  turn.installed(machine, configuration, start)
  turn.run()
  // What is in the log from 15 to 20 was perhaps never decided.
  expect(asked.filter((one) => one === 'installed' || one.startsWith('read'))).toEqual(['installed', 'read 15 to 30'])
})

test('what rot has taken of the log is offered in a checkpoint', async () => {
  const disk = new SimulatedDisk()
  const storage = await openStorage(simulated(disk, { segmentBytes: 4096 }))
  await sample.written(storage, sample.genesis(3), sample.promised(1))
  for (let index = 1; index <= 40; index++)
    await sample.written(storage, sample.appended(index, index, 'x'.repeat(500)))
  await sample.written(storage, sample.decided(40), sample.promised(2))
  const head = { index: logIndex(20), configuration: sample.configuration(1, 3), start: logIndex(0) }
  const slices = slicesOf(20)
  const next = (): Buffer | null => slices.shift() ?? null
  await storage.writeCheckpoint(head, next, () => Promise.resolve())
  const found = async (from: number): Promise<[number, number]> => {
    const entries = await storage.readDecided({ from, upTo: from, mostBytes: 1 }).catch(() => [])
    return [entries.length, goesOnAt(storage, logIndex(from))]
  }
  expect(await found(5)).toEqual([1, 21])
  for (const path of disk.paths().filter((name) => name.endsWith('.wal'))) {
    disk.poke(path, Buffer.from(disk.peek(path)!).fill(0xee, 300))
  }
  expect(await found(5)).toEqual([0, 21])
  // No checkpoint has it yet.
  expect(await found(30)).toEqual([0, 21])
  await storage.close()
})
