/**
 * One thread of the load generator: its share of the connections. Closed loop: each keeps `pipeline` commands in
 * flight. Open loop (`perSecond`): commands leave at their times whatever is unanswered, and latencies count from
 * those times. Commands are written into one buffer a connection, replies are counted and timed, nothing is ever sent
 * twice.
 */
import { type Socket, connect } from 'node:net'
import { ReplyScanner, type Scanned } from './reply-scanner.ts'
import { type Timing, type WorkerOrder, serveLoads } from './timing.ts'

const RECONNECT_MILLISECONDS = 20
const KEY_DIGITS = 12
type Kind = 'set' | 'get' | 'incr'

/** What arrives on any connection: it is scanned before the next read. */
const incoming = Buffer.allocUnsafeSlow(65_536)

/** Encodes the commands of one load. */
class Commands {
  readonly order: WorkerOrder
  readonly maximumBytes: number
  /** Ends each batch, if there is one. */
  readonly wait: string
  readonly #templates: Readonly<Record<Kind, string>>
  readonly #value: Buffer
  #seed: number

  constructor(order: WorkerOrder) {
    this.order = order
    this.#seed = 0x9e3779b9 ^ (order.firstClient + 1)
    this.#value = Buffer.alloc(order.valueBytes, 'x')
    const key = `${'0'.repeat(KEY_DIGITS)}\r\n`
    this.#templates = {
      set: `*3\r\n$3\r\nSET\r\n$16\r\nkey:${key}$${order.valueBytes}\r\n`,
      get: `*2\r\n$3\r\nGET\r\n$16\r\nkey:${key}`,
      // Counters have keys of their own: a SET of random bytes would make INCR fail.
      incr: `*2\r\n$4\r\nINCR\r\n$16\r\ncnt:${key}`,
    }
    this.maximumBytes = this.#templates.set.length + order.valueBytes + 2
    const replicas = String(order.waitReplicas)
    this.wait = order.waitReplicas > 0 ? `*3\r\n$4\r\nWAIT\r\n$${replicas.length}\r\n${replicas}\r\n$1\r\n0\r\n` : ''
  }

  /** Writes one command at `offset`; gives the offset after it. */
  write(buffer: Buffer, offset: number): number {
    const kind = this.#chooseKind()
    const head = this.#templates[kind]
    buffer.write(head, offset, 'latin1')
    let rest = this.#random(this.order.keys)
    for (let position = offset + head.lastIndexOf(':') + KEY_DIGITS; rest > 0; position--) {
      buffer[position] = 48 + (rest % 10)
      rest = Math.floor(rest / 10)
    }
    let end = offset + head.length
    if (kind === 'set') {
      end += this.#value.copy(buffer, end)
      buffer[end++] = 13
      buffer[end++] = 10
    }
    return end
  }

  #chooseKind(): Kind {
    const { set, get, incr } = this.order.mix
    if (get === 0 && incr === 0) return 'set'
    const drawn = this.#random(set + get + incr)
    return drawn < set ? 'set' : drawn < set + get ? 'get' : 'incr'
  }

  /** xorshift32: fast, and good enough to choose keys. */
  #random(below: number): number {
    this.#seed ^= this.#seed << 13
    this.#seed ^= this.#seed >>> 17
    this.#seed ^= this.#seed << 5
    return (this.#seed >>> 0) % below
  }
}

/** One client: its socket now, and what it waits for. */
class Client {
  readonly #target: { host: string; port: number }
  readonly #commands: Commands
  readonly #order: WorkerOrder
  readonly #timing: Timing
  readonly #buffer: Buffer
  #socket!: Socket
  #unanswered = 0
  #sentAt = 0
  /** Open loop: when each unanswered command should have left, the oldest first. */
  #due: number[] = []
  #setUp = 0
  #isOpen = false
  #failure = ''

  constructor(target: { host: string; port: number }, commands: Commands, timing: Timing) {
    this.#target = target
    this.#commands = commands
    this.#order = commands.order
    this.#timing = timing
    this.#buffer = Buffer.allocUnsafeSlow(this.#order.pipeline * commands.maximumBytes + commands.wait.length)
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
      if (this.#order.readOnly) {
        this.#setUp = 1
        socket.write('*1\r\n$8\r\nREADONLY\r\n')
      } else if (this.#order.perSecond === 0) this.#send()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#failure = error.code ?? error.message
    })
    socket.on('close', () => this.#lost())
  }

  #send(): void {
    if (this.#timing.ending) {
      this.#socket.destroy()
      return
    }
    let end = 0
    for (let count = 0; count < this.#order.pipeline; count++) end = this.#commands.write(this.#buffer, end)
    if (this.#commands.wait !== '') end += this.#buffer.write(this.#commands.wait, end, 'latin1')
    this.#unanswered = this.#order.pipeline + (this.#commands.wait === '' ? 0 : 1)
    this.#sentAt = performance.now()
    // The buffer is written anew only when every reply is here, so the bytes have long left.
    this.#socket.write(this.#buffer.subarray(0, end))
  }

  /** Open loop: sends commands that were due at those times. */
  sendDue(times: readonly number[]): void {
    if (!this.#isOpen || this.#setUp > 0) {
      this.#timing.error('not connected when a command was due', times.length)
      return
    }
    const buffer = Buffer.allocUnsafe(times.length * this.#commands.maximumBytes)
    let end = 0
    for (const at of times) {
      this.#due.push(at)
      end = this.#commands.write(buffer, end)
    }
    this.#unanswered += times.length
    this.#socket.write(buffer.subarray(0, end))
  }

  #answer(reply: Scanned): void {
    if (this.#setUp > 0) {
      this.#setUp--
      if (this.#order.perSecond === 0) this.#send()
      return
    }
    const now = performance.now()
    this.#unanswered--
    // With WAIT nothing counts before its answer, which is the last of a batch.
    const counts = this.#commands.wait === '' ? 1 : this.#unanswered > 0 ? 0 : this.#order.pipeline
    const sentAt = this.#order.perSecond === 0 ? this.#sentAt : this.#due.shift()!
    if (reply !== null && typeof reply === 'object') this.#timing.error(reply.error.slice(0, 120))
    else if (counts > 0 && this.#commands.wait !== '' && Number(reply) < this.#order.waitReplicas) {
      this.#timing.error('WAIT: too few replicas')
    } else this.#timing.completed(sentAt, now, counts)
    this.#timing.alive(now)
    if (this.#unanswered === 0 && this.#order.perSecond === 0) this.#send()
  }

  #lost(): void {
    this.#isOpen = false
    if (this.#timing.ending) return
    this.#timing.reconnects++
    if (this.#unanswered > 0) {
      this.#timing.error(`connection lost (${this.#failure || 'closed'}), outcome unknown`, this.#unanswered)
    }
    this.#unanswered = 0
    this.#due = []
    setTimeout(() => {
      if (!this.#timing.ending) this.#open()
    }, RECONNECT_MILLISECONDS)
  }

  end(): void {
    this.#socket.destroy()
  }
}

/** Open loop: what became due since the last look leaves now, on one connection after the other. */
function openLoop(perSecond: number, clients: readonly Client[], timing: Timing): void {
  const interval = 1000 / perSecond
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

serveLoads((order, timing) => {
  const commands = new Commands(order)
  const clients: Client[] = []
  for (let client = 0; client < order.clients; client++) {
    const target = order.targets[(order.firstClient + client) % order.targets.length]
    if (target) clients.push(new Client(target, commands, timing))
  }
  if (order.perSecond > 0) openLoop(order.perSecond, clients, timing)
  return () => {
    for (const client of clients) client.end()
  }
})
