/**
 * Damage on the disk, wherever it is: a start answers with the truth, or with less of it and says so (doubt), or
 * refuses with a code and leaves the volumes as they were. It never answers with anything else.
 */
import { describe, expect, test } from 'vitest'
import { LokiError } from '../../src/errors.ts'
import { InvariantViolation } from '../../src/invariant.ts'
import { check } from '../../src/storage/fsck.ts'
import { Storage, openStorage } from '../../src/storage/storage.ts'
import { dump } from '../../src/storage/waldump.ts'
import { type LogRecord, clusterId, logIndex, nodeId, timeline, volumeId } from '../../src/vocabulary.ts'
import { type Model, type Step, newProgress, receiveFromPeer, runHistory, simulated, slicesOf } from './history.ts'
import * as sample from './samples.ts'
import { SimulatedDisk } from './simulated-disk.ts'
import {
  DAMAGED_HISTORY,
  checkpointSweep,
  flipSweep,
  lostSectorSweep,
  opened,
  prepared,
  spliceSweep,
  untrue,
} from './sweeps.ts'

/** This volume is the only voter. */
const alone: LogRecord = {
  kind: 'configuration',
  configuration: {
    ...sample.configuration(1, 1),
    voters: [{ id: nodeId(2), volume: sample.VOLUME, address: 'node-2:7400' }],
  },
  start: logIndex(0),
}

const write = (...records: LogRecord[]): Step => ({ kind: 'write', records })

describe('bit flips', () => {
  test('in every third byte of every file', { timeout: 60_000 }, async () => {
    const seen = await flipSweep(3)
    // Of a log among others nothing is refused: only the stamps are.
    expect([...seen.keys()].sort()).toEqual(['VOLUME_MISMATCH', 'doubtful', 'whole'])
    for (const outcome of ['whole', 'doubtful', 'VOLUME_MISMATCH']) expect(seen.get(outcome)).toBeGreaterThan(10)
  })

  test('one voter alone refuses rot at the end of its log, with its own code', async () => {
    const { disk } = await prepared([write(alone), write(sample.appended(1, 2))])
    const path = disk.paths().findLast((name) => name.endsWith('.wal'))!
    const bytes = disk.peek(path)!
    const at = bytes.lastIndexOf('payload 2')
    bytes[at]! ^= 1
    disk.poke(path, bytes)
    expect(await opened(disk)).toMatchObject({ kind: 'refused', code: 'LOG_DAMAGED_ALONE' })
    expect((await check(disk, '/data/wal', '/data/checkpoints')).at(-1)!.level).toBe('refused')
  })

  test('doubt survives restarts, until an accept-sync ends it', async () => {
    const { disk } = await prepared()
    const path = disk.paths().findLast((name) => name.endsWith('.wal'))!
    const bytes = disk.peek(path)!
    bytes[bytes.length - 1000]! ^= 1
    disk.poke(path, bytes)
    for (let start = 0; start < 3; start++) {
      const storage = await openStorage(simulated(disk))
      expect(storage.recovered.doubtfulFrom).toBe(7)
      expect(storage.recovered.entries.at(-1)!.index).toBe(6)
      await storage.close()
    }
    let storage = await openStorage(simulated(disk))
    // A checkpoint covers what was lost up to its index, and says nothing about what was lost above.
    await receiveFromPeer(storage, 20)
    await sample.written(storage, sample.installed(20))
    await storage.close()
    storage = await openStorage(simulated(disk))
    expect(storage.recovered).toMatchObject({ first: 21, doubtfulFrom: 21, entries: [] })
    await sample.written(storage, sample.acceptSync(9, 21, 21, ' nine'))
    await storage.close()
    const healed = await openStorage(simulated(disk))
    expect(healed.recovered.doubtfulFrom).toBeNull()
    expect(healed.recovered.entries.at(-1)!.index).toBe(21)
    expect(healed.recovered.state.acceptedBallot).toEqual(sample.ballot(9))
  })
})

describe('rot in what is decided', () => {
  /** Twelve entries, all decided, over segments of a few entries each; a promise in the newest. */
  const history: Step[] = [
    { kind: 'identity' },
    write(sample.genesis(3), sample.promised(2)),
    ...Array.from({ length: 12 }, (_, at) => write(sample.appended(at + 1, at + 1, ' r'.repeat(700)))),
    { kind: 'restart' },
    write(sample.decided(12), sample.promised(5)),
  ]
  const segments = (disk: SimulatedDisk): string[] => disk.paths().filter((path) => path.endsWith('.wal'))
  const baseOf = (path: string): number => Number(path.slice(-20, -4))
  const flip = (disk: SimulatedDisk, path: string, at: number): void => {
    const bytes = disk.peek(path)!
    bytes[at]! ^= 1
    disk.poke(path, bytes)
  }
  const state = { decided: 12, promise: sample.ballot(5) }

  test('the log ends before the first entry that is lost, and what was promised is not', async () => {
    const { disk } = await prepared(history)
    const [, , third] = segments(disk)
    const bytes = disk.peek(third!)!
    const at = bytes.indexOf('payload ')
    const index = Number(/^payload (\d+)/.exec(bytes.toString('latin1', at))![1])
    flip(disk, third!, at + 20)
    expect(await opened(disk)).toMatchObject({
      kind: 'recovered',
      recovered: { first: 1, doubtfulFrom: index, promiseLost: false, state },
    })
    // Started once, the damaged file is superseded: no further start finds damage that matters.
    const again = await openStorage(simulated(disk))
    expect(again.recovered).toMatchObject({ doubtfulFrom: index, state })
    await sample.written(again, sample.appended(index, 12), { kind: 'doubt-over' })
    await again.close()
    const healed = await openStorage(simulated(disk))
    expect(healed.recovered).toMatchObject({ doubtfulFrom: null, promiseLost: false, state })
    expect(healed.recovered.entries.map((entry) => entry.index)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
  })

  test('a rotten header, or a missing file, is the loss of that segment', async () => {
    const { disk } = await prepared(history)
    for (const path of segments(disk)) {
      const isNewest = path === segments(disk).at(-1)
      for (const damage of ['header', 'file']) {
        const copy = disk.survivor(() => 0)
        if (damage === 'header') flip(copy, path, 40)
        else copy.poke(path, null)
        const newest = timeline(Number(segments(disk).at(-1)!.slice(-31, -21)))
        for (let start = 0; start < 2; start++) {
          const { recovered } = await openStorage(simulated(copy, { lastTimeline: newest }))
          const { doubtfulFrom, promiseLost, entries } = recovered
          const found = { path, damage, doubtfulFrom, promiseLost, last: entries.length }
          const lost = baseOf(path)
          expect(found).toEqual({ path, damage, doubtfulFrom: lost, promiseLost: isNewest, last: lost - 1 })
        }
      }
    }
  })

  test('a promise that is lost with its second copy is admitted, although no entry is missing', async () => {
    const { disk } = await prepared(
      [
        { kind: 'identity' },
        write(sample.genesis(3), sample.promised(2)),
        write(sample.appended(1, 1)),
        write(sample.promised(7)),
        write(sample.appended(2, 3)),
      ],
      { segmentBytes: 1024 * 1024 },
    )
    const path = segments(disk).at(-1)!
    const bytes = disk.peek(path)!
    // Both copies, from where the promise was written to where the next entry is.
    const frames: { offset: number; what: string }[] = []
    for await (const line of dump(disk, '/data/wal')) {
      if (line.kind === 'frame') frames.push({ offset: line.offset, what: line.records.join() })
    }
    const from = frames.find(({ what }) => /^promise \S*7/.test(what))!.offset
    bytes.fill(0x5a, from, frames.find(({ what }) => what.includes('entries 2'))!.offset)
    disk.poke(path, bytes)
    expect(await opened(disk)).toMatchObject({ kind: 'recovered', recovered: { doubtfulFrom: 2, promiseLost: true } })
    expect(await opened(disk)).toMatchObject({ kind: 'recovered', recovered: { doubtfulFrom: 2, promiseLost: true } })
  })
})

test('lost sectors: rot, unless they are of the last write', async () => {
  const seen = await lostSectorSweep()
  expect([...seen].sort()).toEqual(['doubtful', 'whole'])
})

test('frames and segments of another life of the volume are not believed', async () => {
  await expect(spliceSweep()).resolves.toBeUndefined()
})

test('a frame of zeros with rot in it is not taken for a torn one', async () => {
  const zeros = Buffer.alloc(6000)
  const history: Step[] = [
    write(sample.genesis(3)),
    { kind: 'write', records: [{ kind: 'entries', entries: [sample.entry(1, zeros)] }] },
  ]
  const { disk } = await prepared(history)
  const path = disk.paths().findLast((name) => name.endsWith('.wal'))!
  const bytes = disk.peek(path)!
  for (let at = 1600; at < 7000; at += 700) {
    const copy = disk.survivor(() => 0)
    const damaged = Buffer.from(bytes)
    damaged[at]! ^= 4
    copy.poke(path, damaged)
    const outcome = await opened(copy)
    expect(outcome).toMatchObject({ kind: 'recovered', recovered: { doubtfulFrom: 1 } })
  }
  expect(await opened(disk)).toMatchObject({ kind: 'recovered', recovered: { doubtfulFrom: null } })
})

test('misdirected and lost writes, and frames that were moved or copied, are never believed', async () => {
  const clean = await prepared()
  for (let at = 1; at <= clean.disk.steps; at++) {
    if (!clean.disk.journal[at - 1]!.startsWith('write') || !clean.disk.journal[at - 1]!.includes('/wal/')) continue
    for (const fault of ['misdirectAt', 'loseAt'] as const) {
      const disk = new SimulatedDisk()
      disk[fault] = at
      const progress = newProgress()
      try {
        await runHistory(disk, DAMAGED_HISTORY, progress)
      } catch (error) {
        // The restart in the history may have noticed it.
        if (!(error instanceof LokiError || error instanceof InvariantViolation)) throw error
        continue
      }
      const outcome = await opened(disk)
      if (outcome.kind === 'refused') continue
      // Losing the very last write cannot be told from never having made it; everything else must be noticed.
      const isLast = !clean.disk.journal.slice(at).some((step) => step.startsWith('write') && step.includes('.wal'))
      expect(untrue(outcome.recovered, progress.models.at(-1)!, isLast)).toBeNull()
    }
  }
})

describe('what is refused, and with which code', () => {
  const refusals: Readonly<Record<string, [string, (disk: SimulatedDisk) => void, object?]>> = {
    'two bad meta slots': ['META_DAMAGED', (disk) => disk.poke('/data/wal/meta', Buffer.alloc(8192))],
    'no meta beside a log': ['META_DAMAGED', (disk) => disk.poke('/data/wal/meta', null)],
    'no segment at all': [
      'LOG_DAMAGED',
      (disk) => {
        for (const path of disk.paths()) if (path.endsWith('.wal')) disk.poke(path, null)
      },
    ],
    'no stamp on a log': ['VOLUME_MISMATCH', (disk) => disk.poke('/data/wal/stamp', null)],
    'an empty checkpoint volume': ['VOLUME_MISMATCH', (disk) => disk.poke('/data/checkpoints/stamp', null)],
    'swapped volumes': [
      'VOLUME_MISMATCH',
      (disk) => disk.poke('/data/wal/stamp', disk.peek('/data/checkpoints/stamp')),
    ],
    'another cluster in the control file': [
      'IDENTITY_CONFLICT',
      () => {},
      { expected: { cluster: clusterId('e'.repeat(32)), node: nodeId(2) } },
    ],
    'another id in the control file': [
      'IDENTITY_CONFLICT',
      () => {},
      { expected: { cluster: sample.CLUSTER, node: nodeId(3) } },
    ],
    'segments that are too large': ['CONFIGURATION_INVALID', () => {}, { segmentBytes: 2 ** 32 }],
  }
  for (const [name, [code, damage, change]] of Object.entries(refusals)) {
    test(`refusal: ${name}`, async () => {
      const { disk } = await prepared()
      damage(disk)
      expect(await opened(disk, change)).toMatchObject({ kind: 'refused', code })
    })
  }

  test('a foreign volume: the checkpoints of another node', async () => {
    const { disk } = await prepared()
    const other = new SimulatedDisk()
    await openStorage(simulated(other, { random: () => volumeId('e'.repeat(32)) }))
    disk.poke('/data/checkpoints/stamp', other.peek('/data/checkpoints/stamp'))
    const outcome = await opened(disk)
    expect(outcome).toMatchObject({ kind: 'refused', code: 'VOLUME_MISMATCH' })
    expect(JSON.stringify(outcome)).toContain('/data/checkpoints')
  })

  test('a segment of another volume', async () => {
    const { disk } = await prepared()
    const other = new SimulatedDisk()
    await openStorage(simulated(other, { random: () => volumeId('e'.repeat(32)), lastTimeline: 90 as never }))
    const path = other.paths().find((name) => name.endsWith('.wal'))!
    disk.poke(path, other.peek(path))
    expect(await opened(disk)).toMatchObject({ kind: 'refused', code: 'VOLUME_MISMATCH' })
  })
})

test('an empty WAL volume beside old checkpoints gets a new id, and the checkpoints are set aside', async () => {
  const { disk } = await prepared([
    { kind: 'identity' },
    write(sample.genesis(3), sample.appended(1, 3), sample.decided(3)),
    { kind: 'checkpoint', index: 3 },
  ])
  for (const path of disk.paths()) if (path.startsWith('/data/wal/')) disk.poke(path, null)
  const fresh = volumeId('9'.repeat(32))
  const storage = await openStorage(simulated(disk, { random: () => fresh }))
  expect(storage.volume).toBe(fresh)
  expect(storage.identity).toBeNull()
  expect(storage.checkpoint).toBeNull()
  expect(storage.recovered.state.configuration).toBeNull()
  expect(disk.paths()).toContain(`/data/checkpoints/aside-${sample.VOLUME}/0000000000000003/manifest`)
  await storage.close()
  expect((await openStorage(simulated(disk))).volume).toBe(fresh)
})

describe('checkpoints', () => {
  const history: Step[] = [
    write(sample.genesis(3), sample.appended(1, 9), sample.decided(9)),
    { kind: 'checkpoint', index: 4 },
    { kind: 'truncate', index: 4 },
    { kind: 'checkpoint', index: 8 },
    { kind: 'truncate', index: 8 },
  ]

  test('a damaged one falls back to the one before, with the log that goes with it', async () => {
    await expect(checkpointSweep()).resolves.toBeUndefined()
  })

  const rotten = async (first: LogRecord): Promise<SimulatedDisk> => {
    const { disk } = await prepared([write(first, sample.appended(1, 9), sample.decided(9)), ...history.slice(1)])
    for (const id of ['0000000000000004', '0000000000000008']) {
      disk.poke(`/data/checkpoints/${id}/manifest`, Buffer.from('nothing'))
    }
    return disk
  }

  test('two damaged ones: one voter alone is refused where the log does not reach back', async () => {
    const disk = await rotten(alone)
    expect(await opened(disk)).toMatchObject({ kind: 'refused', code: 'CHECKPOINT_DAMAGED' })
    expect((await check(disk, '/data/wal', '/data/checkpoints')).at(-1)!.level).toBe('refused')
  })

  test('two damaged ones: among others it begins anew, in doubt from the first entry, until it has a checkpoint', async () => {
    const disk = await rotten(sample.genesis(3))
    for (let start = 0; start < 3; start++) {
      const storage = await openStorage(simulated(disk))
      expect(storage.recovered).toMatchObject({ first: 1, entries: [], doubtfulFrom: 1 })
      // What is known decided, and promised, is not forgotten.
      expect(storage.recovered.state.decided).toBe(9)
      expect(storage.checkpoint).toBeNull()
      await storage.close()
    }
    let storage = await openStorage(simulated(disk))
    // The peers may have the log from its beginning …
    await sample.written(storage, sample.appended(1, 2))
    await storage.close()
    storage = await openStorage(simulated(disk))
    expect(storage.recovered.entries.map(({ index }) => index)).toEqual([1, 2])
    expect(storage.recovered.doubtfulFrom).toBe(1)
    // … or a checkpoint.
    await receiveFromPeer(storage, 20)
    await sample.written(storage, sample.installed(20))
    await sample.written(storage, sample.acceptSync(9, 21, 21, ' nine'))
    await storage.close()
    storage = await openStorage(simulated(disk))
    expect(storage.recovered).toMatchObject({ first: 21, doubtfulFrom: null })
    expect(storage.recovered.entries.map(({ index }) => index)).toEqual([21])
    expect(storage.checkpoint?.index).toBe(20)
  })

  test('rot in entries that a checkpoint covers costs nothing', async () => {
    const { disk } = await prepared([
      write(sample.genesis(3)),
      write(sample.appended(1, 3)),
      write(sample.appended(4, 6), sample.decided(6), sample.promised(3)),
      { kind: 'checkpoint', index: 4 },
    ])
    const path = disk.paths().find((name) => name.endsWith('.wal'))!
    const bytes = disk.peek(path)!
    bytes[bytes.indexOf('payload 2')]! ^= 1
    disk.poke(path, bytes)
    const { recovered } = await openStorage(simulated(disk))
    expect(recovered.first).toBe(logIndex(4))
    expect(recovered.entries.map(({ index }) => index)).toEqual([4, 5, 6])
    expect(recovered.doubtfulFrom).toBeNull()
  })
})

describe('what fsck says a start would do', () => {
  const repairs = async (disk: SimulatedDisk): Promise<string[]> => {
    const findings = await check(disk, '/data/wal', '/data/checkpoints')
    return findings.flatMap(({ repair }) => repair ?? [])
  }
  const changed = async (
    history: readonly Step[],
    path: string,
    change: (bytes: Buffer) => void,
  ): Promise<SimulatedDisk> => {
    const { disk } = await prepared(history)
    const found = disk.paths().findLast((each) => each.includes(path))!
    const bytes = disk.peek(found)!
    change(bytes)
    disk.poke(found, bytes)
    return disk
  }
  const log: Step[] = [write(sample.genesis(3), sample.appended(1, 3)), write(sample.appended(4, 9), sample.decided(9))]
  const checkpointed: Step[] = [...log, { kind: 'checkpoint', index: 2 }, { kind: 'checkpoint', index: 9 }]
  const flip = (text: string) => (bytes: Buffer) => {
    bytes[bytes.indexOf(text)]! ^= 1
  }

  test('nothing, where nothing is wrong', async () => {
    expect(await repairs((await prepared(checkpointed)).disk)).toEqual([])
  })

  test('a torn write is cut; a meta slot is rewritten', async () => {
    const torn = await changed(
      [write(sample.genesis(3)), write(sample.appended(1, 1, ' t'.repeat(900)))],
      '.wal',
      (bytes) => {
        const end = bytes.findLastIndex((byte) => byte !== 0)
        bytes.fill(0, end - (end % 512))
      },
    )
    expect(await repairs(torn)).toEqual(['cut'])
    expect(await repairs(await changed(log, '/meta', (bytes) => bytes.fill(9, 100, 110)))).toEqual(['rewritten'])
  })

  test('what a checkpoint covers is covered, what nobody here has comes from a peer, or waits for a person', async () => {
    expect(await repairs(await changed(checkpointed, '.wal', flip('payload 3')))).toEqual(['covered'])
    expect(await repairs(await changed(log, '.wal', flip('payload 3')))).toEqual(['peer', 'peer'])
    const mine: Step[] = [write(alone, sample.appended(1, 3), sample.decided(3))]
    expect(await repairs(await changed(mine, '.wal', flip('payload 3')))).toEqual(['person', 'person'])
  })

  test('it foretells what the start then does', async () => {
    for (const history of [log, checkpointed]) {
      for (let at = 600; at < 1400; at += 61) {
        const disk = await changed(history, '.wal', (bytes) => {
          bytes[at]! ^= 4
        })
        const foretold = await repairs(disk)
        const outcome = await opened(disk)
        const found = outcome.kind === 'recovered' ? outcome.recovered.doubtfulFrom !== null : null
        expect({ at, doubt: found }).toEqual({ at, doubt: foretold.includes('peer') })
      }
    }
  })
})

/** All files there are: several segments and timelines, an archive, two checkpoints, meta, stamps. */
const EVERYTHING: Step[] = [
  { kind: 'identity' },
  write(sample.genesis(3), sample.promised(2)),
  ...[1, 2, 3].map((index) => write(sample.appended(index, index, ' e'.repeat(40)))),
  { kind: 'restart' },
  ...[4, 5, 6].map((index) => write(sample.appended(index, index, ' e'.repeat(40)))),
  { kind: 'restart' },
  write(sample.appended(7, 8), sample.decided(8)),
  { kind: 'checkpoint', index: 3 },
  { kind: 'checkpoint', index: 5 },
  { kind: 'truncate', index: 5 },
  { kind: 'restart' },
  write(sample.promised(6), sample.acceptSync(6, 9, 10, ' six')),
  write(sample.decided(9)),
]

test(
  'a flipped bit in any file, checkpoints and archive too: repair, a coded refusal, or no effect; never a wrong value',
  {
    timeout: 600_000,
  },
  async () => {
    const { disk, progress } = await prepared(EVERYTHING, { archive: true })
    const truth = progress.models.at(-1)!
    // BITS=meta: every bit of every byte of the files with that in their path, for minutes; BITS=/ for all of them.
    const chosen = process.env.BITS
    const all = chosen !== undefined
    const seen = new Map<string, number>()
    for (const path of disk.paths().filter((one) => one.includes(chosen ?? ''))) {
      const { length } = disk.peek(path)!
      for (let at = all ? 0 : path.length % 7; at < length; at += all ? 1 : 11) {
        for (const bit of all ? [0, 1, 2, 3, 4, 5, 6, 7] : [at % 8]) {
          const copy = disk.survivor(() => 0)
          const bytes = copy.peek(path)!
          bytes[at]! ^= 1 << bit
          copy.poke(path, bytes)
          const outcome = await outcomeOf(copy, truth, `bit ${bit} of ${path} at ${at}`)
          seen.set(outcome, (seen.get(outcome) ?? 0) + 1)
        }
      }
    }
    console.log(Object.fromEntries(seen))
    const outcomes = ['VOLUME_MISMATCH', 'doubtful', 'whole']
    expect([...seen.keys()].filter((outcome) => !outcomes.includes(outcome))).toEqual([])
    if (!all) expect([...seen.keys()].sort()).toEqual(outcomes)
  },
)

/** Starts, and compares whatever is handed out with the truth: entries, promise, and the slices of the checkpoint. */
async function outcomeOf(disk: SimulatedDisk, truth: Model, what: string): Promise<string> {
  const storage = await openStorage(simulated(disk, { archive: true })).catch((error: unknown) => error)
  if (storage instanceof LokiError) return storage.code
  if (!(storage instanceof Storage)) throw new Error(what, { cause: storage })
  const { recovered, checkpoint } = storage
  const { entries, first, doubtfulFrom, promiseLost, state } = recovered
  for (const [at, entry] of entries.entries()) {
    const payload = entry.kind === 'commands' ? Buffer.from(entry.payload).toString() : null
    expect(`${what}: ${entry.index} ${payload}`).toBe(`${what}: ${first + at} ${truth.entries.get(entry.index)}`)
  }
  const last = entries.at(-1)?.index ?? first - 1
  expect({ what, gap: first > (checkpoint?.index ?? 0) + 1 }).toEqual({ what, gap: false })
  if (doubtfulFrom === null) expect(`${what}: ${last}`).toBe(`${what}: ${truth.last}`)
  if (!promiseLost) expect({ what, ...state.promise }).toEqual({ what, ...truth.state.promise })
  const slices: string[] = []
  for await (const slice of storage.readCheckpoint()) slices.push(slice.toString())
  expect(`${what}: ${slices.join()}`).toBe(`${what}: ${checkpoint ? slicesOf(checkpoint.index).join() : ''}`)
  await storage.close()
  return doubtfulFrom === null ? 'whole' : 'doubtful'
}
