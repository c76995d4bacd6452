/**
 * `lokikv waldump <folder> [--json]`: what is in the segments of a log, frame by frame, and why reading stops.
 * Reads only, and reads what a start would read; a running node is not disturbed (its newest frames may be
 * missing). `<folder>` is the WAL volume, or a folder that has it as `wal`.
 */
import { readWhole } from './disk.ts'
import type { Disk } from './disk.ts'
import { ByteReader } from '../bytes.ts'
import { LokiError, explain } from '../errors.ts'
import type { Ballot, Configuration, DurableState, LogRecord } from '../vocabulary.ts'
import { FRAME_STATE } from './frames.ts'
import { RealDisk } from './real-disk.ts'
import { readRecords, readState } from './records.ts'
import { type SegmentItem, type SegmentLink, type SegmentName, decodeSegmentHeader, readSegment } from './segment.ts'
import { segmentsAmong } from './segment.ts'

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
      readonly state: string
    }
  | {
      readonly kind: 'frame'
      readonly offset: number
      readonly bytes: number
      readonly last: number
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
    default:
      return record satisfies never
  }
}

function showItem(item: SegmentItem): DumpLine {
  switch (item.kind) {
    case 'frame': {
      const { header, payload } = item
      if (payload === null)
        return {
          kind: 'frame',
          offset: header.offset,
          bytes: header.end - header.offset,
          last: header.last,
          records: ['sealed'],
        }
      const reader = new ByteReader(payload)
      const records =
        header.kind === FRAME_STATE ? [`state: ${showState(readState(reader))}`] : readRecords(reader).map(showRecord)
      return { kind: 'frame', offset: header.offset, bytes: header.end - header.offset, last: header.last, records }
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

/** Every line of the log in `directory`, oldest segment first. */
export async function* dump(disk: Disk, directory: string): AsyncGenerator<DumpLine, void> {
  const segments = segmentsAmong((await disk.list(directory)) ?? [])
  for (const [at, segment] of segments.entries()) {
    const bytes = (await readWhole(disk, `${directory}/${segment.name}`)) ?? Buffer.alloc(0)
    try {
      yield* dumpSegment(bytes, segment, await linkTo(disk, directory, segment, segments[at + 1]))
    } catch (error) {
      if (!(error instanceof LokiError)) throw error
      yield { kind: 'error', name: segment.name, reason: error.message }
    }
  }
}

/** What the segment behind `segment` says about its end; null if it says nothing. */
async function linkTo(
  disk: Disk,
  directory: string,
  segment: SegmentName,
  following: SegmentName | undefined,
): Promise<SegmentLink | null> {
  if (following === undefined) return null
  try {
    const bytes = (await readWhole(disk, `${directory}/${following.name}`)) ?? Buffer.alloc(0)
    const { previous } = decodeSegmentHeader(bytes, following.name).header
    return previous?.timeline === segment.timeline && previous.base === segment.base ? previous : null
  } catch (error) {
    if (error instanceof LokiError) return null
    throw error
  }
}

function* dumpSegment(bytes: Buffer, segment: SegmentName, known: SegmentLink | null): Generator<DumpLine, void> {
  const decoded = decodeSegmentHeader(bytes, segment.name)
  const { header } = decoded
  yield {
    kind: 'segment',
    name: segment.name,
    bytes: bytes.length,
    timeline: header.timeline,
    base: header.base,
    first: header.first,
    doubtfulFrom: header.doubtfulFrom,
    previous: header.previous === null ? null : `${header.previous.timeline}-${header.previous.base}`,
    bornWithFrame: header.bornWithFrame,
    state: showState(header.state),
  }
  for (const item of readSegment(bytes, decoded, known)) yield showItem(item)
}

const paint = (colour: number, text: string): string =>
  process.stdout.isTTY ? `\u001B[${colour}m${text}\u001B[0m` : text
export const red = (text: string): string => paint(31, text)
export const green = (text: string): string => paint(32, text)
export const bold = (text: string): string => paint(1, text)

function render(line: DumpLine): string {
  switch (line.kind) {
    case 'segment': {
      const doubt = line.doubtfulFrom === null ? '' : `, doubtful from ${line.doubtfulFrom}`
      const after = line.previous === null ? 'the first one' : `after ${line.previous}`
      return `${bold(line.name)} ${line.bytes} bytes, ${after}, first ${line.first}${doubt}\n  ${line.state}`
    }
    case 'frame':
      return `  ${String(line.offset).padStart(10)} ${String(line.bytes).padStart(8)} bytes  last ${line.last}  ${line.records.join('; ')}`
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

/** `folder` itself, or its `name` where it has one. */
export async function volumeIn(disk: Disk, folder: string, name: string): Promise<string> {
  const path = folder.replace(/\/+$/, '')
  const names = await disk.list(path)
  if (names === null) throw new LokiError('NOT_FOUND', `there is no folder ${path}`)
  return names.includes(name) ? `${path}/${name}` : path
}

/** The command line tool. Gives the exit code: 0, 1 where there is damage, 64 for wrong use. */
export async function waldump(argv: readonly string[]): Promise<number> {
  const folders = argv.filter((argument) => !argument.startsWith('--'))
  const json = argv.includes('--json')
  if (folders.length !== 1 || argv.length > folders.length + (json ? 1 : 0)) {
    process.stderr.write('usage: lokikv waldump <folder> [--json]\n')
    return 64
  }
  const disk = new RealDisk()
  try {
    let damaged = false
    for await (const line of dump(disk, await volumeIn(disk, folders[0]!, 'wal'))) {
      damaged ||= line.kind === 'damage' || line.kind === 'error'
      process.stdout.write(`${json ? JSON.stringify(line) : render(line)}\n`)
    }
    return damaged ? 1 : 0
  } catch (error) {
    if (!(error instanceof LokiError)) throw error
    process.stderr.write(`${explain(error)}\n`)
    return 64
  }
}
