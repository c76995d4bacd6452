/**
 * One thread of the load generator for etcd: the same closed loops as load-worker.ts, over gRPC. The few bytes of
 * gRPC and of the two messages are written here; HTTP/2 is Node's. Clients share connections, eight at most: streams
 * are cheap for etcd, and what the generator uses of the machine is taken away from what is measured.
 *
 *   frame         uint8 0, uint32 length (big-endian), message
 *   PutRequest    0x0a length key, 0x12 length value        RangeRequest   0x0a length key
 */
import { type ClientHttp2Session, connect, constants } from 'node:http2'
import { parentPort, workerData } from 'node:worker_threads'
import { build, encodeIntoCompressedBase64 } from 'hdr-histogram-js'
import type { WorkerOrder, WorkerReport } from './load-worker.ts'

const MOST_SESSIONS = 8
const GAP_KEPT_MILLISECONDS = 1
const order = workerData as WorkerOrder
const histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 600_000_000, autoResize: false })
const errors: Record<string, number> = {}
const gaps: [number, number][] = []
let operations = 0
let measuring = false
let ending = false
let lastCompletion = 0

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

function countError(kind: string): void {
  errors[kind] = (errors[kind] ?? 0) + 1
}

function completed(sentAt: number, status: string): void {
  const now = performance.now()
  if (measuring && status === '0') {
    operations++
    histogram.recordValue(Math.max(1, Math.round((now - sentAt) * 1000)))
    if (now - lastCompletion > GAP_KEPT_MILLISECONDS) {
      gaps.push([performance.timeOrigin + lastCompletion, performance.timeOrigin + now])
    }
  } else if (status !== '0') countError(`grpc-status ${status}`)
  lastCompletion = now
}

/** One request after the other, until the time is over. */
function loop(session: ClientHttp2Session): void {
  if (ending || session.destroyed) return
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
  session.on('error', (error: NodeJS.ErrnoException) => countError(error.code ?? error.message))
  return session
})
for (let client = 0; client < order.clients * order.pipeline; client++) loop(sessions[client % sessions.length]!)

let startedAt = 0
setTimeout(() => {
  measuring = true
  startedAt = lastCompletion = performance.now()
}, order.warmUpMilliseconds)
setTimeout(() => {
  const now = performance.now()
  measuring = false
  ending = true
  const report: WorkerReport = {
    operations,
    seconds: (now - startedAt) / 1000,
    histogram: encodeIntoCompressedBase64(histogram),
    gaps: [...gaps].sort((a, b) => b[1] - b[0] - (a[1] - a[0])).slice(0, 1000),
    errors,
    reconnects: 0,
  }
  parentPort?.postMessage(report, [])
  parentPort?.close()
  setTimeout(() => process.exit(0), 100)
}, order.warmUpMilliseconds + order.milliseconds)
