/** Decoder and encoder of the Redis protocol: every case whole, byte by byte and in random pieces. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Incoming } from '../src/edge/resp/incoming.ts'
import { AROUND_BYTES, RespDecoder } from '../src/edge/resp/decoder.ts'
import { ProtocolError } from '../src/edge/resp/inline.ts'
import { RespEncoder } from '../src/edge/resp/encoder.ts'
import type { Reply } from '../src/machine/reply.ts'

const LIMITS = { maxValueBytes: 200_000, maxCommandBytes: 400_000 }

type Outcome = { commands: string[][]; error: string | null; empty: boolean }

/** Feeds pieces as they would arrive; each piece is a buffer of its own, as of a socket. */
function decode(pieces: readonly Buffer[]): Outcome {
  const decoder = new RespDecoder(LIMITS)
  const commands: string[][] = []
  try {
    for (const piece of pieces) {
      decoder.push(Buffer.from(piece))
      for (let args = decoder.next(); args !== null; args = decoder.next()) {
        commands.push(args === 'skipped' ? [args] : args.map((arg) => Buffer.from(arg).toString('latin1')))
      }
    }
    return { commands, error: null, empty: decoder.isEmpty }
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error
    return { commands, error: error.message, empty: false }
  }
}

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1')
const single = (bytes: Buffer): Buffer[] => Array.from(bytes, (byte) => Buffer.from([byte]))

const frame = (words: readonly string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join('')}`

const cases: [name: string, bytes: string, commands: string[][], error: string | null][] = [
  ['a command', frame(['SET', 'k', 'v']), [['SET', 'k', 'v']], null],
  [
    'two commands',
    frame(['GET', 'a']) + frame(['GET', 'b']),
    [
      ['GET', 'a'],
      ['GET', 'b'],
    ],
    null,
  ],
  ['an empty argument', frame(['SET', 'k', '']), [['SET', 'k', '']], null],
  ['line ends inside', frame(['SET', 'k', '\r\n*1\r\n']), [['SET', 'k', '\r\n*1\r\n']], null],
  ['an inline command', 'SET k v\r\n', [['SET', 'k', 'v']], null],
  [
    'LF alone',
    'GET k\nGET l\n',
    [
      ['GET', 'k'],
      ['GET', 'l'],
    ],
    null,
  ],
  ['empty lines', '\r\n\n  \r\nPING\r\n', [['PING']], null],
  ['quotes', `SET k "a b\\n\\x41\\"" 'it\\'s \\n'\r\n`, [['SET', 'k', 'a b\nA"', "it's \\n"]], null],
  ['inline and framed', `PING\r\n${frame(['PING'])}PING\r\n`, [['PING'], ['PING'], ['PING']], null],
  ['empty and negative counts', `*0\r\n*-1\r\n${frame(['PING'])}`, [['PING']], null],
  [
    'lengths with zeros before them',
    '*0000000001\r\n$00000004\r\nPING\r\n*01\r\n$0000004\r\nPING\r\n',
    [['PING'], ['PING']],
    null,
  ],
  ['lengths before LF alone', '*1\n$4\nPING\r\n', [['PING']], null],
  ['CR inside a length', '*1\r1\r\n$4\r\nPING\r\n', [], 'invalid multibulk length'],
  ['no length', '*1\r\n$\r\n', [], 'invalid bulk length'],
  ['no number', '*a\r\n', [], 'invalid multibulk length'],
  ['a huge number', '*99999999999\r\n', [], 'invalid multibulk length'],
  ['no dollar', '*1\r\nPING\r\n', [], "expected '$', got 'P'"],
  ['too long a value', `*1\r\n$200001\r\n`, [], 'invalid bulk length'],
  [
    'too long a command',
    `*3\r\n$200000\r\n${'x'.repeat(200_000)}\r\n$200000\r\n${'x'.repeat(200_000)}\r\n$1\r\n`,
    [],
    'too big request',
  ],
  ['too long a line', `*${'1'.repeat(70_000)}`, [], 'too big mbulk count string'],
  ['too long a length', `*1\r\n$${'1'.repeat(70_000)}`, [], 'too big bulk count string'],
  ['too long an inline command', 'x'.repeat(70_000), [], 'too big inline request'],
  ['open quotes', 'GET "k\r\n', [], 'unbalanced quotes in request'],
  ['something behind quotes', 'GET "k"x\r\n', [], 'unbalanced quotes in request'],
]

describe('the decoder', () => {
  it.each(cases)('%s', (_name, text, commands, error) => {
    const whole = decode([bytesOf(text)])
    expect(whole.commands).toEqual(commands)
    expect(whole.error).toBe(error)
    expect(whole.empty).toBe(error === null)
    expect(decode(text.length < 10_000 ? single(bytesOf(text)) : [bytesOf(text)])).toEqual(whole)
  })

  it('gives the same commands in whatever pieces, large arguments included', () => {
    const word = fc.oneof(
      { weight: 8, arbitrary: fc.string({ unit: 'binary', maxLength: 20 }) },
      { weight: 1, arbitrary: fc.integer({ min: 60_000, max: 150_000 }).map((length) => 'y'.repeat(length)) },
    )
    const latin = word.map((text) => Buffer.from(text).toString('latin1'))
    const commands = fc.array(fc.array(latin, { minLength: 1, maxLength: 4 }), { maxLength: 5 })
    const cuts = fc.array(fc.nat(200_000), { maxLength: 8 })
    fc.assert(
      fc.property(commands, cuts, (commands, cuts) => {
        fc.pre(commands.every((words) => words.join('').length <= 400_000))
        const bytes = bytesOf(commands.map(frame).join(''))
        const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
        const pieces = places.slice(1).map((end, i) => bytes.subarray(places[i], end))
        expect(decode(pieces)).toEqual({ commands, error: null, empty: true })
      }),
      { numRuns: 200 },
    )
  })

  it('never throws anything but a protocol error, whatever comes', () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.constantFrom('*1\r\n', '$3\r\n', '\r\n', 'a b\n', '"', '*3\r\n$1\r\nx\r\n').map((text) => bytesOf(text)),
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 10 }), (pieces) => {
        const bytes = Buffer.concat(pieces)
        expect(decode(single(bytes)).commands).toEqual(decode([bytes]).commands)
      }),
      { numRuns: 500 },
    )
  })

  it('knows when a command has come only in part', () => {
    expect(decode([bytesOf('*2\r\n$3\r\nGET\r\n')]).empty).toBe(false)
    expect(decode([bytesOf('GET k')]).empty).toBe(false)
  })
})

describe('commands that come in beside others', () => {
  const MOST = 300_000
  const short = frame(['GET', 'a'])
  const long = [frame(['SET', 'k', 'v'.repeat(180_000)]), frame(['MSET', ...Array<string>(8).fill('w'.repeat(40_000))])]

  it('of many short arguments count with what surrounds these', () => {
    const incoming = new Incoming({ mostBytes: 10_000_000, stallMilliseconds: Infinity })
    const decoder = new RespDecoder(LIMITS, incoming)
    const count = 50_000
    decoder.push(Buffer.from(`*${count + 1}\r\n${'$1\r\nx\r\n'.repeat(count)}`))
    expect(decoder.next()).toBe(null)
    expect(incoming.heldBytes).toBe(count * (1 + AROUND_BYTES))
    decoder.push(Buffer.from('$1\r\ny\r\n'))
    expect(decoder.next()).toHaveLength(count + 1)
    expect(incoming.heldBytes).toBe(0)
  })

  it('are skipped to their end where they are too much, in any pieces; what follows is what it was', () => {
    const someLong = fc.constantFrom(...long)
    const sizes = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 20 })
    fc.assert(
      fc.property(someLong, sizes, (command, pieces) => {
        const incoming = new Incoming({ mostBytes: MOST, stallMilliseconds: Infinity })
        const [other, decoder] = [new RespDecoder(LIMITS, incoming), new RespDecoder(LIMITS, incoming)]
        const theirs = bytesOf(frame(['SET', 'o', 'x'.repeat(199_000)]))
        other.push(theirs.subarray(0, 198_000))
        expect(other.next()).toBe(null)
        const feed = (bytes: Buffer): (string | number)[] => {
          const seen: (string | number)[] = []
          for (let at = 0, piece = 0; at < bytes.length; piece++) {
            const size = pieces[piece % pieces.length]!
            decoder.push(Buffer.from(bytes.subarray(at, at + size)))
            at += size
            for (let args = decoder.next(); args !== null; args = decoder.next()) {
              seen.push(args === 'skipped' ? args : args.length)
              expect(incoming.heldBytes).toBeLessThanOrEqual(MOST)
            }
            expect(incoming.heldBytes).toBeLessThan(MOST + 70_000)
          }
          return seen
        }
        const count = command === long[0] ? 3 : 9
        expect(feed(bytesOf(short + command + short))).toEqual([2, 'skipped', 2])
        other.push(theirs.subarray(198_000))
        expect(other.next()).toHaveLength(3)
        expect(incoming.heldBytes).toBe(0)
        expect(feed(bytesOf(command + short))).toEqual([count, 2])
        decoder.push(bytesOf(command).subarray(0, 150_000))
        expect(decoder.next()).toBe(null)
        expect(incoming.heldBytes).toBeGreaterThan(100_000)
        decoder.end()
        expect(incoming.heldBytes).toBe(0)
      }),
      { numRuns: 60, seed: 7 },
    )
  })
})

describe('who gives way to commands that come in', () => {
  const sender = (silentSince: number, heldBytes = 100_000) => ({
    heldBytes,
    silentSince,
    address: undefined,
    isCutOff: false,
    cutOff() {
      this.isCutOff = true
      this.heldBytes = 0
    },
  })

  it('is who has been silent for longest, of those that hold something; one for each command that is skipped', () => {
    const now = performance.now()
    const all = [sender(now - 2000), sender(now - 4000, 0), sender(now - 3000), sender(now)]
    const incoming = new Incoming({ mostBytes: 1, stallMilliseconds: 1000 }, () => all)
    const cut = (): boolean[] => all.map(({ isCutOff }) => isCutOff)
    incoming.skipped()
    expect(cut()).toEqual([false, false, true, false])
    incoming.skipped()
    expect(cut()).toEqual([true, false, true, false])
    incoming.skipped()
    expect(cut()).toEqual([true, false, true, false])
  })

  it('is not looked for among all again before somebody may have been silent for long enough, and then it is', async () => {
    let looks = 0
    const one = sender(performance.now())
    const senders = () => {
      looks++
      return [one]
    }
    const incoming = new Incoming({ mostBytes: 1, stallMilliseconds: 200 }, senders)
    const skip = (): boolean => {
      for (let i = 0; i < 1000; i++) incoming.skipped()
      return one.isCutOff
    }
    skip()
    // More than one: a machine that stood still for so long would have looked again.
    expect(looks).toBeLessThan(500)
    await expect.poll(skip, { timeout: 10_000 }).toBe(true)
  })
})

describe('the encoder', () => {
  const encode = (reply: Reply, protocol: 2 | 3): string => {
    const encoder = new RespEncoder()
    encoder.reply(reply, protocol)
    return Buffer.concat(encoder.take()).toString('latin1')
  }
  const replies: [reply: Reply, resp2: string, resp3: string][] = [
    [null, '$-1\r\n', '_\r\n'],
    [{ kind: 'null-array' }, '*-1\r\n', '_\r\n'],
    ['OK', '+OK\r\n', '+OK\r\n'],
    [-5, ':-5\r\n', ':-5\r\n'],
    [9223372036854775807n, ':9223372036854775807\r\n', ':9223372036854775807\r\n'],
    [Buffer.from('a\r\nb'), '$4\r\na\r\nb\r\n', '$4\r\na\r\nb\r\n'],
    [[1, [null], 'x'], '*3\r\n:1\r\n*1\r\n$-1\r\n+x\r\n', '*3\r\n:1\r\n*1\r\n_\r\n+x\r\n'],
    [
      { kind: 'error', prefix: 'ERR', message: 'no\r\nlines é' },
      '-ERR no  lines \xc3\xa9\r\n',
      '-ERR no  lines \xc3\xa9\r\n',
    ],
    [{ kind: 'map', pairs: [['a', 1]] }, '*2\r\n+a\r\n:1\r\n', '%1\r\n+a\r\n:1\r\n'],
    [{ kind: 'set', items: [1, 2] }, '*2\r\n:1\r\n:2\r\n', '~2\r\n:1\r\n:2\r\n'],
    [{ kind: 'double', value: 1.5 }, '$3\r\n1.5\r\n', ',1.5\r\n'],
    [{ kind: 'double', value: -Infinity }, '$4\r\n-inf\r\n', ',-inf\r\n'],
    [{ kind: 'boolean', value: true }, ':1\r\n', '#t\r\n'],
    [{ kind: 'text', text: 'é' }, '$2\r\n\xc3\xa9\r\n', '=6\r\ntxt:\xc3\xa9\r\n'],
  ]

  it.each(replies)('%o', (reply, resp2, resp3) => {
    expect(encode(reply, 2)).toBe(resp2)
    expect(encode(reply, 3)).toBe(resp3)
  })

  it('writes any number as its digits', () => {
    const numbers = fc.oneof(
      fc.maxSafeInteger(),
      fc.integer({ min: 0, max: 15 }).map((digits) => 10 ** digits - 1),
    )
    fc.assert(
      fc.property(numbers, (number) => {
        expect(encode(number, 2)).toBe(`:${number}\r\n`)
      }),
      { numRuns: 500, seed: 7 },
    )
    for (const number of [0, -0, 10, 99, 100, 2 ** 53 - 1, 2 ** 53]) expect(encode(number, 3)).toBe(`:${number}\r\n`)
    for (const size of [0, 9, 10, 16, 17, 99, 100, 1000]) {
      expect(encode(Buffer.alloc(size, 'x'), 2)).toBe(`$${size}\r\n${'x'.repeat(size)}\r\n`)
    }
  })

  it('keeps the order of small and large pieces', () => {
    const encoder = new RespEncoder()
    const sizes = [1, 20_000, 3, 70_000, 70_000, 16_383, 16_384, 0]
    for (const size of sizes) encoder.reply(Buffer.alloc(size, 0x61 + (size % 26)), 2)
    const expected = sizes.map((size) => `$${size}\r\n${String.fromCharCode(0x61 + (size % 26)).repeat(size)}\r\n`)
    expect(Buffer.concat(encoder.take()).toString()).toBe(expected.join(''))
    expect(encoder.take()).toEqual([])
  })
})
