/** Commands on sets. PURE. Texts of replies and errors are those of Redis 7. */
import { TOO_MANY_ELEMENTS, edit, editOrMake, findAggregate, isFull, rowsOf } from './aggregates.ts'
import { type Command, type Context, NOT_AN_INTEGER, SYNTAX_ERROR } from './command.ts'
import { globMatches } from './glob.ts'
import { parseElementScan } from './hashes.ts'
import { parseSafeInteger } from './numbers.ts'
import { latin1, latin1Bytes } from './packed.ts'
import { type SetRecord, emptySet, memberBytes } from './records.ts'
import { type Arguments, type ErrorReply, type Reply, err, isError } from './reply.ts'

const findSet = (c: Context, args: Arguments): SetRecord | null | ErrorReply =>
  findAggregate(c, latin1(args[1]!), 'set')

function addMember(record: SetRecord, member: string): void {
  if (record.members.has(member)) return
  record.members.add(member)
  record.elementBytes += memberBytes(member)
}

function removeMember(record: SetRecord, member: string): void {
  if (record.members.delete(member)) record.elementBytes -= memberBytes(member)
}

const bulks = (members: Iterable<string>): Reply[] => [...members].map((member) => latin1Bytes(member))

function sadd(c: Context, args: Arguments): Reply {
  const record = findSet(c, args)
  if (isError(record)) return record
  const given = new Set(args.slice(2).map((member) => latin1(member)))
  const fresh = [...given].filter((member) => !record?.members.has(member))
  if (fresh.length === 0) return 0
  if (isFull(record?.members.size ?? 0, fresh.length)) return TOO_MANY_ELEMENTS
  editOrMake(c, latin1(args[1]!), record, emptySet, (record) => fresh.forEach((member) => addMember(record, member)))
  return fresh.length
}

function srem(c: Context, args: Arguments): Reply {
  const record = findSet(c, args)
  if (isError(record)) return record
  const given = new Set(args.slice(2).map((member) => latin1(member)))
  const there = [...given].filter((member) => record?.members.has(member))
  if (record === null || there.length === 0) return 0
  edit(c, latin1(args[1]!), record, (record) => there.forEach((member) => removeMember(record, member)))
  return there.length
}

function smembers(c: Context, args: Arguments): Reply {
  const record = findSet(c, args)
  return isError(record) ? record : { kind: 'set', items: bulks(record?.members ?? []) }
}

function scard(c: Context, args: Arguments): Reply {
  const record = findSet(c, args)
  return isError(record) ? record : (record?.members.size ?? 0)
}

function sismember(c: Context, args: Arguments): Reply {
  const record = findSet(c, args)
  if (isError(record)) return record
  return record?.members.has(latin1(args[2]!)) ? 1 : 0
}

function smismember(c: Context, args: Arguments): Reply {
  const record = findSet(c, args)
  if (isError(record)) return record
  return args.slice(2).map((member) => (record?.members.has(latin1(member)) ? 1 : 0))
}

function smove(c: Context, args: Arguments): Reply {
  const from = latin1(args[1]!)
  const to = latin1(args[2]!)
  const member = latin1(args[3]!)
  const source = findAggregate(c, from, 'set')
  const target = findAggregate(c, to, 'set')
  if (isError(source)) return source
  if (isError(target)) return target
  if (!source?.members.has(member)) return 0
  if (from === to) return 1
  if (target !== null && !target.members.has(member) && isFull(target.members.size, 1)) return TOO_MANY_ELEMENTS
  edit(c, from, source, (record) => removeMember(record, member))
  if (!target?.members.has(member)) editOrMake(c, to, target, emptySet, (record) => addMember(record, member))
  return 1
}

/** `count` members at places that follow from the draw: different ones, or, `repeat`, any. */
function drawMembers(c: Context, members: readonly string[], count: number, repeat: boolean): string[] {
  const pool = [...members]
  const drawn: string[] = []
  let seed = c.draw
  for (let i = 0; i < count && pool.length > 0; i++) {
    // Numerical Recipes' generator; its upper bits are the good ones.
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    const at = Math.floor((seed / 2 ** 32) * pool.length)
    drawn.push(pool[at]!)
    if (repeat) continue
    pool[at] = pool.at(-1)!
    pool.pop()
  }
  return drawn
}

function spop(c: Context, args: Arguments): Reply {
  if (args.length > 3) return SYNTAX_ERROR
  const count = args.length === 3 ? parseSafeInteger(args[2]!) : 1
  if (count === null || count < 0) return err('value is out of range, must be positive')
  const record = findSet(c, args)
  if (isError(record)) return record
  if (record === null) return args.length === 3 ? { kind: 'set', items: [] } : null
  const drawn = drawMembers(c, [...record.members], count, false)
  if (drawn.length > 0) {
    edit(c, latin1(args[1]!), record, (record) => drawn.forEach((member) => removeMember(record, member)))
  }
  return args.length === 3 ? { kind: 'set', items: bulks(drawn) } : latin1Bytes(drawn[0]!)
}

/** Most members that SRANDMEMBER gives with repetition. */
const MAX_REPEATED = 1_000_000

function srandmember(c: Context, args: Arguments): Reply {
  if (args.length > 3) return SYNTAX_ERROR
  const count = args.length === 3 ? parseSafeInteger(args[2]!) : 1
  if (count === null) return NOT_AN_INTEGER
  if (count < -MAX_REPEATED) return err('value is out of range')
  const record = findSet(c, args)
  if (isError(record)) return record
  if (record === null) return args.length === 3 ? [] : null
  const drawn = drawMembers(c, [...record.members], Math.abs(count), count < 0)
  return args.length === 3 ? bulks(drawn) : latin1Bytes(drawn[0]!)
}

type Operation = 'inter' | 'union' | 'diff'

/** The members that an operation over the sets at `keys` gives, in the order of the sets. */
function combine(c: Context, operation: Operation, keys: readonly string[]): Set<string> | ErrorReply {
  const sets: ReadonlySet<string>[] = []
  for (const key of keys) {
    const record = findAggregate(c, key, 'set')
    if (isError(record)) return record
    sets.push(record?.members ?? new Set<string>())
  }
  const [first = new Set<string>(), ...others] = sets
  if (operation === 'union') return unite(sets)
  const wanted = operation === 'inter'
  return new Set(
    [...first].filter((member) => (wanted ? others.every((o) => o.has(member)) : !others.some((o) => o.has(member)))),
  )
}

function unite(sets: readonly ReadonlySet<string>[]): Set<string> | ErrorReply {
  const union = new Set<string>()
  for (const set of sets) {
    for (const member of set) {
      if (isFull(union.size, 1) && !union.has(member)) return TOO_MANY_ELEMENTS
      union.add(member)
    }
  }
  return union
}

const keysFrom = (args: Arguments, first: number): string[] => args.slice(first).map((key) => latin1(key))

function combination(operation: Operation) {
  return (c: Context, args: Arguments): Reply => {
    const members = combine(c, operation, keysFrom(args, 1))
    return isError(members) ? members : { kind: 'set', items: bulks(members) }
  }
}

function storeCombination(operation: Operation) {
  return (c: Context, args: Arguments): Reply => {
    const members = combine(c, operation, keysFrom(args, 2))
    if (isError(members)) return members
    const key = latin1(args[1]!)
    c.collection.remove(key)
    editOrMake(c, key, null, emptySet, (record) => members.forEach((member) => addMember(record, member)))
    return members.size
  }
}

function sintercard(c: Context, args: Arguments): Reply {
  const count = parseSafeInteger(args[1]!)
  if (count === null || count < 1) return err('numkeys should be greater than 0')
  if (2 + count > args.length) return err("Number of keys can't be greater than number of args")
  let limit = 0
  if (args.length > 2 + count) {
    const option = latin1(args[2 + count]!).toUpperCase()
    if (option !== 'LIMIT' || args.length !== 4 + count) return SYNTAX_ERROR
    const given = parseSafeInteger(args[3 + count]!)
    if (given === null || given < 0) return err("LIMIT can't be negative")
    limit = given
  }
  const members = combine(c, 'inter', keysFrom(args.slice(0, 2 + count), 2))
  if (isError(members)) return members
  return limit === 0 ? members.size : Math.min(limit, members.size)
}

/** All in one step: a cursor of 0 begins and ends. */
function sscan(c: Context, args: Arguments): Reply {
  const record = findSet(c, args)
  if (isError(record)) return record
  const match = parseElementScan(args)
  if (typeof match !== 'string') return match
  return [latin1Bytes('0'), bulks([...(record?.members ?? [])].filter((member) => globMatches(match, member)))]
}

const { read, grow, shrink } = rowsOf('set')
const ALL: Command['keys'] = [1, -1, 1]

export const SET_COMMANDS: readonly Command[] = [
  read('smembers', 2, 'Returns all members of a set.', smembers),
  read('scard', 2, 'Returns the number of members in a set.', scard),
  read('sismember', 3, 'Determines whether a member belongs to a set.', sismember),
  read('smismember', -3, 'Determines whether multiple members belong to a set.', smismember),
  read('srandmember', -2, 'Returns random members from a set.', srandmember),
  read('sinter', -2, 'Returns the intersection of sets.', combination('inter'), ALL),
  read('sunion', -2, 'Returns the union of sets.', combination('union'), ALL),
  read('sdiff', -2, 'Returns the difference of sets.', combination('diff'), ALL),
  read('sintercard', -3, 'Returns the size of the intersection of sets.', sintercard, [0, 0, 0]),
  read('sscan', -3, 'Iterates over members of a set.', sscan),
  grow('sadd', -3, 'Adds one or more members to a set.', sadd),
  grow('sinterstore', -3, 'Stores the intersection of sets in a key.', storeCombination('inter'), ALL),
  grow('sunionstore', -3, 'Stores the union of sets in a key.', storeCombination('union'), ALL),
  grow('sdiffstore', -3, 'Stores the difference of sets in a key.', storeCombination('diff'), ALL),
  shrink('smove', 4, 'Moves a member from one set to another.', smove, [1, 2, 1]),
  shrink('srem', -3, 'Removes one or more members from a set.', srem),
  shrink('spop', -2, 'Returns and removes random members from a set.', spop),
]
