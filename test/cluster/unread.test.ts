/**
 * Clients that ask for far more than they read, on real processes: what a node keeps for them has a bound in bytes,
 * others are served meanwhile, and who reads slowly gets every reply, right and in order.
 */
import { readFileSync } from 'node:fs'
import { type Socket, connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { RespDecoder, type RespReply, encodeCommand } from '../../bench/resp-client.ts'
import { LIMITS } from '../../src/config.ts'
import { type Cluster, eventually, withCluster } from './harness.ts'
import type { NodeProcess } from './process.ts'

const ITEMS = 1000
const ITEM = 'x'.repeat(1000)
/** About what LRANGE of all of them answers. */
const REPLY_BYTES = ITEMS * 1020
const MEBIBYTE = 2 ** 20
/** A process without load, and what a starved collector leaves lying about. */
const PROCESS_BYTES = 400 * MEBIBYTE
const LOOKS = 8
const CLIENTS = 40
const LRANGE = encodeCommand(['LRANGE', 'big', '0', '-1'])

async function fill(cluster: Cluster): Promise<void> {
  const { node } = await cluster.leader()
  await cluster.command(node, 'RPUSH', 'big', ...Array.from({ length: ITEMS }, () => ITEM))
}

async function metric(node: NodeProcess, name: string): Promise<number> {
  const metrics = await (await fetch(`http://127.0.0.1:${node.ports.admin}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(metrics)![1])
}

/** Null where the machine does not tell. */
function residentBytes({ pid }: NodeProcess): number | null {
  try {
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]) * 1024
  } catch {
    return null
  }
}

/** Asks, and reads nothing. */
async function ask(node: NodeProcess, commands: readonly Uint8Array[]): Promise<Socket> {
  const socket = connect({ host: node.client.host, port: node.client.port })
  socket.on('error', () => undefined)
  await new Promise((resolve) => socket.once('connect', resolve))
  socket.pause()
  socket.write(Buffer.concat(commands))
  return socket
}

/** The most that a node keeps for its clients over a while, and the most memory that it has. */
async function watch(node: NodeProcess): Promise<{ unsentBytes: number; residentBytes: number }> {
  const most = { unsentBytes: 0, residentBytes: 0 }
  for (let look = 0; look < LOOKS; look++) {
    most.unsentBytes = Math.max(most.unsentBytes, await metric(node, 'lokikv_unsent_reply_bytes'))
    most.residentBytes = Math.max(most.residentBytes, residentBytes(node) ?? 0)
    await sleep(50)
  }
  return most
}

const expectAnswers = (cluster: Cluster, node: NodeProcess): Promise<unknown> =>
  eventually(`${node.name} answers`, async () => (await cluster.command(node, 'SET', 'k', 'v')) === 'OK')

/** A client that asks for gigabytes and reads nothing costs its bound. */
async function expectBound(cluster: Cluster, node: NodeProcess, first: readonly Uint8Array[]): Promise<void> {
  const socket = await ask(node, [...first, ...Array.from({ length: 9000 }, () => LRANGE)])
  await eventually('it is answered', async () => (await metric(node, 'lokikv_unsent_reply_bytes')) > 0)
  const most = await watch(node)
  expect(most.unsentBytes).toBeLessThan(LIMITS.outputBytesPerConnection + 2 * REPLY_BYTES)
  expect(most.residentBytes).toBeLessThan(LIMITS.outputBytesPerConnection + PROCESS_BYTES)
  await expectAnswers(cluster, node)
  socket.destroy()
  await eventually('it is let go of', async () => (await metric(node, 'lokikv_unsent_reply_bytes')) === 0)
}

/** A client that reads slowly gets all its replies, in order. */
async function expectAll(cluster: Cluster, node: NodeProcess): Promise<void> {
  await cluster.command(node, 'SET', 'n', '0')
  const commands = Array.from({ length: 30 }, (_, round) => [
    LRANGE,
    encodeCommand(['GET', 'n']),
    // What follows a write goes through the log, for a while.
    ...(round % 10 === 9 ? [encodeCommand(['INCR', 'n']), LRANGE] : []),
  ])
  const socket = await ask(node, commands.flat())
  const replies: RespReply[] = []
  const decoder = new RespDecoder((reply) => replies.push(reply))
  // Bytes are taken in bursts, with pauses between them: the node meets a full socket again and again.
  socket.on('data', (bytes: Buffer) => {
    decoder.push(bytes)
    if (socket.bytesRead % (4 * MEBIBYTE) >= bytes.length) return
    socket.pause()
    setTimeout(() => socket.resume(), 20)
  })
  socket.resume()
  await eventually('all came', () => Promise.resolve(replies.length === commands.flat().length))
  socket.destroy()
  let increments = 0
  const expected = commands.flatMap((some) => {
    const before = Buffer.from(String(increments))
    return some.length === 2 ? ['list', before] : ['list', before, ++increments, 'list']
  })
  const told = replies.map((reply) => (Array.isArray(reply) && reply.length === ITEMS ? 'list' : reply))
  expect(told).toEqual(expected)
}

/** Many of them cost what all may have, and others are served; some ask the log, which answers whoever reads it. */
async function withMany(cluster: Cluster, node: NodeProcess): ReturnType<typeof watch> {
  const write = encodeCommand(['SET', 'k', 'v'])
  const commands = Array.from({ length: 200 }, () => LRANGE)
  const sockets: Socket[] = []
  for (let client = 0; client < CLIENTS; client++) {
    sockets.push(await ask(node, client % 2 === 0 ? commands : commands.flatMap((command) => [write, command])))
  }
  const much = async (): Promise<boolean> => (await metric(node, 'lokikv_unsent_reply_bytes')) > LIMITS.outputBytes / 2
  await eventually('there is much to take', much)
  const most = await watch(node)
  await expectAnswers(cluster, node)
  for (const socket of sockets) socket.destroy()
  await eventually('they are let go of', async () => (await metric(node, 'lokikv_unsent_reply_bytes')) === 0)
  return most
}

test(
  'who asks for more than it reads costs its bound, and gets everything once it reads',
  { timeout: 240_000 },
  async () => {
    await withCluster(3, { watchesReadiness: false }, async (cluster) => {
      await fill(cluster)
      const [leader, follower] = [(await cluster.leader()).node, await cluster.follower()]
      await expectBound(cluster, leader, [])
      await expectBound(cluster, follower, [])
      await expectBound(cluster, follower, [encodeCommand(['READONLY'])])
      await expectAll(cluster, leader)
      await expectAll(cluster, follower)
      const most = await withMany(cluster, leader)
      expect(most.unsentBytes).toBeLessThan(2 * LIMITS.outputBytes + CLIENTS * REPLY_BYTES)
      expect(most.residentBytes).toBeLessThan(2 * (2 * LIMITS.outputBytes) + PROCESS_BYTES)
    })
  },
)
