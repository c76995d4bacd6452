/**
 * One thread of the load generator for etcd: the same closed loops as load-worker.ts, over gRPC. The few bytes of
 * gRPC and of the two messages are written here; HTTP/2 is Node's. Clients share connections, eight at most: streams
 * are cheap for etcd, and what the generator uses of the machine is taken away from what is measured.
 *
 *   frame         uint8 0, uint32 length (big-endian), message
 *   PutRequest    0x0a length key, 0x12 length value        RangeRequest   0x0a length key
 */
import { type ClientHttp2Session, connect, constants } from 'node:http2'
import { workerData } from 'node:worker_threads'
import type { WorkerOrder } from './load-worker.ts'
import { Timing } from './timing.ts'

const MOST_SESSIONS = 8
const order = workerData as WorkerOrder
const timing = new Timing(order.warmUpMilliseconds, order.milliseconds)

const value = Buffer.alloc(order.valueBytes, 'x')
const varint = (number: number): number[] => (number < 128 ? [number] : [(number & 127) | 128, ...varint(number >>> 7)])
const field = (tag: number, bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from([tag, ...varint(bytes.length)]), bytes])

function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

function request(kind: 'set' | 'get'): Buffer {
  const key = Buffer.from(`key:${String(Math.floor(Math.random() * order.keys)).padStart(12, '0')}`)
  return frame(kind === 'set' ? Buffer.concat([field(0x0a, key), field(0x12, value)]) : field(0x0a, key))
}

const headers = (method: 'Put' | 'Range'): Record<string, string> => ({
  [constants.HTTP2_HEADER_METHOD]: 'POST',
  [constants.HTTP2_HEADER_PATH]: `/etcdserverpb.KV/${method}`,
  'content-type': 'application/grpc',
  te: 'trailers',
})
const PUT = headers('Put')
const RANGE = headers('Range')

function completed(sentAt: number, status: string): void {
  const now = performance.now()
  if (status === '0') timing.completed(sentAt, now)
  else timing.error(`grpc-status ${status}`)
  timing.alive(now)
}

/** One request after the other, until the time is over. */
function loop(session: ClientHttp2Session): void {
  if (timing.ending || session.destroyed) return
  const { set, get } = order.mix
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
    completed(sentAt, status)
    loop(session)
  })
  stream.resume()
  stream.end(request(kind))
}

const sessions = Array.from({ length: Math.min(MOST_SESSIONS, order.clients) }, (_, at) => {
  const { host, port } = order.targets[at % order.targets.length]!
  const session = connect(`http://${host}:${port}`)
  session.on('error', (error: NodeJS.ErrnoException) => timing.error(error.code ?? error.message))
  return session
})
for (let client = 0; client < order.clients * order.pipeline; client++) loop(sessions[client % sessions.length]!)
