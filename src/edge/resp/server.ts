/**
 * The port for Redis clients: RESP2 and RESP3 over TCP. Turns bytes into commands for the node (`Front`) and
 * replies into bytes. What a single connection guarantees is in connection.ts.
 *
 * - At most `maxClients` connections; one more is told so in Redis's words and closed.
 * - `drain` answers everything that was read, then closes; nothing that was read is lost.
 */
import { type Server, type Socket, createServer } from 'node:net'
import type { Front } from '../../front.ts'
import { Incoming } from './incoming.ts'
import type { Log } from './holders.ts'
import { type Consumer, OutputBudget } from './output-budget.ts'
import type { Client, Clients } from './client.ts'
import { Connection, type ConnectionLimits, type Shared } from './connection.ts'
import { RespEncoder } from './encoder.ts'
import { acceptSharing } from '../shared-reads.ts'

export interface RespLimits {
  readonly maxClients: number
  /** Longest argument of a command. */
  readonly maxValueBytes: number
  /** All arguments of a command together; absent: room for a few of the longest values, 64 MiB at least. */
  readonly maxCommandBytes?: number
  /** Unanswered commands of one connection; beyond, its socket is not read. */
  readonly maxPipelinedCommands: number
  /** Output that a client has not taken; beyond, its socket is not read and no read of it answered. */
  readonly maxOutputBytes: number
  /** The same for all clients together, or one longest argument; beyond twice as much they are cut off. Absent: any. */
  readonly maxOutputBytesOfAll?: number
  /** How long one of them may take nothing while there is more than that. Absent: for ever. */
  readonly outputStallMilliseconds?: number
  /** Commands that are not whole, of all clients, or two of the longest; beyond, those that grow are refused. Absent: any. */
  readonly maxIncomingBytes?: number
  /** How long one of them may send nothing while there is more than that. Absent: for ever. */
  readonly incomingStallMilliseconds?: number
}

const LEAST_COMMAND_BYTES = 64 * 1024 * 1024
const TOO_MANY_CLIENTS = '-ERR max number of clients reached\r\n'

/** How long a drain waits for busy connections to fall silent by themselves. */
const DRAIN_MILLISECONDS = 2000
/** How long it then waits for their last answers before it cuts them off. */
const LAST_ANSWERS_MILLISECONDS = 20_000

export class RespServer {
  readonly #server: Server
  readonly #shared: Shared
  readonly #connections = new Set<Connection>()
  /** What all clients together have not taken. */
  readonly output: OutputBudget
  /** Commands of all clients that are not whole. */
  readonly incoming: Incoming
  #nextId = 1
  #draining: Promise<void> | null = null
  #whenEmpty: (() => void) | null = null

  constructor(front: Front, limits: RespLimits, log: Log = () => undefined) {
    const { maxOutputBytesOfAll = Infinity, outputStallMilliseconds: stallMilliseconds = Infinity } = limits
    // What may be stored may be read: one longest value alone must not be too much.
    const mostBytes = Math.max(maxOutputBytesOfAll, limits.maxValueBytes)
    this.output = new OutputBudget({ mostBytes, stallMilliseconds }, () => this.#consumers(), log)
    const connection = connectionLimits(limits)
    const { maxIncomingBytes = Infinity, incomingStallMilliseconds = Infinity } = limits
    const mostIncoming = Math.max(maxIncomingBytes, 2 * connection.maxCommandBytes)
    const bounds = { mostBytes: mostIncoming, stallMilliseconds: incomingStallMilliseconds }
    this.incoming = new Incoming(bounds, () => this.#connections, log)
    this.#shared = {
      front,
      limits: connection,
      incoming: this.incoming,
      encoder: new RespEncoder(),
      budget: this.output,
      clients: this.#clients(limits.maxClients),
      queues: { queuedBytes: 0 },
      commandsProcessed: 0,
      closed: (connection) => this.#closed(connection),
    }
    // Half-open: a client that has sent its last command still gets the answer.
    const allowHalfOpen = true
    this.#server = createServer({ allowHalfOpen, pauseOnConnect: true }, (socket) => {
      this.#accept(acceptSharing(socket, { allowHalfOpen }), limits.maxClients)
    })
  }

  /** Open connections. */
  get connections(): number {
    return this.#connections.size
  }

  get commandsProcessed(): number {
    return this.#shared.commandsProcessed
  }

  /** The port that is listened on; with port 0 the one that the system chose. */
  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  /** `host` undefined: every address of this machine. */
  listen(host: string | undefined, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(host === undefined ? { port } : { host, port }, () => {
        this.#server.removeListener('error', reject)
        // A connection that cannot be accepted (no descriptor left) is the client's loss, not the node's end.
        this.#server.on('error', () => undefined)
        resolve()
      })
    })
  }

  /**
   * Takes no more connections, answers everything that was read, closes each connection when it is silent for a
   * moment, and all of them after a second. Settles when no connection is left.
   */
  drain(): Promise<void> {
    this.#draining ??= this.#drain()
    return this.#draining
  }

  async #drain(): Promise<void> {
    this.#server.close()
    for (const connection of this.#connections) connection.drain()
    const finish = setTimeout(() => {
      for (const connection of this.#connections) connection.finish()
    }, DRAIN_MILLISECONDS)
    const cut = setTimeout(() => this.close(), DRAIN_MILLISECONDS + LAST_ANSWERS_MILLISECONDS)
    if (this.#connections.size > 0) await new Promise<void>((resolve) => (this.#whenEmpty = resolve))
    clearTimeout(finish)
    clearTimeout(cut)
  }

  /** Cuts everything off. */
  close(): void {
    this.#server.close()
    for (const connection of this.#connections) connection.destroy()
  }

  #accept(socket: Socket, maxClients: number): void {
    if (this.#connections.size >= maxClients) {
      socket.on('error', () => socket.destroy())
      socket.end(TOO_MANY_CLIENTS, () => socket.destroy())
      return
    }
    const connection = new Connection(this.#nextId++, socket, this.#shared)
    this.#connections.add(connection)
    if (this.#draining !== null) connection.drain()
  }

  #closed(connection: Connection): void {
    this.#connections.delete(connection)
    if (this.#connections.size === 0) this.#whenEmpty?.()
  }

  *#consumers(): Generator<Consumer> {
    for (const { answers } of this.#connections) yield answers
  }

  *#everyClient(): Generator<Client> {
    for (const { client } of this.#connections) yield client
  }

  #clients(maxClients: number): Clients {
    const connections = this.#connections
    return {
      maxClients,
      get size() {
        return connections.size
      },
      [Symbol.iterator]: () => this.#everyClient(),
    }
  }
}

function connectionLimits(limits: RespLimits): ConnectionLimits {
  const { maxValueBytes, maxPipelinedCommands, maxOutputBytes } = limits
  const maxCommandBytes = limits.maxCommandBytes ?? Math.max(LEAST_COMMAND_BYTES, maxValueBytes + 65_536)
  return { maxValueBytes, maxCommandBytes, maxPipelinedCommands, maxOutputBytes }
}
