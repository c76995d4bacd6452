/**
 * `npm run bench -- path`: the CPU time of a command on its way through three nodes, in one process, without kernel,
 * disk and network: bytes of clients, turns, frames between the nodes and their bytes, the machine, bytes of replies.
 * It says what our own code costs, and says it on a busy machine too, where rates mean little.
 */
import type { Socket } from 'node:net'
import { LIMITS } from '../src/config.ts'
import { createReplica, isLeader } from '../src/consensus/replica.ts'
import type { Front } from '../src/front.ts'
import { FrameDecoder, FrameWriter } from '../src/edge/peer/frames.ts'
import { OutputBudget } from '../src/edge/resp/output-budget.ts'
import { Connection, type Shared } from '../src/edge/resp/connection.ts'
import { RespEncoder } from '../src/edge/resp/encoder.ts'
import { Machine } from '../src/machine/machine.ts'
import { Relay } from '../src/turn/relay.ts'
import { Turn } from '../src/turn/turn.ts'
import { type Configuration, EMPTY_STATE, type NodeId } from '../src/vocabulary.ts'
import { configurationId, logIndex, nodeId, volumeId } from '../src/vocabulary.ts'
import { encodeCommand } from './resp-client.ts'

const TICK_MILLISECONDS = 15
const IDS = [1, 2, 3].map(nodeId)
const CONFIGURATION: Configuration = {
  id: configurationId(1),
  voters: IDS.map((id) => ({ id, volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })),
  learners: [],
  preferredLeader: IDS[0]!,
}

/** What a connection needs of a socket; counts what is written. */
class Client {
  readonly writableLength = 0
  readonly destroyed = false
  #take: (chunk: Buffer) => void = () => undefined
  #replies = 0
  on(event: string, listener: (chunk: Buffer) => void): void {
    if (event === 'data') this.#take = listener
  }
  send(bytes: Buffer): void {
    this.#take(bytes)
  }
  /** Bytes of replies since the last call. */
  received(): number {
    const bytes = this.#replies
    this.#replies = 0
    return bytes
  }
  write(bytes: Uint8Array): void {
    this.#replies += bytes.length
  }
  setNoDelay(): void {}
  setKeepAlive(): void {}
  cork(): void {}
  uncork(): void {}
  isPaused(): boolean {
    return false
  }
}

/** One node without a process: its turn, the frames that wait for the others, and what is due. */
class PathNode {
  readonly turn: Turn
  readonly #writers = new Map<NodeId, FrameWriter>()
  readonly #decoders = new Map<NodeId, FrameDecoder>()
  readonly #others: Map<NodeId, PathNode>
  awake = false
  durable: (() => void)[] = []

  constructor(self: NodeId, others: Map<NodeId, PathNode>) {
    this.#others = others
    const recovered = {
      state: { ...EMPTY_STATE, configuration: CONFIGURATION },
      first: logIndex(1),
      entries: [],
      doubtfulFrom: null,
    }
    const machine = new Machine({ maxMemoryBytes: 0 })
    machine.adoptMembers(CONFIGURATION)
    const relay = new Relay({ node: self, incarnation: 1 }, { ...LIMITS, blockBytes: LIMITS.entryBytes })
    const replica = createReplica({ self, recovered, now: performance.now() })
    const start = { configuration: CONFIGURATION, start: logIndex(0) }
    this.turn = new Turn(self, replica, machine, relay, start, this.#ports(self), LIMITS)
    for (const id of IDS) {
      this.#writers.set(id, new FrameWriter())
      this.#decoders.set(id, new FrameDecoder(LIMITS.peerFrameBytes))
    }
  }

  #ports(self: NodeId): ConstructorParameters<typeof Turn>[5] {
    const nothing = (): void => undefined
    return {
      now: () => performance.now(),
      wallClock: () => Date.now(),
      persist: (_records, done) => void this.durable.push(done),
      send: (to, { kind, message }) => {
        if (kind === 'consensus') this.#writers.get(to)?.consensus(message)
        else this.#writers.get(to)?.relay(message)
      },
      flush: () => {
        for (const [to, writer] of this.#writers) {
          if (writer.length === 0) continue
          this.#others.get(to)?.receive(self, Buffer.from(writer.view()))
          writer.clear(true)
        }
      },
      wake: () => void (this.awake = true),
      needCheckpoint: nothing,
      configurationChanged: nothing,
      leaderChanged: nothing,
      heardOf: nothing,
    }
  }

  receive(from: NodeId, bytes: Buffer): void {
    this.#decoders.get(from)?.push(bytes, (frame) => {
      if (frame.kind === 'consensus' || frame.kind === 'relay') this.turn.receive(from, frame)
    })
  }

  run(): void {
    if (this.awake) {
      this.awake = false
      this.turn.run()
    }
    const { durable } = this
    this.durable = []
    for (const done of durable) done()
  }
}

function runAll(nodes: Map<NodeId, PathNode>): void {
  for (const node of nodes.values()) node.run()
}

/** A cluster that has its leader; ticks until then. */
async function elect(): Promise<{ nodes: Map<NodeId, PathNode>; leader: PathNode }> {
  const nodes = new Map<NodeId, PathNode>()
  for (const id of IDS) nodes.set(id, new PathNode(id, nodes))
  for (;;) {
    for (const node of nodes.values()) node.turn.tick()
    for (let round = 0; round < 20; round++) runAll(nodes)
    const leader = [...nodes.values()].find((node) => isLeader(node.turn.replica))
    if (leader) return { nodes, leader }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

function connections(leader: PathNode, count: number): Client[] {
  const { turn } = leader
  const front: Front = {
    write: (origin, tag, command) => turn.write(origin, tag, command),
    read: (origin, tag, command) => turn.read(origin, tag, command),
    readStale: (command) => turn.readStale(command),
    facts: () => {
      throw new Error('nobody asks')
    },
    ready: () => ({ ready: true }),
  }
  const limits = {
    maxValueBytes: 1 << 20,
    maxCommandBytes: 1 << 26,
    maxPipelinedCommands: 10_000,
    maxOutputBytes: 1 << 26,
  }
  const clients = { maxClients: count, size: count, [Symbol.iterator]: () => [].values() }
  const bounds = { mostBytes: Infinity, stallMilliseconds: Infinity }
  const budget = new OutputBudget(
    bounds,
    () => [],
    () => undefined,
  )
  const encoder = new RespEncoder()
  const shared = { front, limits, encoder, budget, clients, commandsProcessed: 0 } as unknown as Shared
  return Array.from({ length: count }, (_, id) => {
    const client = new Client()
    void new Connection(id, client as unknown as Socket, shared)
    return client
  })
}

export interface PathResult {
  readonly operations: number
  /** CPU time of all three nodes and of the clients' part, which is small. */
  readonly microsecondsPerOperation: number
}

/** Every client sends `pipeline` commands, waits for all replies, and again, until `operations` were answered. */
export async function measurePath(
  kind: 'set' | 'get',
  clientCount: number,
  pipeline: number,
  operations: number,
): Promise<PathResult> {
  const { nodes, leader } = await elect()
  const clients = connections(leader, clientCount)
  const value = Buffer.alloc(100, 'x')
  const commands = Array.from({ length: 10_000 }, (_, key) => {
    const name = `key:${String((key * 7919) % 100_000).padStart(12, '0')}`
    const one = kind === 'set' ? encodeCommand(['SET', name, value]) : encodeCommand(['GET', name])
    return Buffer.concat(Array.from({ length: pipeline }, () => one))
  })
  let next = 0
  let tickedAt = performance.now()
  /** One command, or pipeline, of every client; gives how many were answered. */
  const round = (): number => {
    for (const client of clients) client.send(commands[next++ % commands.length]!)
    for (let left = clients.length; left > 0;) {
      runAll(nodes)
      for (const client of clients) if (client.received() > 0) left--
    }
    const answered = clients.length * pipeline
    if (performance.now() - tickedAt < TICK_MILLISECONDS) return answered
    tickedAt = performance.now()
    for (const node of nodes.values()) node.turn.tick()
    const { applied } = leader.turn.machine
    for (const node of nodes.values()) node.turn.trim(logIndex(Math.min(applied, node.turn.machine.applied)))
    return answered
  }
  for (let warm = 0; warm < operations / 4;) warm += round()
  const cpu = process.cpuUsage()
  let answered = 0
  while (answered < operations) answered += round()
  const { user } = process.cpuUsage(cpu)
  return { operations: answered, microsecondsPerOperation: user / answered }
}
