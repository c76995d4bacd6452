/**
 * The load generator tells the truth: it counts what was answered, names errors by kind, sees pauses, and never sends
 * a command twice. Runs against a server of a few lines, so that the test knows what the truth is.
 */
import { type AddressInfo, type Server, type Socket, createServer } from 'node:net'
import * as fc from 'fast-check'
import { afterEach, expect, test } from 'vitest'
import { type LoadReport, runLoad } from '../bench/load.ts'
import { median } from '../bench/main.ts'
import { measurePath } from '../bench/path.ts'
import { drawBars } from '../bench/picture.ts'
import { selfTimes } from '../bench/profile.ts'
import { drawFlames } from '../bench/flame.ts'
import { ReplyScanner } from '../bench/reply-scanner.ts'
import { RespConnection, RespDecoder, RespError, type RespReply, encodeCommand, textOf } from '../bench/resp-client.ts'

const open: { server: Server; sockets: Set<Socket> }[] = []

afterEach(async () => {
  for (const { server, sockets } of open.splice(0)) {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  }
})

/** A server that answers the n-th command (from 1) with `answer(n)`; null closes the connection instead. */
async function serve(answer: (count: number) => string | null): Promise<{ target: string; received: () => number }> {
  let received = 0
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    // A command is an array: the same decoder reads it.
    const decoder = new RespDecoder(() => {
      const reply = answer(++received)
      if (reply === null) socket.destroy()
      else socket.write(reply)
    })
    socket.on('data', (chunk) => decoder.push(chunk))
  })
  open.push({ server, sockets })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { target: `127.0.0.1:${port}`, received: () => received }
}

/**
 * On a machine that is busy with other things a run may not come far: another one then, on a server of its own, and
 * `longer` by one.
 */
async function until<T>(isEnough: (run: T) => boolean, act: (longer: number) => Promise<T>): Promise<T> {
  for (let longer = 1; ; longer++) {
    const run = await act(longer)
    if (longer === 8 || isEnough(run)) return run
  }
}

test('every answered command is counted, none twice', async () => {
  const { report, received } = await until(
    (run) => run.report.operations > 20,
    async () => {
      const server = await serve(() => '+OK\r\n')
      const load = { clients: 5, seconds: 0.4, warmUpSeconds: 0, pipeline: 3, threads: 2 }
      return { report: await runLoad({ targets: [server.target], ...load }), received: server.received }
    },
  )
  expect(report.errors).toEqual({})
  expect(report.operations).toBeGreaterThan(20)
  // What is in flight at the end was received and is not counted.
  expect(received()).toBeGreaterThanOrEqual(report.operations)
  expect(received()).toBeLessThanOrEqual(report.operations + 5 * 3)
  expect(report.latencyMilliseconds.p50).toBeLessThanOrEqual(report.latencyMilliseconds.p99)
})

test('errors are counted by kind, and a lost connection is an unknown outcome', async () => {
  const report = await until(
    ({ reconnects, operations }) => reconnects > 0 && operations > 50,
    async () => {
      const { target } = await serve((count) => (count === 50 ? null : count % 10 === 0 ? '-ERR no\r\n' : '+OK\r\n'))
      return runLoad({ targets: [target], clients: 1, seconds: 1, warmUpSeconds: 0 })
    },
  )
  const lost = Object.entries(report.errors).filter(([kind]) => kind.startsWith('connection lost'))
  expect(report.errors['ERR no']).toBeGreaterThan(4)
  expect(lost).toEqual([[expect.stringContaining('outcome unknown'), 1]])
  expect(report.reconnects).toBe(1)
})

test('a pause of the server is the longest gap', async () => {
  const report = await until(
    ({ operations }) => operations > 40,
    async () => {
      let pausedUntil = 0
      const { target } = await serve((count) => {
        if (count === 20) pausedUntil = performance.now() + 400
        while (performance.now() < pausedUntil);
        return '+OK\r\n'
      })
      return runLoad({ targets: [target], clients: 2, seconds: 1.5, warmUpSeconds: 0 })
    },
  )
  // A client that was itself kept waiting sees less of the pause than there was.
  expect(report.longestGapMilliseconds).toBeGreaterThan(200)
})

test('options that make no sense are refused', async () => {
  await expect(runLoad({ mix: 'put' })).rejects.toThrow(/no part of a mix/)
  await expect(runLoad({ targets: ['nowhere'] })).rejects.toThrow(/host:port/)
  await expect(runLoad({ clients: 0 })).rejects.toThrow(/at least one/)
})

test('replies are the same, whole and in any pieces', () => {
  interface Item {
    readonly wire: string
    readonly seen: unknown
  }
  const leaf: fc.Arbitrary<Item> = fc.oneof(
    fc.integer().map((value) => ({ wire: `:${value}\r\n`, seen: value })),
    fc.constant({ wire: '$-1\r\n', seen: null }),
    fc.string().map((text) => ({ wire: `$${Buffer.byteLength(text)}\r\n${text}\r\n`, seen: text })),
    fc.constant({ wire: '-ERR x\r\n', seen: 'error: ERR x' }),
    fc.constant({ wire: '+OK\r\n', seen: 'OK' }),
  )
  const list: fc.Arbitrary<Item> = fc.array(leaf, { maxLength: 4 }).map((items) => ({
    wire: `*${items.length}\r\n${items.map((item) => item.wire).join('')}`,
    seen: items.map((item) => item.seen),
  }))
  const plain = (reply: RespReply): unknown => {
    if (reply instanceof RespError) return `error: ${reply.text}`
    if (Buffer.isBuffer(reply)) return reply.toString()
    return Array.isArray(reply) ? reply.map(plain) : reply
  }
  fc.assert(
    fc.property(fc.array(fc.oneof(leaf, list), { maxLength: 8 }), fc.integer({ min: 1, max: 7 }), (replies, piece) => {
      const seen: unknown[] = []
      const decoder = new RespDecoder((reply) => seen.push(plain(reply)))
      const bytes = Buffer.from(replies.map((reply) => reply.wire).join(''))
      for (let at = 0; at < bytes.length; at += piece) decoder.push(bytes.subarray(at, at + piece))
      expect(seen).toEqual(replies.map((reply) => reply.seen))
    }),
  )
  expect(encodeCommand(['SET', 'k', 'ä']).toString()).toBe('*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nä\r\n')
})

test('the scanner of the load generator sees the same replies in any pieces, and keeps none of the bytes', () => {
  const replies = ['+OK', '-ERR x', ':12', '$-1', '$5\r\na\r\nbc', '*2\r\n:1\r\n$1\r\nx', '*0', '*-1']
  const seenAs = [null, { error: 'ERR x' }, 12, null, null, null, null, null]
  for (let piece = 1; piece < 12; piece++) {
    const seen: unknown[] = []
    const scanner = new ReplyScanner((reply) => seen.push(reply))
    const bytes = Buffer.from(replies.map((reply) => `${reply}\r\n`).join(''))
    const shared = Buffer.alloc(piece)
    for (let at = 0; at < bytes.length; at += piece) {
      const length = bytes.copy(shared, 0, at, at + piece)
      scanner.push(shared.subarray(0, length))
      shared.fill('#')
    }
    expect(seen).toEqual(seenAs)
  }
  expect(() => new ReplyScanner(() => {}).push(Buffer.from('nonsense\r\n'))).toThrow(/no RESP2/)
})

test('open loop: as many commands as asked for, and a pause counts for all that were due in it', async () => {
  const { report, due } = await until<{ report: LoadReport; due: number }>(
    (run) => run.report.operations > 200,
    async (longer) => {
      let pausedUntil = 0
      const { target } = await serve((count) => {
        if (count === 200) pausedUntil = performance.now() + longer * 300
        while (performance.now() < pausedUntil);
        return '+OK\r\n'
      })
      const load = { clients: 3, seconds: longer * 1.2, warmUpSeconds: 0, perSecond: 500 }
      return { report: await runLoad({ targets: [target], ...load }), due: load.seconds * load.perSecond }
    },
  )
  expect(report.errors).toEqual({})
  expect(report.operations).toBeLessThan(due)
  expect(report.operations).toBeGreaterThan(200)
  // A closed loop of three clients would have noticed the pause three times; here some 150 commands were due.
  expect(report.latencyMilliseconds.p90).toBeGreaterThan(50)
})

test('a connection tells what is unanswered when it ends', async () => {
  const { target } = await serve((count) => (count === 2 ? null : ':7\r\n'))
  const connection = await RespConnection.open('127.0.0.1', Number(target.split(':')[1]))
  expect(textOf(await connection.call('INCR', 'k'))).toBe('7')
  await expect(connection.call('INCR', 'k')).rejects.toThrow(/unanswered/)
  expect((await connection.closed).unanswered).toBe(1)
  expect(connection.usable).toBe(false)
})

test('WAIT: a batch counts when the replicas have it, and never with too few', async () => {
  // Every second reply answers WAIT: one replica, and at every fourth of them none.
  const report = await until(
    ({ operations }) => operations > 12,
    async () => {
      const { target } = await serve((count) => (count % 2 === 1 ? '+OK\r\n' : count % 8 === 0 ? ':0\r\n' : ':1\r\n'))
      return runLoad({ targets: [target], clients: 1, seconds: 0.4, warmUpSeconds: 0, waitReplicas: 1 })
    },
  )
  const short = report.errors['WAIT: too few replicas'] ?? 0
  expect(Object.keys(report.errors)).toEqual(['WAIT: too few replicas'])
  expect(short).toBeGreaterThan(2)
  // Three of four batches have their replica.
  expect(Math.abs(report.operations / short - 3)).toBeLessThan(1.5)
})

test('the path in one process answers every command', async () => {
  for (const kind of ['set', 'get'] as const) {
    const { operations, microsecondsPerOperation } = await measurePath(kind, 4, 2, 400)
    expect(operations).toBe(400)
    expect(microsecondsPerOperation).toBeGreaterThan(0)
  }
})

test('self times are summed by place, the most first', () => {
  const frame = (functionName: string) => ({ functionName, url: 'file:///x/src/a.ts', lineNumber: 6 })
  const nodes = [1, 2, 3].map((id) => ({ id, callFrame: frame(id === 3 ? 'late' : 'early') }))
  const profile = { nodes, samples: [1, 2, 3, 3], timeDeltas: [1000, 1000, 2000, 3000] }
  expect(selfTimes(profile)).toEqual([
    { where: 'late  src/a.ts:7', milliseconds: 5 },
    { where: 'early  src/a.ts:7', milliseconds: 2 },
  ])
})

test('the flame graph has a box for every function, as wide as its time, and none for waiting', () => {
  const frame = (functionName: string) => ({ functionName, url: 'file:///x/src/a.ts', lineNumber: 6 })
  const nodes = [
    { id: 1, callFrame: frame('(root)'), children: [2, 4] },
    { id: 2, callFrame: frame('outer<T>'), children: [3] },
    { id: 3, callFrame: frame('inner') },
    { id: 4, callFrame: { functionName: '(idle)', url: '', lineNumber: -1 } },
  ]
  const svg = drawFlames('a < b', { nodes, samples: [2, 3, 4], timeDeltas: [1000, 3000, 96_000] })
  const boxes = [...svg.matchAll(/<title>(\S+?) .*? ([\d.]+) %, (\d+) ms/g)].map(([, name, share, time]) => [
    name,
    share,
    time,
  ])
  expect(boxes).toEqual([
    ['inner', '75.0', '3'],
    ['outer&lt;T>', '100.0', '4'],
    ['(root)', '100.0', '4'],
  ])
})

test('the picture has a bar for every peer, the fastest the longest', () => {
  const bar = (peer: string, value: number) => ({ peer, median: value, least: value, most: value })
  const svg = drawBars('a < b', [{ name: 'SET', bars: [bar('ours', 50), bar('theirs', 100)] }])
  expect(svg).toContain('a &lt; b')
  const widths = [...svg.matchAll(/<rect x="\d+" y="\d+" width="(\d+)"/g)].map((match) => Number(match[1]))
  expect(widths).toHaveLength(2)
  expect(widths[1]).toBe(widths[0]! * 2)
})

test('the median is the middle', () => {
  expect([median([3, 1, 2]), median([4, 1, 2, 3]), median([5])]).toEqual([2, 2.5, 5])
})
