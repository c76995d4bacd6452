/**
 * Records of the log: their bytes, and what they do to the state of a log. Functions over plain data.
 *
 * The payload of a frame is a sequence of records, each a kind byte and its fields (`bytes.ts` has the types):
 *
 *   0  padding        the rest of the payload means nothing
 *   1  entries        uint count, entry…
 *   2  promise        ballot
 *   3  accept-sync    ballot, uint base, uint count, entry…
 *   4  decided        uint index
 *   5  configuration  uint start, configuration
 *   6  installed      uint index, uint start, configuration
 *   7  doubt-over     nothing
 *
 * State, in the header of a segment and in state frames:
 *   ballot promise, ballot accepted, uint decided, uint configuration start, uint8 has configuration, configuration?
 */
import { ByteReader, type ByteWriter, readBallot, readConfiguration, readEntry } from '../bytes.ts'
import { writeBallot, writeConfiguration, writeEntry } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { invariant, unreachable } from '../invariant.ts'
import { type Ballot, type DurableState, type Entry, type LogIndex, type LogRecord } from '../vocabulary.ts'
import { compareBallots, logIndex } from '../vocabulary.ts'
import { FRAME_RECORDS } from './frames.ts'

const PADDING = 0
const ENTRIES = 1
const PROMISE = 2
const ACCEPT_SYNC = 3
const DECIDED = 4
const CONFIGURATION = 5
const INSTALLED = 6
const DOUBT_OVER = 7

function writeEntries(writer: ByteWriter, entries: readonly Entry[]): void {
  writer.uint(entries.length)
  for (const entry of entries) writeEntry(writer, entry)
}

function readEntries(reader: ByteReader): Entry[] {
  const count = reader.uint()
  const entries: Entry[] = []
  for (let left = count; left > 0; left--) entries.push(readEntry(reader))
  return entries
}

export function writeRecord(writer: ByteWriter, record: LogRecord): void {
  switch (record.kind) {
    case 'entries':
      writeEntries(writer.uint8(ENTRIES), record.entries)
      return
    case 'promise':
      writeBallot(writer.uint8(PROMISE), record.ballot)
      return
    case 'accept-sync':
      writeBallot(writer.uint8(ACCEPT_SYNC), record.ballot)
      writeEntries(writer.uint(record.base), record.entries)
      return
    case 'decided':
      writer.uint8(DECIDED).uint(record.index)
      return
    case 'configuration':
      writeConfiguration(writer.uint8(CONFIGURATION).uint(record.start), record.configuration)
      return
    case 'installed':
      writeConfiguration(writer.uint8(INSTALLED).uint(record.index).uint(record.start), record.configuration)
      return
    case 'doubt-over':
      writer.uint8(DOUBT_OVER)
      return
    default:
      unreachable(record)
  }
}

/** Fills the payload up with a record that means nothing, to `bytes` more bytes. */
export function writePadding(writer: ByteWriter, bytes: number): void {
  for (let count = 0; count < bytes; count++) writer.uint8(PADDING)
}

/** The records of a whole frame of that kind, no state frame. Throws as `readRecords`. */
export function recordsOf(kind: number, payload: Buffer): LogRecord[] {
  if (kind === FRAME_RECORDS) return readRecords(new ByteReader(payload))
  throw new LokiError('FORMAT_TOO_NEW', `the log has a frame of kind ${kind}, this version knows 1 and 2`)
}

/** The records of a payload. Payloads of entries are views into it. Throws `FRAME_MALFORMED`, `FORMAT_TOO_NEW`. */
export function readRecords(reader: ByteReader): LogRecord[] {
  const records: LogRecord[] = []
  while (reader.remaining > 0) {
    const kind = reader.uint8()
    if (kind === PADDING) break
    records.push(readRecord(reader, kind))
  }
  return records
}

function readRecord(reader: ByteReader, kind: number): LogRecord {
  switch (kind) {
    case ENTRIES:
      return { kind: 'entries', entries: readEntries(reader) }
    case PROMISE:
      return { kind: 'promise', ballot: readBallot(reader) }
    case ACCEPT_SYNC: {
      const ballot = readBallot(reader)
      const base = logIndex(reader.uint())
      return { kind: 'accept-sync', ballot, base, entries: readEntries(reader) }
    }
    case DECIDED:
      return { kind: 'decided', index: logIndex(reader.uint()) }
    case CONFIGURATION: {
      const start = logIndex(reader.uint())
      return { kind: 'configuration', start, configuration: readConfiguration(reader) }
    }
    case INSTALLED: {
      const index = logIndex(reader.uint())
      const start = logIndex(reader.uint())
      return { kind: 'installed', index, start, configuration: readConfiguration(reader) }
    }
    case DOUBT_OVER:
      return { kind: 'doubt-over' }
    default:
      // The checksums of its frame hold: it was written like this.
      throw new LokiError('FORMAT_TOO_NEW', `the log has a record of kind ${kind}, this version knows 0 to 7`)
  }
}

export function writeState(writer: ByteWriter, state: DurableState): void {
  writeBallot(writer, state.promise)
  writeBallot(writer, state.acceptedBallot)
  writer
    .uint(state.decided)
    .uint(state.configurationStart)
    .boolean(state.configuration !== null)
  if (state.configuration !== null) writeConfiguration(writer, state.configuration)
}

export function readState(reader: ByteReader): DurableState {
  const promise = readBallot(reader)
  const acceptedBallot = readBallot(reader)
  const decided = logIndex(reader.uint())
  const configurationStart = logIndex(reader.uint())
  const configuration = reader.boolean() ? readConfiguration(reader) : null
  return { promise, acceptedBallot, decided, configuration, configurationStart }
}

export const larger = (a: Ballot, b: Ballot): Ballot => (compareBallots(a, b) >= 0 ? a : b)

/** The state after `record`, entries apart. Total: what is allowed is `advance`'s to say. */
export function stateAfter(state: DurableState, record: LogRecord): DurableState {
  switch (record.kind) {
    case 'entries':
    case 'doubt-over':
      return state
    case 'promise':
      return { ...state, promise: larger(record.ballot, state.promise) }
    case 'accept-sync':
      return { ...state, promise: larger(record.ballot, state.promise), acceptedBallot: record.ballot }
    case 'decided':
      return record.index > state.decided ? { ...state, decided: record.index } : state
    case 'configuration':
      return { ...state, configuration: record.configuration, configurationStart: record.start }
    case 'installed':
      return {
        ...state,
        decided: logIndex(Math.max(record.index, state.decided)),
        configuration: record.configuration,
        configurationStart: record.start,
      }
    default:
      return unreachable(record)
  }
}

/** Where a log stands: its durable state, and the range of its entries, `first` to `last` (`first - 1` if empty). */
export interface LogPosition {
  readonly state: DurableState
  readonly first: LogIndex
  readonly last: LogIndex
  /** Entries from here on were lost to rot; until a leader's accept-sync. */
  readonly doubtfulFrom: LogIndex | null
  /** In doubt: whether promises may be lost, too. */
  readonly promiseLost: boolean
}

/** Whether `record` replaces a part of the log, and so has to open a segment on a new timeline. */
export function isCut(position: LogPosition, record: LogRecord): boolean {
  return record.kind === 'installed' || (record.kind === 'accept-sync' && record.base <= position.last)
}

/** A checkpoint up to `index` covers what was lost up to there, and says nothing about what was lost above. */
export const doubtAbove = (doubtfulFrom: LogIndex | null, index: number): LogIndex | null =>
  doubtfulFrom === null ? null : logIndex(Math.max(doubtfulFrom, index + 1))

const NO_DOUBT = { doubtfulFrom: null, promiseLost: false } as const

/** A leader's log ends a doubt; decided entries that were learned under the ballot it had do not. */
export const endsDoubt = (before: DurableState, accepted: Ballot): boolean =>
  compareBallots(accepted, before.acceptedBallot) > 0

function checkContiguous(entries: readonly Entry[], from: number): void {
  for (let at = 0; at < entries.length; at++) {
    invariant(entries[at]!.index === from + at, `entry ${entries[at]!.index} where ${from + at} was due`)
  }
}

/** The position after `record`, which must fit: what consensus hands over wrongly is a bug and never written. */
export function advance(position: LogPosition, record: LogRecord): LogPosition {
  const { state, last } = position
  const next = stateAfter(state, record)
  switch (record.kind) {
    case 'entries':
      checkContiguous(record.entries, last + 1)
      return { ...position, last: logIndex(last + record.entries.length) }
    case 'promise':
      invariant(compareBallots(record.ballot, state.promise) >= 0, 'a promise must not become smaller')
      return { ...position, state: next }
    case 'accept-sync':
      // Below the promise it may be: decided entries that were learned replace a suffix under the ballot it had.
      invariant(compareBallots(record.ballot, state.acceptedBallot) >= 0, 'an accepted ballot must not become smaller')
      invariant(record.base <= last + 1, `accept-sync from ${record.base} leaves a gap behind ${last}`)
      invariant(
        record.base > last || record.base > state.decided,
        `accept-sync from ${record.base} would replace what is decided up to ${state.decided}`,
      )
      invariant(record.base >= position.first, `accept-sync from ${record.base} is below the first ${position.first}`)
      checkContiguous(record.entries, record.base)
      return {
        ...position,
        state: next,
        last: logIndex(record.base + record.entries.length - 1),
        ...(endsDoubt(state, record.ballot) ? NO_DOUBT : {}),
      }
    case 'installed':
      return {
        ...position,
        state: next,
        first: logIndex(record.index + 1),
        last: record.index,
        doubtfulFrom: doubtAbove(position.doubtfulFrom, record.index),
      }
    case 'doubt-over':
      return { ...position, ...NO_DOUBT }
    case 'decided':
    case 'configuration':
      return { ...position, state: next }
    default:
      return unreachable(record)
  }
}
