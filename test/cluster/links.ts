/**
 * The network between the nodes of a test cluster: every node dials every other one through a proxy of its own, where
 * bytes can be held up in one direction or both, delayed, slowed down, or lost with their connection.
 *
 * TCP loses no bytes within a connection, so loss is a connection that breaks (`reset`), and a one-way fault is bytes
 * that wait (`stall`): they arrive late, when the stall ends, unless the nodes have given the connection up by then.
 */
import { type Server, type Socket, connect, createServer } from 'node:net'

/** What happens to the bytes from one node to another. */
interface Gate {
  stalled: boolean
  delayMilliseconds: number
  /** Infinity: as quick as it is. */
  bytesPerSecond: number
  /** Until when it is busy with what it carries at that rate. */
  busyUntil: number
}

/** So much waits in a slow link; then it takes no more, and the node sees that it does not. */
const SLOW_LINK_BYTES = 65_536

/** One half of a proxied connection. */
interface Pipe {
  readonly from: number
  readonly to: number
  /** Sends on what has waited, as far as it may go now. */
  readonly pump: () => void
}

export class Links {
  /** Nodes that are linked: 0 … size - 1. */
  readonly size: number
  readonly #servers: Server[] = []
  readonly #ports = new Map<string, number>()
  readonly #gates = new Map<string, Gate>()
  /** Both halves of each connection, with what ends it. */
  readonly #connections = new Set<{ readonly a: number; readonly b: number; pipes: readonly Pipe[]; end: () => void }>()
  readonly #cut = new Set<string>()
  readonly #portOf: (node: number) => number

  /** Links among the nodes 0 … size - 1, whose peer ports `portOf` tells. */
  private constructor(size: number, portOf: (node: number) => number) {
    this.size = size
    this.#portOf = portOf
  }

  static async create(size: number, portOf: (node: number) => number): Promise<Links> {
    const links = new Links(size, portOf)
    for (let from = 0; from < size; from++) {
      for (let to = 0; to < size; to++) if (from !== to) await links.#listen(from, to)
    }
    return links
  }

  /** The port at which `from` reaches `to`. */
  port(from: number, to: number): number {
    const port = this.#ports.get(`${from}-${to}`)
    if (port === undefined) throw new Error(`there is no link from ${from} to ${to}`)
    return port
  }

  /** Exactly these pairs can talk; connections of all others end, and none are made. */
  only(...pairs: readonly (readonly [number, number])[]): void {
    const open = new Set(pairs.map(([a, b]) => name(a, b)))
    for (let a = 0; a < this.size; a++) {
      for (let b = a + 1; b < this.size; b++) {
        if (open.has(name(a, b))) this.#cut.delete(name(a, b))
        else this.#cut.add(name(a, b))
      }
    }
    for (const connection of this.#connections) {
      if (this.#cut.has(name(connection.a, connection.b))) connection.end()
    }
  }

  /** Bytes from `from` to `to` wait from now on; those the other way go on. */
  stall(from: number, to: number): void {
    this.#gate(from, to).stalled = true
  }

  /** Bytes between two nodes take so long, both ways. */
  delay(a: number, b: number, milliseconds: number): void {
    this.#gate(a, b).delayMilliseconds = milliseconds
    this.#gate(b, a).delayMilliseconds = milliseconds
  }

  /** Bytes from one node to another come at this rate, and few of them are on their way. */
  slow(from: number, to: number, bytesPerSecond: number): void {
    this.#gate(from, to).bytesPerSecond = bytesPerSecond
  }

  /** Connections between two nodes break, and what is in them is lost. */
  reset(a: number, b: number): void {
    for (const connection of this.#connections) {
      if (name(connection.a, connection.b) === name(a, b)) connection.end()
    }
  }

  /** Everything talks to everything at once, and what was held up arrives. */
  heal(): void {
    this.#cut.clear()
    for (const gate of this.#gates.values()) {
      gate.stalled = false
      gate.delayMilliseconds = 0
      gate.bytesPerSecond = Infinity
    }
    for (const { pipes } of this.#connections) for (const { pump } of pipes) pump()
  }

  async close(): Promise<void> {
    for (const connection of this.#connections) connection.end()
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))))
  }

  #gate(from: number, to: number): Gate {
    const key = `${from}-${to}`
    const gate = this.#gates.get(key) ?? {
      stalled: false,
      delayMilliseconds: 0,
      bytesPerSecond: Infinity,
      busyUntil: 0,
    }
    this.#gates.set(key, gate)
    return gate
  }

  async #listen(from: number, to: number): Promise<void> {
    const server = createServer((near) => this.#open(from, to, near))
    this.#servers.push(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('a listening server has a port')
    this.#ports.set(`${from}-${to}`, address.port)
  }

  #open(from: number, to: number, near: Socket): void {
    if (this.#cut.has(name(from, to))) {
      near.destroy()
      return
    }
    const far = connect({ host: '127.0.0.1', port: this.#portOf(to), noDelay: true })
    near.setNoDelay(true)
    const connection = {
      a: from,
      b: to,
      pipes: [this.#pipe(from, to, near, far), this.#pipe(to, from, far, near)],
      end: (): void => {
        this.#connections.delete(connection)
        near.destroy()
        far.destroy()
      },
    }
    this.#connections.add(connection)
    for (const socket of [near, far]) {
      socket.on('error', () => connection.end())
      socket.on('close', () => connection.end())
    }
  }

  /** Bytes that come from `source` leave by `sink` in their order, when the gate lets them. */
  #pipe(from: number, to: number, source: Socket, sink: Socket): Pipe {
    const gate = this.#gate(from, to)
    const waiting: { readonly due: number; readonly chunk: Buffer }[] = []
    let bytes = 0
    const pump = (): void => {
      while (!gate.stalled && waiting.length > 0) {
        const isHeldUp = gate.delayMilliseconds > 0 || gate.bytesPerSecond < Infinity
        const left = isHeldUp ? waiting[0]!.due - performance.now() : 0
        if (left > 0) {
          setTimeout(pump, left)
          return
        }
        const { chunk } = waiting.shift()!
        bytes -= chunk.length
        if (bytes <= SLOW_LINK_BYTES) source.resume()
        sink.write(chunk)
      }
    }
    source.on('data', (chunk: Buffer) => {
      const now = performance.now()
      gate.busyUntil = Math.max(now, gate.busyUntil) + (chunk.length / gate.bytesPerSecond) * 1000
      waiting.push({ due: Math.max(gate.busyUntil, now + gate.delayMilliseconds), chunk })
      bytes += chunk.length
      if (gate.bytesPerSecond < Infinity && bytes > SLOW_LINK_BYTES) source.pause()
      pump()
    })
    return { from, to, pump }
  }
}

const name = (a: number, b: number): string => (a < b ? `${a}-${b}` : `${b}-${a}`)
