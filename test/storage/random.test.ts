/**
 * Long random histories with many crashes on one simulated disk. The seed is in the name of the test;
 * `SEED=… npx vitest run test/storage/random.test.ts` runs that one, `SEEDS=500` the first five hundred.
 */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { KeyRing } from '../../src/storage/keys.ts'
import type { Storage } from '../../src/storage/storage.ts'
import type { LogRecord } from '../../src/vocabulary.ts'
import { logIndex } from '../../src/vocabulary.ts'
import { openUndamaged } from './crash-points.ts'
import { type Model, type Progress, type Step, checkStart, newProgress, runHistory } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk, random } from './simulated-disk.ts'

const KEYS = join(import.meta.dirname, '../fixtures/data-encrypted/keys')

/** What the generator knows about the log it extends. */
interface Plan {
  last: number
  decided: number
  ballot: number
  checkpoint: number
}

const payloadSizes = [10, 10, 10, 200, 480, 1500, 6000]

function appendTo(plan: Plan, next: () => number, from: number): LogRecord {
  const count = 1 + Math.floor(next() * 4)
  const size = payloadSizes[Math.floor(next() * payloadSizes.length)]!
  plan.last = from + count - 1
  // Zero bytes now and then: frames with sectors of zeros must not look torn.
  const filler = next() < 0.3 ? '\0'.repeat(size) : ' r'.repeat(size / 2)
  return sample.appended(from, plan.last, `${filler}${Math.floor(next() * 1e9)}`)
}

function randomRecords(plan: Plan, next: () => number): LogRecord[] {
  const kind = next()
  if (kind < 0.55) return [appendTo(plan, next, plan.last + 1)]
  if (kind < 0.7) {
    plan.decided = Math.max(plan.decided, plan.decided + Math.floor(next() * (plan.last - plan.decided + 1)))
    return [sample.decided(plan.decided)]
  }
  plan.ballot++
  if (kind < 0.8) return [sample.promised(plan.ballot)]
  const floor = Math.max(plan.decided, plan.checkpoint) + 1
  const base = floor + Math.floor(next() * (plan.last + 2 - floor))
  const { entries } = appendTo(plan, next, base) as Extract<LogRecord, { kind: 'entries' }>
  return [{ kind: 'accept-sync', ballot: sample.ballot(plan.ballot), base: logIndex(base), entries }]
}

function randomStep(plan: Plan, next: () => number): Step {
  const kind = next()
  if (kind < 0.55) return { kind: 'write', records: randomRecords(plan, next) }
  if (kind < 0.75) {
    return {
      kind: 'burst',
      writes: Array.from({ length: 1 + Math.floor(next() * 5) }, () => randomRecords(plan, next)),
    }
  }
  if (kind < 0.85 && plan.decided > plan.checkpoint) {
    const before = plan.checkpoint
    plan.checkpoint = plan.decided
    const checkpoint: Step = { kind: 'checkpoint', index: plan.decided }
    if (kind < 0.8) return checkpoint
    const writes = Array.from({ length: 1 + Math.floor(next() * 5) }, () => randomRecords(plan, next))
    return { kind: 'beside', steps: [checkpoint, { kind: 'truncate', index: before }, { kind: 'burst', writes }] }
  }
  if (kind < 0.92) return { kind: 'truncate', index: plan.checkpoint }
  if (kind < 0.95) {
    const index = plan.last + 1 + Math.floor(next() * 9)
    Object.assign(plan, { last: index, decided: index, checkpoint: index })
    return { kind: 'install', index }
  }
  return { kind: 'restart' }
}

/** Where the generator goes on after a crash. */
function planAfter(storage: Storage, model: Model): Plan {
  const { state, entries, first } = storage.recovered
  return {
    last: entries.at(-1)?.index ?? first - 1,
    decided: Math.max(state.decided, model.state.decided),
    ballot: Math.max(model.state.promise.n, state.promise.n),
    checkpoint: storage.checkpoint?.index ?? 0,
  }
}

/** The model of what was recovered: the one that was acknowledged, from the recovered range on. */
function recoveredModel(storage: Storage, model: Model, plan: Plan): Model {
  const { first, state } = storage.recovered
  const entries = new Map([...model.entries].filter(([index]) => index >= first))
  return { state: { ...model.state, ...state }, entries, last: plan.last }
}

async function live(seed: number): Promise<{ crashes: number; models: number }> {
  const next = random(seed)
  let disk = new SimulatedDisk()
  let plan: Plan = { last: 0, decided: 0, ballot: 1, checkpoint: 0 }
  let progress: Progress = newProgress()
  const genesis: Step = { kind: 'write', records: [sample.genesis(3)] }
  let history: Step[] = [{ kind: 'identity' }, genesis]
  let models = 0
  const rounds = 8
  for (let round = 0; round < rounds; round++) {
    // What a setting changes holds for what is written from then on.
    const options = {
      archive: next() < 0.5,
      archiveSegments: next() < 0.5 ? 2 : Infinity,
      segmentBytes: next() < 0.5 ? 4096 : 16_384,
      compression: next() < 0.5 ? ('zstd' as const) : ('none' as const),
      keys: new KeyRing(KEYS, [null, 'old', 'new'][Math.floor(next() * 3)]),
    }
    for (let step = 0; step < 12; step++) history.push(randomStep(plan, next))
    disk.writesBlocks = (seed + round) % 2 === 0
    disk.crashAt = disk.steps + 1 + Math.floor(next() * 90)
    try {
      await runHistory(disk, history, progress, options)
    } catch (error) {
      if (!disk.crashed) throw error
    }
    models += progress.models.length
    disk = disk.survivor(() => (next() < 0.2 ? next() : next() < 0.5 ? 0 : 1))
    const storage = await openUndamaged(disk, options)
    const model = await checkStart(storage, progress)
    plan = planAfter(storage, model)
    progress = { ...newProgress(), models: [recoveredModel(storage, model, plan)], checkpoint: plan.checkpoint }
    await storage.close()
    history = model.state.configuration === null ? [genesis] : []
  }
  return { crashes: rounds, models }
}

const count = Number(process.env.SEEDS ?? 24)
const seeds = process.env.SEED ? [Number(process.env.SEED)] : Array.from({ length: count }, (_, at) => at + 1)
for (const seed of seeds) {
  test(`random history, seed ${seed}`, async () => {
    const { models } = await live(seed).catch((error: unknown) => {
      const message = `SEED=${seed} npx vitest run test/storage/random.test.ts fails the same way again`
      throw new Error(message, { cause: error })
    })
    expect(models).toBeGreaterThan(8)
  })
}
