/**
 * `lokikv waldump <folder>`: what is in the segments of a log, frame by frame, and why reading stops. Reads only, and
 * reads what a start would read; a running node is not disturbed (its newest frames may be missing). `<folder>` is
 * the WAL volume, a folder that has it as `wal`, or an archive.
 */
import type { Disk } from './disk.ts'
import { ByteReader } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import type { Ballot, Configuration, DurableState, LogRecord } from '../vocabulary.ts'
import { FRAME_STATE } from './frames.ts'
import type { KeyRing } from './keys.ts'
import { RealDisk } from './real-disk.ts'
import { readState, recordsOf } from './records.ts'
import { type SegmentItem, type SegmentLink, type SegmentName, readSegment, segmentsAmong } from './segment.ts'
import { readIndex } from './segment-index.ts'
import { type ChainPart, loadSegment, readSegmentHeader } from './segment-reader.ts'
import { bold, indexOption, keysOf, parseArguments, red, runTool, volumeIn } from './tool.ts'

const USAGE = `usage: lokikv waldump <folder> [--json] [--from <index>] [--keys <folder>]

Shows the write-ahead log in a folder: segments, frames, what is in them, and why reading stops. Reads only.

  <folder>         the WAL volume, a folder with 'wal' in it, or an archive
  --from <index>   only frames that may have the entry with this index, or later ones
  --keys <folder>  the keys of a log that is encrypted (by default LOKIKV_KEYS_DIRECTORY); without the key of a
                   segment its frames are verified, and what is in them is not shown
  --json           one JSON object a line

Exit code: 0, 1 where there is damage, 64 for wrong use.
`

/** One line of a dump; `--json` prints it as it is. Offsets and lengths are in bytes. */
export type DumpLine =
  | {
      readonly kind: 'segment'
      readonly name: string
      readonly bytes: number
      readonly timeline: number
      readonly base: number
      readonly first: number
      readonly doubtfulFrom: number | null
      readonly previous: string | null
      readonly bornWithFrame: boolean
      readonly compressed: boolean
      /** Id of the key that it is sealed with. */
      readonly key: string | null
      /** Marks of the index at its end. */
      readonly index: number | 'none' | 'damaged'
      readonly state: string
    }
  | {
      readonly kind: 'frame'
      readonly offset: number
      readonly bytes: number
      readonly last: number
      readonly compressed: boolean
      /** Sealed with a key that is not here: `records` is empty. */
      readonly sealed: boolean
      readonly records: readonly string[]
    }
  | { readonly kind: 'damage'; readonly offset: number; readonly to: number; readonly reason: string }
  | { readonly kind: 'stop'; readonly offset: number; readonly reason: string }
  | { readonly kind: 'error'; readonly name: string; readonly reason: string }

const showBallot = (ballot: Ballot): string => `${ballot.configuration}.${ballot.n}.${ballot.priority}.${ballot.node}`

const showConfiguration = (configuration: Configuration): string => {
  const ids = (members: Configuration['voters']): string => members.map(({ id }) => id).join(' ')
  const learners = configuration.learners.length > 0 ? `, learners ${ids(configuration.learners)}` : ''
  return `${configuration.id} (voters ${ids(configuration.voters)}${learners})`
}

export function showState(state: DurableState): string {
  const { promise, acceptedBallot, decided, configuration, configurationStart } = state
  const members = configuration === null ? 'none' : `${showConfiguration(configuration)} from ${configurationStart}`
  return `promise ${showBallot(promise)}, accepted ${showBallot(acceptedBallot)}, decided ${decided}, configuration ${members}`
}

function showEntries(entries: readonly { readonly index: number; readonly kind: string }[]): string {
  if (entries.length === 0) return 'no entries'
  const stop = entries.some(({ kind }) => kind === 'stop-sign') ? ' with a stop-sign' : ''
  return `entries ${entries[0]!.index} to ${entries.at(-1)!.index}${stop}`
}

function showRecord(record: LogRecord): string {
  switch (record.kind) {
    case 'entries':
      return showEntries(record.entries)
    case 'promise':
      return `promise ${showBallot(record.ballot)}`
    case 'accept-sync':
      return `accept-sync ${showBallot(record.ballot)} from ${record.base}: ${showEntries(record.entries)}`
    case 'decided':
      return `decided ${record.index}`
    case 'configuration':
      return `configuration ${showConfiguration(record.configuration)} from ${record.start}`
    case 'installed':
      return `installed up to ${record.index}, configuration ${showConfiguration(record.configuration)}`
    case 'doubt-over':
      return 'doubt-over'
    default:
      return record satisfies never
  }
}

function showPayload(kind: number, payload: Buffer): string[] {
  if (kind === FRAME_STATE) return [`state: ${showState(readState(new ByteReader(payload)))}`]
  return recordsOf(kind, payload).map(showRecord)
}

function showItem(item: SegmentItem): DumpLine {
  switch (item.kind) {
    case 'frame': {
      const { header, payload } = item
      const { offset, end, last, compressed } = header
      const records = payload === null ? [] : showPayload(header.kind, payload)
      return { kind: 'frame', offset, bytes: end - offset, last, compressed, sealed: payload === null, records }
    }
    case 'rot':
      return { kind: 'damage', offset: item.from, to: item.to, reason: item.reason }
    case 'foreign':
      return {
        kind: 'damage',
        offset: item.end,
        to: item.end,
        reason: 'what follows was chained to something else',
      }
    case 'stop': {
      const reasons = { end: 'nothing was written behind', torn: 'the last write was torn', rot: 'damage' }
      const reason = item.stop.kind === 'rot' ? `damage: ${item.stop.reason}` : reasons[item.stop.kind]
      return { kind: 'stop', offset: item.end, reason }
    }
    default:
      return item satisfies never
  }
}

export interface DumpOptions {
  /** Null: what is sealed stays closed. */
  readonly keys?: KeyRing | null
  /** Frames that end before this entry are left out; segments are not read before its mark. */
  readonly from?: number | null
}

/** Every line of the log in `directory`, oldest segment first. */
export async function* dump(disk: Disk, directory: string, options: DumpOptions = {}): AsyncGenerator<DumpLine, void> {
  const { keys = null, from = null } = options
  const segments = segmentsAmong((await disk.list(directory)) ?? [])
  for (const [at, name] of segments.entries()) {
    const following = segments[at + 1]
    if (from !== null && following !== undefined && following.base <= from) continue
    try {
      const path = `${directory}/${name.name}`
      const decoded = await readSegmentHeader(disk, path)
      const known = following === undefined ? null : await linkTo(disk, `${directory}/${following.name}`, name)
      yield* dumpSegment(disk, { name, path, decoded, known }, keys, from ?? 0)
    } catch (error) {
      if (!(error instanceof LokiError)) throw error
      yield { kind: 'error', name: name.name, reason: error.message }
    }
  }
}

/** What the segment at `path`, behind `segment`, says about its end; null if it says nothing. */
async function linkTo(disk: Disk, path: string, segment: SegmentName): Promise<SegmentLink | null> {
  try {
    const { previous } = (await readSegmentHeader(disk, path)).header
    return previous?.timeline === segment.timeline && previous.base === segment.base ? previous : null
  } catch (error) {
    if (error instanceof LokiError) return null
    throw error
  }
}

async function* dumpSegment(
  disk: Disk,
  part: ChainPart,
  keys: KeyRing | null,
  from: number,
): AsyncGenerator<DumpLine, void> {
  const { header, seed } = part.decoded
  const file = await disk.open(part.path, 'read')
  const fileBytes = await file.size()
  const index = await readIndex(file, fileBytes, seed, part.known?.end ?? null)
  await file.close()
  // In an archive the segment behind may be gone; the index says where this one ends, too.
  const end = typeof index === 'object' ? index : null
  const known = part.known ?? (end && { timeline: header.timeline, base: header.base, end: end.end, check: end.check })
  yield {
    kind: 'segment',
    name: part.name.name,
    bytes: fileBytes,
    timeline: header.timeline,
    base: header.base,
    first: header.first,
    doubtfulFrom: header.doubtfulFrom,
    previous: header.previous === null ? null : `${header.previous.timeline}-${header.previous.base}`,
    bornWithFrame: header.bornWithFrame,
    compressed: header.compressed,
    key: header.key?.keyId ?? null,
    index: typeof index === 'object' ? index.marks.length : index,
    state: showState(header.state),
  }
  const segment = await loadSegment(disk, keys, { ...part, known }, from)
  for (const item of readSegment(segment.bytes, part.decoded, known, segment.cipher, segment.from)) {
    if (item.kind !== 'frame' || item.header.last >= from) yield showItem(item)
  }
}

function render(line: DumpLine): string {
  switch (line.kind) {
    case 'segment': {
      const doubt = line.doubtfulFrom === null ? '' : `, doubtful from ${line.doubtfulFrom}`
      const after = line.previous === null ? 'the first one' : `after ${line.previous}`
      const packed = `${line.compressed ? ', zstd' : ''}${line.key === null ? '' : `, key ${line.key}`}`
      const index = typeof line.index === 'number' ? `sealed, ${line.index} marks` : `index: ${line.index}`
      const title = `${bold(line.name)} ${line.bytes} bytes, ${after}, first ${line.first}${doubt}${packed}, ${index}`
      return `${title}\n  ${line.state}`
    }
    case 'frame': {
      const records = line.sealed ? '(sealed)' : line.records.join('; ')
      const size = `${line.bytes} bytes${line.compressed ? ' z' : ''}`
      return `  ${String(line.offset).padStart(10)} ${size.padStart(16)}  last ${line.last}  ${records}`
    }
    case 'damage':
      return red(`  ${String(line.offset).padStart(10)} damage up to ${line.to}: ${line.reason}`)
    case 'stop':
      return `  ${String(line.offset).padStart(10)} stop: ${line.reason}`
    case 'error':
      return red(`${line.name}: ${line.reason}`)
    default:
      return line satisfies never
  }
}

/** The command line tool. Gives the exit code. */
export function waldump(argv: readonly string[]): Promise<number> {
  return runTool(argv, USAGE, async () => {
    const given = parseArguments(argv, ['--json'], ['--from', '--keys'])
    if (given.folders.length !== 1) throw new LokiError('TOOL_USAGE', 'one folder expected')
    const disk = new RealDisk()
    const options = { keys: keysOf(given), from: indexOption(given, '--from') }
    let damaged = false
    for await (const line of dump(disk, await volumeIn(disk, given.folders[0]!, 'wal'), options)) {
      damaged ||= line.kind === 'damage' || line.kind === 'error'
      process.stdout.write(`${given.flags.has('--json') ? JSON.stringify(line) : render(line)}\n`)
    }
    return damaged ? 1 : 0
  })
}
