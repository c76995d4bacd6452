/**
 * Exactly once, on real processes: commands that a node sends again to the next leader, although they were applied,
 * count once; and where the log has ended the session of a node, what was applied and not answered is told as unknown,
 * everything else goes on in the next session.
 */
import { expect, test } from 'vitest'
import { RespConnection, RespError, type RespReply, encodeCommand, textOf } from '../../bench/resp-client.ts'
import { type Cluster, eventually, withCluster } from './harness.ts'
import type { NodeProcess } from './process.ts'
import { HOUR_MILLISECONDS, SETTABLE_CLOCKS, setClock } from './wall-clock.ts'

const INCREMENT = encodeCommand(['INCR', 'counter'])
const VOTERS = [
  [0, 1],
  [0, 2],
  [1, 2],
] as const

/** A client that increments one counter, through one connection, and keeps what it was answered. */
class Incrementer {
  readonly replies: RespReply[] = []
  readonly #connection: RespConnection
  #sent = 0
  lost = 0

  private constructor(connection: RespConnection) {
    this.#connection = connection
  }

  static async open({ client }: NodeProcess): Promise<Incrementer> {
    return new Incrementer(await RespConnection.open(client.host, client.port))
  }

  get unanswered(): number {
    return this.#sent - this.replies.length
  }

  send(count: number): void {
    for (let left = count; left > 0; left--) {
      this.#sent++
      this.#connection.send(INCREMENT, (reply, lost) => {
        if (lost) this.lost++
        else this.replies.push(reply)
      })
    }
  }

  /** Sends so many at a time, again and again, until `stop` is called. */
  keepSending(depth: number): { stop: () => void } {
    const timer = setInterval(() => this.send(depth - this.unanswered), 1)
    return { stop: () => clearInterval(timer) }
  }

  async untilAnswered(): Promise<void> {
    await eventually('every command is answered', () => Promise.resolve(this.unanswered === 0))
  }

  close(): void {
    this.#connection.close()
  }
}

const counterAt = async (cluster: Cluster, node: NodeProcess): Promise<number> =>
  Number(textOf(await cluster.command(node, 'GET', 'counter')))

test('INCR that is sent again after its leader died, and had been applied, counts once', async () => {
  await withCluster(3, { linked: 3 }, async (cluster) => {
    const node = cluster.node(0)
    const client = await Incrementer.open(node)
    const sending = client.keepSending(20)
    for (let round = 0; round < 3; round++) {
      if ((await cluster.leader()).node === node) await cluster.transfer(await cluster.follower())
      const { node: leader } = await cluster.leader()
      // What is applied from here on, this node does not learn of: it will send it again, to the next leader.
      cluster.links.stall(leader.ordinal, node.ordinal)
      await eventually('something is applied that is not answered', async () => {
        const { length } = client.replies
        return (await counterAt(cluster, leader)) > length && length === client.replies.length
      })
      await leader.kill9()
      cluster.links.heal()
      const { length } = client.replies
      await eventually('the next leader answers', () => Promise.resolve(client.replies.length > length + 100))
      await leader.start()
      await cluster.waitUntilCaughtUp(leader)
    }
    sending.stop()
    await client.untilAnswered()
    expect(client.replies).toEqual(client.replies.map((_, at) => at + 1))
    expect(await counterAt(cluster, cluster.node(1))).toBe(client.replies.length)
    expect(client.lost).toBe(0)
    client.close()
  })
})

/** Someone leads whose clock is ahead by so much, and whom nobody has believed before: the time of the log leaps. */
async function leap(cluster: Cluster, milliseconds: number): Promise<void> {
  const node = await cluster.follower()
  await node.stop()
  await setClock(node, milliseconds)
  await node.start()
  await cluster.waitUntilCaughtUp(node)
  await cluster.transfer(node)
  expect(await cluster.command(node, 'SET', 'leapt', String(milliseconds))).toBe('OK')
}

/**
 * A node outside the configuration, whose sessions end. It loses the answers to some commands, then every connection,
 * takes in some more, and its session ends before it is heard of again.
 */
async function cutOff(cluster: Cluster, node: NodeProcess): Promise<void> {
  const client = await Incrementer.open(node)
  client.send(1)
  await client.untilAnswered()
  for (const voter of [0, 1, 2]) cluster.links.stall(voter, node.ordinal)
  client.send(5)
  await eventually('all are applied', async () => (await counterAt(cluster, cluster.node(0))) === 6)
  cluster.links.only(...VOTERS)
  cluster.links.heal()
  cluster.links.only(...VOTERS)
  client.send(3)
  await leap(cluster, HOUR_MILLISECONDS)
  expect(client.replies).toEqual([1])
  cluster.links.heal()
  await client.untilAnswered()
  const [first, ...others] = client.replies
  expect(first).toBe(1)
  for (const reply of others.splice(0, 5)) expect((reply as RespError).text).toMatch(/^LOKI OUTCOME_UNKNOWN: /)
  expect(others).toEqual([7, 8, 9])
  client.close()
}

/** It stands still while its session ends: what was on its way is known, or not; what comes later is as ever. */
async function freeze(cluster: Cluster, node: NodeProcess): Promise<void> {
  const before = await counterAt(cluster, node)
  const client = await Incrementer.open(node)
  client.send(50)
  node.pause()
  await leap(cluster, 2 * HOUR_MILLISECONDS)
  node.resume()
  await client.untilAnswered()
  const known = client.replies.filter((reply) => typeof reply === 'number')
  const unknown = client.replies.filter((reply) => reply instanceof RespError)
  for (const { text } of unknown) expect(text).toMatch(/^LOKI OUTCOME_UNKNOWN: /)
  expect(known.length + unknown.length).toBe(50)
  const after = await counterAt(cluster, node)
  // In their order, none twice, and what is unknown happened or did not.
  expect(known).toEqual([...new Set(known)].toSorted((a, b) => a - b))
  expect(after).toBeGreaterThanOrEqual(before + known.length)
  expect(after).toBeLessThanOrEqual(before + 50)
  client.send(1)
  await client.untilAnswered()
  expect(client.replies.at(-1)).toBe(after + 1)
  client.close()
}

test('a node that is cut off, or stands still, for longer than its session lives', async () => {
  await withCluster(4, { linked: 4, nodeArguments: SETTABLE_CLOCKS }, async (cluster) => {
    await cluster.transfer(cluster.node(0))
    const served: string[] = []
    await cluster.scale(3, async (node) => {
      served.push(node.name)
      await cutOff(cluster, node)
      await freeze(cluster, node)
    })
    expect(served).toEqual(['orders-3'])
  })
})
