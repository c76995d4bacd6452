/**
 * The wire of the peer port, grammar, encode and decode side by side. PURE but for the CRC of node:zlib.
 *
 *   frame      uint32 length of body (little-endian), uint32 CRC-32 of body, body
 *   body       uint8 kind, then
 *    1 hello     string "lokikv", uint lowest version, uint highest version, string cluster, uint node,
 *                string volume, bytes nonce (16)
 *    2 proof     bytes HMAC-SHA-256(token, role, hello of the prover, hello of the other)   (32)
 *    3 refusal   string code, string message; the connection is closed after it
 *    4 ping      nothing: "I am here"
 *    5 consensus message (consensus/messages.ts)
 *    6 relay     message (relay-messages.ts)
 *    7 moving    nothing: "a large frame of yours comes in" (from version 2 on)
 *
 * Both sides send hello at once, then proof, then anything. A frame with a wrong CRC or length ends the
 * connection: consensus repairs what was lost with it.
 */
import { crc32 } from 'node:zlib'
import { ByteReader, ByteWriter } from '../../bytes.ts'
import { decodeMessage, encodeMessage } from '../../consensus/message-codec.ts'
import type { Message } from '../../consensus/messages.ts'
import { LokiError } from '../../errors.ts'
import { type RelayMessage, decodeRelayMessage, encodeRelayMessage } from '../../turn/relay-messages.ts'
import { type ClusterId, type NodeId, type VolumeId, clusterId, nodeId, volumeId } from '../../vocabulary.ts'

export const PROTOCOL = { lowest: 1, highest: 2 } as const
/** The first version that knows the frame `moving`. */
export const MOVING_VERSION = 2
const MAGIC = 'lokikv'
const HEADER_BYTES = 8

export interface Hello {
  readonly lowest: number
  readonly highest: number
  readonly cluster: ClusterId
  readonly node: NodeId
  readonly volume: VolumeId
  readonly nonce: Uint8Array
}

export type PeerFrame =
  | { readonly kind: 'hello'; readonly hello: Hello; readonly bytes: Buffer }
  | { readonly kind: 'proof'; readonly proof: Buffer }
  | { readonly kind: 'refusal'; readonly code: string; readonly message: string }
  | { readonly kind: 'ping' }
  | { readonly kind: 'consensus'; readonly message: Message }
  | { readonly kind: 'relay'; readonly message: RelayMessage }
  | { readonly kind: 'moving' }

const KINDS = { hello: 1, proof: 2, refusal: 3, ping: 4, consensus: 5, relay: 6, moving: 7 } as const

const WRITER_BYTES = 16 * 1024
/** A rare large frame does not keep its memory for ever. */
const KEPT_BYTES = 1024 * 1024

/** Appends frames to one buffer, so that what a turn says to a peer is one write. */
export class FrameWriter {
  #writer = new ByteWriter(WRITER_BYTES)

  get length(): number {
    return this.#writer.length
  }

  #frame(kind: number, body: (writer: ByteWriter) => void): void {
    const writer = this.#writer
    const start = writer.length
    writer.uint32(0).uint32(0).uint8(kind)
    body(writer)
    const view = writer.view().subarray(start + HEADER_BYTES)
    writer.patchUint32(start, view.length)
    writer.patchUint32(start + 4, crc32(view))
  }

  hello(hello: Hello): Buffer {
    const start = this.#writer.length
    this.#frame(KINDS.hello, (writer) => {
      writer.string(MAGIC).uint(hello.lowest).uint(hello.highest).string(hello.cluster)
      writer.uint(hello.node).string(hello.volume).bytes(hello.nonce)
    })
    return Buffer.from(this.#writer.view().subarray(start + HEADER_BYTES))
  }

  proof(proof: Uint8Array): void {
    this.#frame(KINDS.proof, (writer) => writer.bytes(proof))
  }

  refusal(code: string, message: string): void {
    this.#frame(KINDS.refusal, (writer) => writer.string(code).string(message))
  }

  ping(): void {
    this.#frame(KINDS.ping, () => undefined)
  }

  consensus(message: Message): void {
    this.#frame(KINDS.consensus, (writer) => encodeMessage(writer, message))
  }

  relay(message: RelayMessage): void {
    this.#frame(KINDS.relay, (writer) => encodeRelayMessage(writer, message))
  }

  moving(): void {
    this.#frame(KINDS.moving, () => undefined)
  }

  /** Everything appended since it was cleared; stays as it is until the next frame. */
  view(): Buffer {
    return this.#writer.view()
  }

  /** Begins anew; in the same memory unless somebody still holds what `view` gave. */
  clear(isFree: boolean): void {
    if (isFree && this.#writer.length <= KEPT_BYTES) this.#writer.reset()
    else this.#writer = new ByteWriter(WRITER_BYTES)
  }
}

function decodeBody(body: Buffer): PeerFrame {
  const reader = new ByteReader(body)
  const kind = reader.uint8()
  switch (kind) {
    case KINDS.hello: {
      if (reader.string() !== MAGIC) throw new LokiError('FRAME_MALFORMED', 'not a LokiKV node')
      const lowest = reader.uint()
      const highest = reader.uint()
      const cluster = clusterId(reader.string())
      const node = nodeId(reader.uint())
      return {
        kind: 'hello',
        hello: { lowest, highest, cluster, node, volume: volumeId(reader.string()), nonce: reader.bytes() },
        bytes: body,
      }
    }
    case KINDS.proof:
      return { kind: 'proof', proof: reader.bytes() }
    case KINDS.refusal:
      return { kind: 'refusal', code: reader.string(), message: reader.string() }
    case KINDS.ping:
      return { kind: 'ping' }
    case KINDS.consensus:
      return { kind: 'consensus', message: decodeMessage(reader) }
    case KINDS.relay:
      return { kind: 'relay', message: decodeRelayMessage(reader) }
    case KINDS.moving:
      return { kind: 'moving' }
    default:
      throw new LokiError('FRAME_MALFORMED', `unknown kind of frame ${kind}`)
  }
}

/**
 * Bytes of a connection -> frames. A frame body is a copy, a large one with memory of its own, a small one in
 * Node's pool among its like: entries that are kept for long must not keep a socket's buffer alive.
 */
export class FrameDecoder {
  #header = Buffer.alloc(HEADER_BYTES)
  #headerFilled = 0
  #body: Buffer | null = null
  #bodyFilled = 0
  /** Largest body that is taken; raised when the other side has proved the token. */
  limit: number

  constructor(limit: number) {
    this.limit = limit
  }

  /** A frame has come in part. */
  get isInside(): boolean {
    return this.#body !== null
  }

  /** Calls `each` for every whole frame. Throws FRAME_MALFORMED; the connection is then of no more use. */
  push(bytes: Buffer, each: (frame: PeerFrame) => void): void {
    let offset = 0
    while (offset < bytes.length) {
      if (this.#body === null) {
        const count = Math.min(HEADER_BYTES - this.#headerFilled, bytes.length - offset)
        bytes.copy(this.#header, this.#headerFilled, offset, offset + count)
        this.#headerFilled += count
        offset += count
        if (this.#headerFilled < HEADER_BYTES) return
        const length = this.#header.readUInt32LE(0)
        if (length === 0 || length > this.limit) {
          throw new LokiError('FRAME_MALFORMED', `a frame of ${length} bytes; at most ${this.limit} are taken`)
        }
        this.#body = Buffer.allocUnsafe(length)
        this.#bodyFilled = 0
      }
      const body = this.#body
      const count = Math.min(body.length - this.#bodyFilled, bytes.length - offset)
      bytes.copy(body, this.#bodyFilled, offset, offset + count)
      this.#bodyFilled += count
      offset += count
      if (this.#bodyFilled < body.length) return
      if (crc32(body) !== this.#header.readUInt32LE(4)) throw new LokiError('FRAME_MALFORMED', 'wrong CRC')
      this.#body = null
      this.#headerFilled = 0
      each(decodeBody(body))
    }
  }
}
