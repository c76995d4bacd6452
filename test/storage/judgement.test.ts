/**
 * What damage means where the configuration changed: the record of the newest one may be in what is lost, and who
 * votes alone is judged by the stop-sign that is left. (Everything else is in damage.test.ts.)
 */
import { expect, test } from 'vitest'
import { openStorage } from '../../src/storage/storage.ts'
import { dump } from '../../src/storage/waldump.ts'
import { type Configuration, type LogRecord, configurationId, logIndex, nodeId } from '../../src/vocabulary.ts'
import { type Step, newProgress, runHistory, simulated, slicesOf, writeSample } from './history.ts'
import { gapSweep } from './judgement-sweeps.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'

/** The first voter is this volume. */
function voters(id: number, count: number): Configuration {
  const { voters: others, ...rest } = sample.configuration(id, count)
  return { ...rest, voters: [{ ...others[0]!, volume: sample.VOLUME }, ...others.slice(1)] }
}

const write = (...records: LogRecord[]): Step => ({ kind: 'write', records })

/** From one configuration to the next, then a promise and an accept-sync there, and entries. */
async function changed(before: number, after: number, synced = 1): Promise<SimulatedDisk> {
  const disk = new SimulatedDisk()
  const next = voters(2, after)
  const ballot = { ...sample.ballot(1), configuration: configurationId(2), node: nodeId(1) }
  const history: Step[] = [
    { kind: 'identity' },
    write({ kind: 'configuration', configuration: voters(1, before), start: logIndex(0) }, sample.promised(1)),
    write({ ...sample.acceptSync(1, 1, 3) }),
    write({ kind: 'entries', entries: [{ kind: 'stop-sign', index: logIndex(4), next }] }, sample.decided(4)),
    write({ kind: 'configuration', configuration: next, start: logIndex(5) }),
    write({ kind: 'promise', ballot }),
    write({ kind: 'accept-sync', ballot, base: logIndex(5), entries: sample.entries(5, 4 + synced) }),
    write(sample.appended(5 + synced, 8)),
  ]
  await runHistory(disk, history, newProgress(), { segmentBytes: 1024 * 1024 })
  return disk
}

/** Rot from the frame with the first of these texts up to the one with the second. */
async function rot(disk: SimulatedDisk, from: string, to: string): Promise<void> {
  const frames: { offset: number; what: string }[] = []
  for await (const line of dump(disk, '/data/wal')) {
    if (line.kind === 'frame') frames.push({ offset: line.offset, what: line.records.join() })
  }
  const offsetOf = (text: string): number => frames.find(({ what }) => what.includes(text))!.offset
  const path = disk.paths().findLast((name) => name.endsWith('.wal'))!
  const bytes = disk.peek(path)!
  bytes.fill(0x5a, offsetOf(from), offsetOf(to))
  disk.poke(path, bytes)
}

test('who was alone and is one of three by now may have promised and accepted what it does not know', async () => {
  const disk = await changed(1, 3)
  await rot(disk, 'configuration 2', 'entries 6')
  for (let start = 0; start < 2; start++) {
    const storage = await openStorage(simulated(disk, { segmentBytes: 1024 * 1024 }))
    expect(storage.recovered).toMatchObject({ doubtfulFrom: 5, promiseLost: true })
    expect(storage.recovered.entries.at(-1)).toMatchObject({ kind: 'stop-sign', index: 4 })
    await storage.close()
  }
})

test('even where no entry is lost: in which ballot they were accepted is', async () => {
  const disk = await changed(1, 3, 0)
  await rot(disk, 'configuration 2', 'entries 5')
  const { recovered } = await openStorage(simulated(disk, { segmentBytes: 1024 * 1024 }))
  expect(recovered).toMatchObject({ doubtfulFrom: 5, promiseLost: true })
})

test('who was one of three and is alone by now waits for nobody', async () => {
  const whole = await changed(3, 1)
  // The configuration and both copies of what was promised; the entries are there.
  await rot(whole, 'configuration 2', 'accept-sync 2')
  const { recovered } = await openStorage(simulated(whole, { segmentBytes: 1024 * 1024 }))
  expect(recovered).toMatchObject({ doubtfulFrom: null })
  expect(recovered.entries).toHaveLength(8)
  const lost = await changed(3, 1)
  await rot(lost, 'accept-sync 2', 'entries 6')
  await expect(openStorage(simulated(lost))).rejects.toThrow('LOG_DAMAGED_ALONE')
})

test('what an earlier configuration accepted above a checkpoint is left out, rot below it or not', async () => {
  for (const rotten of [false, true]) {
    const disk = new SimulatedDisk()
    const storage = await openStorage(simulated(disk, { segmentBytes: 1024 * 1024 }))
    await sample.written(storage, { kind: 'configuration', configuration: voters(1, 3), start: logIndex(0) })
    await sample.written(storage, sample.acceptSync(1, 1, 3))
    await sample.written(storage, sample.appended(4, 12), sample.promised(2))
    // A checkpoint of a peer is there, and the crash came before the log was told.
    await writeSample(storage, 10, slicesOf(10), { configuration: voters(2, 3), start: logIndex(8) })
    await storage.close()
    if (rotten) await rot(disk, 'accept-sync', 'entries 4')
    const { recovered } = await openStorage(simulated(disk, { segmentBytes: 1024 * 1024 }))
    expect(recovered).toMatchObject({ first: 11, entries: [], doubtfulFrom: null, state: { decided: 10 } })
  }
})

test('where a configuration began that the node was told of is in the checkpoint', async () => {
  const disk = new SimulatedDisk()
  const storage = await openStorage(simulated(disk))
  await sample.written(storage, { kind: 'configuration', configuration: voters(2, 3), start: logIndex(0) })
  await writeSample(storage, 10, slicesOf(10), { configuration: voters(2, 3), start: logIndex(8) })
  await storage.close()
  const { recovered } = await openStorage(simulated(disk))
  expect(recovered.state).toMatchObject({ configurationStart: 8, decided: 10 })
})

test('what a start gives has no gap from its first entry on, whatever of the log is lost, and whatever the checkpoint covers', () => {
  expect(gapSweep()).toBeGreaterThan(100)
})
