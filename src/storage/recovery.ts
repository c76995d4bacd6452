/**
 * The start of the storage, in numbered steps. Up to and including step 5 nothing is written: a start that is
 * refused leaves both volumes as they were, byte by byte.
 *
 *   1 stamps        both volumes belong together (stamp.ts)
 *   2 meta          identity and first index; the control file must not contradict them (meta.ts)
 *   3 checkpoints   the newest one that is whole
 *   4 replay        every segment in order, verified, one read ahead; what lies below the first entry is left out by the
 *                   index of its segment, and so is the torn tail of the newest one (segment-reader.ts)
 *   5 judgement     what damage means: covered by the checkpoint, doubtful (the peers have what is lost), or refused
 *                   (judgement.ts)
 *   6 house         make durable what was read and may not be (unsynced.ts), finish what a crash interrupted: stamps,
 *                   lame meta slot, temporary files, head truncation
 *   7 timeline      a new segment on a new timeline continues the log (storage.ts opens it)
 *
 * What rot took is never guessed. The log ends before the first entry that is lost, decided or not, and the node is
 * in doubt from there: consensus brings the rest from a leader (consensus/doubt.ts). The segment of step 7 begins
 * at that entry, and so supersedes whatever the damaged files still hold above it.
 */
import { ByteReader } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { InvariantViolation } from '../invariant.ts'
import { type DurableState, EMPTY_STATE, type Entry, type LogIndex } from '../vocabulary.ts'
import { logIndex } from '../vocabulary.ts'
import { type CheckpointInfo, isCheckpointName, verifyCheckpoint } from './checkpoint.ts'
import { type Disk, readWhole } from './disk.ts'
import { FRAME_STATE, type FrameHeader, type Stop } from './frames.ts'
import { type KeyRing, NO_KEYS } from './keys.ts'
import { doubtAbove, endsDoubt, readState, recordsOf, stateAfter } from './records.ts'
import { type DecodedHeader, type SegmentLink, type SegmentName } from './segment.ts'
import { readSegment, segmentName, segmentsAmong } from './segment.ts'
import { Marks, type Unsealed } from './segment-index.ts'
import { type ChainPart, type LoadedSegment, cipherOf, loadSegments, readSegmentHeader } from './segment-reader.ts'
import { type LogTail, TailWatch } from './unsynced.ts'

/** Damage in a file of the log: where, and what it means in a word. Nothing below entry `index` was lost by it. */
export interface Damage {
  readonly path: string
  readonly offset: number
  readonly reason: string
  readonly index: LogIndex
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
  readonly promiseLost: boolean
  /** No whole state was found behind damage at this entry: promises may be lost, and what was accepted in which ballot. */
  readonly stateLostAt: LogIndex | null
  readonly damage: readonly Damage[]
  /** Damage of files that later segments have superseded: what was lost there is here again. */
  readonly healed: readonly Damage[]
  /** Oldest first; those without a header that can be read are among them. */
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
  /** Rot in an index, which costs nothing but the time of reading the segment. */
  readonly damagedIndices: readonly Damage[]
  /** The last write did not reach the disk as a whole; it is left out. */
  readonly torn: Damage | null
  /** What was read and may not be durable; null: nothing. */
  readonly tail: LogTail | null
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
  promiseLost = false
  stateLostAt: LogIndex | null = null
  torn: Damage | null = null
  damage: Damage[] = []
  healed: Damage[] = []
  readonly #firstOfMeta: LogIndex

  constructor(first: LogIndex) {
    this.first = first
    this.#firstOfMeta = first
  }

  enter(decoded: DecodedHeader): void {
    const { header } = decoded
    this.truncate(header.base)
    // Not the larger of this and the one before: a log whose checkpoints are lost begins anew, below.
    this.first = Math.max(this.#firstOfMeta, header.first)
    this.lostTail = false
    this.stateLostAt = null
    this.doubtfulFrom = header.doubtfulFrom
    this.promiseLost = header.promiseLost
    this.healed.push(...this.damage.filter(({ index }) => index >= header.base))
    this.damage = this.damage.filter(({ index }) => index < header.base)
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

  rot(path: string, offset: number, reason: string): void {
    this.damage.push({ path, offset, reason, index: logIndex(this.next) })
    this.stateLostAt ??= logIndex(this.next)
    this.lostTail = true
  }

  /** Of a segment, behind its last good frame. */
  ended(stop: Stop, path: string, offset: number): void {
    if (stop.kind !== 'rot') this.lostTail = false
    const torn = { path, offset, reason: 'a write was torn', index: logIndex(this.next) }
    this.torn = stop.kind === 'torn' ? torn : null
  }

  /** A segment that begins at `base` is lost as a whole. */
  lose(path: string, base: LogIndex, reason: string): void {
    this.truncate(base)
    this.rot(path, 0, reason)
  }

  frame(header: FrameHeader, payload: Buffer): void {
    if (header.kind === FRAME_STATE) {
      this.stateLostAt = null
      this.state = readState(new ByteReader(payload))
      this.next = header.last + 1
      return
    }
    for (const record of recordsOf(header.kind, payload)) {
      const before = this.state
      this.state = stateAfter(before, record)
      if (record.kind === 'entries') this.#append(record.entries)
      if (record.kind === 'accept-sync') {
        this.truncate(record.base)
        this.#append(record.entries)
        if (endsDoubt(before, record.ballot)) this.#endDoubt()
      }
      if (record.kind === 'doubt-over') this.#endDoubt()
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

  get found() {
    const { state, entries, lostTail, torn, doubtfulFrom, promiseLost, stateLostAt, damage, healed } = this
    const first = logIndex(this.first)
    const kept = entries.length > 0 && entries[0]!.index < first ? dropBelow(entries, first) : entries
    const next = logIndex(this.next)
    return { state, first, entries: kept, next, lostTail, torn, doubtfulFrom, promiseLost, stateLostAt, damage, healed }
  }

  #endDoubt(): void {
    this.doubtfulFrom = null
    this.promiseLost = false
  }
}

export interface ReplayOptions {
  readonly keys?: KeyRing
  readonly progress?: (progress: StartProgress) => void
  /** Reads what lies below the first entry, too: to verify it. */
  readonly whole?: boolean
  /** A node with an identity has a log. */
  readonly mustExist?: boolean
  /** There was a segment of this timeline. */
  readonly newest?: number
}

/** Step 4. Throws `LOG_DAMAGED` where the files do not make one log, `FORMAT_TOO_NEW`, and `ENCRYPTION_KEY_…`. */
export async function replayLog(
  disk: Disk,
  directory: string,
  first: LogIndex,
  volume: string,
  options: ReplayOptions = {},
): Promise<ReplayedLog> {
  const { keys = NO_KEYS, progress, newest = 0, whole = false } = options
  const replay = new Replay(first)
  const { found, segments, dead, headers, lost } = await openChain(disk, directory, volume, first)
  const chain = partsOf(segments, headers, directory, options.mustExist ?? false)
  // Every key is here before anything is read: what a start refuses, it refuses at once.
  for (const { decoded, path } of chain) cipherOf(decoded, keys, path)
  let link: SegmentLink | null = null
  let newestEmpty = false
  let isSealed = false
  let bytesRead = 0
  let entriesRead = 0
  const totalBytes = chain.reduce((sum, { known }) => sum + (known?.end ?? 0), 1)
  const unsealed: Unsealed[] = []
  const damagedIndices: Damage[] = []
  let at = 0
  let tail: LogTail | null = null
  const loseUpTo = (end: number): void => {
    for (const { name, base } of segments.slice(at, end)) replay.lose(`${directory}/${name}`, base, lost.get(name)!)
    at = end + 1
  }
  for await (const segment of loadSegments(disk, keys, chain, whole ? 0 : first)) {
    const { path, bytes, decoded, known } = segment
    loseUpTo(segments.indexOf(segment.name))
    replay.enter(decoded)
    const damages = replay.damage.length
    const { frames, stop, end, check, marks, watch } = replaySegment(replay, segment)
    link = { timeline: segment.name.timeline, base: segment.name.base, end, check }
    replay.ended(stop, path, end)
    newestEmpty = frames === 0 && stop.kind === 'end'
    // The end of the newest one is known by its index alone.
    isSealed = known !== null
    tail = isSealed ? null : watch.tail(path, bytes, end)
    if (segment.indexFault !== null && known !== null && segment.hadIndex) {
      damagedIndices.push({ path, offset: known.end, reason: segment.indexFault, index: decoded.header.base })
    }
    if (segment.indexFault !== null && replay.damage.length === damages && !(newestEmpty && known === null)) {
      unsealed.push({ name: segment.name.name, seed: decoded.seed, end, check, marks: marks.list })
    }
    bytesRead += known?.end ?? 0
    entriesRead = Math.max(entriesRead, replay.entries.length)
    const percent = Math.floor((100 * bytesRead) / totalBytes)
    progress?.({ part: 'log', entries: entriesRead, bytes: bytesRead, percent })
  }
  if (at < segments.length) newestEmpty = isSealed = false
  loseUpTo(segments.length)
  const missing = missingNewest(segments, newest, isSealed)
  if (missing !== null) replay.rot(directory, 0, `the newest segment, ${missing}, is missing`)
  return {
    ...replay.found,
    segments: found.filter((segment) => segments.includes(segment)),
    dead,
    link,
    newestEmpty,
    tail,
    unsealed,
    damagedIndices,
    newestPrevious: headers.get(segments.at(-1)?.name ?? '')?.header.previous ?? null,
  }
}

/** Its frames, in order; `end` and `check`: where reading stopped, and the chain there. */
function replaySegment(replay: Replay, segment: LoadedSegment) {
  const { path, bytes, decoded, known, cipher, from } = segment
  const marks = new Marks(decoded.size)
  const watch = new TailWatch()
  let frames = 0
  for (const item of readSegment(bytes, decoded, known, cipher, from)) {
    if (item.kind === 'frame') {
      frames++
      watch.frame(item.header.offset)
      replay.lostTail = false
      marks.frame(item.header.offset, item.header.previous, replay.next)
      replay.frame(item.header, item.payload!)
    } else if (item.kind === 'rot') {
      watch.rot()
      replay.rot(path, item.from, item.reason)
    } else if (item.kind === 'foreign') {
      throw new LokiError('LOG_DAMAGED', `${path} at ${item.end}: what follows was not chained to what is before`)
    } else {
      return { frames, stop: item.stop, end: item.end, check: item.check, marks, watch }
    }
  }
  throw new InvariantViolation('a segment is read to its stop')
}

/** Which segment there was behind those that are there, or null. What is sealed had a successor that was durable. */
function missingNewest(segments: readonly SegmentName[], newest: number, isSealed: boolean): string | null {
  const last = segments.at(-1)
  if ((last?.timeline ?? newest) < newest) return `of timeline ${newest}`
  return isSealed && last !== undefined ? `behind ${last.name}` : null
}

/** The segments of the chain that can be read, with the end that the next one, where it can be read, gives them. */
function partsOf(
  segments: readonly SegmentName[],
  headers: ReadonlyMap<string, DecodedHeader>,
  directory: string,
  mustExist: boolean,
): ChainPart[] {
  const parts = segments.flatMap((name, at) => {
    const decoded = headers.get(name.name)
    const known = headers.get(segments[at + 1]?.name ?? '')?.header.previous ?? null
    return decoded === undefined ? [] : [{ name, path: `${directory}/${name.name}`, decoded, known }]
  })
  if (parts.length === 0 && (segments.length > 0 || mustExist)) {
    const why = segments.length > 0 ? 'no segment has a header that can be read' : 'it has an identity and no segment'
    throw new LokiError('LOG_DAMAGED', `${directory}: ${why}`)
  }
  return parts
}

export const dropBelow = (entries: readonly Entry[], first: number): Entry[] =>
  entries.filter((entry) => entry.index >= first)

interface Chain {
  readonly found: readonly SegmentName[]
  /** The chain, oldest first; some of it may be lost. */
  readonly segments: readonly SegmentName[]
  readonly dead: readonly SegmentName[]
  /** Of the segments whose header is whole. */
  readonly headers: ReadonlyMap<string, DecodedHeader>
  /** Why the others have none. */
  readonly lost: ReadonlyMap<string, string>
}

/**
 * Reads the headers and follows the links from the newest segment back. A segment whose header is rotten, or whose
 * file is gone, is lost as a whole: the one before it is the next older file, and the header behind it has the state.
 */
async function openChain(disk: Disk, directory: string, volume: string, first: LogIndex): Promise<Chain> {
  const found = segmentsAmong((await disk.list(directory)) ?? [])
  const headers = new Map<string, DecodedHeader>()
  const lost = new Map<string, string>()
  for (const segment of found) {
    const header = await readHeader(disk, directory, segment, volume)
    if (typeof header === 'string') lost.set(segment.name, header)
    else headers.set(segment.name, header)
  }
  const segments: SegmentName[] = []
  const dead: SegmentName[] = []
  /** Everything before a segment that begins at or below the first index holds only what is gone. */
  const reachesFirst = (): boolean => segments.some(({ base }) => base <= first)
  let wanted: SegmentLink | null | undefined
  const miss = ({ timeline, base }: SegmentLink): void => {
    if (reachesFirst()) return
    const name = segmentName(timeline, base)
    lost.set(name, 'the file is missing')
    segments.unshift({ timeline, base, name })
    wanted = undefined
  }
  for (const segment of found.toReversed()) {
    if (wanted && isBehind(segment, wanted)) miss(wanted)
    const header = headers.get(segment.name)
    const isWanted = wanted === undefined || (wanted?.timeline === segment.timeline && wanted.base === segment.base)
    if (!isWanted || (header === undefined && reachesFirst())) {
      dead.push(segment)
      continue
    }
    segments.unshift(segment)
    wanted = header?.header.previous
  }
  if (wanted) miss(wanted)
  // What is in no chain may be left of a head truncation (older than the chain, which then reaches the first
  // index without it), an empty segment that was replaced, or rotten and superseded. Anything else is of another log.
  for (const segment of dead) {
    if (lost.has(segment.name)) continue
    const newer = segment.timeline > segments[0]!.timeline
    if (newer ? await isEmptySegment(disk, directory, segment, headers) : reachesFirst()) continue
    throw new LokiError('LOG_DAMAGED', `${directory}/${segment.name} is in no chain with the newest segment`)
  }
  return { found, segments, dead, headers, lost }
}

const isBehind = (segment: SegmentName, link: SegmentLink): boolean =>
  segment.timeline < link.timeline || (segment.timeline === link.timeline && segment.base < link.base)

/** The header, or why it is rotten. Throws `VOLUME_MISMATCH`, `FORMAT_TOO_NEW`. */
async function readHeader(
  disk: Disk,
  directory: string,
  name: SegmentName,
  volume: string,
): Promise<DecodedHeader | string> {
  const path = `${directory}/${name.name}`
  try {
    const decoded = await readSegmentHeader(disk, path)
    const { header } = decoded
    if (header.volume !== volume) {
      throw new LokiError('VOLUME_MISMATCH', `${path} belongs to volume ${header.volume}, this is ${volume}`)
    }
    if (header.timeline !== name.timeline || header.base !== name.base) return 'it has the header of another segment'
    return decoded
  } catch (error) {
    if (error instanceof LokiError && error.code === 'LOG_DAMAGED') return error.message
    throw error
  }
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
