/**
 * The tail of the log that a replica keeps in memory: contiguous entries from `first` on. PURE.
 *
 * What is below `first` is in the checkpoint. Indices that are asked for beyond either end are not there
 * (undefined, an empty slice); only a gap in what is appended is a bug.
 */
import { invariant } from '../invariant.ts'
import { type Configuration, type Entry, type LogIndex, type Member, logIndex, sameOptions } from '../vocabulary.ts'

export interface Log {
  first: number
  entries: Entry[]
  bytes: number
}

/** What an entry counts for in the bounds of consensus: its payload and about what surrounds it. */
export const entryBytes = (entry: Entry): number => (entry.kind === 'commands' ? entry.payload.length + 16 : 512)

/** Of all of them together. */
export const bytesOf = (entries: readonly Entry[]): number => entries.reduce((sum, entry) => sum + entryBytes(entry), 0)

export function createLog(first: LogIndex, entries: readonly Entry[]): Log {
  const log: Log = { first, entries: [], bytes: 0 }
  append(log, entries)
  return log
}

/** Index of the last entry; `first - 1` where there is none. */
export const lastIndex = (log: Log): LogIndex => logIndex(log.first + log.entries.length - 1)

export const entryAt = (log: Log, index: number): Entry | undefined => log.entries[index - log.first]

export function append(log: Log, entries: readonly Entry[]): void {
  for (const entry of entries) {
    invariant(entry.index === log.first + log.entries.length, `entry ${entry.index} leaves a gap in the log`)
    log.entries.push(entry)
    log.bytes += entryBytes(entry)
  }
}

/** Drops everything at and above `index`. */
export function truncateFrom(log: Log, index: number): void {
  for (const entry of log.entries.splice(Math.max(index - log.first, 0))) log.bytes -= entryBytes(entry)
}

/** Drops what is at or below `index`, the oldest first, but keeps `keepBytes` of entries for peers that lag a little. */
export function dropThrough(log: Log, index: number, keepBytes: number): void {
  let count = 0
  for (const entry of log.entries) {
    if (entry.index > index || log.bytes - entryBytes(entry) < keepBytes) break
    log.bytes -= entryBytes(entry)
    count++
  }
  log.entries.splice(0, count)
  log.first += count
  if (log.entries.length > 0 && isOfMuchMore(log.entries[0]!)) log.entries = log.entries.map(owned)
}

/** What an entry may keep alive beside its payload. */
const AROUND_BYTES = 4 * 1024 * 1024

/** Entries of a start are views of the segments that they were read from. */
const isOfMuchMore = (entry: Entry): boolean =>
  entry.kind === 'commands' && entry.payload.buffer.byteLength > 2 * entry.payload.length + AROUND_BYTES

/** With memory of its own: what stays of a segment must not keep all of it. */
const owned = (entry: Entry): Entry =>
  entry.kind === 'commands' && isOfMuchMore(entry) ? { ...entry, payload: new Uint8Array(entry.payload) } : entry

/** Entries `from`…`to` as far as they fit into `maxBytes`; at least one where there is one. */
export function slice(log: Log, from: number, to: number, maxBytes: number): Entry[] {
  const found: Entry[] = []
  let bytes = 0
  for (let index = from; index <= to; index++) {
    const entry = entryAt(log, index)
    if (entry === undefined) break
    bytes += entryBytes(entry)
    if (bytes > maxBytes && found.length > 0) break
    found.push(entry)
  }
  return found
}

/** Whether entries `from`…`to` are all here and together no larger than `limit`. */
export function fits(log: Log, from: number, to: number, limit: number): boolean {
  if (from > to) return true
  if (from < log.first || to > lastIndex(log)) return false
  let bytes = 0
  for (let index = from; index <= to && bytes <= limit; index++) bytes += entryBytes(entryAt(log, index)!)
  return bytes <= limit
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false
  return true
}

const sameMembers = (a: readonly Member[], b: readonly Member[]): boolean =>
  a.length === b.length &&
  a.every((member, at) => {
    const other = b[at]!
    return member.id === other.id && member.volume === other.volume && member.address === other.address
  })

export const sameConfiguration = (a: Configuration, b: Configuration): boolean =>
  a.id === b.id &&
  a.preferredLeader === b.preferredLeader &&
  sameOptions(a, b) &&
  sameMembers(a.voters, b.voters) &&
  sameMembers(a.learners, b.learners)

/** Whether two entries at one index say the same. */
export function sameEntry(a: Entry, b: Entry): boolean {
  if (a === b) return true
  if (a.kind === 'commands') return b.kind === 'commands' && sameBytes(a.payload, b.payload)
  return b.kind === 'stop-sign' && sameConfiguration(a.next, b.next)
}
