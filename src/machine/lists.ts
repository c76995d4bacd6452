/** Commands on lists. PURE. Texts of replies and errors are those of Redis 7. Blocking commands are not there. */
import { edit, editOrMake, findAggregate, rangeOf, rowsOf } from './aggregates.ts'
import { type Command, type Context, NOT_AN_INTEGER, SYNTAX_ERROR, wrongArity } from './command.ts'
import { Deque } from './deque.ts'
import { parseSafeInteger } from './numbers.ts'
import { type Packed, latin1, pack, packedText, unpack } from './packed.ts'
import { type ListRecord, emptyList, itemBytes } from './records.ts'
import { type Arguments, type ErrorReply, OK, type Reply, err, isError } from './reply.ts'

type End = 'front' | 'back'
const NO_SUCH_KEY = err('no such key')
const OUT_OF_RANGE = err('index out of range')

const findList = (c: Context, args: Arguments): ListRecord | null | ErrorReply =>
  findAggregate(c, latin1(args[1]!), 'list')

function pushItem(record: ListRecord, end: End, item: Packed): void {
  record.elementBytes += itemBytes(item)
  if (end === 'front') record.items.pushFront(item)
  else record.items.pushBack(item)
}

function popItem(record: ListRecord, end: End): Packed {
  const item = end === 'front' ? record.items.popFront() : record.items.popBack()
  record.elementBytes -= itemBytes(item)
  return item
}

/** Puts other items in the place of all. */
function replaceItems(record: ListRecord, items: Iterable<Packed>): void {
  record.items = Deque.from(items)
  record.elementBytes = 0
  for (const item of record.items) record.elementBytes += itemBytes(item)
}

/** `must`: only if the list is there. */
function push(end: End, must: boolean) {
  return (c: Context, args: Arguments): Reply => {
    const record = findList(c, args)
    if (isError(record)) return record
    if (record === null && must) return 0
    return editOrMake(c, latin1(args[1]!), record, emptyList, (record) => {
      for (let i = 2; i < args.length; i++) pushItem(record, end, pack(args[i]!))
      return record.items.length
    })
  }
}

function pop(end: End) {
  return (c: Context, args: Arguments): Reply => {
    if (args.length > 3) return wrongArity(end === 'front' ? 'lpop' : 'rpop')
    const count = args.length === 3 ? parseSafeInteger(args[2]!) : 1
    if (count === null || count < 0) return err('value is out of range, must be positive')
    const record = findList(c, args)
    if (isError(record)) return record
    if (record === null) return args.length === 3 ? { kind: 'null-array' } : null
    if (count === 0) return []
    const items = edit(c, latin1(args[1]!), record, (record) => {
      const popped: Uint8Array[] = []
      while (popped.length < count && record.items.length > 0) popped.push(unpack(popItem(record, end)))
      return popped
    })
    return args.length === 3 ? items : items[0]!
  }
}

function llen(c: Context, args: Arguments): Reply {
  const record = findList(c, args)
  return isError(record) ? record : (record?.items.length ?? 0)
}

function lrange(c: Context, args: Arguments): Reply {
  const start = parseSafeInteger(args[2]!)
  const stop = parseSafeInteger(args[3]!)
  if (start === null || stop === null) return NOT_AN_INTEGER
  const record = findList(c, args)
  if (isError(record)) return record
  const range = record === null ? null : rangeOf(record.items.length, start, stop)
  const items: Reply[] = []
  if (record === null || range === null) return items
  for (let i = range.from; i <= range.to; i++) items.push(unpack(record.items.at(i)))
  return items
}

/** The position that an index means, or null if there is none. */
function positionOf(record: ListRecord, index: number): number | null {
  const position = index < 0 ? record.items.length + index : index
  return position >= 0 && position < record.items.length ? position : null
}

function lindex(c: Context, args: Arguments): Reply {
  const index = parseSafeInteger(args[2]!)
  if (index === null) return NOT_AN_INTEGER
  const record = findList(c, args)
  if (record === null || isError(record)) return record
  const position = positionOf(record, index)
  return position === null ? null : unpack(record.items.at(position))
}

function lset(c: Context, args: Arguments): Reply {
  const index = parseSafeInteger(args[2]!)
  if (index === null) return NOT_AN_INTEGER
  const record = findList(c, args)
  if (isError(record)) return record
  if (record === null) return NO_SUCH_KEY
  const position = positionOf(record, index)
  if (position === null) return OUT_OF_RANGE
  edit(c, latin1(args[1]!), record, (record) => {
    const item = pack(args[3]!)
    record.elementBytes += itemBytes(item) - itemBytes(record.items.at(position))
    record.items.set(position, item)
  })
  return OK
}

function linsert(c: Context, args: Arguments): Reply {
  const where = latin1(args[2]!).toUpperCase()
  if (where !== 'BEFORE' && where !== 'AFTER') return SYNTAX_ERROR
  const record = findList(c, args)
  if (isError(record)) return record
  if (record === null) return 0
  const pivot = latin1(args[3]!)
  const items = [...record.items]
  const found = items.findIndex((item) => packedText(item) === pivot)
  if (found < 0) return -1
  items.splice(where === 'BEFORE' ? found : found + 1, 0, pack(args[4]!))
  edit(c, latin1(args[1]!), record, (record) => replaceItems(record, items))
  return items.length
}

function lrem(c: Context, args: Arguments): Reply {
  const count = parseSafeInteger(args[2]!)
  if (count === null) return NOT_AN_INTEGER
  const record = findList(c, args)
  if (isError(record)) return record
  if (record === null) return 0
  const unwanted = latin1(args[3]!)
  const most = count === 0 ? Infinity : Math.abs(count)
  const items = [...record.items]
  if (count < 0) items.reverse()
  let removed = 0
  const kept = items.filter((item) => {
    if (removed >= most || packedText(item) !== unwanted) return true
    removed++
    return false
  })
  if (removed === 0) return 0
  if (count < 0) kept.reverse()
  edit(c, latin1(args[1]!), record, (record) => replaceItems(record, kept))
  return removed
}

function ltrim(c: Context, args: Arguments): Reply {
  const start = parseSafeInteger(args[2]!)
  const stop = parseSafeInteger(args[3]!)
  if (start === null || stop === null) return NOT_AN_INTEGER
  const record = findList(c, args)
  if (isError(record)) return record
  if (record === null) return OK
  const range = rangeOf(record.items.length, start, stop)
  edit(c, latin1(args[1]!), record, (record) => {
    const behind = range === null ? 0 : record.items.length - 1 - range.to
    for (let i = 0; i < behind; i++) popItem(record, 'back')
    const before = range === null ? record.items.length : range.from
    for (let i = 0; i < before; i++) popItem(record, 'front')
  })
  return OK
}

/** Takes an item from one end of one list to an end of another, or of the same. */
function move(c: Context, from: string, to: string, source: End, target: End): Reply {
  const record = findAggregate(c, from, 'list')
  if (record === null || isError(record)) return record
  const other = from === to ? record : findAggregate(c, to, 'list')
  if (isError(other)) return other
  if (from === to) return unpack(edit(c, from, record, (record) => rotate(record, source, target)))
  const item = edit(c, from, record, (record) => popItem(record, source))
  editOrMake(c, to, other, emptyList, (record) => pushItem(record, target, item))
  return unpack(item)
}

function rotate(record: ListRecord, source: End, target: End): Packed {
  const item = popItem(record, source)
  pushItem(record, target, item)
  return item
}

function lmove(c: Context, args: Arguments): Reply {
  const ends = [args[3]!, args[4]!].map((end): End | null => {
    const word = latin1(end).toUpperCase()
    return word === 'LEFT' ? 'front' : word === 'RIGHT' ? 'back' : null
  })
  const [source, target] = ends
  if (!source || !target) return SYNTAX_ERROR
  return move(c, latin1(args[1]!), latin1(args[2]!), source, target)
}

const rpoplpush = (c: Context, args: Arguments): Reply => move(c, latin1(args[1]!), latin1(args[2]!), 'back', 'front')

interface PositionOptions {
  rank: number
  count: number | null
  maxlen: number
}

function parsePositionOptions(args: Arguments): PositionOptions | ErrorReply {
  const options: PositionOptions = { rank: 1, count: null, maxlen: 0 }
  for (let i = 3; i < args.length; i += 2) {
    const option = latin1(args[i]!).toUpperCase()
    if (args[i + 1] === undefined) return SYNTAX_ERROR
    const value = parseSafeInteger(args[i + 1]!)
    if (value === null) return NOT_AN_INTEGER
    if (option === 'RANK') {
      if (value === 0)
        return err(
          "RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
        )
      options.rank = value
    } else if (option === 'COUNT') {
      if (value < 0) return err("COUNT can't be negative")
      options.count = value
    } else if (option === 'MAXLEN') {
      if (value < 0) return err("MAXLEN can't be negative")
      options.maxlen = value
    } else return SYNTAX_ERROR
  }
  return options
}

function lpos(c: Context, args: Arguments): Reply {
  const options = parsePositionOptions(args)
  if ('kind' in options) return options
  const record = findList(c, args)
  if (isError(record)) return record
  const found = record === null ? [] : positionsOf(record, latin1(args[2]!), options)
  return options.count === null ? (found[0] ?? null) : found
}

function positionsOf(record: ListRecord, wanted: string, { rank, count, maxlen }: PositionOptions): number[] {
  const found: number[] = []
  const { length } = record.items
  const most = count === null ? 1 : count === 0 ? Infinity : count
  const looked = maxlen === 0 ? length : Math.min(maxlen, length)
  let skip = Math.abs(rank) - 1
  for (let i = 0; i < looked && found.length < most; i++) {
    const position = rank > 0 ? i : length - 1 - i
    if (packedText(record.items.at(position)) !== wanted) continue
    if (skip > 0) skip--
    else found.push(position)
  }
  return found
}

const { read, grow, shrink } = rowsOf('list')

export const LIST_COMMANDS: readonly Command[] = [
  read('llen', 2, 'Returns the length of a list.', llen),
  read('lrange', 4, 'Returns a range of elements from a list.', lrange),
  read('lindex', 3, 'Returns an element from a list by its index.', lindex),
  read('lpos', -3, 'Returns the index of matching elements in a list.', lpos),
  grow('lpush', -3, 'Prepends one or more elements to a list.', push('front', false)),
  grow('rpush', -3, 'Appends one or more elements to a list.', push('back', false)),
  grow('lpushx', -3, 'Prepends elements to a list only when it exists.', push('front', true)),
  grow('rpushx', -3, 'Appends elements to a list only when it exists.', push('back', true)),
  grow('linsert', 5, 'Inserts an element before or after another element.', linsert),
  grow('lset', 4, 'Sets the value of an element in a list by its index.', lset),
  grow('lmove', 5, 'Moves an element from one list to another.', lmove, [1, 2, 1]),
  grow('rpoplpush', 3, 'Moves the last element of a list to the front of another.', rpoplpush, [1, 2, 1]),
  shrink('lpop', -2, 'Returns and removes the first elements of a list.', pop('front')),
  shrink('rpop', -2, 'Returns and removes the last elements of a list.', pop('back')),
  shrink('lrem', 4, 'Removes elements from a list.', lrem),
  shrink('ltrim', 4, 'Removes elements from both ends of a list.', ltrim),
]
