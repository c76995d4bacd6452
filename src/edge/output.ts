/**
 * What leaves on one connection, of a Redis client or of a peer.
 *
 * Guarantees: bytes leave in the order in which they were given, and before the end; the socket is given little at a
 * time, so that who takes something, however slowly, is seen to.
 */
import type { Socket } from 'node:net'

/** Bytes given to a socket that has not taken what it was given before. */
const SLICE_BYTES = 65_536
/** How long we wait for the client's own end after ours … */
const LINGER_MILLISECONDS = 1000
/** … and for a client to take something of what is before it. */
const STALL_MILLISECONDS = 10_000

export class Output {
  readonly #socket: Socket
  /** Not given to the socket yet. */
  #pieces: Uint8Array[] = []
  #bytes = 0
  #ends = false

  constructor(socket: Socket) {
    this.#socket = socket
  }

  /** What the client has not taken. */
  get bytes(): number {
    return this.#socket.destroyed ? 0 : this.#bytes + this.#socket.writableLength
  }

  /** It has taken what it was given, or is not full. */
  get #takes(): boolean {
    return !this.#socket.writableNeedDrain || this.#socket.writableLength === 0
  }

  write(pieces: readonly Uint8Array[]): void {
    const socket = this.#socket
    if (pieces.length === 0 || socket.destroyed) return
    if (pieces.length === 1 && pieces[0]!.length <= SLICE_BYTES && this.#pieces.length === 0 && this.#takes) {
      socket.write(pieces[0]!)
      return
    }
    for (const piece of pieces) {
      this.#pieces.push(piece)
      this.#bytes += piece.length
    }
    this.#give()
  }

  /** The socket has taken what it was given. */
  drained(): void {
    this.#give()
    if (this.#ends && this.#pieces.length === 0) this.#endNow()
  }

  #give(): void {
    const socket = this.#socket
    while (this.#pieces.length > 0 && this.#takes && !socket.destroyed) {
      socket.cork()
      let left = SLICE_BYTES
      let whole = 0
      for (; whole < this.#pieces.length && this.#pieces[whole]!.length <= left; whole++) {
        left -= this.#pieces[whole]!.length
        socket.write(this.#pieces[whole]!)
      }
      this.#pieces.splice(0, whole)
      const cut = this.#pieces[0]
      if (cut && left > 0) {
        socket.write(cut.subarray(0, left))
        this.#pieces[0] = cut.subarray(left)
        left = 0
      }
      this.#bytes -= SLICE_BYTES - left
      socket.uncork()
    }
  }

  /**
   * The last answer and our end in one segment: a client that has read the answer has seen the end, and does not send
   * another command that would cross it. The kernel holds the last two bytes back (Nagle) until those before are
   * acknowledged, which takes a moment, or until the end, which takes them along.
   *
   * A shutdown waits for the next turn of the loop, time enough for a command to cross it on a busy machine; closing
   * does not. `mayClose`: the client waits for each answer; one that pipelines may have sent more, and a close with
   * bytes unread would cut off answers that are on their way. True: it is closed; false: `end` is to follow.
   */
  writeLast(pieces: readonly Uint8Array[], mayClose: boolean): boolean {
    const socket = this.#socket
    if (this.bytes > 0) {
      this.write(pieces)
      return false
    }
    const bytes = Buffer.concat(pieces)
    socket.setNoDelay(false)
    this.write([bytes.subarray(0, -2)])
    this.write([bytes.subarray(-2)])
    if (!mayClose || this.bytes > 0 || socket.writableNeedDrain) return false
    socket.destroy()
    return true
  }

  /** What was written reaches the client, then the end. */
  end(): void {
    this.#ends = true
    if (this.#pieces.length === 0) this.#endNow()
    else this.#linger(this.bytes)
  }

  #endNow(): void {
    this.#socket.end()
    this.#linger(this.bytes)
  }

  #linger(left: number): void {
    const patience = left === 0 ? LINGER_MILLISECONDS : STALL_MILLISECONDS
    setTimeout(() => {
      if (this.#socket.destroyed) return
      if (this.bytes === 0 || this.bytes === left) this.#socket.destroy()
      else this.#linger(this.bytes)
    }, patience).unref()
  }

  /** The connection is gone. */
  clear(): void {
    this.#pieces = []
    this.#bytes = 0
  }
}
