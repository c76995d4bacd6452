/**
 * One thread of the load generator: its share of the connections. Closed loop: each keeps `pipeline` commands in
 * flight. Open loop (`perSecond`): commands leave at their times whatever is unanswered, and latencies count from
 * those times. Commands are written into one buffer a connection, replies are counted and timed, nothing is ever sent
 * twice. Reports a `WorkerReport` when the time is over.
 */
import { type Socket, connect } from 'node:net'
import { workerData } from 'node:worker_threads'
import { ReplyScanner, type Scanned } from './reply-scanner.ts'
import { Timing } from './timing.ts'

/** What a worker is told. Times in milliseconds; `keys` is the number of keys, names are `key:000000000042`. */
export interface WorkerOrder {
  readonly targets: readonly { readonly host: string; readonly port: number }[]
  readonly clients: number
  readonly firstClient: number
  readonly pipeline: number
  /** Open loop: so many commands a second of this worker; 0: closed loop. */
  readonly perSecond: number
  readonly mix: { readonly set: number; readonly get: number; readonly incr: number }
  readonly valueBytes: number
  readonly keys: number
  readonly warmUpMilliseconds: number
  readonly milliseconds: number
  readonly readOnly: boolean
  /** Redis: each batch ends with `WAIT n 0`, and counts when that is answered; 0: without. */
  readonly waitReplicas: number
}

const RECONNECT_MILLISECONDS = 20
const order = workerData as WorkerOrder
const timing = new Timing(order.warmUpMilliseconds, order.milliseconds)
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

const { set, get, incr } = order.mix

function chooseKind(): Kind {
  if (get === 0 && incr === 0) return 'set'
  const drawn = random(set + get + incr)
  return drawn < set ? 'set' : drawn < set + get ? 'get' : 'incr'
}

const COMMAND_BYTES = template.set.length + order.valueBytes + 2
/** What arrives on any connection: it is scanned before the next read. */
const incoming = Buffer.allocUnsafeSlow(65_536)

/** One client: its socket now, and what it waits for. */
class Client {
  readonly #target: { host: string; port: number }
  readonly #buffer = Buffer.allocUnsafeSlow(order.pipeline * COMMAND_BYTES + waitCommand.length)
  #socket!: Socket
  #unanswered = 0
  #sentAt = 0
  /** Open loop: when each unanswered command should have left, the oldest first. */
  #due: number[] = []
  #setUp = 0
  #isOpen = false
  #failure = ''

  constructor(target: { host: string; port: number }) {
    this.#target = target
    this.#open()
  }

  #open(): void {
    const scanner = new ReplyScanner((reply) => this.#answer(reply))
    const callback = (length: number): boolean => {
      scanner.push(incoming.subarray(0, length))
      return true
    }
    const socket = connect({ ...this.#target, noDelay: true, onread: { buffer: incoming, callback } })
    this.#socket = socket
    this.#failure = ''
    socket.on('connect', () => {
      this.#isOpen = true
      if (order.readOnly) {
        this.#setUp = 1
        socket.write('*1\r\n$8\r\nREADONLY\r\n')
      } else if (order.perSecond === 0) this.#send()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#failure = error.code ?? error.message
    })
    socket.on('close', () => this.#lost())
  }

  #send(): void {
    if (timing.ending) {
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

  /** Open loop: sends commands that were due at those times. */
  sendDue(times: readonly number[]): void {
    if (!this.#isOpen || this.#setUp > 0) {
      timing.error('not connected when a command was due', times.length)
      return
    }
    const buffer = Buffer.allocUnsafe(times.length * COMMAND_BYTES)
    let end = 0
    for (const at of times) {
      this.#due.push(at)
      end = writeCommand(buffer, end, chooseKind())
    }
    this.#unanswered += times.length
    this.#socket.write(buffer.subarray(0, end))
  }

  #answer(reply: Scanned): void {
    if (this.#setUp > 0) {
      this.#setUp--
      if (order.perSecond === 0) this.#send()
      return
    }
    const now = performance.now()
    this.#unanswered--
    // With WAIT nothing counts before its answer, which is the last of a batch.
    const counts = waitCommand === '' ? 1 : this.#unanswered > 0 ? 0 : order.pipeline
    const sentAt = order.perSecond === 0 ? this.#sentAt : this.#due.shift()!
    if (reply !== null && typeof reply === 'object') timing.error(reply.error.slice(0, 120))
    else if (counts > 0 && waitCommand !== '' && Number(reply) < order.waitReplicas) {
      timing.error('WAIT: too few replicas')
    } else timing.completed(sentAt, now, counts)
    timing.alive(now)
    if (this.#unanswered === 0 && order.perSecond === 0) this.#send()
  }

  #lost(): void {
    this.#isOpen = false
    if (timing.ending) return
    timing.reconnects++
    if (this.#unanswered > 0) {
      timing.error(`connection lost (${this.#failure || 'closed'}), outcome unknown`, this.#unanswered)
    }
    this.#unanswered = 0
    this.#due = []
    setTimeout(() => this.#open(), RECONNECT_MILLISECONDS)
  }
}

const clients: Client[] = []
for (let client = 0; client < order.clients; client++) {
  const target = order.targets[(order.firstClient + client) % order.targets.length]
  if (target) clients.push(new Client(target))
}

/** Open loop: what became due since the last look leaves now, on one connection after the other. */
function openLoop(): void {
  const interval = 1000 / order.perSecond
  let next = performance.now() + 100 // connections take a moment
  let turn = 0
  const timer = setInterval(() => {
    if (timing.ending) {
      clearInterval(timer)
      return
    }
    const now = performance.now()
    for (; next <= now; next += interval) clients[turn++ % clients.length]!.sendDue([next])
  }, 1)
}

if (order.perSecond > 0) openLoop()
