/**
 * What an edge may ask of the node, and what it gets back. An edge turns bytes into commands and replies into
 * bytes; it knows nothing of consensus. PURE: types only.
 */
import type { Arguments, Reply } from './machine/reply.ts'

/** A connection. `tag` is the connection's own number for the command; replies may come in any order of tags. */
export interface Origin {
  reply(tag: number, reply: Reply): void
  /**
   * A read of it may be answered now. True: not yet, its client has enough to take or one before it is unanswered; it
   * keeps the read and asks again.
   * Absent: its replies are small.
   */
  defers?(tag: number, command: Arguments): boolean
  /** Called once after all replies of a turn: write them out with one write. */
  flush(): void
}

/** Of every command that is given to it the bytes must stay as they are until the reply has come. */
export interface Front {
  /**
   * Takes a command that goes through the log. False: the inbox is full, nothing was taken, the edge answers
   * OVERLOADED. Commands of one origin are applied in the order in which they are taken.
   */
  write(origin: Origin, tag: number, command: Arguments): boolean
  /** Takes a linearizable read. Its order against writes of the same origin is the edge's to keep (see resp/connection.ts). */
  read(origin: Origin, tag: number, command: Arguments): boolean
  /**
   * Answers a read from this node's own state, now. Undefined: that state is behind something that this node has
   * already shown a client; ask with `read`.
   */
  readStale(command: Arguments): Reply | undefined
  /** Facts for INFO, ROLE and CLUSTER: a snapshot that costs little. */
  facts(): Facts
  /** Whether the node takes commands; otherwise the coded reason. */
  ready(): { readonly ready: true } | { readonly ready: false; readonly code: string; readonly message: string }
}

export interface Facts {
  readonly version: string
  readonly nodeId: number | null
  readonly clusterId: string | null
  readonly role: 'leader' | 'follower' | 'learner' | 'none'
  readonly leaderId: number | null
  readonly configurationId: number
  /** How many nodes hold a write when it is answered. */
  readonly acceptQuorum: number
  readonly members: readonly {
    readonly id: number
    readonly host: string
    readonly clientPort: number
    readonly role: 'leader' | 'follower' | 'learner'
  }[]
  readonly decidedIndex: number
  readonly appliedIndex: number
  readonly uptimeSeconds: number
  readonly keys: number
  readonly usedMemoryBytes: number
  readonly connectedClients: number
  readonly commandsProcessed: number
}
