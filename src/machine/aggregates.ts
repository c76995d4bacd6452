/**
 * What hashes, lists and sets have in common: finding them, changing them, removing them when they are empty,
 * and the rows of their commands. PURE.
 */
import { type Command, type Context, WRONG_TYPE } from './command.ts'
import { type AggregateRecord, sizeOf } from './records.ts'
import { type Arguments, type ErrorReply, type Reply, err } from './reply.ts'

/**
 * Elements of one key. A Map and a Set of V8 hold no more, and an error of theirs would end every replica with the
 * entry that it is in, and each start after that: it is refused before anything has changed.
 */
const MOST_ELEMENTS = 2 ** 24
export const TOO_MANY_ELEMENTS = err(`a key holds at most ${MOST_ELEMENTS} elements`)

/** Whether a record of so many elements has no room for so many more. */
export const isFull = (elements: number, more: number): boolean => elements + more > MOST_ELEMENTS

type Kind = AggregateRecord['kind']
type RecordOf<K extends Kind> = Extract<AggregateRecord, { kind: K }>

/** The record of that kind at a key; null: absent; an error: another kind. */
export function findAggregate<K extends Kind>(c: Context, key: string, kind: K): RecordOf<K> | null | ErrorReply {
  const record = c.collection.find(key)
  if (record === null) return null
  return record.kind === kind ? (record as RecordOf<K>) : WRONG_TYPE
}

/** Changes a record that is at its key, and removes it if that leaves it empty. Call it only if there is a change. */
export function edit<R extends AggregateRecord, T>(c: Context, key: string, record: R, change: (record: R) => T): T {
  c.collection.willChange(key, record)
  const result = change(record)
  c.collection.changed(key, record)
  if (sizeOf(record) === 0) c.collection.remove(key)
  return result
}

/** Changes the record at a key, or a new one that is then put there. */
export function editOrMake<R extends AggregateRecord, T>(
  c: Context,
  key: string,
  record: R | null,
  make: () => R,
  change: (record: R) => T,
): T {
  if (record !== null) return edit(c, key, record, change)
  const made = make()
  const result = change(made)
  if (sizeOf(made) > 0) c.collection.put(key, made)
  return result
}

type Execute = (c: Context, args: Arguments) => Reply
type Keys = Command['keys']
const ONE: Keys = [1, 1, 1]

/** Rows of one family: `read`, `grow` (may be refused for memory) and `shrink`. */
export function rowsOf(group: string) {
  const row =
    (kind: Command['kind'], flags: Command['flags']) =>
    (name: string, arity: number, summary: string, execute: Execute, keys: Keys = ONE): Command => ({
      name,
      arity,
      kind,
      flags,
      keys,
      group,
      summary,
      execute,
    })
  return {
    read: row('read', ['readonly']),
    grow: row('write', ['write', 'denyoom']),
    shrink: row('write', ['write']),
  }
}

/** The positions that `start` and `stop` mean in `length` elements, negative ones from the end; null: none. */
export function rangeOf(length: number, start: number, stop: number): { from: number; to: number } | null {
  const from = Math.max(0, start < 0 ? length + start : start)
  const to = Math.min(length - 1, stop < 0 ? length + stop : stop)
  return from > to ? null : { from, to }
}
