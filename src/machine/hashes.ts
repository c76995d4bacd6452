/** Commands on hashes. PURE. Texts of replies and errors are those of Redis 7. */
import { TOO_MANY_ELEMENTS, edit, editOrMake, findAggregate, isFull, rowsOf } from './aggregates.ts'
import { type Command, type Context, NOT_AN_INTEGER, SYNTAX_ERROR, wrongArity } from './command.ts'
import { globMatches } from './glob.ts'
import {
  addDecimals,
  addIntegers,
  formatDecimal,
  parseDecimal,
  parseInteger,
  parseIntegerText,
  parseSafeInteger,
} from './numbers.ts'
import { type Packed, latin1, latin1Bytes, pack, packedText, unpack } from './packed.ts'
import { type HashRecord, emptyHash, fieldBytes } from './records.ts'
import { type Arguments, type ErrorReply, OK, type Reply, err, isError } from './reply.ts'

const findHash = (c: Context, args: Arguments): HashRecord | null | ErrorReply =>
  findAggregate(c, latin1(args[1]!), 'hash')

/** Whether there is no room for those of `fields` that are new. */
function hasNoRoom(record: HashRecord | null, fields: readonly Uint8Array[]): boolean {
  const size = record?.fields.size ?? 0
  if (!isFull(size, fields.length)) return false
  const fresh = new Set(fields.map((field) => latin1(field)).filter((field) => !record?.fields.has(field)))
  return isFull(size, fresh.size)
}

/** Whether the field is new. */
function assign(record: HashRecord, field: string, value: Packed): boolean {
  const before = record.fields.get(field)
  if (before !== undefined) record.elementBytes -= fieldBytes(field, before)
  record.elementBytes += fieldBytes(field, value)
  record.fields.set(field, value)
  return before === undefined
}

function hset(c: Context, args: Arguments): Reply {
  if (args.length % 2 !== 0) return wrongArity(latin1(args[0]!).toLowerCase())
  const record = findHash(c, args)
  if (isError(record)) return record
  const isNearFull = isFull(record?.fields.size ?? 0, args.length)
  if (
    isNearFull &&
    hasNoRoom(
      record,
      args.slice(2).filter((_, i) => i % 2 === 0),
    )
  )
    return TOO_MANY_ELEMENTS
  return editOrMake(c, latin1(args[1]!), record, emptyHash, (record) => {
    let added = 0
    for (let i = 2; i < args.length; i += 2) if (assign(record, latin1(args[i]!), pack(args[i + 1]!))) added++
    return added
  })
}

function hmset(c: Context, args: Arguments): Reply {
  const reply = hset(c, args)
  return isError(reply) ? reply : OK
}

function hsetnx(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  if (isError(record)) return record
  const field = latin1(args[2]!)
  if (record?.fields.has(field)) return 0
  if (hasNoRoom(record, [args[2]!])) return TOO_MANY_ELEMENTS
  editOrMake(c, latin1(args[1]!), record, emptyHash, (record) => assign(record, field, pack(args[3]!)))
  return 1
}

function hget(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  if (record === null || isError(record)) return record
  const value = record.fields.get(latin1(args[2]!))
  return value === undefined ? null : unpack(value)
}

function hmget(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  if (isError(record)) return record
  return args.slice(2).map((field) => {
    const value = record?.fields.get(latin1(field))
    return value === undefined ? null : unpack(value)
  })
}

function hdel(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  if (isError(record)) return record
  const fields = new Set(args.slice(2).map((field) => latin1(field)))
  const there = [...fields].filter((field) => record?.fields.has(field))
  if (record === null || there.length === 0) return 0
  edit(c, latin1(args[1]!), record, (record) => {
    for (const field of there) {
      record.elementBytes -= fieldBytes(field, record.fields.get(field)!)
      record.fields.delete(field)
    }
  })
  return there.length
}

function hlen(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  return isError(record) ? record : (record?.fields.size ?? 0)
}

function hexists(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  if (isError(record)) return record
  return record?.fields.has(latin1(args[2]!)) ? 1 : 0
}

function hstrlen(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  return isError(record) ? record : (record?.fields.get(latin1(args[2]!))?.length ?? 0)
}

function hgetall(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  if (isError(record)) return record
  const pairs: [Reply, Reply][] = []
  for (const [field, value] of record?.fields ?? []) pairs.push([latin1Bytes(field), unpack(value)])
  return { kind: 'map', pairs }
}

function hkeys(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  return isError(record) ? record : [...(record?.fields.keys() ?? [])].map((field) => latin1Bytes(field))
}

function hvals(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  return isError(record) ? record : [...(record?.fields.values() ?? [])].map((value) => unpack(value))
}

function hincrby(c: Context, args: Arguments): Reply {
  const delta = parseInteger(args[3]!)
  if (delta === null) return NOT_AN_INTEGER
  const record = findHash(c, args)
  if (isError(record)) return record
  const field = latin1(args[2]!)
  const before = parseIntegerText(packedText(record?.fields.get(field) ?? '0'))
  if (before === null) return err('hash value is not an integer')
  if (hasNoRoom(record, [args[2]!])) return TOO_MANY_ELEMENTS
  const sum = addIntegers(before, delta)
  if (sum === null) return err('increment or decrement would overflow')
  editOrMake(c, latin1(args[1]!), record, emptyHash, (record) => assign(record, field, sum.toString()))
  return sum
}

function hincrbyfloat(c: Context, args: Arguments): Reply {
  const delta = parseDecimal(args[3]!)
  if (delta === null) return err('value is not a valid float')
  const record = findHash(c, args)
  if (isError(record)) return record
  const field = latin1(args[2]!)
  const before = parseDecimal(record?.fields.get(field) ?? '0')
  if (before === null) return err('hash value is not a float')
  if (hasNoRoom(record, [args[2]!])) return TOO_MANY_ELEMENTS
  const sum = before === 'infinite' || delta === 'infinite' ? 'infinite' : addDecimals(before, delta)
  if (sum === 'infinite') return err('increment would produce NaN or Infinity')
  const text = formatDecimal(sum)
  editOrMake(c, latin1(args[1]!), record, emptyHash, (record) => assign(record, field, text))
  return latin1Bytes(text)
}

/** All in one step: a cursor of 0 begins and ends. */
function hscan(c: Context, args: Arguments): Reply {
  const record = findHash(c, args)
  if (isError(record)) return record
  const match = parseElementScan(args)
  if (typeof match !== 'string') return match
  const items: Reply[] = []
  for (const [field, value] of record?.fields ?? []) {
    if (globMatches(match, field)) items.push(latin1Bytes(field), unpack(value))
  }
  return [latin1Bytes('0'), items]
}

/** The pattern of HSCAN and SSCAN, or what is wrong. COUNT is a hint that is not needed. */
export function parseElementScan(args: Arguments): string | ErrorReply {
  if (parseSafeInteger(args[2]!) === null) return err('invalid cursor')
  let match = '*'
  for (let i = 3; i < args.length; i += 2) {
    const option = latin1(args[i]!).toUpperCase()
    const operand = args[i + 1]
    if (operand === undefined) return SYNTAX_ERROR
    if (option === 'MATCH') match = latin1(operand)
    else if (option !== 'COUNT') return SYNTAX_ERROR
    else {
      const count = parseSafeInteger(operand)
      if (count === null) return NOT_AN_INTEGER
      if (count < 1) return SYNTAX_ERROR
    }
  }
  return match
}

const { read, grow, shrink } = rowsOf('hash')

export const HASH_COMMANDS: readonly Command[] = [
  read('hget', 3, 'Returns the value of a field in a hash.', hget),
  read('hmget', -3, 'Returns the values of all given fields.', hmget),
  read('hgetall', 2, 'Returns all fields and values in a hash.', hgetall),
  read('hkeys', 2, 'Returns all fields in a hash.', hkeys),
  read('hvals', 2, 'Returns all values in a hash.', hvals),
  read('hlen', 2, 'Returns the number of fields in a hash.', hlen),
  read('hexists', 3, 'Determines whether a field exists in a hash.', hexists),
  read('hstrlen', 3, 'Returns the length of the value of a field.', hstrlen),
  read('hscan', -3, 'Iterates over fields and values of a hash.', hscan),
  grow('hset', -4, 'Creates or modifies the value of a field in a hash.', hset),
  grow('hmset', -4, 'Sets the values of multiple fields.', hmset),
  grow('hsetnx', 4, "Sets the value of a field only when it doesn't exist.", hsetnx),
  grow('hincrby', 4, 'Increments the integer value of a field by a number.', hincrby),
  grow('hincrbyfloat', 4, 'Increments the decimal value of a field by a number.', hincrbyfloat),
  shrink('hdel', -3, 'Deletes one or more fields and their values.', hdel),
]
