/**
 * The start of the storage, in numbered steps. Up to and including step 5 nothing is written: a start that is
 * refused leaves both volumes as they were, byte by byte.
 *
 *   1 stamps        both volumes belong together (stamp.ts)
 *   2 meta          identity and first index; the control file must not contradict them (meta.ts)
 *   3 checkpoints   the newest one that is whole
 *   4 replay        every segment in order, verified; the torn tail of the newest one is left out
 *   5 judgement     what damage means: covered by the checkpoint, refused, or doubtful
 *   6 house         finish what a crash interrupted: stamps, lame meta slot, temporary files, head truncation
 *   7 timeline      a new segment on a new timeline continues the log (storage.ts opens it)
 */
import { ByteReader } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { type DurableState, EMPTY_STATE, type Entry, type LogIndex, type RecoveredLog } from '../vocabulary.ts'
import { logIndex } from '../vocabulary.ts'
import { type CheckpointInfo, isCheckpointName, verifyCheckpoint } from './checkpoint.ts'
import { type Disk, readWhole } from './disk.ts'
import { FRAME_STATE, type FrameHeader, type Stop } from './frames.ts'
import { type KeyRing, NO_KEYS } from './keys.ts'
import { doubtAbove, endsDoubt, readRecords, readState, stateAfter } from './records.ts'
import { type DecodedHeader, type SegmentLink, type SegmentName } from './segment.ts'
import { readSegment, segmentsAmong } from './segment.ts'
import { Marks, type Unsealed } from './segment-index.ts'
import { type ChainPart, cipherOf, loadSegments, readSegmentHeader } from './segment-reader.ts'

/** Damage in a file of the log: where, and what it means in a word. */
export interface Damage {
  readonly path: string
  readonly offset: number
  readonly reason: string
}

/** What the segments amount to. `entries` rise by index; gaps are what rot took. */
export interface ReplayedLog {
  readonly state: DurableState
  readonly first: LogIndex
  readonly entries: readonly Entry[]
  /** One behind the last index the log had, as far as can be told. */
  readonly next: LogIndex
  /** Rot at the end of the newest segment: entries from `next` on may be lost. */
  readonly lostTail: boolean
  readonly doubtfulFrom: LogIndex | null
  readonly damage: readonly Damage[]
  readonly segments: readonly SegmentName[]
  /** Segments without a frame that a later one has replaced. */
  readonly dead: readonly SegmentName[]
  /** Where the newest segment ends; what the next one is chained to. Null if there is none. */
  readonly link: SegmentLink | null
  /** Whether the newest segment has no frame; then `newestPrevious` is what it is chained to. */
  readonly newestEmpty: boolean
  readonly newestPrevious: SegmentLink | null
  /** Segments that are whole and have no index: a crash came between, or an earlier version wrote them. */
  readonly unsealed: readonly Unsealed[]
}

/** How far step 4 is. */
export interface StartProgress {
  readonly part: 'log'
  readonly entries: number
  readonly bytes: number
  readonly percent: number
}

/** Applies what segments hold, in order; keeps going where damage left a hole. */
class Replay {
  state: DurableState = EMPTY_STATE
  first: number
  next = 1
  entries: Entry[] = []
  lostTail = false
  doubtfulFrom: LogIndex | null = null
  damage: Damage[] = []

  constructor(first: LogIndex) {
    this.first = first
  }

  enter(decoded: DecodedHeader): void {
    const { header } = decoded
    this.truncate(header.base)
    this.first = Math.max(this.first, header.first)
    this.lostTail = false
    this.doubtfulFrom = header.doubtfulFrom
    this.state = { ...header.state, decided: logIndex(Math.max(header.state.decided, this.state.decided)) }
  }

  truncate(base: number): void {
    while (this.entries.length > 0 && this.entries.at(-1)!.index >= base) this.entries.pop()
    this.next = base
  }

  #append(entries: readonly Entry[]): void {
    for (const entry of entries) {
      this.next = entry.index + 1
      if (entry.index >= this.first) this.entries.push(entry)
    }
  }

  frame(header: FrameHeader, payload: Buffer): void {
    if (header.kind === FRAME_STATE) {
      this.state = readState(new ByteReader(payload))
      this.next = header.last + 1
      return
    }
    for (const record of readRecords(new ByteReader(payload))) {
      const before = this.state
      this.state = stateAfter(before, record)
      if (record.kind === 'entries') this.#append(record.entries)
      if (record.kind === 'accept-sync') {
        this.truncate(record.base)
        this.#append(record.entries)
        if (endsDoubt(before, record.ballot)) this.doubtfulFrom = null
      }
      if (record.kind === 'installed') {
        this.entries = []
        this.first = Math.max(this.first, record.index + 1)
        this.next = record.index + 1
        this.doubtfulFrom = doubtAbove(this.doubtfulFrom, record.index)
      }
    }
    // Behind damage, a frame says how far the log went, although it may carry no entry.
    this.next = header.last + 1
  }
}

export interface ReplayOptions {
  readonly keys?: KeyRing
  readonly progress?: (progress: StartProgress) => void
}

/** Step 4. Throws `LOG_DAMAGED` where the files do not make one log, `FORMAT_TOO_NEW`, and `ENCRYPTION_KEY_…`. */
export async function replayLog(
  disk: Disk,
  directory: string,
  first: LogIndex,
  volume: string,
  options: ReplayOptions = {},
): Promise<ReplayedLog> {
  const { keys = NO_KEYS, progress } = options
  const replay = new Replay(first)
  const { segments, dead, headers } = await openChain(disk, directory, volume, first)
  const chain = segments.map((name, at): ChainPart => {
    const following = segments[at + 1]
    const known = following === undefined ? null : headers.get(following.name)!.header.previous
    return { name, path: `${directory}/${name.name}`, decoded: headers.get(name.name)!, known }
  })
  // Every key is here before anything is read: what a start refuses, it refuses at once.
  for (const { decoded, path } of chain) cipherOf(decoded, keys, path)
  let link: SegmentLink | null = null
  let newestEmpty = false
  let bytesRead = 0
  let entriesRead = 0
  const totalBytes = chain.reduce((sum, { known }) => sum + (known?.end ?? 0), 1)
  const unsealed: Unsealed[] = []
  for await (const segment of loadSegments(disk, keys, chain, first)) {
    const { path, bytes, decoded, known, cipher, from } = segment
    replay.enter(decoded)
    const marks = new Marks(decoded.size)
    const damages = replay.damage.length
    let frames = 0
    let stop: Stop = { kind: 'end' }
    for (const item of readSegment(bytes, decoded, known, cipher, from)) {
      if (item.kind === 'frame') {
        frames++
        replay.lostTail = false
        marks.frame(item.header.offset, item.header.previous, replay.next)
        replay.frame(item.header, item.payload!)
      } else if (item.kind === 'rot') {
        replay.damage.push({ path, offset: item.from, reason: item.reason })
        replay.lostTail = true
      } else if (item.kind === 'foreign') {
        throw new LokiError('LOG_DAMAGED', `${path} at ${item.end}: what follows was not chained to what is before`)
      } else {
        stop = item.stop
        link = { timeline: segment.name.timeline, base: segment.name.base, end: item.end, check: item.check }
      }
    }
    if (stop.kind !== 'rot') replay.lostTail = false
    newestEmpty = frames === 0 && stop.kind === 'end'
    if (segment.indexFault !== null && replay.damage.length === damages && !(newestEmpty && known === null)) {
      const { end, check } = link!
      unsealed.push({ name: segment.name.name, seed: decoded.seed, end, check, marks: marks.list })
    }
    bytesRead += known?.end ?? 0
    entriesRead = Math.max(entriesRead, replay.entries.length)
    const percent = Math.floor((100 * bytesRead) / totalBytes)
    progress?.({ part: 'log', entries: entriesRead, bytes: bytesRead, percent })
  }
  const { state, entries, lostTail, doubtfulFrom, damage } = replay
  return {
    state,
    first: logIndex(replay.first),
    entries: entries.length > 0 && entries[0]!.index < replay.first ? dropBelow(entries, replay.first) : entries,
    next: logIndex(replay.next),
    lostTail,
    doubtfulFrom,
    damage,
    segments,
    dead,
    link,
    newestEmpty,
    unsealed,
    newestPrevious: segments.length === 0 ? null : headers.get(segments.at(-1)!.name)!.header.previous,
  }
}

const dropBelow = (entries: readonly Entry[], first: number): Entry[] => entries.filter((entry) => entry.index >= first)

interface Chain {
  readonly segments: readonly SegmentName[]
  readonly dead: readonly SegmentName[]
  readonly headers: ReadonlyMap<string, DecodedHeader>
}

/** Reads the headers and follows the links from the newest segment back. */
async function openChain(disk: Disk, directory: string, volume: string, first: LogIndex): Promise<Chain> {
  const found = segmentsAmong((await disk.list(directory)) ?? [])
  const headers = new Map<string, DecodedHeader>()
  for (const segment of found) headers.set(segment.name, await readHeader(disk, directory, segment, volume))
  const segments: SegmentName[] = []
  const dead: SegmentName[] = []
  let wanted: SegmentLink | null | undefined
  for (const segment of found.toReversed()) {
    const isWanted = wanted === undefined || (wanted?.timeline === segment.timeline && wanted.base === segment.base)
    if (!isWanted) {
      dead.push(segment)
      continue
    }
    segments.unshift(segment)
    wanted = headers.get(segment.name)!.header.previous
  }
  // What is in no chain may be left of a head truncation (older than the chain, which then reaches the first
  // index without it), or an empty segment that was replaced (newer). Anything else means that a file is missing.
  const reachesFirst = segments.some(({ base }) => base <= first)
  for (const segment of dead) {
    const newer = segment.timeline > segments[0]!.timeline
    if (newer ? await isEmptySegment(disk, directory, segment, headers) : reachesFirst) continue
    throw new LokiError('LOG_DAMAGED', `${directory}/${segment.name} is in no chain with the newest segment`)
  }
  return { segments, dead, headers }
}

async function readHeader(disk: Disk, directory: string, name: SegmentName, volume: string): Promise<DecodedHeader> {
  const path = `${directory}/${name.name}`
  const decoded = await readSegmentHeader(disk, path)
  const { header } = decoded
  if (header.volume !== volume) {
    throw new LokiError('VOLUME_MISMATCH', `${path} belongs to volume ${header.volume}, this is ${volume}`)
  }
  if (header.timeline !== name.timeline || header.base !== name.base) {
    throw new LokiError('LOG_DAMAGED', `${path} has the header of another segment`)
  }
  return decoded
}

async function isEmptySegment(
  disk: Disk,
  directory: string,
  segment: SegmentName,
  headers: ReadonlyMap<string, DecodedHeader>,
): Promise<boolean> {
  const bytes = await readWhole(disk, `${directory}/${segment.name}`)
  if (bytes === null) return true
  for (const item of readSegment(bytes, headers.get(segment.name)!, null)) {
    if (item.kind === 'stop') return item.stop.kind === 'end' && item.end === headers.get(segment.name)!.size
  }
  return false
}

/** Step 3. The checkpoints that are whole, oldest first, and the damage of the others. Writes nothing. Throws as `replayLog`. */
export async function goodCheckpoints(
  disk: Disk,
  directory: string,
  keys: KeyRing = NO_KEYS,
): Promise<{ readonly good: readonly CheckpointInfo[]; readonly damage: readonly string[] }> {
  const good: CheckpointInfo[] = []
  const damage: string[] = []
  for (const name of ((await disk.list(directory)) ?? []).filter(isCheckpointName)) {
    try {
      good.push(await verifyCheckpoint(disk, directory, name, keys))
    } catch (error) {
      if (!(error instanceof LokiError) || error.code !== 'CHECKPOINT_DAMAGED') throw error
      damage.push(error.message)
    }
  }
  return { good, damage }
}

/** Step 5. What consensus may rely on. Throws `LOG_DAMAGED`, `LOG_DAMAGED_ALONE`, `CHECKPOINT_DAMAGED`. */
export function judge(
  log: ReplayedLog,
  checkpoint: CheckpointInfo | null,
  checkpointDamage: readonly string[],
  directory: string,
): RecoveredLog {
  let state = log.state
  let first: number = log.first
  let entries = log.entries
  const covered = checkpoint?.index ?? 0
  if (first > covered + 1) {
    const why = checkpointDamage.length > 0 ? checkpointDamage.join('; ') : 'there is no checkpoint'
    throw new LokiError('CHECKPOINT_DAMAGED', `${why}; the log begins at ${first}`)
  }
  let { next } = log
  if (checkpoint !== null && covered > state.decided) {
    // A checkpoint that is durable although the log does not know it yet: what it covers is decided.
    state = { ...state, decided: checkpoint.index }
    first = covered + 1
    entries = dropBelow(entries, first)
    if (state.configuration === null || checkpoint.configuration.id > state.configuration.id) {
      state = { ...state, configuration: checkpoint.configuration, configurationStart: checkpoint.start }
      // What was accepted above it stays, it may have been chosen; but not what an earlier configuration accepted.
      if (state.acceptedBallot.configuration < checkpoint.configuration.id && log.damage.length === 0) {
        entries = []
        next = logIndex(first)
      }
    }
  }
  let gapFrom: number | null = null
  for (const gap of gapsOf(first, entries, next, log.lostTail)) {
    if (gap.from <= covered) first = Math.min(gap.to, covered) + 1
    if (gap.to > covered) gapFrom ??= Math.max(gap.from, covered + 1)
  }
  if (first > log.first) entries = dropBelow(entries, first)
  const place = log.damage[0] ? `${log.damage[0].path} at ${log.damage[0].offset}: ${log.damage[0].reason}` : directory
  if (gapFrom !== null && gapFrom <= state.decided) {
    throw new LokiError(
      'LOG_DAMAGED',
      `${place}; entries from ${gapFrom} on are lost, up to ${state.decided} is decided`,
    )
  }
  const doubts = [gapFrom, doubtAbove(log.doubtfulFrom, first - 1)].filter((index) => index !== null)
  if (gapFrom !== null) {
    if ((state.configuration?.voters.length ?? 1) === 1) {
      throw new LokiError('LOG_DAMAGED_ALONE', `${place}; entries from ${gapFrom} on are lost`)
    }
    const from = gapFrom
    entries = entries.filter((entry) => entry.index < from)
  }
  return {
    state,
    first: logIndex(first),
    entries,
    doubtfulFrom: doubts.length === 0 ? null : logIndex(Math.min(...doubts)),
  }
}

interface Gap {
  readonly from: number
  readonly to: number
}

/** Ranges of indices that the log had and rot took, in order. */
function gapsOf(first: number, entries: readonly Entry[], next: number, lostTail: boolean): Gap[] {
  const gaps: Gap[] = []
  let expected = first
  for (const entry of entries) {
    if (entry.index > expected) gaps.push({ from: expected, to: entry.index - 1 })
    expected = entry.index + 1
  }
  if (expected < next) gaps.push({ from: expected, to: next - 1 })
  if (lostTail) gaps.push({ from: Math.max(expected, next), to: Number.POSITIVE_INFINITY })
  return gaps
}
