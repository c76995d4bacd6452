/** The peer port: who is let in, what is delivered, and that garbage disturbs nobody. */
import { once } from 'node:events'
import { type Socket, connect, createServer } from 'node:net'
import { Worker } from 'node:worker_threads'
import { crc32 } from 'node:zlib'
import fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { type PeerFrame, FrameDecoder, FrameWriter } from '../src/edge/peer/frames.ts'
import { LIMITS } from '../src/config.ts'
import { PeerNetwork } from '../src/edge/peer/network.ts'
import type { RelayMessage } from '../src/turn/relay-messages.ts'
import { type Member, type NodeId, clusterId, logIndex, nodeId, volumeId } from '../src/vocabulary.ts'
import { freePort } from './cluster/process.ts'

const CLUSTER = clusterId('c'.repeat(32))
const TOKEN = 'a token of sixteen characters or more'
const open: PeerNetwork[] = []

interface Node {
  readonly member: Member
  readonly network: PeerNetwork
  readonly port: number
  readonly received: { from: NodeId; message: RelayMessage }[]
  readonly connected: NodeId[]
  readonly disconnected: NodeId[]
  readonly moving: NodeId[]
  readonly logged: Record<string, unknown>[]
}

async function start(
  id: number,
  options: { token?: string; cluster?: string; knows?: (id: number) => boolean; dials?: () => void } = {},
): Promise<Node> {
  const port = await freePort()
  const member = { id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `127.0.0.1:${port}` }
  const node: Omit<Node, 'network'> = {
    member,
    port,
    received: [],
    connected: [],
    disconnected: [],
    moving: [],
    logged: [],
  }
  const network = new PeerNetwork({
    cluster: options.cluster ? clusterId(options.cluster) : CLUSTER,
    node: member.id,
    volume: member.volume,
    token: options.token ?? TOKEN,
    listenHost: '127.0.0.1',
    port,
    lookUp: (address) => {
      options.dials?.()
      return address
    },
    knows: (other, volume) => (options.knows?.(other) ?? true) && volume === String(other).repeat(32),
    receive: (from, payload) => {
      if (payload.kind === 'relay') node.received.push({ from, message: payload.message })
    },
    connected: (peer) => node.connected.push(peer),
    disconnected: (peer) => node.disconnected.push(peer),
    moving: (peer) => node.moving.push(peer),
    log: (_message, fields) => node.logged.push(fields),
  })
  await network.listen()
  open.push(network)
  return { ...node, network }
}

async function until(condition: () => boolean): Promise<void> {
  for (let waited = 0; !condition(); waited += 5) {
    if (waited > 10_000) throw new Error('nothing happened')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Carries one port to another until it is cut; then nobody comes through any more. */
async function wire(to: number): Promise<{ readonly port: number; carried(): number; cut(): void }> {
  const port = await freePort()
  let carried = 0
  const sockets: Socket[] = []
  const server = createServer((near) => {
    const far = connect(to, '127.0.0.1')
    sockets.push(near, far)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => undefined).on('close', () => other.destroy())
      one.on('data', (bytes) => (carried += bytes.length)).pipe(other)
    }
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const cut = (): void => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  return { port, carried: () => carried, cut }
}

/** Carries one port to another; takes all that comes, and gives it on a little at a time. */
async function dribble(to: number): Promise<{ readonly port: number; held(): number; end(): void }> {
  const port = await freePort()
  const held: Buffer[] = []
  const sockets: Socket[] = []
  const server = createServer((near) => {
    const far = connect(to, '127.0.0.1')
    sockets.push(near, far)
    for (const socket of [near, far]) socket.on('error', () => undefined)
    near.on('data', (bytes: Buffer) => held.push(bytes))
    far.pipe(near)
    const give = setInterval(() => {
      const bytes = held.shift()
      if (bytes === undefined) return
      far.write(bytes.subarray(0, 20_000))
      if (bytes.length > 20_000) held.unshift(bytes.subarray(20_000))
    }, 10)
    near.on('close', () => clearInterval(give))
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const end = (): void => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  return { port, held: () => held.reduce((sum, bytes) => sum + bytes.length, 0), end }
}

/** A port that answers no more, as behind a network that is cut: its thread stands still, and its backlog is full. */
async function deafPort(): Promise<{ readonly port: number; end(): Promise<void> }> {
  const code = `const { parentPort } = require('node:worker_threads')
    const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      parentPort.postMessage(server.address().port)
      setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0))
    })`
  const worker = new Worker(code, { eval: true })
  const [port] = (await once(worker, 'message')) as [number]
  const held: Socket[] = []
  for (let isFull = false; !isFull;) {
    const socket = connect(port, '127.0.0.1').on('error', () => undefined)
    held.push(socket)
    isFull = !(await Promise.race([
      once(socket, 'connect'),
      new Promise<false>((resolve) => setTimeout(resolve, 300, false)),
    ]))
  }
  const end = async (): Promise<void> => {
    for (const socket of held) socket.destroy()
    await worker.terminate()
  }
  return { port, end }
}

const ask = (index: number): RelayMessage => ({ kind: 'fetch-manifest', index: logIndex(index) })

describe('peer network', () => {
  afterEach(async () => {
    await Promise.all(open.splice(0).map((network) => network.close()))
  })

  it('delivers in order, both ways over one connection, whoever dialled', async () => {
    const [a, b] = [await start(1), await start(2)]
    a.network.setMembers([b.member])
    await until(() => a.network.isConnected(b.member.id) && b.network.isConnected(a.member.id))
    for (let index = 1; index <= 100; index++) {
      a.network.send(b.member.id, { kind: 'relay', message: ask(index) })
      b.network.send(a.member.id, { kind: 'relay', message: ask(1000 + index) })
    }
    a.network.flush()
    b.network.flush()
    await until(() => a.received.length === 100 && b.received.length === 100)
    expect(b.received.map(({ message }) => message)).toEqual(Array.from({ length: 100 }, (_, i) => ask(i + 1)))
    expect(a.received.map(({ message }) => message)).toEqual(Array.from({ length: 100 }, (_, i) => ask(1001 + i)))
  })

  it('comes back by itself when a connection is lost', async () => {
    const [a, b] = [await start(1), await start(2)]
    a.network.setMembers([b.member])
    await until(() => a.network.isConnected(b.member.id))
    await b.network.close()
    open.splice(open.indexOf(b.network), 1)
    await until(() => !a.network.isConnected(b.member.id))
    const again = await start(2)
    a.network.setMembers([{ ...b.member, address: again.member.address }])
    await until(() => a.connected.length === 2)
    expect(a.network.isConnected(b.member.id)).toBe(true)
  })

  it('says that a large frame moves as long as it does, also when all of it is out of sight', async () => {
    const [a, b] = [await start(1), await start(2)]
    const way = await dribble(b.port)
    a.network.setMembers([{ ...b.member, address: `127.0.0.1:${way.port}` }])
    await until(() => a.network.isConnected(b.member.id))
    a.network.send(b.member.id, {
      kind: 'relay',
      message: { kind: 'chunk', index: logIndex(1), chunk: 0, bytes: Buffer.alloc(1_500_000, 1) },
    })
    a.network.flush()
    await until(() => way.held() > 1_000_000)
    // Nothing is left with the sender. What it hears is what the other side says.
    await new Promise((resolve) => setTimeout(resolve, 50))
    const before = a.moving.length
    await until(() => a.moving.length > before + 3 || b.received.length > 0)
    expect(b.received).toEqual([])
    expect(new Set(b.moving)).toEqual(new Set([1]))
    await until(() => b.received.length === 1)
    way.end()
  })

  it('says at once that a peer is gone, and only when its last connection is', async () => {
    const [a, b] = [await start(1), await start(2)]
    a.network.setMembers([b.member])
    b.network.setMembers([a.member])
    // Both dialled: two connections, as a rule. The end of one of them is no end.
    await until(() => a.network.isConnected(b.member.id) && b.network.isConnected(a.member.id))
    expect(a.disconnected).toEqual([])
    await b.network.close()
    open.splice(open.indexOf(b.network), 1)
    await until(() => a.disconnected.length > 0)
    expect(a.disconnected).toEqual([b.member.id])
    expect(a.network.isConnected(b.member.id)).toBe(false)
    // Who closes its connections itself is told nothing.
    expect(b.disconnected).toEqual([])
  })

  it('tells of the connection that takes the place of a lost one: what was in flight is gone', async () => {
    const [a, b] = [await start(1), await start(2)]
    const [toB, toA] = [await wire(b.port), await wire(a.port)]
    // Both dial before either is connected: two connections, and each side uses the one that it proved last.
    a.network.setMembers([{ ...b.member, address: `127.0.0.1:${toB.port}` }])
    b.network.setMembers([{ ...a.member, address: `127.0.0.1:${toA.port}` }])
    await until(() => a.connected.length === 2 && b.connected.length === 2)
    const large: RelayMessage = { kind: 'manifest', index: logIndex(1), manifest: Buffer.alloc(100_000) }
    const before = toB.carried()
    a.network.send(b.member.id, { kind: 'relay', message: large })
    a.network.flush()
    await until(() => b.received.length === 1)
    const [used, other] = toB.carried() - before >= 100_000 ? [toB, toA] : [toA, toB]
    used.cut()
    await until(() => a.connected.length === 3)
    a.network.send(b.member.id, { kind: 'relay', message: ask(1) })
    a.network.flush()
    await until(() => b.received.length === 2)
    expect(a.disconnected).toEqual([])
    other.cut()
  })

  it('what may wait leaves by itself, or with what may not, in order', async () => {
    const [a, b] = [await start(1), await start(2)]
    a.network.setMembers([b.member])
    await until(() => a.network.isConnected(b.member.id))
    a.network.send(b.member.id, { kind: 'relay', message: ask(1) }, true)
    a.network.flush()
    await until(() => b.received.length === 1)
    for (const id of [2, 3, 4]) a.network.send(b.member.id, { kind: 'relay', message: ask(id) }, id < 4)
    a.network.flush()
    a.network.send(b.member.id, { kind: 'relay', message: ask(5) }, true)
    await until(() => b.received.length === 5)
    expect(b.received.map(({ message }) => message)).toEqual([1, 2, 3, 4, 5].map(ask))
    // What waits at the end leaves before it.
    a.network.send(b.member.id, { kind: 'relay', message: ask(6) }, true)
    await a.network.close()
    await until(() => b.received.length === 6)
  })

  it('what is said in one turn has the same bound, although nothing was flushed', async () => {
    const [a, b] = [await start(1), await start(2)]
    a.network.setMembers([b.member])
    await until(() => a.network.isConnected(b.member.id))
    const large: RelayMessage = { kind: 'read', id: 1, commands: [[Buffer.alloc(1 << 20)]] }
    // Nobody reads while this loop runs; the kernel takes a few of them.
    let sent = 0
    for (; sent < 300 && !a.logged.some(({ code }) => code === 'OVERLOADED'); sent++) {
      a.network.send(b.member.id, { kind: 'relay', message: large })
    }
    expect(sent).toBeGreaterThan(LIMITS.peerQueueBytes >> 20)
    expect(sent).toBeLessThan(200)
    await until(() => a.connected.length === 2)
    expect(a.network.isBehind(b.member.id)).toBe(false)
  })

  it.each([
    ['another token', { token: 'another token, also long enough' }, 'UNAUTHORIZED'],
    ['another cluster', { cluster: 'd'.repeat(32) }, 'CLUSTER_MISMATCH'],
    ['a node that is not known', { knows: (id: number) => id !== 1 }, 'MEMBER_UNKNOWN'],
  ])('refuses %s with its code', async (_name, options, code) => {
    const [a, b] = [await start(1), await start(2, options)]
    a.network.setMembers([b.member])
    await until(() => [...a.logged, ...b.logged].some((fields) => fields.code === code))
    expect(a.network.isConnected(b.member.id) && b.network.isConnected(a.member.id)).toBe(false)
    expect(a.received).toEqual([])
  })

  it('keeps a bounded number of strangers, and lets members in past them', async () => {
    const a = await start(1)
    let standing = 0
    const strangers = Array.from({ length: 3 * LIMITS.peerStrangers }, () => {
      const socket = connect(a.port, '127.0.0.1', () => standing++)
      return socket.on('error', () => undefined).on('close', () => standing--)
    })
    for (const socket of strangers) socket.resume()
    await until(() => a.logged.some(({ code }) => code === 'OVERLOADED') && standing === LIMITS.peerStrangers)
    const b = await start(2)
    b.network.setMembers([a.member])
    await until(() => a.connected.includes(b.member.id))
    expect(standing).toBeLessThanOrEqual(LIMITS.peerStrangers)
    for (const socket of strangers) socket.destroy()
  })

  it('gives up a connection that is not made, and dials again: the system would try it for minutes', async () => {
    const deaf = await deafPort()
    const dials: number[] = []
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const node = await start(1, { dials: () => dials.push(Date.now()) })
      node.network.setMembers([{ id: nodeId(2), volume: volumeId('2'.repeat(32)), address: `127.0.0.1:${deaf.port}` }])
      for (let steps = 0; steps < 200 && dials.length < 2; steps++) {
        vi.advanceTimersByTime(100)
        await new Promise((resolve) => setImmediate(resolve))
      }
      expect(dials).toHaveLength(2)
    } finally {
      vi.useRealTimers()
      await deaf.end()
    }
  })

  it('closes a connection that sends garbage, and disturbs nobody', async () => {
    const [a, b] = [await start(1), await start(2)]
    a.network.setMembers([b.member])
    await until(() => a.network.isConnected(b.member.id))
    const lie = Buffer.alloc(16)
    lie.writeUInt32LE(0xffffffff, 0)
    const wrongCrc = Buffer.from([1, 0, 0, 0, 1, 2, 3, 4, 4])
    const early = new FrameWriter()
    early.relay(ask(1))
    for (const garbage of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), lie, wrongCrc, early.view()]) {
      const socket = connect(b.port, '127.0.0.1')
      socket.on('error', () => undefined)
      const closed = new Promise((resolve) => socket.on('close', resolve))
      socket.resume()
      socket.write(garbage)
      await closed
    }
    expect(b.logged.filter(({ code }) => code === 'FRAME_MALFORMED' || code === 'UNAUTHORIZED')).toHaveLength(4)
    a.network.send(b.member.id, { kind: 'relay', message: ask(7) })
    a.network.flush()
    await until(() => b.received.length === 1)
  })
})

describe('peer frames', () => {
  const bytesOf = (build: (writer: FrameWriter) => void): Buffer => {
    const writer = new FrameWriter()
    build(writer)
    return writer.view()
  }

  it('come out the same in any cut', () => {
    const bytes = bytesOf((writer) => {
      writer.ping()
      writer.relay(ask(3))
      writer.refusal('CODE', 'a message')
      writer.relay({ kind: 'chunk', index: logIndex(9), chunk: 4, bytes: Buffer.alloc(300, 7) })
    })
    const decode = (cuts: readonly number[]): PeerFrame[] => {
      const decoder = new FrameDecoder(10_000)
      const frames: PeerFrame[] = []
      let from = 0
      for (const to of [...cuts.toSorted((x, y) => x - y), bytes.length]) {
        decoder.push(bytes.subarray(from, to), (frame) => frames.push(frame))
        from = to
      }
      return frames
    }
    const whole = decode([])
    expect(whole.map(({ kind }) => kind)).toEqual(['ping', 'relay', 'refusal', 'relay'])
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
        expect(decode(cuts)).toEqual(whole)
      }),
    )
    expect(decode(Array.from({ length: bytes.length }, (_, position) => position))).toEqual(whole)
  })

  it('any flipped bit is noticed', () => {
    const bytes = bytesOf((writer) => writer.relay(ask(3)))
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes)
      damaged[bit >> 3]! ^= 1 << (bit & 7)
      const frames: PeerFrame[] = []
      try {
        new FrameDecoder(10_000).push(damaged, (frame) => frames.push(frame))
      } catch (error) {
        expect((error as Error).message).toContain('FRAME_MALFORMED')
      }
      expect(frames).toEqual([])
    }
    expect(crc32(bytes.subarray(8))).toBe(bytes.readUInt32LE(4))
  })
})
