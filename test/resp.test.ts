/* oxlint-disable vitest/expect-expect, vitest/no-standalone-expect -- RawClient.exactly asserts */
/** The port for Redis clients, as a client sees it: raw bytes and ioredis against a node in one process. */
import { type Socket, connect } from 'node:net'
import { Redis } from 'ioredis'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { LIMITS as BOUNDS } from '../src/config.ts'
import { AROUND_BYTES } from '../src/edge/resp/decoder.ts'
import { Transaction } from '../src/edge/resp/transaction.ts'
import { RespServer } from '../src/edge/resp/server.ts'
import { findCommand } from '../src/machine/commands.ts'
import type { Reply } from '../src/machine/reply.ts'
import { MachineFront } from './machine-front.ts'

const LIMITS = { maxClients: 50, maxValueBytes: 1_000_000, maxPipelinedCommands: 1000, maxOutputBytes: 1_000_000 }

let front: MachineFront
let server: RespServer
let clients: RawClient[]

beforeEach(async () => {
  front = new MachineFront()
  server = new RespServer(front, LIMITS)
  await server.listen('127.0.0.1', 0)
  clients = []
})

afterEach(() => {
  for (const client of clients) client.socket.destroy()
  server.close()
})

/** Sends bytes, collects what comes. */
class RawClient {
  readonly socket: Socket
  received = ''
  ended = false
  #waiters: (() => void)[] = []

  constructor(port = server.port) {
    this.socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
    this.socket.setNoDelay(true)
    this.socket.on('data', (chunk: Buffer) => {
      this.received += chunk.toString('latin1')
      this.#wake()
    })
    this.socket.on('end', () => {
      this.ended = true
      this.#wake()
    })
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => this.#wake())
    clients.push(this)
  }

  #wake(): void {
    for (const wake of this.#waiters.splice(0)) wake()
  }

  send(text: string): this {
    this.socket.write(Buffer.from(text, 'latin1'))
    return this
  }

  /** Waits until what came satisfies `condition`. */
  async until(condition: (received: string) => boolean): Promise<string> {
    while (!condition(this.received)) {
      if (this.ended || this.socket.destroyed) throw new Error(`ended after ${JSON.stringify(this.received)}`)
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
    }
    return this.received
  }

  async exactly(text: string): Promise<void> {
    await this.until((received) => received.length >= text.length)
    expect(this.received).toBe(text)
    this.received = ''
  }

  async untilEnd(): Promise<string> {
    while (!this.ended && !this.socket.destroyed) await new Promise<void>((resolve) => this.#waiters.push(resolve))
    return this.received
  }
}

const frame = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word, 'latin1')}\r\n${word}\r\n`).join('')}`

describe('order on one connection', () => {
  it('replies leave in the order of the commands, and a connection sees its own writes', async () => {
    const script = [frame('GET', 'k'), frame('SET', 'k', '1'), frame('GET', 'k'), frame('INCR', 'k'), frame('PING')]
    script.push(frame('GET', 'k'), frame('DEL', 'k'), frame('GET', 'k'), frame('ECHO', 'end'))
    await new RawClient()
      .send(script.join(''))
      .exactly('$-1\r\n+OK\r\n$1\r\n1\r\n:2\r\n+PONG\r\n$1\r\n2\r\n:1\r\n$-1\r\n$3\r\nend\r\n')
  })

  it('a write behind a read never shows in the read', async () => {
    const client = new RawClient().send(frame('SET', 'k', 'old'))
    await client.exactly('+OK\r\n')
    for (let i = 0; i < 50; i++) client.send(frame('GET', 'k') + frame('SET', 'k', `new${i}`))
    const expected = Array.from({ length: 50 }, (_, i) => {
      const value = i === 0 ? 'old' : `new${i - 1}`
      return `$${value.length}\r\n${value}\r\n+OK\r\n`
    }).join('')
    await client.exactly(expected)
    expect(front.reads).toBeGreaterThan(0)
  })

  it('no read is answered from an older state than one before it: what comes too early is asked anew', async () => {
    const states: string[] = []
    const read = front.machine.read.bind(front.machine)
    front.machine.read = (args) => {
      states.push(args[1]!.toString())
      return read(args)
    }
    const client = new RawClient().send(frame('GET', 'a') + frame('GET', 'b') + frame('GET', 'c'))
    await client.exactly('$-1\r\n'.repeat(3))
    // The front answers the reads of a turn from the last to the first.
    expect(states).toEqual(['a', 'b', 'c'])
    expect(front.reads).toBeGreaterThan(3)
  })

  it('the same bytes one by one give the same answers', async () => {
    const client = new RawClient()
    const bytes = frame('SET', 'a', 'x y') + 'get a\r\n' + frame('HELLO', '3') + frame('GET', 'none') + 'QUIT\r\n'
    for (const byte of bytes) {
      client.send(byte)
      await new Promise((resolve) => setImmediate(resolve))
    }
    const received = await client.untilEnd()
    expect(received.startsWith('+OK\r\n$3\r\nx y\r\n%8\r\n$6\r\nserver\r\n$5\r\nredis\r\n')).toBe(true)
    expect(received.endsWith('_\r\n+OK\r\n')).toBe(true)
  })

  it('WAIT says how many others hold the writes before it, whatever the quorum', async () => {
    const client = new RawClient().send(frame('SET', 'k', 'v') + frame('WAIT', '9', '0'))
    await client.exactly('+OK\r\n:1\r\n')
    front.acceptQuorum = 3
    await new RawClient().send(frame('SET', 'k', 'v') + frame('WAIT', '1', '0')).exactly('+OK\r\n:2\r\n')
  })

  it('HELLO changes the protocol at its place among the replies', async () => {
    const client = new RawClient().send(frame('GET', 'a') + frame('HELLO', '3') + frame('GET', 'a'))
    const received = await client.until((text) => text.endsWith('_\r\n'))
    expect(received.startsWith('$-1\r\n%8\r\n')).toBe(true)
  })
})

describe('bad input', () => {
  const cases: [name: string, bytes: string, answer: string][] = [
    ['an over-long inline command', 'x'.repeat(70_000), '-ERR Protocol error: too big inline request\r\n'],
    ['an over-long value', '*2\r\n$3\r\nGET\r\n$1000001\r\n', '-ERR Protocol error: invalid bulk length\r\n'],
    ['a negative length', '*2\r\n$3\r\nGET\r\n$-1\r\n', '-ERR Protocol error: invalid bulk length\r\n'],
    ['too many arguments', '*1048577\r\n', '-ERR Protocol error: invalid multibulk length\r\n'],
    ['no dollar', '*1\r\n:1\r\n', "-ERR Protocol error: expected '$', got ':'\r\n"],
    ['open quotes', 'set k "v\r\n', '-ERR Protocol error: unbalanced quotes in request\r\n'],
  ]
  it.each(cases)('%s is told and ends the connection after what came before', async (_name, bytes, answer) => {
    const client = new RawClient().send(frame('SET', 'k', 'v') + bytes)
    expect(await client.untilEnd()).toBe(`+OK\r\n${answer}`)
    // Nobody else is disturbed.
    await new RawClient().send(frame('GET', 'k')).exactly('$1\r\nv\r\n')
  })

  it('unknown commands, wrong arity and internal names are errors of Redis, and nothing else', async () => {
    const client = new RawClient()
    client.send(frame('NOPE', 'a', 'b') + frame('GET') + frame('loki.exec', '0') + frame('PING'))
    await client.exactly(
      "-ERR unknown command 'NOPE', with args beginning with: 'a' 'b' \r\n" +
        "-ERR wrong number of arguments for 'get' command\r\n" +
        "-ERR unknown command 'loki.exec', with args beginning with: '0' \r\n+PONG\r\n",
    )
  })

  it('a browser is hung up on', async () => {
    const client = new RawClient().send('POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k v\r\n')
    expect(await client.untilEnd()).toBe('')
    await new RawClient().send(frame('EXISTS', 'k')).exactly(':0\r\n')
  })

  it('a full inbox is a coded refusal, and order is kept', async () => {
    front.capacity = 2
    front.held = true
    const client = new RawClient().send(frame('SET', 'a', '1') + frame('SET', 'b', '2') + frame('SET', 'c', '3'))
    const probe = new RawClient().send(frame('PING'))
    await probe.exactly('+PONG\r\n')
    front.release()
    const received = await client.until((text) => text.split('\r\n').length === 4)
    expect(received).toMatch(/^\+OK\r\n\+OK\r\n-LOKI OVERLOADED: /)
  })

  it('what was read before a refusal is answered after the pause, although the client has said all', async () => {
    front.capacity = 1
    front.held = true
    const client = new RawClient().send(frame('SET', 'a', '1') + frame('SET', 'b', '2') + frame('SET', 'c', '3'))
    client.socket.end()
    await new RawClient().send(frame('PING')).exactly('+PONG\r\n')
    front.release()
    expect(await client.untilEnd()).toMatch(/^\+OK\r\n-LOKI OVERLOADED: [^\r]*\r\n\+OK\r\n$/)
  })

  it('and in a drain', async () => {
    front.capacity = 1
    front.held = true
    const client = new RawClient().send(frame('SET', 'a', '1') + frame('SET', 'b', '2') + frame('SET', 'c', '3'))
    await new RawClient().send(frame('PING')).exactly('+PONG\r\n')
    void server.drain()
    front.release()
    expect(await client.untilEnd()).toMatch(/^\+OK\r\n-LOKI OVERLOADED: [^\r]*\r\n\+OK\r\n$/)
  })

  it('a WATCH that was refused guards nothing: its transaction is not run', async () => {
    front.capacity = 0
    const client = new RawClient().send(frame('WATCH', 'k'))
    await client.until((received) => received.startsWith('-LOKI OVERLOADED: ') && received.endsWith('\r\n'))
    client.received = ''
    front.capacity = 100
    client.send(frame('MULTI') + frame('SET', 'k', 'v') + frame('EXEC'))
    await client.exactly('+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n')
    expect(front.writes).toBe(0)
  })

  it('a node that is not ready says why, and still answers about itself', async () => {
    front.notReady = { code: 'NO_LEADER', message: 'no leader is known' }
    await new RawClient()
      .send(frame('GET', 'k') + frame('PING'))
      .exactly('-CLUSTERDOWN NO_LEADER: no leader is known\r\n+PONG\r\n')
    front.notReady = { code: 'RECOVERING', message: 'the node recovers' }
    await new RawClient().send(frame('SET', 'k', 'v')).exactly('-LOADING RECOVERING: the node recovers\r\n')
    // A transaction that a refused WATCH was to guard does not run.
    const client = new RawClient().send(frame('WATCH', 'k'))
    await client.exactly('-LOADING RECOVERING: the node recovers\r\n')
    front.notReady = null
    client.send(frame('MULTI') + frame('SET', 'k', 'v') + frame('EXEC'))
    await client.exactly('+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n')
  })

  it('one connection too many is told so', async () => {
    const many = Array.from({ length: LIMITS.maxClients }, () => new RawClient().send('PING\r\n'))
    for (const client of many) await client.exactly('+PONG\r\n')
    expect(await new RawClient().untilEnd()).toBe('-ERR max number of clients reached\r\n')
  })
})

describe('back-pressure', () => {
  it('more commands than may be in flight are answered all the same, in order', async () => {
    const count = 5000
    front.held = true
    const client = new RawClient().send(Array.from({ length: count }, () => frame('INCR', 'n')).join(''))
    await new RawClient().send('PING\r\n').exactly('+PONG\r\n')
    expect(front.writes).toBeLessThanOrEqual(LIMITS.maxPipelinedCommands)
    front.release()
    await client.exactly(Array.from({ length: count }, (_, i) => `:${i + 1}\r\n`).join(''))
  })

  it('a client that reads nothing does not make the node hold everything', async () => {
    const value = 'x'.repeat(500_000)
    await new RawClient().send(frame('SET', 'k', value)).exactly('+OK\r\n')
    const client = new RawClient()
    client.socket.pause()
    const count = 200
    client.send(Array.from({ length: count }, () => frame('READONLY') + frame('GET', 'k')).join(''))
    await new RawClient().send(frame('GET', 'k')).until((text) => text.endsWith(`${value}\r\n`))
    expect(server.commandsProcessed).toBeLessThan(count)
    client.socket.resume()
    const one = `+OK\r\n$500000\r\n${value}\r\n`
    await client.until((text) => text.length >= count * one.length)
    expect(client.received === one.repeat(count)).toBe(true)
  })
})

describe('commands that are not whole', () => {
  const LENGTH = 450_000
  const HERE = 400_000
  const BOUND = { maxCommandBytes: 500_000, maxIncomingBytes: 1_000_000, incomingStallMilliseconds: 300 }
  const SET = frame('SET', 'k', 'x'.repeat(LENGTH))
  let told: Record<string, unknown>[]

  beforeEach(async () => {
    server.close()
    told = []
    server = new RespServer(front, { ...LIMITS, ...BOUND }, (_message, fields) => told.push(fields))
    await server.listen('127.0.0.1', 0)
  })

  /** Sends a part of a command, and knows that it is there. */
  const begin = async (): Promise<RawClient> => {
    const client = new RawClient().send(frame('PING') + SET.slice(0, HERE))
    await client.exactly('+PONG\r\n')
    return client
  }
  const held = (): number => server.incoming.heldBytes

  it('have a bound: one too many is refused with a code when it has come, and the connection goes on', async () => {
    const first = await begin()
    const second = await begin()
    await expect.poll(held).toBeGreaterThan(2 * HERE - 100_000)
    const third = new RawClient().send(SET + frame('PING'))
    expect(await third.until((text) => text.endsWith('+PONG\r\n'))).toMatch(/^-LOKI OVERLOADED: [^\r]*\r\n\+PONG\r\n$/)
    await first.send(SET.slice(HERE)).exactly('+OK\r\n')
    await second.send(SET.slice(HERE)).exactly('+OK\r\n')
    expect(held()).toBe(0)
    third.received = ''
    await third.send(SET).exactly('+OK\r\n')
    third.send(SET.slice(0, HERE))
    await expect.poll(held).toBeGreaterThan(0)
    third.socket.destroy()
    await expect.poll(held).toBe(0)
    expect(told).toEqual([])
  })

  it('and who leaves them so while there is no room is cut off', async () => {
    const silent = [await begin(), await begin()]
    const third = new RawClient()
    const tries = async (): Promise<string> => {
      third.received = ''
      return third.send(SET).until((text) => text.endsWith('\r\n'))
    }
    await expect.poll(tries, { timeout: 10_000 }).toBe('+OK\r\n')
    expect(told).toMatchObject([{ code: 'OVERLOADED' }])
    expect(silent.filter(({ socket, ended }) => ended || socket.destroyed)).toHaveLength(1)
  })

  it('spoil a transaction where they are refused', async () => {
    const others = [await begin(), await begin()]
    const client = new RawClient().send(frame('MULTI') + SET + frame('EXEC'))
    expect(await client.until((text) => text.includes('EXECABORT'))).toMatch(/^\+OK\r\n-LOKI OVERLOADED/)
    expect(others).toHaveLength(2)
  })
})

describe('replies that nobody takes', () => {
  const VALUE = 'x'.repeat(500_000)
  const ALL = { maxOutputBytesOfAll: 2_000_000, outputStallMilliseconds: 300 }
  let told: Record<string, unknown>[]

  beforeEach(async () => {
    server.close()
    told = []
    server = new RespServer(front, { ...LIMITS, ...ALL }, (_message, fields) => told.push(fields))
    await server.listen('127.0.0.1', 0)
    await new RawClient().send(frame('SET', 'k', VALUE)).exactly('+OK\r\n')
  })

  /** Asks, and reads nothing. */
  const ask = (text: string): RawClient => {
    const client = new RawClient()
    client.socket.pause()
    return client.send(text)
  }

  it('of reads are not made: they wait in their order, and the writes behind them, until it takes what there is', async () => {
    const rounds = 120
    const client = ask(
      Array.from(
        { length: rounds },
        (_, round) => frame('GET', 'k') + frame('GET', 'k') + frame('SET', 'n', `${round}`),
      ).join(''),
    )
    await expect.poll(() => server.output.heldBytes).toBeGreaterThan(LIMITS.maxOutputBytes / 2)
    for (let look = 0; look < 20; look++) {
      // One more that was read, and two of reads that went through the log, behind a write.
      expect(server.output.heldBytes).toBeLessThan(LIMITS.maxOutputBytes + 3 * VALUE.length + 10_000)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    client.socket.resume()
    const bulk = `$500000\r\n${VALUE}\r\n`
    const round = `${bulk}${bulk}+OK\r\n`
    await client.until((text) => text.length >= rounds * round.length)
    expect(client.received === round.repeat(rounds)).toBe(true)
    expect(server.output).toMatchObject({ heldBytes: 0, cutOff: 0 })
  })

  it('of many clients have a bound: who takes nothing for too long is cut off, and others are served', async () => {
    for (let count = 0; count < 10; count++) ask(frame('GET', 'k').repeat(100))
    await expect.poll(() => server.output.cutOff, { timeout: 10_000 }).toBeGreaterThan(0)
    expect(told[0]).toMatchObject({ code: 'CLIENT_TOO_SLOW' })
    await new RawClient().send(frame('GET', 'k')).until((text) => text.endsWith(`${VALUE}\r\n`))
    await expect.poll(() => server.output.heldBytes, { timeout: 10_000 }).toBeLessThanOrEqual(ALL.maxOutputBytesOfAll)
    const { cutOff } = server.output
    expect(cutOff).toBeLessThan(10)
    expect(server.connections).toBeGreaterThanOrEqual(10 - cutOff)
  })

  it('of what is in the log are made all the same: with twice as much as all may have, the largest is cut off at once', async () => {
    const patient = ask(frame('GET', 'k').repeat(100))
    await expect.poll(() => server.output.heldBytes).toBeGreaterThan(0)
    ask(frame('MULTI') + frame('GET', 'k').repeat(100) + frame('EXEC'))
    await expect.poll(() => server.output.cutOff).toBe(1)
    expect(server.output.heldBytes).toBeLessThan(2 * ALL.maxOutputBytesOfAll)
    patient.socket.resume()
    await patient.until((text) => text.length >= 100 * (VALUE.length + 11))
  })

  it('of the longest value there may be never are too much for all', async () => {
    server.close()
    server = new RespServer(front, { ...LIMITS, ...ALL, maxValueBytes: 30_000_000, maxOutputBytesOfAll: 100_000 })
    await server.listen('127.0.0.1', 0)
    await new RawClient().send(frame('SETRANGE', 'k', '29999999', 'x')).exactly(':30000000\r\n')
    const client = ask(frame('GET', 'k'))
    await expect.poll(() => server.output.heldBytes + server.output.cutOff).toBeGreaterThan(0)
    client.socket.resume()
    await client.until((text) => text.length === '$30000000\r\n\r\n'.length + 30_000_000)
    expect(server.output).toMatchObject({ heldBytes: 0, cutOff: 0 })
  })
})

describe('a drain', () => {
  it('answers everything that was read, then closes; idle connections close too', async () => {
    const idle = new RawClient().send('PING\r\n')
    await idle.exactly('+PONG\r\n')
    const busy = new RawClient()
    front.held = true
    busy.send(frame('SET', 'a', '1') + frame('INCR', 'a') + frame('GET', 'a'))
    await new RawClient().send('PING\r\n').exactly('+PONG\r\n')
    const drained = server.drain()
    expect(await idle.untilEnd()).toBe('')
    front.release()
    expect(await busy.untilEnd()).toBe('+OK\r\n:2\r\n$1\r\n2\r\n')
    for (const client of clients) client.socket.end()
    await drained
    expect(server.connections).toBe(0)
  })

  it('closes a client that never falls silent, with every command answered or not executed', async () => {
    const client = new RawClient()
    let sent = 0
    client.send(frame('INCR', 'n'))
    sent++
    client.socket.on('data', () => {
      sent++
      client.send(frame('INCR', 'n'))
    })
    await client.until((text) => text.length > 100)
    const drained = server.drain()
    const received = await client.untilEnd()
    client.socket.end()
    await drained
    const answered = received.split('\r\n').length - 1
    expect(answered).toBeGreaterThanOrEqual(sent - 2)
    // What was not answered was not executed.
    expect(Buffer.from(front.machine.read([Buffer.from('GET'), Buffer.from('n')]) as Uint8Array).toString()).toBe(
      String(answered),
    )
  })

  it('half-open: a client that has said all still gets its answers', async () => {
    const client = new RawClient().send(frame('SET', 'a', '1') + frame('GET', 'a'))
    client.socket.end()
    expect(await client.untilEnd()).toBe('+OK\r\n$1\r\n1\r\n')
  })
})

describe('MULTI', () => {
  it('runs as one command, local commands in their places', async () => {
    await new RawClient()
      .send(['MULTI', 'SET a 1', 'PING', 'INCR a', 'GET a', 'ECHO x', 'EXEC', 'GET a'].map((x) => `${x}\r\n`).join(''))
      .exactly(
        '+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n' +
          '*5\r\n+OK\r\n+PONG\r\n:2\r\n$1\r\n2\r\n$1\r\nx\r\n$1\r\n2\r\n',
      )
    expect(front.writes).toBe(2)
  })

  it('errors while queueing abort it; errors while running do not', async () => {
    const client = new RawClient()
    client.send('MULTI\r\nSET a 1\r\nNOPE\r\nEXEC\r\nEXISTS a\r\n')
    await client.exactly(
      "+OK\r\n+QUEUED\r\n-ERR unknown command 'NOPE', with args beginning with: \r\n" +
        '-EXECABORT Transaction discarded because of previous errors.\r\n:0\r\n',
    )
    client.send('MULTI\r\nSET a x\r\nINCR a\r\nSET b 1\r\nEXEC\r\n')
    await client.exactly(
      '+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n' +
        '*3\r\n+OK\r\n-ERR value is not an integer or out of range\r\n+OK\r\n',
    )
    client.send('EXEC\r\nDISCARD\r\nMULTI\r\nMULTI\r\nWATCH a\r\nDISCARD\r\n')
    await client.exactly(
      '-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n+OK\r\n-ERR MULTI calls can not be nested\r\n' +
        '-ERR WATCH inside MULTI is not allowed\r\n+OK\r\n',
    )
  })

  it('of too many commands is refused with a code, and nothing of it is run', async () => {
    const client = new RawClient()
    client.send(frame('MULTI') + frame('SET', 'k', 'v') + 'PING\r\n'.repeat(BOUNDS.transactionCommands) + frame('EXEC'))
    const told = await client.until((text) => text.includes('EXECABORT'))
    expect(told).toContain('+QUEUED\r\n-LOKI TRANSACTION_TOO_LARGE: there are too many commands between MULTI and EXEC')
    expect(front.writes).toBe(0)
  })

  it('has a bound in bytes, of its own and of all; what was refused is let go of', () => {
    const all = { queuedBytes: 0 }
    const value = Buffer.alloc(1 << 20)
    const set = findCommand(Buffer.from('set'))!
    const begun = (): Transaction => {
      const transaction = new Transaction(all)
      transaction.begin()
      return transaction
    }
    const first = begun()
    const fits = Math.floor(BOUNDS.transactionBytes / (value.length + AROUND_BYTES))
    for (let count = 0; count < fits; count++) expect(first.add(set, [value])).toBe(null)
    expect(first.add(set, [value])).toMatchObject({
      prefix: 'LOKI',
      message: expect.stringMatching(/^TRANSACTION_TOO_LARGE: /),
    })
    expect(all.queuedBytes).toBe(0)
    expect(first.finish()).toMatchObject({ kind: 'refused', reply: { prefix: 'EXECABORT' } })
    const others: Transaction[] = []
    const fill = (other: Transaction): Reply => {
      others.push(other)
      for (let count = 0; count < fits; count++) {
        const refused = other.add(set, [value])
        if (refused !== null) return refused
      }
      return null
    }
    let refused: Reply = null
    while (refused === null) refused = fill(begun())
    expect(refused).toMatchObject({ prefix: 'LOKI', message: expect.stringMatching(/^OVERLOADED: /) })
    expect(others.length).toBe(1 + Math.ceil(BOUNDS.transactionBytesOfAll / BOUNDS.transactionBytes))
    expect(others[0]!.finish()).toMatchObject({ kind: 'run' })
    expect(begun().add(set, [value])).toBe(null)
    for (const other of others) other.reset()
    expect(all.queuedBytes).toBe(value.length + AROUND_BYTES)
  })

  it('is not run where its WATCH was skipped, because too much was coming in', async () => {
    server.close()
    server = new RespServer(front, { ...LIMITS, maxCommandBytes: 200_000, maxIncomingBytes: 1 })
    await server.listen('127.0.0.1', 0)
    const part = frame('SET', 'k', 'x'.repeat(190_000)).slice(0, -1000)
    for (let count = 0; count < 2; count++) new RawClient().send(part)
    await expect.poll(() => server.incoming.heldBytes).toBeGreaterThan(370_000)
    const client = new RawClient().send(
      frame('watch', 'w'.repeat(190_000)) + frame('MULTI') + frame('PING') + frame('EXEC'),
    )
    const told = await client.until((text) => /EXECABORT|PONG/.test(text))
    expect(told).toMatch(/^-LOKI OVERLOADED: [^\r]*\r\n\+OK\r\n\+QUEUED\r\n-EXECABORT/)
  })

  it('has a bound of what it watches: WATCH is refused with a code, and EXEC then, until UNWATCH', async () => {
    const client = new RawClient()
    const watch = (from: number, count: number): string =>
      frame('WATCH', ...Array.from({ length: count }, (_, at) => `key${from + at}`))
    client.send(watch(0, BOUNDS.transactionCommands))
    await client.exactly('+OK\r\n')
    client.send(watch(BOUNDS.transactionCommands, 1) + frame('MULTI') + frame('SET', 'k', 'v') + frame('EXEC'))
    const told = await client.until((text) => text.includes('EXECABORT'))
    expect(told).toMatch(/^-LOKI TRANSACTION_TOO_LARGE: [^\r]*\r\n\+OK\r\n\+QUEUED\r\n-EXECABORT/)
    client.received = ''
    client.send(watch(0, 1) + frame('UNWATCH') + watch(1, BOUNDS.transactionCommands) + frame('MULTI') + frame('EXEC'))
    await client.exactly('+OK\r\n+OK\r\n+OK\r\n+OK\r\n*0\r\n')
  })

  it('has a bound of what is watched on all connections, of bytes and of what surrounds them', () => {
    const all = { queuedBytes: 0 }
    const key = Buffer.alloc(1 << 20)
    const fits = Math.floor(BOUNDS.transactionBytes / (key.length + AROUND_BYTES))
    const first = new Transaction(all)
    for (let count = 0; count < fits; count++) expect(first.watch([key])).toHaveProperty('args')
    expect(first.watch([key])).toMatchObject({ message: expect.stringMatching(/^TRANSACTION_TOO_LARGE: /) })
    expect(first.watch([])).toHaveProperty('args')
    expect(all.queuedBytes).toBe(fits * (key.length + AROUND_BYTES))
    first.unwatch()
    expect(all.queuedBytes).toBe(0)
    all.queuedBytes = BOUNDS.transactionBytesOfAll
    expect(first.watch([key])).toMatchObject({ message: expect.stringMatching(/^OVERLOADED: /) })
    expect(first.finish()).toMatchObject({ kind: 'refused' })
    expect(all.queuedBytes).toBe(BOUNDS.transactionBytesOfAll)
  })

  it('WATCH sees every change between, absent keys included', async () => {
    const watcher = new RawClient()
    const other = new RawClient()
    const attempt = async (between: string, outcome: string): Promise<void> => {
      await watcher.send('WATCH k\r\n').exactly('+OK\r\n')
      await other.send(between).until((text) => text.length > 0)
      other.received = ''
      await watcher.send('MULTI\r\nSET won 1\r\nEXEC\r\n').exactly(`+OK\r\n+QUEUED\r\n${outcome}`)
    }
    await attempt('GET k\r\n', '*1\r\n+OK\r\n')
    await attempt('SET k 1\r\n', '*-1\r\n')
    await attempt('SET k 1\r\n', '*-1\r\n')
    await attempt('SET other 1\r\n', '*1\r\n+OK\r\n')
    await attempt('EXPIRE k 100\r\n', '*-1\r\n')
    await attempt('DEL k\r\n', '*-1\r\n')
    // Made and deleted in between: absent before and after, and changed all the same.
    await attempt('MULTI\r\nSET k 1\r\nDEL k\r\nEXEC\r\n', '*-1\r\n')
    await attempt('FLUSHALL\r\n', '*-1\r\n')
  })

  it('a pipelined WATCH, MULTI, EXEC waits for the versions', async () => {
    await new RawClient()
      .send('SET k 1\r\nWATCH k\r\nGET k\r\nMULTI\r\nINCR k\r\nEXEC\r\n')
      .exactly('+OK\r\n+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n')
  })
})

describe('commands about the connection and the cluster', () => {
  it('answers what clients ask at their start', async () => {
    const client = new RawClient()
    client.send('CLIENT SETNAME me\r\nCLIENT GETNAME\r\nCLIENT SETINFO LIB-NAME x\r\nSELECT 0\r\nSELECT 1\r\n')
    await client.exactly('+OK\r\n$2\r\nme\r\n+OK\r\n+OK\r\n-ERR DB index is out of range\r\n')
    client.send('AUTH pw\r\nAUTH default pw\r\nHELLO 4\r\nCLUSTER KEYSLOT {user}x\r\nCLUSTER KEYSLOT 123456789\r\n')
    await client.exactly(
      '-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n' +
        '+OK\r\n-NOPROTO unsupported protocol version\r\n:5474\r\n:12739\r\n',
    )
    client.send('CONFIG GET save appendonly\r\nWAIT 1 0\r\nDEBUG SLEEP 1\r\n')
    await client.exactly(
      '*4\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$4\r\nsave\r\n$0\r\n\r\n:1\r\n' +
        '-ERR DEBUG command not allowed. LokiKV has no debug commands.\r\n',
    )
  })

  it('ioredis connects, pipelines, transacts, reads in both protocols', async () => {
    const redis = new Redis({ port: server.port, host: '127.0.0.1', lazyConnect: true })
    await redis.connect()
    try {
      expect(await redis.set('k', 'v', 'EX', 100)).toBe('OK')
      expect(await redis.get('k')).toBe('v')
      expect(await redis.ttl('k')).toBe(100)
      expect(await redis.mget('k', 'none')).toEqual(['v', null])
      const binary = Buffer.from([0, 255, 13, 10, 128])
      await redis.set(binary, binary)
      expect(await redis.getBuffer(binary)).toEqual(binary)
      const results = await redis.pipeline().incr('n').incr('n').get('n').exec()
      expect(results).toEqual([
        [null, 1],
        [null, 2],
        [null, '2'],
      ])
      expect(await redis.multi().set('t', '1').get('t').exec()).toEqual([
        [null, 'OK'],
        [null, '1'],
      ])
      expect(await redis.info()).toContain('lokikv_version:0.1.0')
      expect((await redis.keys('*')).length).toBe(4)
      expect(await redis.role()).toEqual(['master', expect.any(Number), expect.any(Array)])
      expect(await redis.command('COUNT')).toBeGreaterThan(50)
      await expect(redis.call('INCR', 'k')).rejects.toThrow('ERR value is not an integer or out of range')
      const slots = (await redis.cluster('SLOTS')) as unknown as [number, number, [string, number]][]
      expect(slots[0]!.slice(0, 2)).toEqual([0, 16383])
      expect(slots[0]![2].slice(0, 2)).toEqual(['127.0.0.1', 7001])
    } finally {
      redis.disconnect()
    }
  })

  it('READONLY answers nothing older than what a read before it on the connection is about to show', async () => {
    front.readDelay = 40
    const client = new RawClient().send(frame('GET', 'k') + frame('READONLY') + frame('GET', 'k'))
    await new RawClient().send(frame('SET', 'k', 'new')).exactly('+OK\r\n')
    await client.exactly('$3\r\nnew\r\n+OK\r\n$3\r\nnew\r\n')
    front.readDelay = 2
  })

  it('READONLY answers from the node itself, but never behind its own writes', async () => {
    const client = new RawClient().send('READONLY\r\nSET k 1\r\nGET k\r\n')
    await client.exactly('+OK\r\n+OK\r\n$1\r\n1\r\n')
    const before = front.reads
    await client.send('GET k\r\n').exactly('$1\r\n1\r\n')
    expect(front.reads).toBe(before)
    front.isBehind = true
    await client.send('GET k\r\n').exactly('$1\r\n1\r\n')
    expect(front.reads).toBe(before + 1)
    front.isBehind = false
  })
})
