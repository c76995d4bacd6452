/* oxlint-disable vitest/expect-expect -- compare asserts */
/**
 * The same commands to redis-server 7 and to our port: every answer must be the same bytes, in RESP2 and in RESP3.
 * Where there is no redis-server, the tests are skipped. Each `it` is one connection to an empty database; a line
 * is one command, words apart by spaces, "…" for words with spaces or escapes as in JSON. A line that begins with
 * `~` is compared without the order of elements. What is different on purpose is listed with its reason.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { type Socket, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RespServer } from '../src/edge/resp/server.ts'
import { COMMANDS } from '../src/machine/commands.ts'
import { freePort } from './cluster/process.ts'
import { MachineFront } from './machine-front.ts'

const hasRedis = /\bv=7\./.test(spawnSync('redis-server', ['--version'], { encoding: 'utf8' }).stdout ?? '')
const PATIENCE_MILLISECONDS = 2_000
const LIMITS = { maxClients: 50, maxValueBytes: 1_000_000, maxPipelinedCommands: 1000, maxOutputBytes: 10_000_000 }

let redis: ChildProcess
let redisPort: number
let folder: string

beforeAll(async () => {
  if (!hasRedis) return
  redisPort = await freePort()
  folder = mkdtempSync(join(tmpdir(), 'lokikv-redis-'))
  const args = ['--port', `${redisPort}`, '--bind', '127.0.0.1', '--save', '', '--dir', folder]
  redis = spawn('redis-server', [...args, '--proto-max-bulk-len', '1mb'], { stdio: 'ignore' })
  for (;;) {
    try {
      const client = await Raw.open(redisPort)
      client.close()
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}, 60_000)

afterAll(() => {
  if (!hasRedis) return
  redis.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

/** End of the one reply that begins at `at`, or -1 where bytes are missing. */
function replyEnd(text: string, at: number): number {
  const line = text.indexOf('\r\n', at)
  if (line < 0) return -1
  const end = line + 2
  const count = Number(text.slice(at + 1, line))
  if ('$=!'.includes(text[at]!)) {
    if (count < 0) return end
    return text.length >= end + count + 2 ? end + count + 2 : -1
  }
  if (!'*%~>'.includes(text[at]!)) return end
  let next = end
  for (let left = count * (text[at] === '%' ? 2 : 1); left > 0 && next >= 0; left--) next = replyEnd(text, next)
  return next
}

/** The elements of an aggregate in a sorted order; pairs stay together in maps. */
function unordered(reply: string): string {
  if (!'*%~'.includes(reply[0]!)) return reply
  const items: string[] = []
  for (let at = reply.indexOf('\r\n') + 2; at < reply.length;) {
    let end = replyEnd(reply, at)
    if (reply[0] === '%') end = replyEnd(reply, end)
    items.push(reply.slice(at, end))
    at = end
  }
  return reply.slice(0, reply.indexOf('\r\n') + 2) + items.sort().join('')
}

class Raw {
  readonly #socket: Socket
  #received = ''
  #ended = false
  #wake: () => void = () => undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#received += chunk.toString('latin1')
      this.#wake()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#ended = true
      this.#wake()
    })
  }

  static open(port: number): Promise<Raw> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true })
      socket.once('connect', () => resolve(new Raw(socket)))
      socket.once('error', reject)
    })
  }

  async ask(bytes: string): Promise<string> {
    this.#socket.write(Buffer.from(bytes, 'latin1'))
    const patience = Date.now() + PATIENCE_MILLISECONDS
    for (;;) {
      const end = this.#received === '' ? -1 : replyEnd(this.#received, 0)
      if (end > 0) {
        const reply = this.#received.slice(0, end)
        this.#received = this.#received.slice(end)
        return reply
      }
      if (this.#ended) return `${this.#received}<closed>`
      if (Date.now() > patience) return `${this.#received}<no answer>`
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        setTimeout(resolve, PATIENCE_MILLISECONDS)
      })
    }
  }

  close(): void {
    this.#socket.destroy()
  }
}

const wordsOf = (line: string): string[] =>
  [...line.matchAll(/"(?:[^"\\]|\\.)*"|\S+/g)].map(([word]) => (word.startsWith('"') ? JSON.parse(word) : word))

const encode = (words: readonly string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${Buffer.from(word).toString('latin1')}\r\n`).join('')}`

async function answers(port: number, lines: readonly string[]): Promise<string[]> {
  const client = await Raw.open(port)
  const told: string[] = []
  for (const line of lines) {
    const isUnordered = line.startsWith('~')
    const raw = line.startsWith('!') ? (JSON.parse(line.slice(1)) as string) : null
    const reply = await client.ask(raw ?? encode(wordsOf(isUnordered ? line.slice(1) : line)))
    told.push(`${line} -> ${JSON.stringify(isUnordered ? unordered(reply) : reply)}`)
  }
  client.close()
  return told
}

async function compare(lines: readonly string[]): Promise<void> {
  for (const protocol of [2, 3]) {
    const server = new RespServer(new MachineFront(), LIMITS)
    await server.listen('127.0.0.1', 0)
    const first = await Raw.open(redisPort)
    await first.ask(encode(['FLUSHALL']))
    first.close()
    const greeted = protocol === 2 ? lines : ['HELLO 3', ...lines]
    const skip = protocol - 2
    const ours = (await answers(server.port, greeted)).slice(skip)
    const theirs = (await answers(redisPort, greeted)).slice(skip)
    server.close()
    expect(ours, `RESP${protocol}`).toEqual(theirs)
  }
}

const STORIES: Readonly<Record<string, string>> = {
  'strings and counters': `
    SET k v
    GET k
    GET none
    SET k
    SET k v NX
    SET k v XX
    SET k v NX XX
    SET k v EX
    SET k v EX 0
    SET k v EX -1
    SET k v PX abc
    SET k v EX 10 PX 10
    SET k v EX 9223372036854775807
    SET k v KEEPTTL EX 10
    SET k v BOGUS
    SET k v2 GET
    SET none v2 XX GET
    SET none v2 NX GET
    SET none v3 NX GET
    SET k v EX 100
    TTL k
    SET k w KEEPTTL
    TTL k
    SET k w
    TTL k
    SET k w EXAT 33177117420
    EXPIRETIME k
    PEXPIRETIME k
    SET k w EXAT 1
    GET k
    SET k w PXAT 33177117420000
    SETNX k x
    SETNX n x
    SETEX k 10 v
    SETEX k 0 v
    SETEX k -5 v
    SETEX k abc v
    PSETEX k 0 v
    PSETEX k 100000 v
    GETEX k
    GETEX k PERSIST
    TTL k
    GETEX k EX 100
    TTL k
    GETEX k EX 0
    GETEX k EX abc
    GETEX k BOGUS
    GETEX k EX 10 PERSIST
    GETEX none EX 10
    GETDEL k
    GETDEL k
    GETSET k one
    GETSET k two
    APPEND k " three"
    APPEND fresh a
    STRLEN k
    STRLEN none
    GETRANGE k 0 2
    GETRANGE k -3 -1
    GETRANGE k 5 1
    GETRANGE k 0 100
    GETRANGE k a 1
    SUBSTR k 0 1
    GETRANGE none 0 1
    SETRANGE k 2 XX
    GET k
    SETRANGE k -1 X
    SETRANGE pad 3 abc
    GET pad
    SETRANGE none 5 ""
    EXISTS none
    SETRANGE k 999999999999 x
    MSET a 1 b 2
    MSET a 1 b
    MSETNX a 1 c 2
    MSETNX d 1 e 2
    MGET a b c d
    INCR counter
    INCRBY counter 10
    INCRBY counter abc
    INCRBY counter 1.5
    INCRBY counter " 1"
    INCRBY counter +1
    INCRBY counter 01
    DECR counter
    DECRBY counter 3
    DECRBY counter -9223372036854775808
    SET big 9223372036854775807
    INCR big
    GET big
    DECR big
    SET small -9223372036854775808
    DECR small
    SET over 9223372036854775808
    INCR over
    SET text abc
    INCR text
    SET empty ""
    INCR empty
    SET zero -0
    INCR zero
    INCRBYFLOAT f 10.5
    INCRBYFLOAT f 0.1
    INCRBYFLOAT f abc
    INCRBYFLOAT f inf
    INCRBYFLOAT text 1
    INCRBYFLOAT counter 3
    INCRBYFLOAT tiny 0.00000000000000001
    SET "sp ace" "\\r\\n\\u0000ü"
    GET "sp ace"
    STRLEN "sp ace"
    LPUSH list a
    GET list
    INCR list
    APPEND list x
    STRLEN list
    SETRANGE list 0 x
    GETSET list x
    GETDEL list
    GETEX list
    MGET list a
    SET list v GET
    SET list now-a-string
    TYPE list`,
  'keys and expiry': `
    MSET a 1 b 2 c 3
    EXISTS a
    EXISTS a b none a
    DEL a none
    UNLINK b b
    TOUCH c none
    TYPE c
    TYPE none
    EXPIRE c 100
    TTL c
    EXPIRE c 200 NX
    EXPIRE c 50 GT
    EXPIRE c 300 GT
    EXPIRE c 400 LT
    EXPIRE c 200 LT
    EXPIRE c 100 XX
    TTL c
    EXPIRE c 100 NX XX
    EXPIRE c 100 GT LT
    EXPIRE c 100 BOGUS
    EXPIRE c abc
    EXPIRE c 9223372036854775807
    EXPIRE c -9223372036854775808
    PEXPIRE c 9223372036854775807
    EXPIRE none 10
    PERSIST c
    PERSIST c
    PERSIST none
    TTL c
    TTL none
    PTTL none
    PTTL c
    EXPIRETIME c
    EXPIRETIME none
    EXPIREAT c 33177117420
    EXPIRETIME c
    PEXPIREAT c 33177117420123
    PEXPIRETIME c
    EXPIRE c 0
    EXISTS c
    SET c 1
    EXPIRE c -1
    EXISTS c
    SET c 1
    EXPIREAT c 1
    GET c
    SET src 1
    RENAME src dst
    RENAME src dst
    RENAMENX dst dst
    RENAME dst dst
    SET other 2
    RENAMENX dst other
    RENAMENX dst fresh
    COPY fresh copy
    COPY fresh copy
    COPY fresh copy REPLACE
    COPY fresh fresh
    COPY fresh copy DB 0
    COPY fresh copy DB abc
    COPY fresh copy BOGUS
    COPY none copy
    DBSIZE
    DBSIZE x
    ~KEYS *
    ~KEYS c*
    ~KEYS [^c]*
    ~KEYS ?opy
    ~KEYS "\\\\*"
    KEYS
    SCAN abc
    SCAN 0 COUNT 0
    SCAN 0 COUNT abc
    SCAN 0 MATCH
    SCAN 0 BOGUS x
    SCAN 0 COUNT 1000 MATCH zzz*
    OBJECT ENCODING none
    OBJECT BOGUS x
    OBJECT
    RANDOMKEY x
    FLUSHALL BOGUS
    FLUSHALL SYNC
    RANDOMKEY
    DBSIZE
    FLUSHDB ASYNC
    SCAN 0`,
  hashes: `
    HSET h a 1 b 2
    HSET h a 1 b
    HSET h
    HGET h a
    HGET h none
    HGET none a
    HMSET h c 3
    HMSET h c
    HMGET h a none c
    ~HGETALL h
    HGETALL none
    ~HKEYS h
    ~HVALS h
    HLEN h
    HEXISTS h a
    HEXISTS h z
    HSTRLEN h a
    HSETNX h a 9
    HSETNX h d 9
    HINCRBY h a 5
    HINCRBY h n 5
    HINCRBY h a abc
    HSET h t text big 9223372036854775807
    HINCRBY h t 1
    HINCRBY h big 1
    HINCRBYFLOAT h a 1.5
    HINCRBYFLOAT h t 1
    HINCRBYFLOAT h a abc
    HDEL h a none
    HDEL h b c d n t big
    EXISTS h
    HSCAN none 0
    HSET h a 1
    HSCAN h 0
    HSCAN h abc
    HSCAN h 0 COUNT 0
    SET s v
    HGET s a
    HSET s a 1
    HGETALL s
    HSCAN s 0
    HINCRBY s a 1
    HDEL s a
    HLEN s
    HMGET s a`,
  lists: `
    RPUSH l a b c
    LPUSH l z
    LPUSHX l y
    RPUSHX none y
    LLEN l
    LRANGE l 0 -1
    LRANGE l -2 -1
    LRANGE l 5 10
    LRANGE l a 1
    LRANGE none 0 -1
    LINDEX l 0
    LINDEX l -1
    LINDEX l 100
    LINDEX l a
    LSET l 0 first
    LSET l 100 x
    LSET none 0 x
    LSET l a x
    LINSERT l BEFORE b before
    LINSERT l AFTER b after
    LINSERT l BOGUS b x
    LINSERT l BEFORE none x
    LINSERT none BEFORE none x
    LPOS l b
    LPOS l none
    LPOS l b COUNT 0
    LPOS l b RANK 0
    LPOS l b RANK -1 COUNT 2 MAXLEN 0
    LPOS l b COUNT -1
    LPOS l b MAXLEN -1
    LPOS none b COUNT 1
    LPOS none b
    LPOP l
    LPOP l 2
    LPOP l 0
    LPOP l -1
    LPOP l abc
    LPOP none
    LPOP none 1
    LPOP none 0
    RPOP l 1 2
    LPOP l 1 2
    RPOP l
    LRANGE l 0 -1
    RPUSH m 1 2 1 3 1
    LREM m 1 1
    LREM m -1 1
    LREM m 0 none
    LREM m a 1
    LTRIM m 0 1
    LRANGE m 0 -1
    LTRIM m a 1
    LTRIM m 5 1
    EXISTS m
    RPUSH x 1 2 3
    LMOVE x y LEFT RIGHT
    LMOVE x y LEFT BOGUS
    LMOVE none y LEFT LEFT
    LMOVE x x LEFT RIGHT
    LRANGE x 0 -1
    RPOPLPUSH x y
    RPOPLPUSH none y
    SET s v
    LPUSH s a
    LLEN s
    LPOP s
    LRANGE s 0 -1
    LINDEX s 0
    LMOVE x s LEFT LEFT
    LPOS s a
    LREM s 0 a
    RPUSHX s a`,
  sets: `
    SADD s a b c
    SADD s a d
    SCARD s
    SCARD none
    SISMEMBER s a
    SISMEMBER s z
    SMISMEMBER s a z
    SMISMEMBER none a
    ~SMEMBERS s
    SMEMBERS none
    SREM s a z
    SADD t b x
    ~SINTER s t
    ~SUNION s t
    ~SDIFF s t
    SINTER s none
    SINTERCARD 2 s t
    SINTERCARD 2 s t LIMIT 1
    SINTERCARD 0 s
    SINTERCARD 3 s t
    SINTERCARD abc s
    SINTERCARD 1 s LIMIT -1
    SINTERCARD 1 s BOGUS
    SINTERSTORE d s t
    SUNIONSTORE d s t
    SDIFFSTORE d s t
    SDIFFSTORE d none
    EXISTS d
    SMOVE s t c
    SMOVE s t none
    SMOVE none t c
    SADD one x
    SPOP one
    SPOP one
    SPOP one 1
    SPOP s -1
    SPOP s abc
    SPOP s 1 1
    SADD one x
    SRANDMEMBER one
    SRANDMEMBER one 5
    SRANDMEMBER one -3
    SRANDMEMBER none
    SRANDMEMBER none 2
    SRANDMEMBER one abc
    SRANDMEMBER one 1 1
    SSCAN one 0
    SSCAN none 0
    SSCAN one abc
    SSCAN one 0 COUNT 0
    SSCAN one 0 COUNT abc
    SSCAN one 0 MATCH
    SSCAN one 0 BOGUS x
    SET k v
    SADD k a
    SINTER s k
    SUNION k
    SMOVE s k a
    SCARD k
    SPOP k
    SMEMBERS k
    SINTERSTORE d s k`,
  transactions: `
    EXEC
    DISCARD
    MULTI
    MULTI
    SET a 1
    INCR a
    GET none
    LPUSH a x
    PING
    EXEC
    MULTI
    SET a
    SET b 1
    EXEC
    MULTI
    NOSUCH x
    EXEC
    MULTI
    SET a 9
    DISCARD
    GET a
    WATCH a
    SET a 5
    MULTI
    SET a 6
    EXEC
    GET a
    WATCH a
    MULTI
    SET a 7
    EXEC
    WATCH none
    UNWATCH
    MULTI
    WATCH a
    EXEC
    MULTI
    EXEC
    MULTI
    HSET h a 1
    HGETALL h
    SMEMBERS none
    EXEC`,
  'connection, arity and names': `
    PING
    PING hello
    PING a b
    ECHO hi
    ECHO
    ECHO a b
    SELECT 0
    SELECT 99
    SELECT abc
    SELECT
    HELLO 4
    HELLO abc
    HELLO 2 BOGUS
    HELLO 3 SETNAME
    HELLO 3 SETNAME "a b"
    NOSUCH
    NOSUCH a b
    nosuch "with spaces" "and\\nline ends"
    CLIENT
    CLIENT BOGUS
    CLIENT GETNAME
    CLIENT SETNAME me
    CLIENT GETNAME
    CLIENT SETNAME "a b"
    CLIENT SETNAME
    CLIENT SETNAME ""
    CLIENT GETNAME
    CLIENT GETNAME x
    CLIENT ID x
    CLIENT INFO x
    CLIENT NO-EVICT on
    CLIENT NO-EVICT bogus
    CLIENT REPLY BOGUS
    CLIENT REPLY
    CLIENT NO-EVICT
    CLIENT LIST BOGUS
    CLIENT LIST ID abc
    CLIENT KILL 1.2.3.4:5
    COMMAND BOGUS
    COMMAND COUNT x
    COMMAND GETKEYS SET a 1
    COMMAND GETKEYS MSET a 1 b 2
    COMMAND GETKEYS
    COMMAND GETKEYS PING x
    COMMAND GETKEYS PING a b
    COMMAND GETKEYS NOSUCH a
    COMMAND GETKEYS SET a
    COMMAND DOCS nosuch
    COMMAND INFO nosuch
    CONFIG
    CONFIG BOGUS
    CONFIG GET
    CONFIG GET nosuch
    AUTH
    AUTH a
    AUTH default b
    AUTH a b c
    RESET x
    QUIT`,
  'inline commands': `
    !"PING\\r\\n"
    !"SET k v\\r\\n"
    !"GET k\\n"
    !"GET \\"k\\"\\r\\n"
    !"SET k \\"a\\\\x41b\\"\\r\\n"
    !"GET k\\r\\n"
    !"SET k 'it\\\\'s'\\r\\n"
    !"GET k\\r\\n"
    !"\\r\\nPING\\r\\n"
    !"SET k \\"open\\r\\n"`,
  'a bad bulk length': `
    !"*1\\r\\n$abc\\r\\n"`,
  'a bad multibulk length': `
    !"*abc\\r\\n"`,
  'a multibulk that is too large': `
    !"*2147483648\\r\\n"`,
  'no dollar': `
    !"*1\\r\\n:1\\r\\n"`,
  'no elements, then a command': `
    !"*0\\r\\nPING\\r\\n"
    !"*-1\\r\\nPING\\r\\n"`,
}

/** What is different on purpose: the command, our answer, why. Each is checked to be different still. */
const DIFFERENT: readonly (readonly [command: string, answer: RegExp, why: string])[] = [
  ['INCRBYFLOAT f 10.6e400', /NaN or Infinity/, 'doubles here, long doubles of the processor there'],
  ['SCAN -1', /invalid cursor/, 'a cursor is a number of ours; theirs wraps around'],
  ['SELECT 1', /DB index is out of range/, 'one database; theirs has sixteen'],
  ['EXEC x', /wrong number of arguments for 'exec' command/, 'no EXECABORT where nothing was begun'],
  ['DEBUG SLEEP 0', /not allowed/, 'no debug commands'],
  ['CONFIG SET timeout 0', /change spec.config of the LokiCluster/, 'settings are in the manifest'],
]

describe.skipIf(!hasRedis)('the same as redis-server 7', () => {
  it.each(Object.entries(STORIES))('%s', async (_, story) => {
    await compare(
      story
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== ''),
    )
  })

  it.each(DIFFERENT)('%s is different: %s', async (command, answer) => {
    const server = new RespServer(new MachineFront(), LIMITS)
    await server.listen('127.0.0.1', 0)
    const [ours] = await answers(server.port, [command])
    const [theirs] = await answers(redisPort, [command])
    server.close()
    expect(ours).toMatch(answer)
    expect(ours).not.toBe(theirs)
  })

  it('wrong numbers of arguments, for every command of the table', async () => {
    const lines: string[] = []
    for (const { name, arity } of COMMANDS) {
      if (name.startsWith('loki.')) continue
      const least = Math.abs(arity)
      if (least > 1) lines.push([name, ...Array.from({ length: least - 2 }, (_, i) => `x${i}`)].join(' '))
      if (arity > 0 && name !== 'exec')
        lines.push([name, ...Array.from({ length: least }, (_, i) => `x${i}`)].join(' '))
    }
    await compare(lines)
  })
})
