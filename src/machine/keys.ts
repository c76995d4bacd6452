/** Commands on keys of any kind, and on the whole keyspace. PURE. Texts are those of Redis 7. */
import type { Buckets, KeyHead } from './buckets.ts'
import { type Command, type Context, NOT_AN_INTEGER, SYNTAX_ERROR } from './command.ts'
import { invalidExpireTime } from './expiry-options.ts'
import { globMatches } from './glob.ts'
import { BUCKETS, hashOf } from './hash.ts'
import { parseInteger, parseSafeInteger } from './numbers.ts'
import { latin1, latin1Bytes } from './packed.ts'
import { type KeyRecord, copyRecord, typeName } from './records.ts'
import { type Arguments, type ErrorReply, OK, type Reply, err } from './reply.ts'
import type { Collection } from './store.ts'

const NO_SUCH_KEY = err('no such key')

function del(c: Context, args: Arguments): Reply {
  let count = 0
  for (let i = 1; i < args.length; i++) if (c.collection.remove(latin1(args[i]!))) count++
  return count
}

function exists(c: Context, args: Arguments): Reply {
  let count = 0
  for (let i = 1; i < args.length; i++) if (c.collection.find(args[i]!) !== null) count++
  return count
}

function type(c: Context, args: Arguments): Reply {
  const record = c.collection.find(latin1(args[1]!))
  return record === null ? 'none' : typeName(record)
}

/** Moves `from` to `to`, its expiry included. */
function move(c: Context, from: string, record: KeyRecord, to: string): void {
  if (from === to) return
  c.collection.remove(from)
  c.collection.put(to, record)
}

function rename(c: Context, args: Arguments): Reply {
  const from = latin1(args[1]!)
  const record = c.collection.find(from)
  if (record === null) return NO_SUCH_KEY
  move(c, from, record, latin1(args[2]!))
  return OK
}

function renamenx(c: Context, args: Arguments): Reply {
  const from = latin1(args[1]!)
  const to = latin1(args[2]!)
  const record = c.collection.find(from)
  if (record === null) return NO_SUCH_KEY
  if (c.collection.find(to) !== null) return 0
  move(c, from, record, to)
  return 1
}

function copy(c: Context, args: Arguments): Reply {
  const to = latin1(args[2]!)
  let replace = false
  for (let i = 3; i < args.length; i++) {
    const option = latin1(args[i]!).toUpperCase()
    if (option === 'REPLACE') replace = true
    else if (option === 'DB' && i + 1 < args.length) {
      const database = parseSafeInteger(args[++i]!)
      if (database === null) return NOT_AN_INTEGER
      if (database !== 0) return err('DB index is out of range')
    } else return SYNTAX_ERROR
  }
  if (latin1(args[1]!) === to) return err('source and destination objects are the same')
  const record = c.collection.find(latin1(args[1]!))
  if (record === null || (c.collection.find(to) !== null && !replace)) return 0
  c.collection.put(to, copyRecord(record))
  return 1
}

interface ExpireConditions {
  readonly nx: boolean
  readonly xx: boolean
  readonly gt: boolean
  readonly lt: boolean
}

const NO_CONDITIONS: ExpireConditions = { nx: false, xx: false, gt: false, lt: false }

function parseExpireConditions(args: Arguments): ExpireConditions | ErrorReply {
  if (args.length === 3) return NO_CONDITIONS
  const options = args.slice(3).map((option) => latin1(option))
  const given = new Set(options.map((option) => option.toUpperCase()))
  const unknown = options.find((option) => !['NX', 'XX', 'GT', 'LT'].includes(option.toUpperCase()))
  if (unknown !== undefined) return err(`Unsupported option ${unknown}`)
  const [nx, xx, gt, lt] = [given.has('NX'), given.has('XX'), given.has('GT'), given.has('LT')]
  if (nx && (xx || gt || lt)) return err('NX and XX, GT or LT options at the same time are not compatible')
  if (gt && lt) return err('GT and LT options at the same time are not compatible')
  return { nx, xx, gt, lt }
}

/** `now` and `at`: expiries, 0 for never, which is later than every time. */
function mayExpire(conditions: ExpireConditions, now: number, at: number): boolean {
  if (conditions.nx && now !== 0) return false
  if (conditions.xx && now === 0) return false
  if (conditions.gt && (now === 0 || at <= now)) return false
  return !(conditions.lt && now !== 0 && at >= now)
}

/** EXPIRE and its relatives: `unit` in milliseconds; `absolute`: since 1970, not from now. */
function expireBy(name: string, unit: number, absolute: boolean) {
  return (c: Context, args: Arguments): Reply => {
    const given = parseInteger(args[2]!)
    if (given === null) return NOT_AN_INTEGER
    const conditions = parseExpireConditions(args)
    if ('kind' in conditions) return conditions
    const at = Number(given) * unit + (absolute ? 0 : c.store.timeMilliseconds)
    if (!Number.isSafeInteger(at)) return invalidExpireTime(name)
    const key = latin1(args[1]!)
    const record = c.collection.find(key)
    if (record === null || !mayExpire(conditions, record.expireAtMilliseconds, at)) return 0
    if (at <= c.store.timeMilliseconds) c.collection.remove(key)
    else c.collection.setExpiry(key, record, at)
    return 1
  }
}

/** TTL and its relatives: -2 for no key, -1 for no expiry. */
function ttlIn(unit: number, absolute: boolean) {
  return (c: Context, args: Arguments): Reply => {
    const record = c.collection.find(latin1(args[1]!))
    if (record === null) return -2
    if (record.expireAtMilliseconds === 0) return -1
    const milliseconds = record.expireAtMilliseconds - (absolute ? 0 : c.store.timeMilliseconds)
    return absolute ? Math.floor(milliseconds / unit) : Math.floor((milliseconds + unit / 2) / unit)
  }
}

function persist(c: Context, args: Arguments): Reply {
  const key = latin1(args[1]!)
  const record = c.collection.find(key)
  if (record === null || record.expireAtMilliseconds === 0) return 0
  c.collection.setExpiry(key, record, 0)
  return 1
}

interface ScanOptions {
  match: string
  count: number
  type: string | null
}

function parseScanOptions(args: Arguments): ScanOptions | ErrorReply {
  const options: ScanOptions = { match: '*', count: 10, type: null }
  for (let i = 2; i < args.length; i += 2) {
    const option = latin1(args[i]!).toUpperCase()
    const operand = args[i + 1]
    if (operand === undefined) return SYNTAX_ERROR
    if (option === 'MATCH') options.match = latin1(operand)
    else if (option === 'TYPE') options.type = latin1(operand).toLowerCase()
    else if (option === 'COUNT') {
      const count = parseSafeInteger(operand)
      if (count === null) return NOT_AN_INTEGER
      if (count < 1) return SYNTAX_ERROR
      options.count = count
    } else return SYNTAX_ERROR
  }
  return options
}

/** The keys of a bucket whose hash is at least `from`, in the order of hashes. */
function headsFrom(buckets: Buckets, bucket: number, from: number): (KeyHead & { readonly hash: number })[] {
  const found: (KeyHead & { readonly hash: number })[] = []
  for (const head of buckets.heads(bucket)) {
    const hash = hashOf(head.key)
    if (hash >= from) found.push({ ...head, hash })
  }
  return found.sort((a, b) => a.hash - b.hash || (a.key < b.key ? -1 : 1))
}

/**
 * One step in the order of hashes. The cursor is the smallest hash that was not seen yet: it says the same on
 * every node, and a key that is there all the time is told exactly once.
 */
function scanStep(collection: Collection, cursor: number, options: ScanOptions): { cursor: number; keys: Reply[] } {
  const keys: Reply[] = []
  let seen = 0
  for (let index = Math.floor(cursor / (2 ** 32 / BUCKETS)); index < BUCKETS; index++) {
    let last = -1
    for (const head of headsFrom(collection.buckets, index, cursor)) {
      const { hash, key } = head
      if (seen >= options.count && hash !== last) return { cursor: hash, keys }
      seen++
      last = hash
      const wanted = options.type === null || head.kind === options.type
      if (wanted && collection.isLive(head) && globMatches(options.match, key)) keys.push(latin1Bytes(key))
    }
  }
  return { cursor: 0, keys }
}

function scan(c: Context, args: Arguments): Reply {
  const cursor = parseSafeInteger(args[1]!)
  if (cursor === null || cursor < 0) return err('invalid cursor')
  const options = parseScanOptions(args)
  if ('kind' in options) return options
  const step = cursor >= 2 ** 32 ? { cursor: 0, keys: [] } : scanStep(c.collection, cursor, options)
  return [latin1Bytes(String(step.cursor)), step.keys]
}

function keys(c: Context, args: Arguments): Reply {
  const pattern = latin1(args[1]!)
  const found: Reply[] = []
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    for (const head of c.collection.buckets.heads(bucket)) {
      if (c.collection.isLive(head) && globMatches(pattern, head.key)) found.push(latin1Bytes(head.key))
    }
  }
  return found
}

/** A key from the first bucket at or after a drawn one that has a live key. */
function randomkey(c: Context): Reply {
  const start = c.draw >>> 20
  for (let i = 0; i < BUCKETS; i++) {
    const live = [...c.collection.buckets.heads((start + i) % BUCKETS)].filter((head) => c.collection.isLive(head))
    if (live.length > 0) return latin1Bytes(live[c.draw % live.length]!.key)
  }
  return null
}

function dbsize(c: Context): Reply {
  return c.collection.keys
}

function flush(all: boolean) {
  return (c: Context, args: Arguments): Reply => {
    const mode = args.length > 1 ? latin1(args[1]!).toUpperCase() : 'SYNC'
    if (args.length > 2 || (mode !== 'SYNC' && mode !== 'ASYNC')) return SYNTAX_ERROR
    if (all) c.store.clearAll()
    else c.collection.clear()
    return OK
  }
}

/** Where a key lives and how it is kept: for people who look for a reason. */
function object(c: Context, args: Arguments): Reply {
  const sub = latin1(args[1]!).toUpperCase()
  if (args.length !== 3 || (sub !== 'ENCODING' && sub !== 'REFCOUNT' && sub !== 'IDLETIME')) {
    return err(`unknown subcommand '${latin1(args[1]!).slice(0, 128)}'. Try OBJECT HELP.`)
  }
  const record = c.collection.find(latin1(args[2]!))
  if (record === null) return null
  if (sub === 'ENCODING') return latin1Bytes(typeName(record) === 'string' ? 'raw' : typeName(record))
  return sub === 'REFCOUNT' ? 1 : 0
}

/** Versions of keys, for WATCH: what the edge asks and EXEC compares. Not for clients. */
function versions(c: Context, args: Arguments): Reply {
  return args.slice(1).map((key) => c.collection.versionOf(latin1(key)))
}

type Execute = (c: Context, args: Arguments) => Reply
type Keys = Command['keys']
const NO_KEYS: Keys = [0, 0, 0]
const ONE: Keys = [1, 1, 1]
const ALL: Keys = [1, -1, 1]

function read(name: string, arity: number, keys: Keys, summary: string, execute: Execute): Command {
  return { name, arity, kind: 'read', flags: ['readonly'], keys, group: 'generic', summary, execute }
}

function write(name: string, arity: number, keys: Keys, summary: string, execute: Execute): Command {
  return { name, arity, kind: 'write', flags: ['write'], keys, group: 'generic', summary, execute }
}

export const VERSIONS_COMMAND = 'loki.versions'

export const KEY_COMMANDS: readonly Command[] = [
  write('del', -2, ALL, 'Deletes one or more keys.', del),
  write('unlink', -2, ALL, 'Deletes one or more keys.', del),
  read('exists', -2, ALL, 'Determines whether one or more keys exist.', exists),
  read('touch', -2, ALL, 'Counts the keys that exist.', exists),
  read('type', 2, ONE, 'Determines the type of value stored at a key.', type),
  write('rename', 3, [1, 2, 1], 'Renames a key and overwrites the destination.', rename),
  write('renamenx', 3, [1, 2, 1], "Renames a key only when the target key name doesn't exist.", renamenx),
  { ...write('copy', -3, [1, 2, 1], 'Copies the value of a key to a new key.', copy), flags: ['write', 'denyoom'] },
  write('expire', -3, ONE, 'Sets the expiry of a key in seconds.', expireBy('expire', 1000, false)),
  write('pexpire', -3, ONE, 'Sets the expiry of a key in milliseconds.', expireBy('pexpire', 1, false)),
  write('expireat', -3, ONE, 'Sets the expiry of a key to a Unix timestamp.', expireBy('expireat', 1000, true)),
  write('pexpireat', -3, ONE, 'Sets the expiry to a Unix milliseconds timestamp.', expireBy('pexpireat', 1, true)),
  read('ttl', 2, ONE, 'Returns the expiry in seconds of a key.', ttlIn(1000, false)),
  read('pttl', 2, ONE, 'Returns the expiry in milliseconds of a key.', ttlIn(1, false)),
  read('expiretime', 2, ONE, 'Returns the expiry of a key as a Unix timestamp.', ttlIn(1000, true)),
  read('pexpiretime', 2, ONE, 'Returns the expiry of a key as a Unix milliseconds timestamp.', ttlIn(1, true)),
  write('persist', 2, ONE, 'Removes the expiry of a key.', persist),
  read('scan', -2, NO_KEYS, 'Iterates over the key names in the database.', scan),
  read('keys', 2, NO_KEYS, 'Returns all key names that match a pattern.', keys),
  read('randomkey', 1, NO_KEYS, 'Returns a random key name from the database.', randomkey),
  read('dbsize', 1, NO_KEYS, 'Returns the number of keys in the database.', dbsize),
  read('object', -2, [2, 2, 1], 'Tells how the value of a key is kept.', object),
  write('flushall', -1, NO_KEYS, 'Removes all keys from all databases.', flush(true)),
  write('flushdb', -1, NO_KEYS, 'Removes all keys from the current database.', flush(false)),
  read(VERSIONS_COMMAND, -2, ALL, 'Versions of keys, for WATCH.', versions),
]
