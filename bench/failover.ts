/**
 * `node bench/failover.ts`: how long writes pause when leadership moves, on real processes with default settings and
 * under load: kill -9 of the leader, a transfer, a change of the voters. Clients of every node write one command at a
 * time; a pause is the longest time in which no client of a node that stays got an answer, and the longest time that
 * one command of such a client took. It never sends a command twice; errors on nodes that stay are counted.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Cluster, eventually } from '../test/cluster/harness.ts'
import type { NodeProcess } from '../test/cluster/process.ts'
import { median } from './main.ts'
import { RespConnection, RespError, encodeCommand } from './resp-client.ts'

/** What clients saw between the beginning and the end of a window. */
interface Pause {
  /** Longest time without an answer to any client that counts. */
  readonly silenceMilliseconds: number
  /** Longest time that one command of a client that counts took. */
  readonly slowestMilliseconds: number
  readonly answers: number
}

interface Answer {
  readonly node: NodeProcess
  readonly sentAt: number
  readonly at: number
}

const VALUE = 'x'.repeat(100)

/** Clients that write without a pause, a few for each node, for as long as the node is there. */
class Writers {
  readonly #clients: Promise<void>[] = []
  readonly #perNode: number
  #answers: Answer[] = []
  #stopping = false
  /** Nodes whose clients are cut off on purpose. */
  readonly killed = new Set<NodeProcess>()
  readonly errors: string[] = []

  constructor(perNode: number) {
    this.#perNode = perNode
  }

  add(node: NodeProcess): void {
    for (let number = 0; number < this.#perNode; number++) this.#clients.push(this.#client(node, number))
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#clients)
  }

  async #client(node: NodeProcess, number: number): Promise<void> {
    const { host, port } = node.client
    for (let count = 0; !this.#stopping;) {
      const connection = node.isReady ? await RespConnection.open(host, port).catch(() => null) : null
      if (connection === null) {
        await sleep(20)
        continue
      }
      while (!this.#stopping && connection.usable) {
        const key = `${node.name}:${number}:${count++ % 100}`
        const sentAt = performance.now()
        const answer = await new Promise<string>((resolve) => {
          connection.send(encodeCommand(['SET', key, VALUE]), (reply, lost) => {
            resolve(lost ? 'no answer' : reply instanceof RespError ? reply.text : 'OK')
          })
        })
        if (answer === 'OK') this.#answers.push({ node, sentAt, at: performance.now() })
        else if (!this.killed.has(node)) this.errors.push(`${node.name}: ${answer}`)
        // Timers and sockets get their turn: a close that has arrived is seen before the next command.
        await sleep(1)
      }
      connection.close()
    }
  }

  /** Forgets what was; `pause` then speaks of what came after this. */
  begin(): void {
    this.#answers = []
  }

  /** Waits until each client of `counted` has got some answers to commands that it sent from now on. */
  async settled(counted: readonly NodeProcess[]): Promise<void> {
    const from = performance.now()
    await eventually('writes go on', () => {
      const fresh = this.#answers.filter((answer) => answer.sentAt >= from)
      return Promise.resolve(
        counted.every((node) => fresh.filter((answer) => answer.node === node).length >= 20 * this.#perNode),
      )
    })
  }

  /** What the clients of `counted` saw since `begin`. */
  pause(counted: readonly NodeProcess[]): Pause {
    const answers = this.#answers.filter((answer) => counted.includes(answer.node))
    let silence = 0
    let slowest = 0
    for (const [position, answer] of answers.entries()) {
      if (position > 0) silence = Math.max(silence, answer.at - answers[position - 1]!.at)
      slowest = Math.max(slowest, answer.at - answer.sentAt)
    }
    return { silenceMilliseconds: silence, slowestMilliseconds: slowest, answers: answers.length }
  }
}

function line(what: string, pauses: readonly Pause[]): string {
  const figures = (pick: (pause: Pause) => number): string => {
    const values = pauses.map((pause) => Math.round(pick(pause)))
    return `median ${median(values)}, worst ${Math.max(...values)}  (${values.join(' ')})`
  }
  return (
    `${what}\n  silence ms: ${figures((pause) => pause.silenceMilliseconds)}` +
    `\n  one command ms: ${figures((pause) => pause.slowestMilliseconds)}`
  )
}

/** Runs `act` under load and gives what the clients of `counted` saw until writes went on. */
async function during(writers: Writers, counted: readonly NodeProcess[], act: () => Promise<void>): Promise<Pause> {
  writers.begin()
  await writers.settled(counted)
  await act()
  await writers.settled(counted)
  return writers.pause(counted)
}

async function kill(cluster: Cluster, writers: Writers): Promise<Pause> {
  const { node } = await cluster.leader()
  writers.killed.add(node)
  const survivors = cluster.running.filter((each) => each !== node)
  const pause = await during(writers, survivors, () => node.kill9())
  await node.start()
  await cluster.waitUntilCaughtUp(node)
  writers.killed.delete(node)
  return pause
}

async function transfer(cluster: Cluster, writers: Writers): Promise<Pause> {
  const target = await cluster.follower()
  return during(writers, cluster.running, () => cluster.transfer(target))
}

/** Who leads after a change of the voters, and what clients of the nodes that stay saw. */
async function scale(cluster: Cluster, writers: Writers, size: number): Promise<{ pause: Pause; leader: string }> {
  const staying = cluster.running.filter((node) => node.ordinal < size)
  const leaving = cluster.running.filter((node) => node.ordinal >= size)
  // Clients without a pause cross the orderly close of a node that leaves; test/cluster looks at that.
  for (const node of leaving) writers.killed.add(node)
  const pause = await during(writers, staying, () => cluster.scale(size))
  for (const node of leaving) writers.killed.delete(node)
  const { node } = await cluster.leader()
  for (const each of cluster.running) await cluster.waitUntilCaughtUp(each)
  return { pause, leader: node.name }
}

const HELP = `node bench/failover.ts [options]: pauses of writes when leadership moves

  --nodes n        (3)
  --clients n      for each node (4)
  --kills n        kill -9 of the leader (10)
  --transfers n    (10)
  --scales n       1 -> 3 -> 5 -> 3 -> 1, so often, on a cluster of its own (0)`

async function main(argv: string[]): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      nodes: { type: 'string', default: '3' },
      clients: { type: 'string', default: '4' },
      kills: { type: 'string', default: '10' },
      transfers: { type: 'string', default: '10' },
      scales: { type: 'string', default: '0' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(HELP)
    return 0
  }
  const [nodes, clients, kills, transfers, scales] = [
    values.nodes,
    values.clients,
    values.kills,
    values.transfers,
    values.scales,
  ].map(Number) as [number, number, number, number, number]
  let errors = 0
  if (kills + transfers > 0) errors += await measureMoves(nodes, clients, kills, transfers)
  if (scales > 0) errors += await measureScales(clients, scales)
  return errors > 0 ? 1 : 0
}

async function withLoad(
  size: number,
  clients: number,
  body: (cluster: Cluster, writers: Writers) => Promise<void>,
): Promise<number> {
  const cluster = await Cluster.create()
  const writers = new Writers(clients)
  try {
    await cluster.bootstrap(size)
    for (const node of cluster.running) writers.add(node)
    await body(cluster, writers)
    await writers.stop()
  } finally {
    await cluster.dispose()
  }
  console.log(`errors on nodes that stay: ${writers.errors.length} ${writers.errors.slice(0, 5).join('; ')}`)
  return writers.errors.length
}

const measureMoves = (nodes: number, clients: number, kills: number, transfers: number): Promise<number> =>
  withLoad(nodes, clients, async (cluster, writers) => {
    const pauses: Pause[] = []
    for (let count = 0; count < kills; count++) pauses.push(await kill(cluster, writers))
    if (kills > 0) console.log(line(`kill -9 of the leader of ${nodes}, ${kills} times`, pauses))
    const handed: Pause[] = []
    for (let count = 0; count < transfers; count++) handed.push(await transfer(cluster, writers))
    if (transfers > 0) console.log(line(`transfer of leadership, ${transfers} times`, handed))
  })

const measureScales = (clients: number, scales: number): Promise<number> =>
  withLoad(1, clients, async (cluster, writers) => {
    const steps = new Map<string, { pause: Pause; leader: string }[]>()
    const loaded = new Set(cluster.running)
    for (let count = 0, before = 1; count < scales; count++) {
      for (const size of [3, 5, 3, 1]) {
        const step = `${before} -> ${size}`
        // A node that was removed gives up its old data before it comes back.
        for (const node of cluster.nodes.slice(before, size)) await node.emptyVolumes('both')
        steps.set(step, [...(steps.get(step) ?? []), await scale(cluster, writers, size)])
        for (const node of cluster.running.filter((each) => !loaded.has(each))) {
          loaded.add(node)
          writers.add(node)
        }
        before = size
      }
    }
    for (const [step, found] of steps) {
      console.log(
        line(
          `${step}, ${scales} times`,
          found.map(({ pause }) => pause),
        ),
      )
      console.log(`  leaders afterwards: ${found.map(({ leader }) => leader).join(' ')}`)
    }
  })

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
