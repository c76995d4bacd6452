/**
 * One thread of the load generator: its share of the connections, each a closed loop that keeps `pipeline` commands
 * in flight. Commands are written into one buffer a connection, replies are counted and timed, nothing is ever sent
 * twice. Reports a `WorkerReport` when the time is over.
 */
import { connect, type Socket } from 'node:net'
import { parentPort, workerData } from 'node:worker_threads'
import { build, encodeIntoCompressedBase64 } from 'hdr-histogram-js'
import { type RespReply, RespDecoder, RespError } from './resp-client.ts'

/** What a worker is told. Times in milliseconds; `keys` is the number of keys, names are `key:000000000042`. */
export interface WorkerOrder {
  readonly targets: readonly { readonly host: string; readonly port: number }[]
  readonly clients: number
  readonly firstClient: number
  readonly pipeline: number
  readonly mix: { readonly set: number; readonly get: number; readonly incr: number }
  readonly valueBytes: number
  readonly keys: number
  readonly warmUpMilliseconds: number
  readonly milliseconds: number
  readonly readOnly: boolean
  /** Redis: each batch ends with `WAIT n 0`, and counts when that is answered; 0: without. */
  readonly waitReplicas: number
}

export interface WorkerReport {
  readonly operations: number
  readonly seconds: number
  /** HDR histogram of latencies in microseconds, compressed, base64. */
  readonly histogram: string
  /** Times without a completion, longer than `GAP_KEPT_MILLISECONDS`, in milliseconds since the epoch. */
  readonly gaps: readonly (readonly [number, number])[]
  readonly errors: Readonly<Record<string, number>>
  readonly reconnects: number
}

const GAP_KEPT_MILLISECONDS = 1
const RECONNECT_MILLISECONDS = 20
const order = workerData as WorkerOrder
const histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 600_000_000, autoResize: false })
const errors: Record<string, number> = {}
const gaps: [number, number][] = []
let operations = 0
let reconnects = 0
let measuring = false
let ending = false
let lastCompletion = 0
let seed = 0x9e3779b9 ^ (order.firstClient + 1)

/** xorshift32: fast, and good enough to choose keys. */
function random(below: number): number {
  seed ^= seed << 13
  seed ^= seed >>> 17
  seed ^= seed << 5
  return (seed >>> 0) % below
}

const KEY_DIGITS = 12
const template = {
  set: `*3\r\n$3\r\nSET\r\n$16\r\nkey:${'0'.repeat(KEY_DIGITS)}\r\n$${order.valueBytes}\r\n`,
  get: `*2\r\n$3\r\nGET\r\n$16\r\nkey:${'0'.repeat(KEY_DIGITS)}\r\n`,
  // Counters have keys of their own: a SET of random bytes would make INCR fail.
  incr: `*2\r\n$4\r\nINCR\r\n$16\r\ncnt:${'0'.repeat(KEY_DIGITS)}\r\n`,
}
type Kind = keyof typeof template
const waitCommand =
  order.waitReplicas > 0
    ? `*3\r\n$4\r\nWAIT\r\n$${String(order.waitReplicas).length}\r\n${order.waitReplicas}\r\n$1\r\n0\r\n`
    : ''
const value = Buffer.alloc(order.valueBytes, 'x')

/** Writes one command at `offset`; gives the offset after it. */
function writeCommand(buffer: Buffer, offset: number, kind: Kind): number {
  const head = template[kind]
  buffer.write(head, offset, 'latin1')
  const digits = offset + head.lastIndexOf(':') + KEY_DIGITS
  let rest = random(order.keys)
  for (let position = digits; rest > 0; position--) {
    buffer[position] = 48 + (rest % 10)
    rest = Math.floor(rest / 10)
  }
  let end = offset + head.length
  if (kind === 'set') {
    end += value.copy(buffer, end)
    buffer[end++] = 13
    buffer[end++] = 10
  }
  return end
}

function chooseKind(): Kind {
  const { set, get, incr } = order.mix
  const drawn = random(set + get + incr)
  return drawn < set ? 'set' : drawn < set + get ? 'get' : 'incr'
}

const countError = (kind: string): void => {
  errors[kind] = (errors[kind] ?? 0) + 1
}

/** One client: its socket now, and what it waits for. */
class Client {
  readonly #target: { host: string; port: number }
  readonly #buffer = Buffer.allocUnsafeSlow(
    order.pipeline * (template.set.length + order.valueBytes + 2) + waitCommand.length,
  )
  #socket!: Socket
  #unanswered = 0
  #sentAt = 0
  #setUp = 0
  #failure = ''

  constructor(target: { host: string; port: number }) {
    this.#target = target
    this.#open()
  }

  #open(): void {
    const socket = connect(this.#target)
    this.#socket = socket
    this.#failure = ''
    const decoder = new RespDecoder((reply) => this.#answer(reply))
    socket.setNoDelay(true)
    socket.on('connect', () => {
      if (order.readOnly) {
        this.#setUp = 1
        socket.write('*1\r\n$8\r\nREADONLY\r\n')
      } else this.#send()
    })
    socket.on('data', (chunk) => decoder.push(chunk))
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#failure = error.code ?? error.message
    })
    socket.on('close', () => this.#lost())
  }

  #send(): void {
    if (ending) {
      this.#socket.destroy()
      return
    }
    let end = 0
    for (let count = 0; count < order.pipeline; count++) end = writeCommand(this.#buffer, end, chooseKind())
    if (waitCommand !== '') end += this.#buffer.write(waitCommand, end, 'latin1')
    this.#unanswered = order.pipeline + (waitCommand === '' ? 0 : 1)
    this.#sentAt = performance.now()
    // The buffer is written anew only when every reply is here, so the bytes have long left.
    this.#socket.write(this.#buffer.subarray(0, end))
  }

  #answer(reply: RespReply): void {
    if (this.#setUp > 0) {
      this.#setUp--
      this.#send()
      return
    }
    const now = performance.now()
    // With WAIT nothing counts before its answer, which is the last of a batch.
    const counts = waitCommand === '' ? 1 : this.#unanswered > 1 ? 0 : order.pipeline
    if (reply instanceof RespError) countError(reply.text.slice(0, 120))
    else if (counts > 0 && waitCommand !== '' && Number(reply) < order.waitReplicas)
      countError('WAIT: too few replicas')
    else for (let each = 0; each < counts; each++) this.#completed(now)
    if (measuring && now - lastCompletion > GAP_KEPT_MILLISECONDS) {
      gaps.push([performance.timeOrigin + lastCompletion, performance.timeOrigin + now])
    }
    lastCompletion = now
    if (--this.#unanswered === 0) this.#send()
  }

  #completed(now: number): void {
    if (!measuring) return
    operations++
    histogram.recordValue(Math.max(1, Math.round((now - this.#sentAt) * 1000)))
  }

  #lost(): void {
    if (ending) return
    reconnects++
    if (this.#unanswered > 0) {
      const kind = `connection lost (${this.#failure || 'closed'}), outcome unknown`
      errors[kind] = (errors[kind] ?? 0) + this.#unanswered
    }
    this.#unanswered = 0
    setTimeout(() => this.#open(), RECONNECT_MILLISECONDS)
  }
}

for (let client = 0; client < order.clients; client++) {
  const target = order.targets[(order.firstClient + client) % order.targets.length]
  if (target) void new Client(target)
}

let startedAt = 0
setTimeout(() => {
  measuring = true
  startedAt = lastCompletion = performance.now()
}, order.warmUpMilliseconds)
setTimeout(() => {
  const now = performance.now()
  measuring = false
  ending = true
  // A pause that is not over when the time is over is a pause all the same.
  if (now - lastCompletion > GAP_KEPT_MILLISECONDS) {
    gaps.push([performance.timeOrigin + lastCompletion, performance.timeOrigin + now])
  }
  const report: WorkerReport = {
    operations,
    seconds: (now - startedAt) / 1000,
    histogram: encodeIntoCompressedBase64(histogram),
    gaps: [...gaps].sort((a, b) => b[1] - b[0] - (a[1] - a[0])).slice(0, 1000),
    errors,
    reconnects,
  }
  parentPort?.postMessage(report, [])
  parentPort?.close()
  // Commands in flight are answered or not: nobody counts them any more.
  setTimeout(() => process.exit(0), 100)
}, order.warmUpMilliseconds + order.milliseconds)
