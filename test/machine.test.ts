/** The machine by example: sessions, time, ids, limits, versions, checkpoints, and the words of Redis. */
import { describe, expect, it } from 'vitest'
import { ByteReader, ByteWriter } from '../src/bytes.ts'
import { type Block, decodeBlock, decodeEntry, encodeBlock, encodeEntry } from '../src/machine/entry.ts'
import { COMMANDS, findCommand, mayGrow } from '../src/machine/commands.ts'
import { Machine } from '../src/machine/machine.ts'
import { type Reply, decodeReply, encodeReply } from '../src/machine/reply.ts'
import { type Configuration, configurationId, logIndex, nodeId, volumeId } from '../src/vocabulary.ts'
import { encodeTransaction } from '../src/machine/transactions.ts'
import { Driver, OPTIONS, checkpointOf, command } from './machine-driver.ts'

const configuration = (id: number, ...voters: [number, string][]): Configuration => ({
  id: configurationId(id),
  voters: voters.map(([node, volume]) => ({ id: nodeId(node), volume: volumeId(volume), address: 'localhost:1' })),
  learners: [],
  preferredLeader: nodeId(0),
})

describe('sessions', () => {
  it('a command is applied if it is the next; a duplicate is answered from memory; a gap is refused', () => {
    const d = new Driver()
    const incr = command('INCR', 'n')
    expect(d.block(1, [incr, incr], 0)).toEqual([
      { sequence: 1, reply: 1, duplicate: false },
      { sequence: 2, reply: 2, duplicate: false },
    ])
    expect(d.block(4, [incr], 0)).toEqual([])
    expect(d.block(1, [incr, incr, incr], 0)).toEqual([
      { sequence: 1, reply: 1, duplicate: true },
      { sequence: 2, reply: 2, duplicate: true },
      { sequence: 3, reply: 3, duplicate: false },
    ])
    // Delivered replies are forgotten: a late duplicate is not answered, and not applied either.
    d.block(4, [incr], 2)
    expect(d.block(1, [incr, incr, incr], 0)).toEqual([{ sequence: 3, reply: 3, duplicate: true }])
    expect(d.read('GET', 'n')).toBe('4')
    expect(d.machine.nextSequence(d.session)).toBe(5)
  })

  it('unknown sessions are refused; a newer start supersedes; an older one is refused', () => {
    const d = new Driver()
    const as = (incarnation: number): Block => ({
      session: { node: 1, incarnation },
      acknowledged: 0,
      first: 1,
      commands: [command('INCR', 'n')],
    })
    expect(d.entry([], [as(2)])).toEqual([])
    expect(d.machine.nextSequence({ node: 1, incarnation: 2 })).toBeNull()
    d.system({ kind: 'open-session', session: { node: 1, incarnation: 2 } })
    expect(d.entry([], [as(1)])).toEqual([])
    expect(d.entry([], [as(2)])).toEqual([{ sequence: 1, reply: 1, duplicate: false }])
    d.system({ kind: 'open-session', session: { node: 1, incarnation: 1 } })
    d.system({ kind: 'open-session', session: { node: 1, incarnation: 2 } })
    expect(d.entry([], [as(2)])).toEqual([{ sequence: 1, reply: 1, duplicate: true }])
  })

  it('remember their replies through a checkpoint', () => {
    const d = new Driver()
    d.block(1, [command('SET', 'k', 'v'), command('GET', 'k'), command('MGET', 'k', 'x'), command('INCR', 'k')], 0)
    const again = [1, 2, 3, 4].map(() => command('PING'))
    d.restart()
    expect(d.block(1, again, 0).map(({ reply }) => reply)).toEqual([
      'OK',
      'v',
      ['v', null],
      'ERR value is not an integer or out of range',
    ])
  })

  it('of nodes outside the configuration end by log time, those of members never', () => {
    const d = new Driver()
    const guest = { node: 9, incarnation: 1 }
    d.system(
      { kind: 'adopt-members', configuration: configuration(1, [1, 'a']) },
      { kind: 'open-session', session: guest },
    )
    d.advance(599_000)
    expect(d.machine.nextSequence(guest)).toBe(1)
    d.restart()
    d.advance(61_000)
    expect(d.machine.nextSequence(guest)).toBeNull()
    expect(d.machine.nextSequence(d.session)).toBe(1)
  })

  it('a member that was silent for long keeps its session when it is removed: its clients are still there', () => {
    const d = new Driver()
    const second = { node: 2, incarnation: 1 }
    d.system(
      { kind: 'adopt-members', configuration: configuration(1, [1, 'a'], [2, 'b']) },
      { kind: 'open-session', session: second },
    )
    d.advance(3_600_000)
    d.system({ kind: 'adopt-members', configuration: configuration(2, [1, 'a']) })
    d.advance(60_000)
    expect(d.machine.nextSequence(second)).toBe(1)
    d.advance(600_000)
    expect(d.machine.nextSequence(second)).toBeNull()
  })

  it('bytes that are no command are refused, and take their number', () => {
    const d = new Driver()
    expect(d.block(1, [Buffer.from([255, 255, 255])])[0]!.reply).toMatch(/^ERR FRAME_MALFORMED/)
    d.next = 2
    expect(d.run('SET', 'k', 'v')).toBe('OK')
  })
})

describe('entries', () => {
  it('come one after the other', () => {
    const d = new Driver()
    const late = { kind: 'commands', index: logIndex(9), payload: Buffer.alloc(0) } as const
    expect(() => d.machine.apply(late, null)).toThrow('entry 9 applied after 1')
  })

  it('an empty one changes nothing but the index; a malformed one changes nothing', () => {
    const d = new Driver()
    d.machine.apply({ kind: 'commands', index: d.nextIndex, payload: Buffer.alloc(0) }, null)
    expect(d.machine.applied).toBe(2)
    const before = d.machine.hash()
    const payload = encodeEntry(5e12, [], [{ session: d.session, acknowledged: 0, first: 1, commands: [command('A')] }])
    for (const bad of [payload.subarray(0, -1), Buffer.concat([payload, payload]), Buffer.from([7])]) {
      expect(() => d.machine.apply({ kind: 'commands', index: d.nextIndex, payload: bad }, null)).toThrow(
        'FRAME_MALFORMED',
      )
    }
    expect(d.machine.hash()).toBe(before)
  })

  it('are decoded as they were encoded', () => {
    const blocks = [1, 2].map((node) => ({
      session: { node, incarnation: 3 },
      acknowledged: 4,
      first: 5,
      commands: [Buffer.from(command('SET', 'k', 'v')), Buffer.alloc(0)],
    }))
    const system = [
      { kind: 'open-session', session: { node: 1, incarnation: 2 } },
      { kind: 'allot-id', volume: volumeId('a') },
      { kind: 'adopt-members', configuration: configuration(3, [1, 'a'], [2, 'b']) },
      { kind: 'limit-memory', maxMemoryBytes: 2 ** 50 },
    ] as const
    expect(decodeEntry(encodeEntry(1.7e12, system, blocks))).toEqual({ time: 1.7e12, system, blocks })
    const writer = new ByteWriter()
    encodeBlock(writer, blocks[0]!)
    expect(decodeBlock(new ByteReader(writer.finish()))).toEqual(blocks[0])
  })
})

describe('a full disk', () => {
  it.each([
    [['SET', 'k', 'v'], true],
    [['append', 'k', 'v'], true],
    [['DEL', 'k'], false],
    [['GET', 'k'], false],
    [['EXPIRE', 'k', '1'], false],
    [['NOSUCH'], false],
  ])('%s grows the data: %s', (words, grows) => {
    const args = words.map((word) => Buffer.from(word))
    expect(mayGrow(args)).toBe(grows)
    const watched = [{ key: Buffer.from('w'), version: 3 }]
    expect(mayGrow(encodeTransaction(watched, [[Buffer.from('DEL'), Buffer.from('x')], args]))).toBe(grows)
  })
})

describe('replies', () => {
  it('are decoded as they were encoded', () => {
    const replies: Reply[] = [
      [null, 0, -1, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 2n ** 63n - 1n, -(2n ** 63n)],
      ['OK', '', Buffer.from([0, 255]), Buffer.alloc(0), [], [[['deep']]]],
      { kind: 'error', prefix: 'ERR', message: 'é' },
      { kind: 'map', pairs: [[Buffer.from('a'), 1]] },
      { kind: 'set', items: [1, 'a'] },
      [{ kind: 'double', value: -0.5 }, { kind: 'boolean', value: true }, { kind: 'null-array' }],
      { kind: 'text', text: 'a\r\nb' },
    ]
    for (const reply of replies) {
      const writer = new ByteWriter()
      encodeReply(writer, reply)
      expect(decodeReply(new ByteReader(writer.finish()))).toEqual(reply)
    }
  })

  it('that are malformed are refused', () => {
    const deep = Buffer.concat([...Array.from({ length: 100 }, () => Buffer.from([6, 1])), Buffer.from([0])])
    for (const bytes of [[99], [6, 3, 0], [3, 1, 0x78], [10, 2], []].map((bytes) => Buffer.from(bytes)).concat(deep)) {
      expect(() => decodeReply(new ByteReader(bytes))).toThrow('FRAME_MALFORMED')
    }
  })
})

describe('time', () => {
  it('never goes back, and only entries move it', () => {
    const d = new Driver()
    d.run('SET', 'k', 'v', 'PX', '1000')
    expect(d.machine.nextExpiryMilliseconds()).toBe(1_001_000)
    d.time -= 500_000
    d.advance(0)
    expect(d.machine.timeMilliseconds).toBe(1_000_000)
    expect(d.read('PTTL', 'k')).toBe(1000)
    d.time = 1_000_999
    d.advance(0)
    expect(d.read('GET', 'k')).toBe('v')
    d.advance(1)
    expect(d.read('GET', 'k')).toBeNull()
    expect(d.machine.nextExpiryMilliseconds()).toBeNull()
    expect(d.machine.keys).toBe(0)
    expect(d.machine.usedMemoryBytes).toBe(0)
  })

  it('removes what is due in bounded numbers, but nobody sees what is due', () => {
    const d = new Driver()
    const commands = Array.from({ length: 2500 }, (_, i) => command('SET', `k${i}`, 'v', 'PX', '10'))
    d.block(1, commands)
    d.next = 2501
    d.advance(10)
    expect(d.machine.keys).toBe(1500)
    expect(d.read('KEYS', '*')).toEqual([])
    expect(d.read('EXISTS', 'k1', 'k2499')).toBe(0)
    expect(d.machine.nextExpiryMilliseconds()).toBe(1_000_010)
    d.restart()
    d.advance(0)
    d.advance(0)
    expect(d.machine.keys).toBe(0)
    // Many changes of one expiry do not pile up, and the last one counts.
    for (let i = 0; i < 500; i++) d.run('SET', 'again', 'v', 'PX', String(1000 + (i % 7)))
    d.run('PERSIST', 'again')
    expect(d.machine.nextExpiryMilliseconds()).toBeNull()
  })
})

describe('ids', () => {
  it('are allotted once a volume, after all that were ever given', () => {
    const d = new Driver()
    d.machine.adoptMembers(configuration(1, [1, 'a'], [2, 'b'], [3, 'c']))
    d.system({ kind: 'allot-id', volume: volumeId('d') }, { kind: 'allot-id', volume: volumeId('d') })
    expect(d.machine.idOf(volumeId('d'))).toBe(4)
    d.machine.apply({ kind: 'stop-sign', index: d.nextIndex, next: configuration(2, [1, 'a'], [7, 'x']) }, null)
    d.restart()
    d.system({ kind: 'allot-id', volume: volumeId('e') }, { kind: 'allot-id', volume: volumeId('b') })
    expect(d.machine.idOf(volumeId('e'))).toBe(8)
    expect(d.machine.idOf(volumeId('b'))).toBe(2)
    expect(d.machine.idOf(volumeId('none'))).toBeNull()
  })

  it('a node that replays the log from its start learns the members of genesis from it', () => {
    const genesis = configuration(1, [1, 'a'], [2, 'b'])
    const founder = new Driver()
    founder.machine.adoptMembers(genesis)
    const replica = new Driver()
    expect(founder.machine.commandsToLog(genesis)).toEqual([{ kind: 'adopt-members', configuration: genesis }])
    for (const node of [founder, replica]) node.system({ kind: 'adopt-members', configuration: genesis })
    expect(replica.machine.hash()).toBe(founder.machine.hash())
    expect(founder.machine.commandsToLog(genesis)).toEqual([])
  })
})

describe('memory', () => {
  it('the limit comes by the log; above it growth is refused and deletion is not', () => {
    const machine = new Machine({ maxMemoryBytes: 1000 })
    expect(machine.commandsToLog(configuration(0))).toEqual([{ kind: 'limit-memory', maxMemoryBytes: 1000 }])
    const d = new Driver()
    d.system({ kind: 'limit-memory', maxMemoryBytes: 1000 })
    expect(d.run('SET', 'k', 'x'.repeat(2000))).toBe('OK')
    const refused = "OOM command not allowed when used memory > 'maxmemory'."
    expect(d.run('SET', 'l', 'x')).toBe(refused)
    expect(d.run('INCR', 'n')).toBe(refused)
    d.restart()
    expect(d.run('APPEND', 'k', 'x')).toBe(refused)
    expect(d.run('GET', 'k')).toHaveLength(2000)
    expect(d.run('DEL', 'k')).toBe(1)
    expect(d.run('SET', 'l', 'x')).toBe('OK')
  })
})

describe('transactions', () => {
  it('a malformed one changes nothing', () => {
    const d = new Driver()
    const set = Buffer.from(command('SET', 'k', 'v')).toString('latin1')
    expect(d.run('loki.exec', '0', set, '\xff')).toMatch(/^ERR FRAME_MALFORMED/)
    expect(d.run('loki.exec', '5', set)).toBe('ERR malformed transaction')
    expect(d.run('loki.exec', '0', set, Buffer.from(command('loki.exec', '0')).toString('latin1'))).toMatch(/^ERR/)
    expect(d.read('EXISTS', 'k')).toBe(0)
    expect(d.run('loki.exec', '0', set)).toEqual(['OK'])
  })
})

describe('the reply of a transaction', () => {
  it('has a bound: what is read beyond it is refused, what is written is written', () => {
    const d = new Driver()
    const inner = (...words: string[]): string => Buffer.from(command(...words)).toString('latin1')
    d.run('SET', 'large', 'x'.repeat(33 << 20))
    const get = inner('GET', 'large')
    const replies = d.run('loki.exec', '0', get, get, inner('SET', 'k', 'v'), get, inner('INCR', 'n')) as string[]
    expect(replies.slice(0, 2).map((reply) => reply.length)).toEqual([33 << 20, 33 << 20])
    expect(replies.slice(2)).toEqual(['OK', expect.stringMatching(/^LOKI REPLY_TOO_LARGE: /), 1])
    expect(d.read('GET', 'k')).toBe('v')
  })

  it('of writes that give without taking away has it, too: they are done, and a checkpoint can hold what is kept of it', () => {
    const d = new Driver()
    const inner = (...words: string[]): string => Buffer.from(command(...words)).toString('latin1')
    d.run('SET', 'large', 'x'.repeat(33 << 20))
    d.run('RPUSH', 'l', 'y'.repeat(1 << 20), 'z')
    const again = (...words: string[]): string[] => Array.from({ length: 40 }, () => inner(...words))
    const commands = [
      ...again('GETEX', 'large', 'EX', '100'),
      ...again('SET', 'large', 'v', 'nx', 'get'),
      ...again('LMOVE', 'l', 'l', 'LEFT', 'RIGHT'),
    ]
    const replies = d.run('loki.exec', '0', ...commands, inner('RPOPLPUSH', 'l', 'm'), inner('GETDEL', 'large'))
    const lengths = (replies as string[]).map((reply) => reply.length)
    expect(lengths.filter((length) => length > 1 << 19)).toEqual([33 << 20, 33 << 20, 33 << 20])
    expect((replies as string[])[2]).toMatch(/^LOKI REPLY_TOO_LARGE: it was applied/)
    expect(d.read('LLEN', 'm')).toBe(1)
    expect(checkpointOf(d.machine).reduce((sum, { length }) => sum + length, 0)).toBeLessThan(110 << 20)
  })
})

describe('a checkpoint', () => {
  it('that was cut, doubled or changed is refused', () => {
    const d = new Driver()
    for (let i = 0; i < 3000; i++) d.run('SET', `key${i}`, 'v'.repeat(50))
    const chunks = checkpointOf(d.machine)
    expect(chunks.length).toBeGreaterThan(3)
    const refused = (changed: Buffer[]): void =>
      expect(() => Machine.restore(OPTIONS, changed)).toThrow('FRAME_MALFORMED')
    refused(chunks.slice(0, -1))
    refused(chunks.slice(1))
    refused([...chunks.slice(0, 2), ...chunks.slice(3)])
    refused([...chunks.slice(0, 2), chunks[1]!, ...chunks.slice(2)])
    refused([...chunks, chunks[1]!])
    refused([])
  })

  it('goes on through FLUSHALL, and can be abandoned', () => {
    const d = new Driver()
    for (let i = 0; i < 3000; i++) d.run('SET', `key${i}`, 'v'.repeat(50))
    const before = d.machine.hash()
    d.machine.beginCheckpoint().next()
    const checkpoint = d.machine.beginCheckpoint()
    const chunks = [Buffer.from(checkpoint.next()!)]
    d.run('FLUSHALL')
    d.run('SET', 'key1', 'new')
    expect(d.machine.keys).toBe(1)
    for (let chunk = checkpoint.next(); chunk !== null; chunk = checkpoint.next()) chunks.push(Buffer.from(chunk))
    expect(Machine.restore(OPTIONS, chunks).hash()).toBe(before)
    const abandoned = d.machine.beginCheckpoint()
    abandoned.abandon()
    expect(abandoned.next()).toBeNull()
    expect(d.run('GET', 'key1')).toBe('new')
  })

  it('goes on through slices in which everything is newer than its start', () => {
    const d = new Driver()
    d.run('SET', 'old', '1')
    const before = d.machine.hash()
    const checkpoint = d.machine.beginCheckpoint()
    for (let i = 0; i < 100; i++) {
      d.block(
        d.next,
        Array.from({ length: 100 }, (_, j) => command('SET', `new${i}-${j}`, 'v')),
      )
      d.next += 100
    }
    d.run('SET', 'old', '2')
    const chunks: Buffer[] = []
    for (let chunk = checkpoint.next(); chunk !== null; chunk = checkpoint.next()) chunks.push(Buffer.from(chunk))
    expect(Machine.restore(OPTIONS, chunks).hash()).toBe(before)
  })

  it('comes in slices that do not grow with the data', () => {
    const d = new Driver()
    for (let i = 0; i < 300; i++) {
      d.block(
        1 + i * 100,
        Array.from({ length: 100 }, (_, j) => command('SET', `key${i}-${j}`, 'v'.repeat(100))),
      )
    }
    const chunks = checkpointOf(d.machine)
    expect(Math.max(...chunks.map((chunk) => chunk.length))).toBeLessThan(100_000)
  })
})

describe('reads', () => {
  it('see the applied state and refuse to write', () => {
    const d = new Driver()
    d.run('SET', 'k', 'v')
    expect(d.read('GET', 'k')).toBe('v')
    expect(d.read('SET', 'k', 'w')).toBe('ERR set is a write and must go through the log')
    expect(d.read('NOPE')).toBe("ERR unknown command 'NOPE', with args beginning with: ")
    expect(d.read('GET')).toBe("ERR wrong number of arguments for 'get' command")
    expect(d.read('RANDOMKEY')).toBe('k')
  })
})

describe('SCAN', () => {
  it('tells every key that stays exactly once, whatever comes and goes, on any replica', () => {
    const d = new Driver()
    const stays = Array.from({ length: 3000 }, (_, i) => `stay${i}`)
    for (const key of stays) d.run('SET', key, 'v')
    const seen: string[] = []
    let cursor = '0'
    let round = 0
    do {
      const [next, keys] = d.read('SCAN', cursor, 'COUNT', '100', 'MATCH', 'stay*') as [string, string[]]
      seen.push(...keys)
      cursor = next
      d.run('SET', `new${round}`, 'v')
      d.run('DEL', `new${round - 3}`)
      if (round++ % 10 === 5) d.restart()
    } while (cursor !== '0')
    expect(seen.sort()).toEqual(stays.sort())
    expect(d.read('SCAN', '0', 'TYPE', 'list', 'COUNT', '10000')).toEqual(['0', []])
    expect(d.read('SCAN', 'x')).toBe('ERR invalid cursor')
    expect(d.read('SCAN', '0', 'COUNT', '0')).toBe('ERR syntax error')
    expect(d.read('SCAN', '99999999999')).toEqual(['0', []])
  })
})

describe('commands', () => {
  const found = (name: string): string | null => findCommand(Buffer.from(name, 'latin1'))?.name ?? null

  it('are found in any case', () => {
    for (const { name } of COMMANDS) {
      const mixed = Array.from(name, (letter, at) => (at % 2 === 0 ? letter.toUpperCase() : letter)).join('')
      expect([name, name.toUpperCase(), mixed].map(found)).toEqual([name, name, name])
    }
  })

  it('are not found under names that differ in any bit of any letter, but in case, or in length', () => {
    const names = new Set(COMMANDS.map(({ name }) => name))
    for (const { name } of COMMANDS) {
      for (let at = 0; at < name.length; at++) {
        for (let bit = 0; bit < 8; bit++) {
          const bytes = Buffer.from(name, 'latin1')
          bytes[at]! ^= 1 << bit
          const other = bytes.toString('latin1').toLowerCase()
          expect(findCommand(bytes)?.name ?? null).toBe(names.has(other) ? other : null)
        }
      }
      for (const other of [name.slice(1), name.slice(0, -1), `${name}\0`, ` ${name}`]) {
        expect(found(other)).toBe(names.has(other) ? other : null)
      }
    }
    expect(found('')).toBe(null)
    expect(found('x'.repeat(1000))).toBe(null)
  })
})

describe('the words of Redis', () => {
  const cases: [string, unknown][] = [
    ['SET k v EX 0', "ERR invalid expire time in 'set' command"],
    ['SET k v EX x', 'ERR value is not an integer or out of range'],
    ['SET k v NX XX', 'ERR syntax error'],
    ['SET k v EX 10 PX 10', 'ERR syntax error'],
    ['SET k v KEEPTTL EX 10', 'ERR syntax error'],
    ['SET k v EX', 'ERR syntax error'],
    ['SET k v GET', null],
    ['SET k w GET', 'v'],
    ['SET k x NX GET', 'w'],
    ['SET none x XX GET', null],
    ['SETEX k -1 v', "ERR invalid expire time in 'setex' command"],
    ['EXPIRE k 10 NX GT', 'ERR NX and XX, GT or LT options at the same time are not compatible'],
    ['EXPIRE k 10 GT LT', 'ERR GT and LT options at the same time are not compatible'],
    ['EXPIRE k 10 FOO', 'ERR Unsupported option FOO'],
    ['EXPIRE k 10 GT', 0],
    ['EXPIRE k 10 LT', 1],
    ['EXPIRE k 20 GT', 1],
    ['EXPIRE k 10 NX', 0],
    ['TTL k', 20],
    ['EXPIRETIME k', 1020],
    ['PERSIST k', 1],
    ['EXPIRE k -1', 1],
    ['EXISTS k', 0],
    ['EXPIRE k 9223372036854775807', "ERR invalid expire time in 'expire' command"],
    ['INCRBYFLOAT f 0.1', '0.1'],
    ['INCRBYFLOAT f 0.2', '0.3'],
    ['INCRBYFLOAT f 5.0e3', '5000.3'],
    ['INCRBYFLOAT f -5000.3', '0'],
    ['INCRBYFLOAT f 1e400', 'ERR increment would produce NaN or Infinity'],
    ['INCRBYFLOAT f x', 'ERR value is not a valid float'],
    ['SET big 9223372036854775807', 'OK'],
    ['INCR big', 'ERR increment or decrement would overflow'],
    ['DECRBY big -9223372036854775808', 'ERR decrement would overflow'],
    ['DECR big', 9223372036854775806n],
    ['SET s Hello', 'OK'],
    ['GETRANGE s 1 -2', 'ell'],
    ['GETRANGE s -100 1', 'He'],
    ['GETRANGE s 3 1', ''],
    ['SETRANGE s 7 x', 8],
    ['GET s', 'Hello\0\0x'],
    ['SETRANGE s -1 x', 'ERR offset is out of range'],
    ['SETRANGE s 536870912 x', 'ERR string exceeds maximum allowed size (proto-max-bulk-len)'],
    ['MSET a', "ERR wrong number of arguments for 'mset' command"],
    ['MSET a 1 b', "ERR wrong number of arguments for 'mset' command"],
    ['MSETNX s 1 t 2', 0],
    ['MSETNX t 2 u 3', 1],
    ['COPY s t', 0],
    ['COPY s t REPLACE', 1],
    ['RENAMENX s t', 0],
    ['RENAME none x', 'ERR no such key'],
    ['GETEX t EX 5', 'Hello\0\0x'],
    ['TTL t', 5],
    ['GETEX t PERSIST', 'Hello\0\0x'],
    ['TTL t', -1],
    ['TTL none', -2],
    ['TYPE t', 'string'],
    ['TYPE none', 'none'],
    ['FLUSHALL NOW', 'ERR syntax error'],
    ['FLUSHALL ASYNC', 'OK'],
    ['DBSIZE', 0],
  ]
  it('one after the other', () => {
    const d = new Driver()
    expect(cases.map(([words]) => [words, d.run(...words.split(' '))])).toEqual(cases)
  })

  it('globs', () => {
    const d = new Driver()
    for (const key of ['hello', 'hallo', 'hxllo', 'h*llo', 'heello', '']) d.run('SET', key, 'v')
    const keys = (pattern: string): string => (d.read('KEYS', pattern) as string[]).sort().join(' ')
    expect(keys('h?llo')).toBe('h*llo hallo hello hxllo')
    expect(keys('h[ae]llo')).toBe('hallo hello')
    expect(keys('h[^e]llo')).toBe('h*llo hallo hxllo')
    expect(keys('h[a-e]llo')).toBe('hallo hello')
    expect(keys('h\\*llo')).toBe('h*llo')
    expect(keys('h*o')).toBe('h*llo hallo heello hello hxllo')
    expect(keys('**e*l*')).toBe('heello hello')
    expect(keys('h[')).toBe('')
  })
})
