/**
 * Damage on the disk, wherever it is: a start answers with the truth, or with less of it and says so (doubt), or
 * refuses with a code and leaves the volumes as they were. It never answers with anything else.
 */
import { describe, expect, test } from 'vitest'
import { LokiError } from '../../src/errors.ts'
import { InvariantViolation } from '../../src/invariant.ts'
import { check } from '../../src/storage/fsck.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { clusterId, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'
import { type Step, newProgress, receiveFromPeer, runHistory, simulated } from './history.ts'
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

const write = (...records: Parameters<typeof sample.written>[1][]): Step => ({ kind: 'write', records })

describe('bit flips', () => {
  test('in every third byte of every file', { timeout: 60_000 }, async () => {
    const seen = await flipSweep(3)
    for (const outcome of ['whole', 'doubtful', 'LOG_DAMAGED', 'VOLUME_MISMATCH'])
      expect(seen.get(outcome)).toBeGreaterThan(10)
  })

  test('one voter alone refuses rot at the end of its log, with its own code', async () => {
    const { disk } = await prepared([write(sample.genesis(1), sample.decided(0)), write(sample.appended(1, 2))])
    const path = disk.paths().findLast((name) => name.endsWith('.wal'))!
    const bytes = disk.peek(path)!
    const at = bytes.lastIndexOf('payload 2')
    bytes[at]! ^= 1
    disk.poke(path, bytes)
    expect(await opened(disk)).toMatchObject({ kind: 'refused', code: 'LOG_DAMAGED_ALONE' })
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

test('lost sectors: rot, unless they are of the last write', async () => {
  const seen = await lostSectorSweep()
  expect([...seen].sort()).toEqual(['LOG_DAMAGED', 'doubtful', 'whole'])
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
    'a missing segment': [
      'LOG_DAMAGED',
      (disk) =>
        disk.poke(
          disk.paths().find((path) => path.endsWith('.wal'))!,
          null,
        ),
    ],
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

  test('two damaged ones are refused where the log does not reach back', async () => {
    const { disk } = await prepared(history)
    for (const id of ['0000000000000004', '0000000000000008']) {
      disk.poke(`/data/checkpoints/${id}/manifest`, Buffer.from('nothing'))
    }
    expect(await opened(disk)).toMatchObject({ kind: 'refused', code: 'CHECKPOINT_DAMAGED' })
    expect((await check(disk, '/data/wal', '/data/checkpoints')).at(-1)!.level).toBe('refused')
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
