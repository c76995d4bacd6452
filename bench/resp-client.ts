/**
 * The smallest RESP2 client that load generator, recorder and tests share: it encodes commands, decodes replies
 * incrementally, and answers in order. It never sends a command twice, never hides an error, and tells an orderly
 * close with nothing unanswered from a lost connection. Imports nothing of the project, so that it runs alone.
 *
 *   command   *<n>\r\n then n times $<length>\r\n<bytes>\r\n
 *   reply     +status\r\n | -error\r\n | :integer\r\n | $<length>\r\n<bytes>\r\n | *<n>\r\n replies | $-1 | *-1
 */
import { Socket, connect } from 'node:net'

/** An error reply of the server, such as `-ERR …`. `text` is the whole line without the dash. */
export class RespError {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

export type RespReply = string | number | null | Buffer | RespError | readonly RespReply[]

/** One command as bytes. */
export function encodeCommand(args: readonly (string | Uint8Array)[]): Buffer {
  const parts: Uint8Array[] = [Buffer.from(`*${args.length}\r\n`)]
  for (const arg of args) {
    const bytes = typeof arg === 'string' ? Buffer.from(arg) : arg
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, CRLF)
  }
  return Buffer.concat(parts)
}

const CRLF = Buffer.from('\r\n')
const INCOMPLETE = Symbol('incomplete')

/** Bytes in any pieces -> whole replies, in order. Throws for bytes that are no RESP2. */
export class RespDecoder {
  #bytes: Buffer = Buffer.alloc(0)
  #offset = 0
  readonly #take: (reply: RespReply) => void

  constructor(take: (reply: RespReply) => void) {
    this.#take = take
  }

  push(chunk: Buffer): void {
    this.#bytes = this.#offset < this.#bytes.length ? Buffer.concat([this.#bytes.subarray(this.#offset), chunk]) : chunk
    this.#offset = 0
    while (this.#offset < this.#bytes.length) {
      const start = this.#offset
      const reply = this.#reply()
      if (reply === INCOMPLETE) {
        this.#offset = start
        return
      }
      this.#take(reply)
    }
  }

  #reply(): RespReply | typeof INCOMPLETE {
    const kind = this.#bytes[this.#offset]!
    const end = this.#bytes.indexOf(10, this.#offset)
    if (end < 0) return INCOMPLETE
    const start = this.#offset + 1
    this.#offset = end + 1
    switch (kind) {
      case 43: // +
        return this.#bytes.toString('latin1', start, end - 1)
      case 45: // -
        return new RespError(this.#bytes.toString('utf8', start, end - 1))
      case 58: // :
        return this.#integer(start, end - 1)
      case 36: // $
        return this.#bulk(this.#integer(start, end - 1))
      case 42: // *
        return this.#array(this.#integer(start, end - 1))
      default:
        throw new Error(`no RESP2 reply begins with byte ${kind}`)
    }
  }

  #integer(start: number, end: number): number {
    const value = Number(this.#bytes.toString('latin1', start, end))
    if (!Number.isSafeInteger(value)) throw new Error(`no integer: ${this.#bytes.toString('latin1', start, end)}`)
    return value
  }

  #bulk(length: number): RespReply | typeof INCOMPLETE {
    if (length < 0) return null
    const start = this.#offset
    if (start + length + 2 > this.#bytes.length) return INCOMPLETE
    this.#offset = start + length + 2
    return this.#bytes.subarray(start, start + length)
  }

  #array(length: number): RespReply | typeof INCOMPLETE {
    if (length < 0) return null
    const items: RespReply[] = []
    for (let count = 0; count < length; count++) {
      const item = this.#offset < this.#bytes.length ? this.#reply() : INCOMPLETE
      if (item === INCOMPLETE) return INCOMPLETE
      items.push(item)
    }
    return items
  }
}

/** How a connection ended. `unanswered`: commands that were sent and whose outcome is unknown. */
export interface RespClose {
  readonly unanswered: number
  /** The other side closed in good order (FIN), or we did; otherwise the code of the error (ECONNRESET, …). */
  readonly reason: string
}

/** A connection: replies come in the order of the commands; what becomes of it is told once, by `closed`. */
export class RespConnection {
  readonly socket: Socket
  readonly #waiting: ((reply: RespReply | null, lost: boolean) => void)[] = []
  #head = 0
  #failure = ''
  readonly closed: Promise<RespClose>

  private constructor(socket: Socket) {
    this.socket = socket
    const decoder = new RespDecoder((reply) => this.#answer(reply))
    socket.setNoDelay(true)
    socket.on('data', (chunk) => {
      try {
        decoder.push(chunk)
      } catch (error) {
        this.#failure = error instanceof Error ? error.message : String(error)
        socket.destroy()
      }
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#failure ||= error.code ?? error.message
    })
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        const left = this.#waiting.slice(this.#head)
        resolve({ unanswered: left.length, reason: this.#failure || 'closed' })
        for (const lost of left) lost(null, true)
      })
    })
  }

  /** Rejects when there is no connection within `timeoutMilliseconds`. */
  static open(host: string, port: number, timeoutMilliseconds = 2000): Promise<RespConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port })
      const timer = setTimeout(() => socket.destroy(new Error(`no connection to ${host}:${port}`)), timeoutMilliseconds)
      socket.once('error', reject)
      socket.once('close', () => clearTimeout(timer))
      socket.once('connect', () => {
        clearTimeout(timer)
        socket.off('error', reject)
        resolve(new RespConnection(socket))
      })
    })
  }

  get unanswered(): number {
    return this.#waiting.length - this.#head
  }

  /** False once the other side has said that it closes: what is sent now would not be answered. */
  get usable(): boolean {
    return this.socket.writable && !this.socket.readableEnded && !this.socket.destroyed
  }

  /** Sends bytes that hold one command; `take` gets the reply, or `lost` when the connection ended before it. */
  send(bytes: Uint8Array, take: (reply: RespReply | null, lost: boolean) => void): void {
    this.#waiting.push(take)
    this.socket.write(bytes)
  }

  /** One command, one reply; throws `ConnectionLost` when the outcome is unknown. Error replies are returned. */
  call(...args: (string | Uint8Array)[]): Promise<RespReply> {
    return new Promise((resolve, reject) => {
      this.send(encodeCommand(args), (reply, lost) => {
        if (lost) reject(new ConnectionLost(String(args[0])))
        else resolve(reply)
      })
    })
  }

  close(): void {
    this.socket.destroy()
  }

  #answer(reply: RespReply): void {
    const take = this.#waiting[this.#head]
    if (!take) throw new Error('a reply without a command')
    this.#head++
    if (this.#head === this.#waiting.length || this.#head > 4096) {
      this.#waiting.splice(0, this.#head)
      this.#head = 0
    }
    take(reply, false)
  }
}

export class ConnectionLost extends Error {
  override name = 'ConnectionLost'
  constructor(command: string) {
    super(`the connection was lost with '${command}' unanswered`)
  }
}

/** A bulk or status reply as text; null stays null; an error reply is thrown. */
export function textOf(reply: RespReply): string | null {
  if (reply === null) return null
  if (reply instanceof RespError) throw new Error(reply.text)
  if (typeof reply === 'string') return reply
  if (typeof reply === 'number') return String(reply)
  if (Buffer.isBuffer(reply)) return reply.toString('utf8')
  throw new Error('a list where one value was expected')
}
