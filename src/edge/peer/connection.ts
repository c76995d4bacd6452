/**
 * One connection between two nodes: each side says who it is and proves that it has the cluster's token; frames follow.
 * Whether a node is known, and what its frames are for, is the network's.
 *
 * Guarantee: a proof is over both greetings and the side that gives it, so that none serves for another connection or
 * can be sent back to whom it came from.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Socket } from 'node:net'
import { LIMITS } from '../../config.ts'
import { LokiError } from '../../errors.ts'
import type { NodeId } from '../../vocabulary.ts'
import { Output } from '../output.ts'
import { FrameDecoder, FrameWriter, type Hello, MOVING_VERSION, PROTOCOL } from './frames.ts'

export class Connection {
  readonly socket: Socket
  readonly dialled: boolean
  readonly writer = new FrameWriter()
  readonly decoder = new FrameDecoder(LIMITS.peerHandshakeBytes)
  readonly #token: string
  readonly #ownHello: Buffer
  #otherHello: Buffer | null = null
  /** What the other side says of itself. */
  other: Hello | null = null
  /** The other side, once it is proved and known. */
  peer: NodeId | null = null
  heardAt = performance.now()
  /** When it was last told that a large frame moves. */
  movedAt = -Infinity
  /** When the peer was last told that its large frame comes in. */
  #toldAt = -Infinity
  readonly output: Output
  /** Largest write since the socket had taken everything: one frame may be larger than what may wait. */
  #largestBytes = 0

  constructor(socket: Socket, dialled: boolean, hello: Hello, token: string) {
    this.#token = token
    this.socket = socket
    this.dialled = dialled
    this.output = new Output(socket)
    this.#ownHello = this.writer.hello(hello)
  }

  #proof(prover: 'dialler' | 'listener', own: Buffer, other: Buffer): Buffer {
    return createHmac('sha256', this.#token).update(prover).update(own).update(other).digest()
  }

  /** The other side has said who it is, in these bytes: we prove that we have the token. */
  greeted(hello: Hello, bytes: Buffer): void {
    if (this.other) throw new LokiError('FRAME_MALFORMED', 'a second hello')
    this.other = hello
    this.#otherHello = bytes
    if (hello.lowest > PROTOCOL.highest || hello.highest < PROTOCOL.lowest) {
      throw new LokiError(
        'PROTOCOL_VERSION',
        `the peer speaks versions ${hello.lowest} to ${hello.highest}, this node ${PROTOCOL.lowest} to ${PROTOCOL.highest}`,
      )
    }
    this.writer.proof(this.#proof(this.dialled ? 'dialler' : 'listener', this.#ownHello, bytes))
    this.flush()
  }

  /** Gives who has proved that it has the token. */
  checkProof(proof: Buffer): Hello {
    const { other } = this
    if (!other || !this.#otherHello || this.peer !== null) throw new LokiError('FRAME_MALFORMED', 'proof out of order')
    const expected = this.#proof(this.dialled ? 'listener' : 'dialler', this.#otherHello, this.#ownHello)
    if (proof.length !== expected.length || !timingSafeEqual(proof, expected)) {
      throw new LokiError('UNAUTHORIZED', "the peer does not have this cluster's token")
    }
    return other
  }

  flush(): void {
    const { socket, writer, output } = this
    if (writer.length === 0 || socket.destroyed) return
    const bytes = writer.view()
    this.#largestBytes = Math.max(output.bytes === 0 ? 0 : this.#largestBytes, bytes.length)
    output.write([bytes])
    // What the system took at once is not looked at again: its memory serves for the next frames.
    writer.clear(output.bytes === 0)
  }

  /**
   * Says, now and then, that a large frame of the peer comes in. What the system has taken of it is out of its sender's
   * sight, and may be on its way for seconds: whatever it asks meanwhile, or would answer, is behind it.
   */
  tellMoving(everyMilliseconds: number): void {
    const now = performance.now()
    if (this.peer === null || (this.other?.highest ?? 0) < MOVING_VERSION) return
    if (now - this.#toldAt < everyMilliseconds) return
    this.#toldAt = now
    this.writer.moving()
    this.flush()
  }

  get isBehind(): boolean {
    return this.output.bytes + this.writer.length > LIMITS.peerBehindBytes
  }

  /** Bytes that the other side has not taken, beside one write that may be as large as it must. */
  get waitingBytes(): number {
    return this.output.bytes + this.writer.length - this.#largestBytes
  }
}
