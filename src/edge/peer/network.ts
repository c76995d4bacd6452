/**
 * Connections between nodes. Every node dials every member it knows; a connection that both sides have proved
 * is used in both directions, whoever dialled it, so that a node which came back under another address is
 * reachable as soon as it has dialled the others.
 *
 * Guarantees: frames come from a node that proved the cluster's token and is known under its node id *and*
 * volume id; a frame is delivered whole or not at all; frames of one connection arrive in order. No guarantee
 * across connections: consensus repairs loss, doubling and reordering.
 */
import { randomBytes } from 'node:crypto'
import { type Server, type Socket, createServer } from 'node:net'
import { LIMITS } from '../../config.ts'
import { splitAddress } from '../../contract.ts'
import { LokiError } from '../../errors.ts'
import { LATE_MILLISECONDS } from '../../turn/hurry.ts'
import type { ClusterId, Member, NodeId, VolumeId } from '../../vocabulary.ts'
import { Connection } from './connection.ts'
import { type Hello, PROTOCOL, type PeerFrame } from './frames.ts'
import { acceptSharing, connectSharing } from '../shared-reads.ts'

type Payload = Extract<PeerFrame, { kind: 'consensus' | 'relay' }>

export interface PeerOptions {
  readonly cluster: ClusterId
  readonly node: NodeId
  readonly volume: VolumeId
  readonly token: string
  readonly listenHost: string | undefined
  readonly port: number
  /** Name of a peer -> `host:port` to dial now. */
  readonly lookUp: (address: string) => string
  /** Whether the cluster knows this node under this volume. */
  readonly knows: (node: NodeId, volume: VolumeId) => boolean
  readonly receive: (from: NodeId, payload: Payload) => void
  readonly connected: (peer: NodeId) => void
  /** The last connection to it was closed; not told of while this node closes them itself. */
  readonly disconnected: (peer: NodeId) => void
  /** A frame that is large for its link moves, to this peer or from it; told now and then. */
  readonly moving: (peer: NodeId) => void
  readonly log: (message: string, fields: Record<string, unknown>) => void
}

/** What a turn says to a peer is one write, but for more than this. */
const EARLY_BYTES = 1_048_576
/** It is told so often that a large frame moves, and the peer that it comes in. */
const MOVING_MILLISECONDS = 10
const TELL_MOVING_MILLISECONDS = 50
const PING_MILLISECONDS = 1000
const SILENCE_MILLISECONDS = 5000
const REDIAL_LEAST_MILLISECONDS = 20
const REFUSAL_LOG_MILLISECONDS = 10_000
const REDIAL_MOST_MILLISECONDS = 500

interface Dial {
  readonly member: Member
  backoffMilliseconds: number
  timer: NodeJS.Timeout | null
  connection: Connection | null
}

export class PeerNetwork {
  readonly #options: PeerOptions
  readonly #server: Server
  readonly #all = new Set<Connection>()
  /** Proved connections by peer, the newest last. */
  readonly #peers = new Map<NodeId, Connection[]>()
  readonly #dials = new Map<NodeId, Dial>()
  readonly #dirty = new Set<Connection>()
  /** With something that may wait. */
  readonly #late = new Set<Connection>()
  #lateTimer: NodeJS.Timeout | null = null
  readonly #pinger: NodeJS.Timeout
  /** When a refusal was last told, by its text. */
  readonly #refusals = new Map<string, number>()
  #closed = false

  constructor(options: PeerOptions) {
    this.#options = options
    this.#server = createServer({ pauseOnConnect: true }, (socket) => {
      this.#open(acceptSharing(socket, { allowHalfOpen: false }), false)
    })
    this.#pinger = setInterval(() => this.#ping(), PING_MILLISECONDS)
    this.#pinger.unref()
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ port: this.#options.port, host: this.#options.listenHost }, () => resolve())
    })
  }

  /** Whom to dial from now on. Connections to others stay until they are closed. */
  setMembers(members: readonly Member[]): void {
    const wanted = new Map(members.filter((member) => member.id !== this.#options.node).map((m) => [m.id, m]))
    for (const [id, dial] of this.#dials) {
      if (wanted.get(id)?.address === dial.member.address) continue
      if (dial.timer) clearTimeout(dial.timer)
      this.#dials.delete(id)
    }
    for (const [id, member] of wanted) {
      if (this.#dials.has(id)) continue
      const dial: Dial = { member, backoffMilliseconds: REDIAL_LEAST_MILLISECONDS, timer: null, connection: null }
      this.#dials.set(id, dial)
      this.#dial(dial)
    }
  }

  /**
   * Queues a message; it leaves at `flush`, or, where it may wait, with the next one that may not, at the latest after
   * LATE_MILLISECONDS. Without a connection it is lost, as it may be on any network.
   */
  send(to: NodeId, payload: Payload, mayWait = false): void {
    const connection = this.#peers.get(to)?.at(-1)
    if (!connection) return
    if (connection.waitingBytes > LIMITS.peerQueueBytes) {
      this.#fail(
        connection,
        new LokiError('OVERLOADED', `node ${to} does not read; ${LIMITS.peerQueueBytes} bytes wait`),
      )
      return
    }
    if (payload.kind === 'consensus') connection.writer.consensus(payload.message)
    else connection.writer.relay(payload.message)
    // Much of it is copied again and again where it grows, and is not seen to wait.
    if (connection.writer.length >= EARLY_BYTES) connection.flush()
    else if (mayWait) this.#flushLate(connection)
    else this.#dirty.add(connection)
  }

  #flushLate(connection: Connection): void {
    this.#late.add(connection)
    this.#lateTimer ??= setTimeout(() => {
      this.#lateTimer = null
      for (const each of this.#late) each.flush()
      this.#late.clear()
    }, LATE_MILLISECONDS)
  }

  /** Writes out what was queued, one write per peer. */
  flush(): void {
    for (const connection of this.#dirty) connection.flush()
    this.#dirty.clear()
  }

  /** Whether much of what was sent to it has not left. */
  isBehind(peer: NodeId): boolean {
    return this.#peers.get(peer)?.at(-1)?.isBehind ?? false
  }

  isConnected(peer: NodeId): boolean {
    return this.#peers.has(peer)
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#pinger)
    for (const dial of this.#dials.values()) if (dial.timer) clearTimeout(dial.timer)
    this.#dials.clear()
    if (this.#lateTimer) clearTimeout(this.#lateTimer)
    for (const connection of this.#late) this.#dirty.add(connection)
    this.flush()
    for (const connection of this.#all) connection.socket.destroySoon()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  // ---- dialling ----------------------------------------------------------------------------------------------------

  #dial(dial: Dial): void {
    dial.timer = null
    if (this.#closed || this.#dials.get(dial.member.id) !== dial || dial.connection) return
    if (this.isConnected(dial.member.id)) {
      this.#redialLater(dial)
      return
    }
    try {
      const { host, port } = splitAddress(this.#options.lookUp(dial.member.address))
      dial.connection = this.#open(connectSharing({ host, port }), true)
      dial.connection.socket.once('close', () => {
        dial.connection = null
        this.#redialLater(dial)
      })
    } catch (error) {
      this.#options.log('cannot dial a peer', { peer: dial.member.id, reason: (error as Error).message })
      this.#redialLater(dial)
    }
  }

  #redialLater(dial: Dial): void {
    if (this.#closed || dial.timer || this.#dials.get(dial.member.id) !== dial) return
    dial.timer = setTimeout(() => this.#dial(dial), dial.backoffMilliseconds)
    dial.backoffMilliseconds = Math.min(dial.backoffMilliseconds * 2, REDIAL_MOST_MILLISECONDS)
  }

  // ---- one connection ----------------------------------------------------------------------------------------------

  #open(socket: Socket, dialled: boolean): Connection {
    const { cluster, node, volume, token } = this.#options
    const hello = { ...PROTOCOL, cluster, node, volume, nonce: randomBytes(16) }
    const connection = new Connection(socket, dialled, hello, token)
    if (!dialled) this.#makeRoom()
    this.#all.add(connection)
    socket.setNoDelay(true)
    const deadline = setTimeout(() => {
      if (connection.peer === null) {
        this.#fail(connection, new LokiError('FRAME_MALFORMED', 'no proof in time'))
      }
    }, LIMITS.peerHandshakeMilliseconds)
    socket.on('error', () => undefined) // 'close' follows
    socket.on('close', () => {
      clearTimeout(deadline)
      this.#forget(connection)
    })
    socket.on('data', (bytes) => {
      connection.heardAt = performance.now()
      try {
        connection.decoder.push(bytes, (frame) => this.#frame(connection, frame))
      } catch (error) {
        if (!(error instanceof LokiError)) throw error
        this.#fail(connection, error)
      }
      if (connection.decoder.isInside) {
        this.#moves(connection)
        connection.tellMoving(TELL_MOVING_MILLISECONDS)
      }
    })
    socket.on('drain', () => {
      connection.output.drained()
      if (connection.output.bytes > 0) this.#moves(connection)
    })
    if (dialled) socket.once('connect', () => connection.flush())
    else connection.flush()
    return connection
  }

  #moves(connection: Connection): void {
    const now = performance.now()
    if (connection.peer === null || now - connection.movedAt < MOVING_MILLISECONDS) return
    connection.movedAt = now
    this.#options.moving(connection.peer)
  }

  /** Anybody can connect, and a proof takes a moment only: the oldest of those that have given none gives way. */
  #makeRoom(): void {
    const isStranger = ({ dialled, peer, socket }: Connection): boolean =>
      !dialled && peer === null && !socket.writableEnded
    const strangers = [...this.#all].filter(isStranger)
    if (strangers.length < LIMITS.peerStrangers) return
    this.#fail(strangers[0]!, new LokiError('OVERLOADED', `${LIMITS.peerStrangers} others have given no proof either`))
  }

  #forget(connection: Connection): void {
    this.#all.delete(connection)
    this.#dirty.delete(connection)
    this.#late.delete(connection)
    if (connection.peer === null) return
    const all = this.#peers.get(connection.peer) ?? []
    const left = all.filter((other) => other !== connection)
    if (left.length > 0) {
      this.#peers.set(connection.peer, left)
      // What was in flight on the one that was used is gone; the next one is used from now on.
      if (all.at(-1) === connection && !this.#closed) this.#options.connected(connection.peer)
      return
    }
    this.#peers.delete(connection.peer)
    if (!this.#closed) this.#options.disconnected(connection.peer)
  }

  /** Says why, and ends the connection; nobody else is disturbed. */
  #fail(connection: Connection, error: LokiError): void {
    const peer = connection.peer ?? connection.other?.node
    const address = connection.socket.remoteAddress
    this.#logRefusal('peer connection refused', { code: error.code, reason: error.message, peer, address })
    if (connection.socket.destroyed) return
    // What is still being connected would wait for it before it ends: the system tries for minutes, ever more rarely.
    if (connection.peer === null && !connection.socket.connecting) {
      connection.writer.refusal(error.code, error.message)
      connection.flush()
      connection.socket.destroySoon()
    } else connection.socket.destroy()
  }

  #frame(connection: Connection, frame: PeerFrame): void {
    if (connection.socket.destroyed) return
    switch (frame.kind) {
      case 'hello':
        connection.greeted(frame.hello, frame.bytes)
        break
      case 'proof':
        this.#proved(connection, frame.proof)
        break
      case 'refusal':
        this.#logRefusal('a peer refuses this node', {
          peer: connection.other?.node,
          code: frame.code,
          reason: frame.message,
        })
        connection.socket.destroy()
        break
      case 'ping':
        break
      case 'moving':
        this.#moves(connection)
        break
      default:
        if (connection.peer === null) throw new LokiError('UNAUTHORIZED', 'a message before the proof of the token')
        this.#settled(connection.peer)
        this.#options.receive(connection.peer, frame)
    }
  }

  /** A refused peer dials again and again: one line for each reason is enough for a while. */
  #logRefusal(
    message: string,
    fields: { readonly code: string; readonly reason: string } & Record<string, unknown>,
  ): void {
    const key = `${message} ${fields.reason}`
    const now = Date.now()
    if (now - (this.#refusals.get(key) ?? 0) < REFUSAL_LOG_MILLISECONDS) return
    if (this.#refusals.size > 100) this.#refusals.clear()
    this.#refusals.set(key, now)
    this.#options.log(message, fields)
  }

  #proved(connection: Connection, proof: Buffer): void {
    const other = connection.checkProof(proof)
    this.#admit(other)
    connection.peer = other.node
    connection.decoder.limit = LIMITS.peerFrameBytes
    this.#peers.set(other.node, [...(this.#peers.get(other.node) ?? []), connection])
    this.#options.connected(other.node)
  }

  #admit(other: Hello): void {
    const { cluster, node, knows } = this.#options
    if (other.cluster !== cluster) {
      throw new LokiError('CLUSTER_MISMATCH', `the peer belongs to cluster ${other.cluster}, this node to ${cluster}`)
    }
    if (other.node === node || !knows(other.node, other.volume)) {
      throw new LokiError('MEMBER_UNKNOWN', `node ${other.node} on volume ${other.volume} is not known here`)
    }
  }

  /** The peer has taken us in: the next redial is quick again. */
  #settled(peer: NodeId): void {
    const dial = this.#dials.get(peer)
    if (dial) dial.backoffMilliseconds = REDIAL_LEAST_MILLISECONDS
  }

  #ping(): void {
    const now = performance.now()
    for (const connection of this.#all) {
      if (connection.peer === null) continue
      if (now - connection.heardAt > SILENCE_MILLISECONDS) {
        this.#options.log('a peer is silent; its connection is dropped', { peer: connection.peer })
        connection.socket.destroy()
        continue
      }
      connection.writer.ping()
      connection.flush()
    }
  }
}
