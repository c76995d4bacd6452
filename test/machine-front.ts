/**
 * A node in one process for tests of the edges: a `Front` whose log is a list. Writes of a turn become one
 * entry; reads are answered from what is applied. Reads are answered `readDelay` turns later than writes, so
 * that an edge that relies on the order of replies is found out.
 */
import type { Facts, Front, Origin } from '../src/front.ts'
import { ByteWriter } from '../src/bytes.ts'
import { encodeCommand, encodeEntry } from '../src/machine/entry.ts'
import { Machine } from '../src/machine/machine.ts'
import type { Arguments, Reply } from '../src/machine/reply.ts'
import { logIndex } from '../src/vocabulary.ts'

interface Waiting {
  readonly origin: Origin
  readonly tag: number
  readonly args: Arguments
  turn: number
}

export class MachineFront implements Front {
  readonly machine = new Machine({ maxMemoryBytes: 0 })
  readonly session = { node: 1, incarnation: 1 }
  notReady: { code: string; message: string } | null = null
  /** More commands than these are refused. */
  capacity = 100_000
  /** While set, nothing is answered. */
  held = false
  writes = 0
  reads = 0
  role: Facts['role'] = 'leader'
  readDelay = 2
  acceptQuorum = 2
  #writes: Waiting[] = []
  #reads: Waiting[] = []
  #next = 1
  #turn = 0
  #scheduled = false

  constructor() {
    this.#apply(encodeEntry(Date.now(), [{ kind: 'open-session', session: this.session }], []))
  }

  write(origin: Origin, tag: number, args: Arguments): boolean {
    if (this.#writes.length >= this.capacity) return false
    this.writes++
    this.#writes.push({ origin, tag, args, turn: this.#turn })
    this.#schedule()
    return true
  }

  read(origin: Origin, tag: number, args: Arguments): boolean {
    if (this.#reads.length >= this.capacity) return false
    this.reads++
    this.#reads.push({ origin, tag, args, turn: this.#turn + this.readDelay })
    this.#schedule()
    return true
  }

  /** As if the node's own state were behind what it has shown. */
  isBehind = false

  readStale(command: Arguments): Reply | undefined {
    return this.isBehind ? undefined : this.machine.read(command)
  }

  ready(): ReturnType<Front['ready']> {
    return this.notReady === null ? { ready: true } : { ready: false, ...this.notReady }
  }

  facts(): Facts {
    return {
      version: '0.1.0',
      nodeId: 1,
      clusterId: 'c'.repeat(32),
      role: this.role,
      leaderId: 1,
      configurationId: 1,
      acceptQuorum: this.acceptQuorum,
      members: [1, 2, 3].map((id) => ({
        id,
        host: '127.0.0.1',
        clientPort: 7000 + id,
        role: id === 1 ? 'leader' : 'follower',
      })),
      decidedIndex: this.machine.applied,
      appliedIndex: this.machine.applied,
      uptimeSeconds: 1,
      keys: this.machine.keys,
      usedMemoryBytes: this.machine.usedMemoryBytes,
      connectedClients: 0,
      commandsProcessed: 0,
    }
  }

  release(): void {
    this.held = false
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      if (!this.held) this.#runTurn()
      if (!this.held && this.#writes.length + this.#reads.length > 0) this.#schedule()
    })
  }

  #runTurn(): void {
    this.#turn++
    const touched = new Set<Origin>()
    const writes = this.#writes
    this.#writes = []
    const first = this.#next
    this.#next += writes.length
    const commands = writes.map(({ args }) => encoded(args))
    const block = { session: this.session, acknowledged: first - 1, first, commands }
    this.#apply(encodeEntry(Date.now(), [], commands.length === 0 ? [] : [block]), (sequence, reply) => {
      const { origin, tag } = writes[sequence - first]!
      origin.reply(tag, reply)
      touched.add(origin)
    })
    const due = this.#reads.filter(({ turn }) => turn <= this.#turn)
    this.#reads = this.#reads.filter(({ turn }) => turn > this.#turn)
    // Out of order on purpose.
    for (const { origin, tag, args } of due.toReversed()) {
      touched.add(origin)
      if (!origin.defers?.(tag, args)) origin.reply(tag, this.machine.read(args))
    }
    for (const origin of touched) origin.flush()
  }

  #apply(payload: Buffer, told: (sequence: number, reply: Reply) => void = () => undefined): void {
    const index = logIndex(this.machine.applied + 1)
    const sink = { reply: (_session: unknown, sequence: number, reply: Reply) => told(sequence, reply) }
    this.machine.apply({ kind: 'commands', index, payload }, sink)
  }
}

function encoded(args: Arguments): Uint8Array {
  const writer = new ByteWriter(256)
  encodeCommand(writer, '', args)
  return writer.finish()
}
