/** Commands on strings. PURE. Texts of replies and errors are those of Redis 7. */
import { type Command, type Context, NOT_AN_INTEGER, SYNTAX_ERROR, WRONG_TYPE, wrongArity } from './command.ts'
import { parseExpiryOption } from './expiry-options.ts'
import {
  type Integer,
  addDecimals,
  addIntegers,
  formatDecimal,
  negateInteger,
  parseDecimal,
  parseInteger,
  parseIntegerText,
  parseSafeInteger,
} from './numbers.ts'
import { type Key, keyText, latin1, latin1Bytes } from './packed.ts'
import type { StringRecord } from './records.ts'
import { type Arguments, type ErrorReply, OK, type Reply, err, isError } from './reply.ts'

/** Longest string a command may make: Redis's own limit. */
export const MAX_STRING_BYTES = 536_870_912
const TOO_LONG = err('string exceeds maximum allowed size (proto-max-bulk-len)')
const NOT_A_FLOAT = err('value is not a valid float')

/** The string at a key; null: absent; an error: another kind. */
function findString(c: Context, key: Key): StringRecord | null | ErrorReply {
  const record = c.collection.find(key)
  return record === null || record.kind === 'string' ? record : WRONG_TYPE
}

/** Sets a value and takes an expiry away. */
function assign(c: Context, key: Key, value: Uint8Array, expireAtMilliseconds = 0): void {
  if (expireAtMilliseconds === 0) c.collection.putString(key, value)
  else c.collection.put(keyText(key), { kind: 'string', value, version: 0, expireAtMilliseconds })
}

/** Changes the value of a key that may be absent; its expiry stays. */
function replaceValue(c: Context, key: string, record: StringRecord | null, value: Uint8Array): void {
  assign(c, key, value, record?.expireAtMilliseconds ?? 0)
}

function get(c: Context, args: Arguments): Reply {
  const record = findString(c, args[1]!)
  if (record === null || isError(record)) return record
  return record.value
}

interface SetOptions {
  onlyIf: 'absent' | 'present' | null
  get: boolean
  keepTtl: boolean
  expireAt: number | null
}

function parseSetOptions(c: Context, args: Arguments): SetOptions | ErrorReply {
  const options: SetOptions = { onlyIf: null, get: false, keepTtl: false, expireAt: null }
  for (let i = 3; i < args.length; i++) {
    const option = latin1(args[i]!).toUpperCase()
    if (option === 'NX' && options.onlyIf !== 'present') options.onlyIf = 'absent'
    else if (option === 'XX' && options.onlyIf !== 'absent') options.onlyIf = 'present'
    else if (option === 'GET') options.get = true
    else if (option === 'KEEPTTL' && options.expireAt === null) options.keepTtl = true
    else {
      const operand = args[++i]
      if (operand === undefined || options.keepTtl || options.expireAt !== null) return SYNTAX_ERROR
      const at = parseExpiryOption(c, 'set', option, operand)
      if (at === null) return SYNTAX_ERROR
      if (typeof at !== 'number') return at
      options.expireAt = at
    }
  }
  return options
}

function set(c: Context, args: Arguments): Reply {
  const { collection } = c
  if (args.length === 3) {
    assign(c, args[1]!, args[2]!)
    return OK
  }
  const key = latin1(args[1]!)
  const options = parseSetOptions(c, args)
  if ('kind' in options) return options
  const record = collection.find(key)
  if (options.get && record !== null && record.kind !== 'string') return WRONG_TYPE
  const before = options.get && record?.kind === 'string' ? record.value : null
  if (options.onlyIf === 'absent' && record !== null) return before
  if (options.onlyIf === 'present' && record === null) return null
  const expireAt = options.keepTtl ? (record?.expireAtMilliseconds ?? 0) : (options.expireAt ?? 0)
  if (expireAt !== 0 && expireAt <= c.store.timeMilliseconds) collection.remove(key)
  else assign(c, key, args[2]!, expireAt)
  return options.get ? before : OK
}

function setnx(c: Context, args: Arguments): Reply {
  const key = latin1(args[1]!)
  if (c.collection.find(key) !== null) return 0
  assign(c, key, args[2]!)
  return 1
}

/** SETEX and PSETEX. */
function setWithTtl(name: string, option: 'EX' | 'PX') {
  return (c: Context, args: Arguments): Reply => {
    const at = parseExpiryOption(c, name, option, args[2]!)
    if (typeof at !== 'number') return at ?? SYNTAX_ERROR
    assign(c, latin1(args[1]!), args[3]!, at)
    return OK
  }
}

function getset(c: Context, args: Arguments): Reply {
  const before = get(c, args)
  if (before !== null && isError(before)) return before
  assign(c, latin1(args[1]!), args[2]!)
  return before
}

function getdel(c: Context, args: Arguments): Reply {
  const before = get(c, args)
  if (before instanceof Uint8Array) c.collection.remove(latin1(args[1]!))
  return before
}

function getex(c: Context, args: Arguments): Reply {
  const key = latin1(args[1]!)
  let at: number | null = null
  if (args.length > 2) {
    const option = latin1(args[2]!).toUpperCase()
    if (option === 'PERSIST' && args.length === 3) at = 0
    else {
      if (args.length !== 4) return SYNTAX_ERROR
      const parsed = parseExpiryOption(c, 'getex', option, args[3]!)
      if (typeof parsed !== 'number') return parsed ?? SYNTAX_ERROR
      at = parsed
    }
  }
  const record = findString(c, key)
  if (record === null || isError(record)) return record
  const { value } = record
  if (at !== null && at !== 0 && at <= c.store.timeMilliseconds) c.collection.remove(key)
  else if (at !== null && at !== record.expireAtMilliseconds) c.collection.setExpiry(key, record, at)
  return value
}

function append(c: Context, args: Arguments): Reply {
  const key = latin1(args[1]!)
  const record = findString(c, key)
  if (record !== null && isError(record)) return record
  const tail = args[2]!
  const length = (record?.value.length ?? 0) + tail.length
  if (length > MAX_STRING_BYTES) return TOO_LONG
  replaceValue(c, key, record, record === null ? tail : Buffer.concat([record.value, tail]))
  return length
}

function strlen(c: Context, args: Arguments): Reply {
  const record = findString(c, latin1(args[1]!))
  if (record !== null && isError(record)) return record
  return record?.value.length ?? 0
}

function mset(c: Context, args: Arguments): Reply {
  if (args.length % 2 === 0) return wrongArity('mset')
  for (let i = 1; i < args.length; i += 2) assign(c, args[i]!, args[i + 1]!)
  return OK
}

function msetnx(c: Context, args: Arguments): Reply {
  if (args.length % 2 === 0) return wrongArity('msetnx')
  for (let i = 1; i < args.length; i += 2) if (c.collection.find(args[i]!) !== null) return 0
  mset(c, args)
  return 1
}

function mget(c: Context, args: Arguments): Reply {
  const values: Reply[] = []
  for (let i = 1; i < args.length; i++) {
    const record = c.collection.find(args[i]!)
    values.push(record?.kind === 'string' ? record.value : null)
  }
  return values
}

function addTo(c: Context, keyBytes: Uint8Array, delta: Integer): Reply {
  const key = latin1(keyBytes)
  const record = findString(c, key)
  if (record !== null && isError(record)) return record
  const before = record === null ? 0 : record.value.length > 20 ? null : parseIntegerText(latin1(record.value))
  if (before === null) return NOT_AN_INTEGER
  const sum = addIntegers(before, delta)
  if (sum === null) return err('increment or decrement would overflow')
  replaceValue(c, key, record, latin1Bytes(sum.toString()))
  return sum
}

function incrby(c: Context, args: Arguments): Reply {
  const delta = parseInteger(args[2]!)
  return delta === null ? NOT_AN_INTEGER : addTo(c, args[1]!, delta)
}

function decrby(c: Context, args: Arguments): Reply {
  const delta = parseInteger(args[2]!)
  if (delta === null) return NOT_AN_INTEGER
  const negated = negateInteger(delta)
  return negated === null ? err('decrement would overflow') : addTo(c, args[1]!, negated)
}

function incrbyfloat(c: Context, args: Arguments): Reply {
  const key = latin1(args[1]!)
  const record = findString(c, key)
  if (record !== null && isError(record)) return record
  const before = parseDecimal(record?.value ?? '0')
  const delta = parseDecimal(args[2]!)
  if (before === null || delta === null) return NOT_A_FLOAT
  const sum = before === 'infinite' || delta === 'infinite' ? 'infinite' : addDecimals(before, delta)
  if (sum === 'infinite') return err('increment would produce NaN or Infinity')
  const text = formatDecimal(sum)
  replaceValue(c, key, record, latin1Bytes(text))
  return latin1Bytes(text)
}

function getrange(c: Context, args: Arguments): Reply {
  const start = parseSafeInteger(args[2]!)
  const end = parseSafeInteger(args[3]!)
  if (start === null || end === null) return NOT_AN_INTEGER
  const record = findString(c, latin1(args[1]!))
  if (record !== null && isError(record)) return record
  const length = record?.value.length ?? 0
  if (record === null || length === 0 || (start < 0 && end < 0 && start > end)) return latin1Bytes('')
  const from = Math.max(0, start < 0 ? length + start : start)
  const to = Math.min(length - 1, Math.max(0, end < 0 ? length + end : end))
  return from > to ? latin1Bytes('') : record.value.subarray(from, to + 1)
}

function setrange(c: Context, args: Arguments): Reply {
  const key = latin1(args[1]!)
  const offset = parseSafeInteger(args[2]!)
  const piece = args[3]!
  if (offset === null) return NOT_AN_INTEGER
  if (offset < 0) return err('offset is out of range')
  const record = findString(c, key)
  if (record !== null && isError(record)) return record
  const before = record?.value.length ?? 0
  if (piece.length === 0) return before
  if (offset + piece.length > MAX_STRING_BYTES) return TOO_LONG
  const length = Math.max(before, offset + piece.length)
  const whole = Buffer.alloc(length)
  if (record !== null) whole.set(record.value)
  whole.set(piece, offset)
  replaceValue(c, key, record, whole)
  return length
}

const incr = (c: Context, args: Arguments): Reply => addTo(c, args[1]!, 1)
const decr = (c: Context, args: Arguments): Reply => addTo(c, args[1]!, -1)

type Execute = (c: Context, args: Arguments) => Reply

function read(name: string, arity: number, summary: string, execute: Execute, last = 1): Command {
  return {
    name,
    arity,
    kind: 'read',
    flags: ['readonly', 'fast'],
    keys: [1, last, 1],
    group: 'string',
    summary,
    execute,
  }
}

/** A write that may grow the data. */
function write(name: string, arity: number, summary: string, execute: Execute, last = 1, step = 1): Command {
  const flags = ['write', 'denyoom'] as const
  return { name, arity, kind: 'write', flags, keys: [1, last, step], group: 'string', summary, execute }
}

export const STRING_COMMANDS: readonly Command[] = [
  read('get', 2, 'Returns the string value of a key.', get),
  read('mget', -2, 'Returns the string values of one or more keys.', mget, -1),
  read('strlen', 2, 'Returns the length of a string value.', strlen),
  read('getrange', 4, 'Returns a substring of a string value.', getrange),
  read('substr', 4, 'Returns a substring of a string value.', getrange),
  write('set', -3, 'Sets the string value of a key, and optionally its expiry.', set),
  write('setnx', 3, "Sets the string value of a key that doesn't exist.", setnx),
  write('setex', 4, 'Sets the string value and expiry of a key.', setWithTtl('setex', 'EX')),
  write('psetex', 4, 'Sets the string value and expiry in milliseconds of a key.', setWithTtl('psetex', 'PX')),
  write('getset', 3, 'Returns the previous value of a key after setting it.', getset),
  { ...write('getdel', 2, 'Returns the value of a key after deleting it.', getdel), flags: ['write', 'fast'] },
  { ...write('getex', -2, 'Returns the value of a key after setting its expiry.', getex), flags: ['write', 'fast'] },
  write('append', 3, 'Appends to the value of a key.', append),
  write('setrange', 4, 'Overwrites a part of a string value.', setrange),
  write('mset', -3, 'Sets the values of one or more keys.', mset, -1, 2),
  write('msetnx', -3, 'Sets the values of keys, if none of them exists.', msetnx, -1, 2),
  write('incr', 2, 'Increments the integer value of a key by one.', incr),
  write('decr', 2, 'Decrements the integer value of a key by one.', decr),
  write('incrby', 3, 'Increments the integer value of a key by a number.', incrby),
  write('decrby', 3, 'Decrements the integer value of a key by a number.', decrby),
  write('incrbyfloat', 3, 'Increments the decimal value of a key by a number.', incrbyfloat),
]
