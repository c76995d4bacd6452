/**
 * Clients of the shell simulator: connections to any node, with several commands in flight, and everything they
 * did and saw as one history. What a connection can judge by itself it judges at once:
 *
 * - a reply comes once, and only to a command that waits for one; a command never fails, but for one thing: where the
 *   log has ended the session of its node, its outcome may be unknown;
 * - on keys that only this connection writes, every command is applied once and in order (own-keys.ts);
 * - a read of a node's own state never goes back behind what that node has shown before.
 *
 * Everything else is for the checkers: `history` (linearizability) and `expiring` (a key that is gone stays gone).
 */
import type { Origin } from '../../src/front.ts'
import type { Reply } from '../../src/machine/reply.ts'
import { type Action, type Operation, type Outcome, checkHistory, explainVerdict } from '../cluster/checker.ts'
import { Violation } from './checker.ts'
import { OwnKeys } from './own-keys.ts'
import { Random } from './random.ts'
import type { ShellNode } from './shell-node.ts'

type Recorded = { -readonly [Name in keyof Operation]: Operation[Name] }

/** Undefined: the outcome is unknown. */
type Answered = (reply: Reply | undefined) => void

interface Pending {
  readonly what: string
  readonly isWrite: boolean
  readonly answered: Answered
}

/** A read of a key that was set once, with an expiry. Times are virtual milliseconds. */
interface Sight {
  readonly invoked: number
  readonly invokedAt: number
  readonly completed: number
  readonly completedAt: number
  readonly isThere: boolean
}

interface Expiring {
  readonly milliseconds: number
  readonly issuedAt: number
  /** Infinity: not answered. */
  set: number
  setAt: number
  readonly sights: Sight[]
}

/** Commands that a connection has in flight at most. */
const DEPTH = 5
/** Milliseconds after which the shared keys are others: the histories of single keys stay short. */
const EPOCH_MILLISECONDS = 400

/** Chance that a client goes to another node, although it may wait for one more answer. */
const MOVE_CHANCE = 0.05

export interface World {
  /** Virtual milliseconds. */
  readonly now: number
  count(what: string): void
  /** Sessions are short, or time has leapt. */
  readonly sessionsMayEnd: boolean
}

const isUnknown = (reply: Reply): boolean =>
  typeof reply === 'object' && reply !== null && 'message' in reply && reply.message.startsWith('OUTCOME_UNKNOWN')

const bytes = (words: readonly string[]): Buffer[] => words.map((word) => Buffer.from(word))

function text(reply: Reply): string | null {
  if (reply === null) return null
  if (reply instanceof Uint8Array) return Buffer.from(reply).toString()
  throw new Violation(`a reply of another command: ${JSON.stringify(reply)} in the place of a value`)
}

function number(reply: Reply): number {
  if (typeof reply === 'number') return reply
  throw new Violation(`a reply of another command: ${JSON.stringify(reply)} in the place of a number`)
}

/** False: it was not set, because the key was there. */
function wasSet(reply: Reply): boolean {
  if (reply === 'OK' || reply === null) return reply === 'OK'
  throw new Violation(`a reply of another command: ${JSON.stringify(reply)} in the place of OK`)
}

export class Connection implements Origin {
  readonly name: string
  readonly node: ShellNode
  readonly incarnation: number
  readonly pending = new Map<number, Pending>()
  readonly #clients: Clients
  #nextTag = 1
  readonly #own: OwnKeys

  constructor(name: string, node: ShellNode, clients: Clients) {
    this.name = name
    this.node = node
    this.incarnation = node.incarnation
    this.#clients = clients
    this.#own = new OwnKeys(name)
  }

  get isOpen(): boolean {
    return this.node.incarnation === this.incarnation
  }

  get #hasUnansweredWrites(): boolean {
    for (const { isWrite } of this.pending.values()) if (isWrite) return true
    return false
  }

  reply(tag: number, reply: Reply): void {
    const pending = this.pending.get(tag)
    if (!this.isOpen) throw new Violation(`a reply from a process that has ended: ${this.name}`)
    if (pending === undefined) throw new Violation(`a second reply: ${this.name}: to command ${tag}`)
    this.pending.delete(tag)
    if (isUnknown(reply)) {
      this.#clients.outcomeUnknown()
      return pending.answered(undefined)
    }
    if (typeof reply === 'object' && reply !== null && 'kind' in reply) {
      throw new Violation(`a command fails: ${this.name}: ${pending.what} is answered ${JSON.stringify(reply)}`)
    }
    pending.answered(reply)
    this.#clients.answeredBy(this.node)
  }

  flush(): void {
    // What a real connection writes to its socket here.
  }

  /** The order of the edge (resp/connection.ts): false where the command has to wait. */
  issue(isWrite: boolean, words: readonly string[], answered: Answered): boolean {
    const unansweredWrites = this.#hasUnansweredWrites
    if (this.pending.size >= DEPTH || (isWrite && this.pending.size > 0 && !unansweredWrites)) return false
    if (isWrite && [...this.pending.values()].some((pending) => !pending.isWrite)) return false
    const turn = this.node.turn!
    const tag = this.#nextTag++
    const what = words.join(' ')
    // A read behind unanswered writes goes through the log after them.
    const throughLog = isWrite || unansweredWrites
    const taken = throughLog ? turn.write(this, tag, bytes(words)) : turn.read(this, tag, bytes(words))
    if (taken) this.pending.set(tag, { what, isWrite: throughLog, answered })
    else this.#clients.refused()
    return taken
  }

  ownKeys(random: Random): void {
    const action = this.#own.choose(random, `own ${this.#clients.tick()}`)
    let heard: Answered = () => undefined
    const isTaken = this.issue(action.kind !== 'look', this.#own.wordsOf(action), (reply) => {
      this.#clients.operations++
      heard(reply)
    })
    if (isTaken) heard = this.#own.took(action)
  }
}

export class Clients {
  readonly history: Recorded[] = []
  /** Operations that were answered. */
  operations = 0
  readonly #random: Random
  readonly #moves: Random
  readonly #connections: (Connection | null)[]
  readonly #expiring = new Map<string, Expiring>()
  readonly #world: World
  /** What each start of each node has shown of keys that only grow. */
  readonly #shown = new WeakMap<object, Map<string, number>>()
  #last: Connection | null = null
  #unread: string[] | null = null
  #names = 0
  #clock = 0

  constructor(count: number, random: Random, world: World) {
    this.#random = random
    this.#moves = new Random(count ^ (random.next() * 2 ** 32))
    this.#world = world
    this.#connections = Array.from({ length: count }, () => null)
  }

  /** The order of everything that clients do and see. */
  tick(): number {
    return ++this.#clock
  }

  refused(): void {
    this.#world.count('commands refused')
  }

  outcomeUnknown(): void {
    this.#world.count('outcomes unknown')
    if (!this.#world.sessionsMayEnd) throw new Violation('an outcome is unknown, and no session can have ended')
  }

  answeredBy(node: ShellNode): void {
    if (!node.turn!.appliedConfiguration.voters.some(({ id }) => id === node.id))
      this.#world.count('answers of non-voters')
  }

  /** Commands without an answer, on connections that are open, of nodes of which something is expected. */
  waiting(isExpected: (node: ShellNode) => boolean): readonly string[] {
    return this.#connections.flatMap((connection) =>
      connection?.isOpen && isExpected(connection.node)
        ? [...connection.pending.values()].map(({ what }) => `${connection.name}@${connection.node.id}: ${what}`)
        : [],
    )
  }

  /** One of the clients does something, on one of the nodes. */
  act(which: number, nodes: readonly ShellNode[], now: number): void {
    const random = this.#random
    let connection = this.#connections[which] ?? null
    const moves = this.#moves.chance(MOVE_CHANCE) && (connection?.pending.size ?? 0) <= 1
    if (connection === null || !connection.isOpen || moves) {
      const node = this.#moves.pick(nodes)
      if (node === undefined) return
      connection = new Connection(`c${++this.#names}`, node, this)
      this.#connections[which] = connection
    }
    const epoch = Math.floor(now / EPOCH_MILLISECONDS)
    for (let left = random.integer(1, 3); left > 0; left--) this.#command(connection, epoch)
  }

  #command(connection: Connection, epoch: number): void {
    const random = this.#random
    const dice = random.next()
    const register = `r${epoch}.${random.integer(0, 2)}`
    const counter = `n${epoch}.${random.integer(0, 1)}`
    if (dice < 0.2) this.#shared(connection, { kind: 'get' }, random.chance(0.5) ? register : counter)
    else if (dice < 0.35) this.#shared(connection, { kind: 'set', value: `v${this.tick()}` }, register)
    else if (dice < 0.4) this.#shared(connection, { kind: 'set-if-absent', value: `v${this.tick()}` }, register)
    else if (dice < 0.45) this.#shared(connection, { kind: 'delete' }, register)
    else if (dice < 0.6) this.#shared(connection, { kind: 'increment' }, counter)
    else if (dice < 0.8) connection.ownKeys(random)
    else if (dice < 0.83) this.#grow(connection, `g${random.integer(0, 2)}`)
    else if (dice < 0.87) this.#peek(connection, `g${random.integer(0, 2)}`)
    else if (dice < 0.91) this.#expire(connection)
    else this.#look(connection)
  }

  #shared(connection: Connection, action: Action, key: string): boolean {
    const operation: Recorded = {
      client: connection.name,
      key,
      action,
      invoked: this.tick(),
      completed: Infinity,
      outcome: null,
    }
    const taken = connection.issue(action.kind !== 'get', wordsOf(action, key), (reply) => {
      // For the checker, an operation that never ends may have happened or not.
      if (reply === undefined) return
      operation.completed = this.tick()
      operation.outcome = outcomeOf(action, reply)
      this.operations++
    })
    if (taken) this.history.push(operation)
    return taken
  }

  // ---- keys that only grow: what a node shows of its own state ----

  #grow(connection: Connection, key: string): void {
    connection.issue(true, ['INCR', key], (reply) => {
      if (reply !== undefined) this.#show(connection, key, number(reply))
    })
  }

  #peek(connection: Connection, key: string): void {
    const reply = connection.node.turn!.readStale(bytes(['GET', key]))
    if (reply === undefined) return
    const value = Number(text(reply) ?? '0')
    const shown = this.#shownBy(connection.node).get(key) ?? 0
    if (value < shown) {
      throw new Violation(`node ${connection.node.id} shows ${value} of ${key} and has shown ${shown}: it goes back`)
    }
    this.#show(connection, key, value)
  }

  #show(connection: Connection, key: string, value: number): void {
    this.operations++
    const shown = this.#shownBy(connection.node)
    shown.set(key, Math.max(shown.get(key) ?? 0, value))
  }

  #shownBy(node: ShellNode): Map<string, number> {
    const start = node.turn!
    let shown = this.#shown.get(start)
    if (shown === undefined) this.#shown.set(start, (shown = new Map()))
    return shown
  }

  // ---- keys that expire ----

  #expire(connection: Connection): void {
    const key = `e${this.tick()}`
    const milliseconds = this.#random.integer(1, 400)
    const entry: Expiring = { milliseconds, issuedAt: this.#world.now, set: Infinity, setAt: Infinity, sights: [] }
    const taken = connection.issue(true, ['SET', key, key, 'PX', String(milliseconds)], (reply) => {
      if (reply === undefined || !wasSet(reply)) return
      entry.set = this.tick()
      entry.setAt = this.#world.now
      this.operations++
    })
    if (taken) this.#expiring.set(key, entry)
  }

  #look(connection: Connection): void {
    const recent = [...this.#expiring.keys()].slice(-6)
    const key = this.#random.pick(recent)
    if (key === undefined) return
    const invoked = this.tick()
    const invokedAt = this.#world.now
    connection.issue(false, ['GET', key], (reply) => {
      if (reply === undefined) return
      this.operations++
      const sight = {
        invoked,
        invokedAt,
        completed: this.tick(),
        completedAt: this.#world.now,
        isThere: text(reply) !== null,
      }
      this.#expiring.get(key)!.sights.push(sight)
    })
  }

  // ---- judgement ----

  /** Reads shared keys once more, from one node, as many as it takes; true when there are answers to all. */
  readAll(node: ShellNode): boolean {
    const connection = (this.#last ??= new Connection('last', node, this))
    this.#unread ??= [...new Set(this.history.map(({ key }) => key))]
    while (this.#unread.length > 0 && this.#shared(connection, { kind: 'get' }, this.#unread.at(-1)!))
      this.#unread.pop()
    return this.#unread.length === 0 && connection.pending.size === 0
  }

  /** Throws a Violation. `clocksAreTrue`: no wall clock jumped. */
  judge(clocksAreTrue: boolean): void {
    const verdict = checkHistory(this.history, 1_000_000)
    if (verdict.kind !== 'linearizable') throw new Violation(`linearizability: ${explainVerdict(verdict)}`)
    for (const [key, entry] of this.#expiring) judgeExpiry(key, entry, clocksAreTrue)
  }
}

/** Gone once is gone for ever; where no clock jumped, not before its time and not after. */
function judgeExpiry(key: string, entry: Expiring, clocksAreTrue: boolean): void {
  const { sights, set, setAt, issuedAt, milliseconds } = entry
  let gone = Infinity
  for (const { isThere, invoked, completed } of sights) {
    if (!isThere && invoked > set) gone = Math.min(gone, completed)
  }
  for (const { isThere, invoked, invokedAt, completedAt } of sights) {
    if (isThere && invoked > gone) throw new Violation(`expiry: ${key} was gone at ${gone} and is back at ${invoked}`)
    if (!clocksAreTrue) continue
    if (isThere && invokedAt > setAt + milliseconds + 1) {
      throw new Violation(`expiry: ${key}, set at ${setAt} for ${milliseconds} ms, is still there at ${invokedAt}`)
    }
    if (!isThere && invoked > set && completedAt < issuedAt + milliseconds - 1) {
      throw new Violation(`expiry: ${key}, set after ${issuedAt} for ${milliseconds} ms, is gone at ${completedAt}`)
    }
  }
}

function wordsOf(action: Action, key: string): string[] {
  switch (action.kind) {
    case 'get':
      return ['GET', key]
    case 'set':
      return ['SET', key, action.value]
    case 'set-if-absent':
      return ['SET', key, action.value, 'NX']
    case 'delete':
      return ['DEL', key]
    case 'increment':
      return ['INCR', key]
  }
}

function outcomeOf(action: Action, reply: Reply): Outcome {
  switch (action.kind) {
    case 'get':
      return text(reply)
    case 'set':
    case 'set-if-absent':
      return wasSet(reply)
    case 'delete':
    case 'increment':
      return number(reply)
  }
}
