/**
 * The process that a soak kills. Waits for its orders on stdin, one line of JSON, so that it is warm when they come;
 * opens the storage, says what it found, and writes without end. Lines on stdout:
 *
 *   found <JSON>   what the start gave back (soak-plan.ts)
 *   a <n>          the first n operations are durable
 *   c <index>      a checkpoint is durable
 */
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { type Storage, openStorage } from '../../src/storage/storage.ts'
import { logIndex } from '../../src/vocabulary.ts'
import * as sample from './samples.ts'
import { type Found, IN_FLIGHT, checkpointSlices, digestOf, lifeOptions, operations } from './soak-plan.ts'
import { random } from './simulated-disk.ts'

export interface Orders {
  readonly folder: string
  readonly seed: number
  readonly life: number
}

async function found(storage: Storage): Promise<Found> {
  const { entries, first, state } = storage.recovered
  const slices: Buffer[] = []
  for await (const slice of storage.readCheckpoint()) slices.push(slice)
  return {
    last: entries.at(-1)?.index ?? first - 1,
    ballot: state.promise.n,
    accepted: state.acceptedBallot.n,
    decided: state.decided,
    first,
    checkpoint: storage.checkpoint?.index ?? 0,
    digest: digestOf(...entries.map((each) => (each.kind === 'commands' ? digestOf(each.payload) : 'stop-sign'))),
    checkpointDigest: slices.length === 0 ? '' : digestOf(...slices),
  }
}

const line = await new Promise<string>((resolve) => createInterface({ input: process.stdin }).once('line', resolve))
const { folder, seed, life } = JSON.parse(line) as Orders
const storage = await openStorage(sample.options(new RealDisk(), folder, lifeOptions(seed, life)))
const origin = await found(storage)
writeSync(1, `found ${JSON.stringify(origin)}\n`)

const plan = operations(seed, life, origin)
let given = 0
let durable = 0
let { decided } = origin
function give(): void {
  while (given - durable < IN_FLIGHT) {
    const records = plan.next().value
    given++
    storage.write(records, () => {
      durable++
      for (const record of records) if (record.kind === 'decided') decided = record.index
      writeSync(1, `a ${durable}\n`)
      setImmediate(give)
    })
  }
}

async function checkpoints(): Promise<never> {
  const next = random(seed + life)
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, next() * 25))
    const index = logIndex(decided)
    if (index <= (storage.checkpoint?.index ?? 0)) continue
    const left = checkpointSlices(index)
    const head = { index, configuration: sample.configuration(1, 3), start: logIndex(0) }
    await storage.writeCheckpoint(
      head,
      () => left.shift() ?? null,
      () => new Promise((resolve) => setImmediate(resolve)),
    )
    writeSync(1, `c ${index}\n`)
    await storage.truncateHead(index)
  }
}

give()
await checkpoints()
