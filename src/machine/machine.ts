/**
 * The state machine: decided entries go in, replies come out. PURE and deterministic: the same entries give the
 * same state, the same replies and the same hash on every replica, through any checkpoint.
 *
 * - Time is that of the log: the later of the previous entry's and this one's. A key is there until an entry
 *   says that it is due; what is due is removed in bounded numbers with each entry.
 * - A command is applied once (sessions.ts). One that fails changes nothing but its session.
 * - The limit of memory is part of the state; commands that may grow the data are refused above it.
 */
import { ByteReader } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { invariant } from '../invariant.ts'
import { type Configuration, type Entry, type LogIndex, type NodeId, type VolumeId, nodeId } from '../vocabulary.ts'
import { CheckpointReader, CheckpointWriter, serialize } from './checkpoint.ts'
import { type Context, OUT_OF_MEMORY, REPLY_TOO_LARGE, wrongArity } from './command.ts'
import { arityFits, findCommand, unknownCommand } from './commands.ts'
import { type Block, type SessionId, type SystemCommand, decodeCommand, decodeEntry } from './entry.ts'
import { type Arguments, type Reply, err } from './reply.ts'
import {
  SESSION_EXPIRY_MILLISECONDS,
  endOfSession,
  expireSessions,
  findSession,
  hasEnded,
  openSession,
} from './sessions.ts'
import { type MachineState, emptyState } from './state.ts'
import { hashOf } from './hash.ts'
import type { Collection } from './store.ts'

/** Keys that are removed with one entry because they are due; the rest waits for the next one. */
const EXPIRED_PER_ENTRY = 1000
/** So many times in the life of a session that is silent they are looked through. */
const SESSION_SWEEPS = 10

export interface MachineOptions {
  /** What this node's settings say; 0: no limit. In force is what the log says, see `commandsToLog`. */
  readonly maxMemoryBytes: number
  /** Part of the machine, the same at every node for ever: for simulations that have no ten minutes. */
  readonly sessionExpiryMilliseconds?: number
}

export interface ReplySink {
  /** `duplicate`: the command had been applied before, this is the reply it had then. */
  reply(session: SessionId, sequence: number, reply: Reply, duplicate: boolean): void
  /** Commands of a session that is not known (any more) were refused. `next`: see `endOfSession`. */
  refused?(session: SessionId, next: number): void
}

export class Machine {
  readonly #options: MachineOptions
  readonly #state: MachineState
  readonly #context: MachineContext
  #reads = 0

  constructor(options: MachineOptions, state: MachineState = emptyState()) {
    this.#options = options
    this.#state = state
    this.#context = new MachineContext(state)
  }

  /** Index of the last entry that was applied. */
  get applied(): LogIndex {
    return this.#state.applied
  }

  get timeMilliseconds(): number {
    return this.#state.store.timeMilliseconds
  }

  /** What the data is taken to occupy: a function of the data alone, near to what it does. */
  get usedMemoryBytes(): number {
    return this.#state.store.usedBytes
  }

  get keys(): number {
    return this.#state.store.keys
  }

  /** The limit in force. */
  get maxMemoryBytes(): number {
    return this.#state.maxMemoryBytes
  }

  /**
   * What a leader of `configuration` should put into its next entry so that the log says it to everyone. Cheap;
   * ask with every entry. Empty once it has been applied.
   */
  commandsToLog(configuration: Configuration): SystemCommand[] {
    const commands: SystemCommand[] = []
    if (this.#state.adoptedConfigurationId < configuration.id) commands.push({ kind: 'adopt-members', configuration })
    const { maxMemoryBytes } = this.#options
    if (maxMemoryBytes !== this.#state.maxMemoryBytes) commands.push({ kind: 'limit-memory', maxMemoryBytes })
    return commands
  }

  /** Makes the (volume, id) pairs of a configuration known: of genesis, before the first entry. */
  adoptMembers(configuration: Configuration): void {
    const state = this.#state
    const members = [...configuration.voters, ...configuration.learners]
    for (const { id, volume } of members) {
      state.ids.set(volume, id)
      state.lastId = Math.max(state.lastId, id)
    }
    state.members = new Set(members.map(({ id }) => id))
  }

  /**
   * Applies the next decided entry. `sink` null: nobody waits for replies (replay). Throws `FRAME_MALFORMED`
   * before anything has changed if the payload is none.
   */
  apply(entry: Entry, sink: ReplySink | null): void {
    const state = this.#state
    invariant(entry.index === state.applied + 1, `entry ${entry.index} applied after ${state.applied}`)
    if (entry.kind === 'stop-sign') {
      this.#adoptFromLog(entry.next)
      state.applied = entry.index
      return
    }
    const content = decodeEntry(entry.payload)
    this.#advanceTime(content.time)
    for (const command of content.system) this.#applySystem(command)
    for (const block of content.blocks) this.#applyBlock(block, sink)
    state.applied = entry.index
  }

  /** Answers a read from the applied state. `collection` '': the default one. */
  read(args: Arguments, collection = ''): Reply {
    const command = args.length > 0 ? findCommand(args[0]!) : null
    if (command?.kind === 'write') return err(`${command.name} is a write and must go through the log`)
    this.#context.drawSeed = ++this.#reads
    return this.#context.execute(args, collection)
  }

  idOf(volume: VolumeId): NodeId | null {
    const id = this.#state.ids.get(volume)
    return id === undefined ? null : nodeId(id)
  }

  /** Sequence number that is applied next, or null if the session is not known (any more). */
  nextSequence(session: SessionId): number | null {
    return findSession(this.#state.sessions, session)?.next ?? null
  }

  /** The reply to a command that was applied; undefined: it is not remembered (any more). */
  remembered(session: SessionId, sequence: number): Reply | undefined {
    return findSession(this.#state.sessions, session)?.replies.get(sequence)
  }

  /** When the next key is due, possibly in the past; null: no key is. An entry at or after that time removes it. */
  nextExpiryMilliseconds(): number | null {
    return this.#state.store.nextExpiry()
  }

  /** 16 hexadecimal digits: equal for equal states. As slow as the state is large. */
  hash(): string {
    let a = 0x811c9dc5
    let b = 0x9747b28c
    for (const piece of serialize(this.#state)) {
      for (let i = 0; i < piece.length; i++) {
        a = Math.imul(a ^ piece[i]!, 0x01000193)
        b = Math.imul(b ^ piece[i]!, 0x5bd1e995) ^ (b >>> 13)
      }
    }
    const hex = (value: number): string => (value >>> 0).toString(16).padStart(8, '0')
    return hex(a) + hex(b)
  }

  /** A checkpoint of the state as it is now, in slices; the store goes on. One at a time: it ends one that runs. */
  beginCheckpoint(): CheckpointWriter {
    this.#state.store.checkpoint = null
    return new CheckpointWriter(this.#state)
  }

  /** Builds a machine from chunks as they come. */
  static restorer(options: MachineOptions): MachineRestorer {
    return new MachineRestorer(options)
  }

  static restore(options: MachineOptions, chunks: Iterable<Uint8Array>): Machine {
    const restorer = new MachineRestorer(options)
    for (const chunk of chunks) restorer.add(chunk)
    return restorer.finish()
  }

  #advanceTime(time: number): void {
    const { store, sessions, members } = this.#state
    const before = store.timeMilliseconds
    store.timeMilliseconds = Math.max(before, time)
    const { sessionExpiryMilliseconds: expiry = SESSION_EXPIRY_MILLISECONDS } = this.#options
    const sweep = (at: number): number => Math.floor((at * SESSION_SWEEPS) / expiry)
    if (sweep(before) !== sweep(store.timeMilliseconds))
      expireSessions(sessions, members, store.timeMilliseconds, expiry)
    store.removeDue(EXPIRED_PER_ENTRY)
  }

  #applySystem(command: SystemCommand): void {
    const state = this.#state
    switch (command.kind) {
      case 'open-session':
        openSession(state.sessions, command.session, state.store.timeMilliseconds)
        return
      case 'allot-id':
        if (!state.ids.has(command.volume)) state.ids.set(command.volume, ++state.lastId)
        return
      case 'adopt-members':
        // A leader may say it twice, or too late: a newer configuration must not be undone.
        if (command.configuration.id > state.adoptedConfigurationId) this.#adoptFromLog(command.configuration)
        return
      case 'limit-memory':
        state.maxMemoryBytes = command.maxMemoryBytes
    }
  }

  #adoptFromLog(configuration: Configuration): void {
    const { members, sessions, store } = this.#state
    this.adoptMembers(configuration)
    // A member may have been silent for long: the patience with a node that is none any more begins now.
    for (const [node, session] of sessions) {
      const leaves = members.has(node) && !this.#state.members.has(node)
      if (leaves && !hasEnded(session)) session.lastActiveMilliseconds = store.timeMilliseconds
    }
    this.#state.adoptedConfigurationId = configuration.id
  }

  #applyBlock(block: Block, sink: ReplySink | null): void {
    const session = findSession(this.#state.sessions, block.session)
    if (session === null) {
      sink?.refused?.(block.session, endOfSession(this.#state.sessions, block.session))
      return
    }
    session.lastActiveMilliseconds = this.#state.store.timeMilliseconds
    session.replies.forgetThrough(block.acknowledged)
    const { commands } = block
    for (let i = 0; i < commands.length; i++) {
      const sequence = block.first + i
      if (sequence > session.next) return
      if (sequence < session.next) {
        const remembered = session.replies.get(sequence)
        if (remembered !== undefined) sink?.reply(block.session, sequence, remembered, true)
        continue
      }
      const reply = this.#applyCommand(commands[i]!)
      session.next++
      if (sequence > block.acknowledged) session.replies.add(sequence, reply)
      sink?.reply(block.session, sequence, reply, false)
    }
  }

  #applyCommand(bytes: Uint8Array): Reply {
    const { store } = this.#state
    store.version++
    this.#context.drawSeed = 0
    try {
      const { collection, args } = decodeCommand(new ByteReader(bytes))
      return this.#context.execute(args, collection)
    } catch (error) {
      // Bytes that are no command came from another node: they are refused, the same way on every replica.
      if (error instanceof LokiError) return err(error.message)
      throw error
    }
  }
}

/** Builds a machine from the chunks of a checkpoint as they come. */
export class MachineRestorer {
  readonly #options: MachineOptions
  readonly #state = emptyState()
  readonly #reader = new CheckpointReader(this.#state)

  constructor(options: MachineOptions) {
    this.#options = options
  }

  /** Chunks in the order in which they were written. Throws `FRAME_MALFORMED`. */
  add(chunk: Uint8Array): void {
    this.#reader.add(chunk)
  }

  /** Throws `FRAME_MALFORMED` unless the checkpoint is whole. */
  finish(): Machine {
    this.#reader.finish()
    return new Machine(this.#options, this.#state)
  }
}

/** The one context of a machine: reused for every command. */
class MachineContext implements Context {
  readonly store: MachineState['store']
  readonly #state: MachineState
  collection: Collection
  /** 0 inside the log: a draw may depend on the replicated state alone. */
  drawSeed = 0

  constructor(state: MachineState) {
    this.#state = state
    this.store = state.store
    this.collection = state.store.defaultCollection
  }

  get draw(): number {
    return hashOf(`${this.store.version}/${this.drawSeed}`)
  }

  execute(args: Arguments, collectionName: string): Reply {
    const collection = this.store.collections.get(collectionName)
    if (collection === undefined) return err(`no such collection '${collectionName}'`)
    this.collection = collection
    return this.run(args, true)
  }

  run(args: Arguments, mayRead: boolean): Reply {
    if (args.length === 0) return err('empty command')
    const command = findCommand(args[0]!)
    if (command === null || command.execute === null) return unknownCommand(args)
    if (!arityFits(command, args.length)) return wrongArity(command.name)
    if (command.kind === 'read' && !mayRead) return REPLY_TOO_LARGE
    const { maxMemoryBytes } = this.#state
    if (maxMemoryBytes > 0 && this.store.usedBytes > maxMemoryBytes && command.flags.includes('denyoom')) {
      return OUT_OF_MEMORY
    }
    return command.execute(this, args)
  }
}
