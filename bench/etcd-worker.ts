/**
 * One thread of the load generator for etcd: the same closed loops as load-worker.ts, over gRPC. The few bytes of
 * gRPC and of the two messages are written here; HTTP/2 is Node's. Clients share connections, eight at most: streams
 * are cheap for etcd, and what the generator uses of the machine is taken away from what is measured.
 *
 *   frame         uint8 0, uint32 length (big-endian), message
 *   PutRequest    0x0a length key, 0x12 length value        RangeRequest   0x0a length key
 */
import { type ClientHttp2Session, connect, constants } from 'node:http2'
import { type Timing, type WorkerOrder, serveLoads } from './timing.ts'

const MOST_SESSIONS = 8
const varint = (number: number): number[] => (number < 128 ? [number] : [(number & 127) | 128, ...varint(number >>> 7)])
const field = (tag: number, bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from([tag, ...varint(bytes.length)]), bytes])

function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

const headers = (method: 'Put' | 'Range'): Record<string, string> => ({
  [constants.HTTP2_HEADER_METHOD]: 'POST',
  [constants.HTTP2_HEADER_PATH]: `/etcdserverpb.KV/${method}`,
  'content-type': 'application/grpc',
  te: 'trailers',
})
const PUT = headers('Put')
const RANGE = headers('Range')

/** The closed loops of one load. */
class Load {
  readonly #order: WorkerOrder
  readonly #timing: Timing
  readonly #value: Buffer
  readonly #sessions: readonly ClientHttp2Session[]

  constructor(order: WorkerOrder, timing: Timing) {
    this.#order = order
    this.#timing = timing
    this.#value = Buffer.alloc(order.valueBytes, 'x')
    this.#sessions = Array.from({ length: Math.min(MOST_SESSIONS, order.clients) }, (_, at) => {
      const { host, port } = order.targets[at % order.targets.length]!
      const session = connect(`http://${host}:${port}`)
      session.on('error', (error: NodeJS.ErrnoException) => {
        if (!timing.ending) timing.error(error.code ?? error.message)
      })
      return session
    })
    const loops = order.clients * order.pipeline
    for (let client = 0; client < loops; client++) this.#loop(this.#sessions[client % this.#sessions.length]!)
  }

  end(): void {
    for (const session of this.#sessions) session.destroy()
  }

  /** One request after the other, until the time is over. */
  #loop(session: ClientHttp2Session): void {
    if (this.#timing.ending || session.destroyed) return
    const { set, get } = this.#order.mix
    const kind = Math.random() * (set + get) < set ? 'set' : 'get'
    const sentAt = performance.now()
    const stream = session.request(kind === 'set' ? PUT : RANGE)
    let status = 'none'
    const note = (received: Record<string, unknown>): void => {
      status = typeof received['grpc-status'] === 'string' ? received['grpc-status'] : status
    }
    stream.on('response', note)
    stream.on('trailers', note)
    stream.on('error', () => undefined) // 'close' follows
    stream.on('close', () => {
      this.#completed(sentAt, status)
      this.#loop(session)
    })
    stream.resume()
    stream.end(this.#request(kind))
  }

  #completed(sentAt: number, status: string): void {
    const now = performance.now()
    if (this.#timing.ending) return
    if (status === '0') this.#timing.completed(sentAt, now)
    else this.#timing.error(`grpc-status ${status}`)
    this.#timing.alive(now)
  }

  #request(kind: 'set' | 'get'): Buffer {
    const key = Buffer.from(`key:${String(Math.floor(Math.random() * this.#order.keys)).padStart(12, '0')}`)
    return frame(kind === 'set' ? Buffer.concat([field(0x0a, key), field(0x12, this.#value)]) : field(0x0a, key))
  }
}

serveLoads((order, timing) => {
  const load = new Load(order, timing)
  return () => load.end()
})
