/**
 * Clients that record what they did and saw: each connection sends one command at a time to one node, on few keys, so
 * that they contend, and with values that are unique, so that every read names its write. The recording goes to the
 * checker. No command is ever sent twice.
 *
 * After each reply a client waits a moment (think time) before its next command, so that it sees an orderly close,
 * which comes right behind the last reply, before it sends again. A close with nothing unanswered is therefore no
 * failure; a close with a command unanswered is one, and the command's outcome is unknown. (RESP has no way to
 * announce a close: a client that sends again at once can always cross it on the wire. The think time is longer than
 * a busy machine keeps a process waiting between two system calls, nearly always.)
 *
 * Imports nothing but bench/resp-client.ts at run time: in Kubernetes these two files run alone, in a pod.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { RespConnection, RespError, type RespReply, encodeCommand } from '../../bench/resp-client.ts'
import type { Action, Operation, Outcome } from './checker.ts'

export interface Target {
  readonly name: string
  readonly host: string
  readonly port: number
  /**
   * Whether the node takes clients, as a Service sees it: no new connection is made while it does not. Without it
   * (a Service is the target) connections are tried at any time.
   */
  readonly isReady?: () => boolean
}

export interface RecorderOptions {
  readonly connectionsPerTarget: number
  /** Keys that hold strings, and keys that hold counters. */
  readonly registers: number
  readonly counters: number
  /** Zeros are put before each value up to this length. */
  readonly valueBytes: number
  /** Mean pause of a client between a reply and its next command; drawn from half to one and a half of it. */
  readonly thinkMilliseconds: number
  /** Prefix of the keys: recordings that follow each other on one cluster need keys of their own. */
  readonly prefix: string
}

const DEFAULTS: RecorderOptions = {
  connectionsPerTarget: 8,
  registers: 6,
  counters: 2,
  valueBytes: 0,
  thinkMilliseconds: 20,
  prefix: 'k',
}

/** Something a client should not have seen. Whether it was to be expected (its node was killed) is the test's to say. */
export interface Failure {
  readonly target: string
  /** Milliseconds since the epoch. */
  readonly at: number
  /** `error-reply`: the text. `unanswered`: the connection ended with a command unanswered, and how. */
  readonly kind: 'error-reply' | 'unanswered'
  readonly text: string
  readonly command: string
}

export interface Recording {
  readonly history: readonly Operation[]
  readonly failures: readonly Failure[]
  /** Orderly closes and connections made anew. */
  readonly reconnects: number
  readonly answered: number
  /** Longest time without a reply: of all clients together, and of the clients of each target. */
  readonly longestGapMilliseconds: number
  readonly gapsByTarget: Readonly<Record<string, number>>
}

const RETRY_MILLISECONDS = 20

/** Runs from its construction until `stop`. */
export class Recorder {
  readonly #options: RecorderOptions
  readonly #history: Operation[] = []
  readonly #failures: Failure[] = []
  readonly #targets = new Map<string, { stopping: boolean; clients: Promise<void>[] }>()
  readonly #lastReply = new Map<string, number>()
  readonly #longestGap = new Map<string, number>()
  #stopping = false
  #answered = 0
  #reconnects = 0
  #unique = 0

  constructor(targets: readonly Target[], options: Partial<RecorderOptions> = {}) {
    this.#options = { ...DEFAULTS, ...options }
    for (const target of targets) this.addTarget(target)
  }

  get answered(): number {
    return this.#answered
  }

  get reconnects(): number {
    return this.#reconnects
  }

  get failures(): readonly Failure[] {
    return this.#failures
  }

  addTarget(target: Target): void {
    const entry = { stopping: false, clients: [] as Promise<void>[] }
    this.#targets.set(target.name, entry)
    for (let count = 0; count < this.#options.connectionsPerTarget; count++) {
      entry.clients.push(this.#client(target, `${target.name}/${count}`, () => entry.stopping || this.#stopping))
    }
  }

  /** Ends the clients of a target in good order: each gets the reply it waits for. */
  async removeTarget(name: string): Promise<void> {
    const entry = this.#targets.get(name)
    if (!entry) return
    entry.stopping = true
    await Promise.all(entry.clients)
  }

  /** Ends all clients in good order, reads every key once more, and gives what was recorded. */
  async stop(): Promise<Recording> {
    this.#stopping = true
    await Promise.all([...this.#targets.values()].flatMap((entry) => entry.clients))
    return {
      history: this.#history,
      failures: this.#failures,
      reconnects: this.#reconnects,
      answered: this.#answered,
      longestGapMilliseconds: this.#longestGap.get('') ?? 0,
      gapsByTarget: Object.fromEntries([...this.#longestGap].filter(([name]) => name !== '')),
    }
  }

  /** Reads every key once through `target` and records it: what is lost is seen here at the latest. */
  async readAll(target: Target): Promise<void> {
    const connection = await RespConnection.open(target.host, target.port)
    try {
      for (const key of this.#keys()) {
        const answered = await this.#perform(connection, target, `${target.name}/final`, key, { kind: 'get' })
        if (!answered) throw new Error(`${target.name} did not answer GET ${key}`)
      }
    } finally {
      connection.close()
    }
  }

  #keys(): string[] {
    const { prefix, registers, counters } = this.#options
    return [
      ...Array.from({ length: registers }, (_, number) => `${prefix}:register:${number}`),
      ...Array.from({ length: counters }, (_, number) => `${prefix}:counter:${number}`),
    ]
  }

  async #client(target: Target, name: string, done: () => boolean): Promise<void> {
    let connections = 0
    while (!done()) {
      if (target.isReady?.() === false) {
        await sleep(RETRY_MILLISECONDS)
        continue
      }
      let connection: RespConnection
      try {
        connection = await RespConnection.open(target.host, target.port)
      } catch {
        // Nobody is there (yet, or any more): nothing was sent, so nothing failed.
        await sleep(RETRY_MILLISECONDS)
        continue
      }
      if (connections++ > 0) this.#reconnects++
      await this.#talk(connection, target, name, done)
      connection.close()
    }
  }

  async #talk(connection: RespConnection, target: Target, name: string, done: () => boolean): Promise<void> {
    while (!done() && connection.usable) {
      const { key, action } = this.#choose(name)
      if (!(await this.#perform(connection, target, name, key, action))) return
      await sleep(this.#options.thinkMilliseconds * (0.5 + Math.random()))
      // Timers run before sockets are read: one more turn, so that a close that has arrived is seen.
      await nextTurn()
    }
  }

  #choose(name: string): { key: string; action: Action } {
    const { prefix, registers, counters } = this.#options
    const number = Math.floor(Math.random() * (registers + counters))
    const drawn = Math.random()
    if (number >= registers) {
      const key = `${prefix}:counter:${number - registers}`
      return { key, action: drawn < 0.7 ? { kind: 'increment' } : { kind: 'get' } }
    }
    const key = `${prefix}:register:${number}`
    const value = `${name}/${++this.#unique}`.padStart(this.#options.valueBytes, '0')
    if (drawn < 0.4) return { key, action: { kind: 'set', value } }
    if (drawn < 0.85) return { key, action: { kind: 'get' } }
    return { key, action: drawn < 0.93 ? { kind: 'set-if-absent', value } : { kind: 'delete' } }
  }

  /** One command: sends it, records it. False: the connection is of no more use. */
  async #perform(
    connection: RespConnection,
    target: Target,
    client: string,
    key: string,
    action: Action,
  ): Promise<boolean> {
    const command = commandOf(key, action)
    const invoked = performance.now()
    const answer = await new Promise<{ reply: RespReply; lost: boolean }>((resolve) => {
      connection.send(encodeCommand(command), (reply, lost) => resolve({ reply, lost }))
    })
    const completed = performance.now()
    const text = command.slice(0, 2).join(' ')
    const at = performance.timeOrigin + completed
    if (answer.lost) {
      const { reason } = await connection.closed
      this.#history.push({ client, key, action, invoked, completed: Infinity, outcome: null })
      this.#failures.push({ target: target.name, at, kind: 'unanswered', text: reason, command: text })
      return false
    }
    if (answer.reply instanceof RespError) {
      // The text may say that nothing happened, but only the history can tell.
      this.#history.push({ client, key, action, invoked, completed: Infinity, outcome: null })
      this.#failures.push({ target: target.name, at, kind: 'error-reply', text: answer.reply.text, command: text })
      await sleep(RETRY_MILLISECONDS)
      return true
    }
    this.#answered++
    this.#history.push({ client, key, action, invoked, completed, outcome: outcomeOf(action, answer.reply) })
    this.#noteReply('', completed)
    this.#noteReply(target.name, completed)
    return true
  }

  #noteReply(name: string, now: number): void {
    const gap = now - (this.#lastReply.get(name) ?? now)
    this.#lastReply.set(name, now)
    if (gap > (this.#longestGap.get(name) ?? 0)) this.#longestGap.set(name, Math.round(gap))
  }
}

const COMMANDS = { get: 'GET', set: 'SET', 'set-if-absent': 'SET', delete: 'DEL', increment: 'INCR' } as const

function commandOf(key: string, action: Action): string[] {
  const command = [COMMANDS[action.kind], key]
  if ('value' in action) command.push(action.value)
  if (action.kind === 'set-if-absent') command.push('NX')
  return command
}

/** The reply as the checker's model answers; a reply of another form is kept as text, which no model answers. */
function outcomeOf(action: Action, reply: RespReply): Outcome {
  if (action.kind === 'set' && reply === 'OK') return true
  if (action.kind === 'set-if-absent' && (reply === 'OK' || reply === null)) return reply === 'OK'
  if (action.kind === 'get' && (reply === null || Buffer.isBuffer(reply))) return reply?.toString() ?? null
  if ((action.kind === 'delete' || action.kind === 'increment') && typeof reply === 'number') return reply
  return `unexpected: ${JSON.stringify(reply)}`
}
