/**
 * What the shell's turn needs of the world: time, disk, network, and to be woken. The node gives it the real
 * ones, the simulator its own. PURE: types only.
 */
import type { Message } from '../consensus/messages.ts'
import type { RelayMessage } from './relay-messages.ts'
import type { Configuration, LogIndex, LogRecord, NodeId } from '../vocabulary.ts'

export type PeerMessage =
  | { readonly kind: 'consensus'; readonly message: Message }
  | { readonly kind: 'relay'; readonly message: RelayMessage }

export interface TurnPorts {
  /** Milliseconds of a monotonic clock. */
  now(): number
  /** Milliseconds since 1970, for expiry only. */
  wallClock(): number
  /** Makes the records durable in order, as one frame with one sync; `done` is never called from inside. */
  persist(records: readonly LogRecord[], done: () => void): void
  /** `mayWait`: it may leave a moment after the flush, with what is sent by then (`LATE_MILLISECONDS` of hurry.ts). */
  send(to: NodeId, message: PeerMessage, mayWait?: boolean): void
  /** Whether much of what was sent to this node has not left: what can wait should. Absent: never. */
  readonly isBehind?: (node: NodeId) => boolean
  /** What was sent since the last flush leaves now, one write per peer. */
  flush(): void
  /** Asks that `run` be called soon. */
  wake(): void
  /** Decided entries for `to` are to be read from storage; then `logRead`, or nothing. Absent: `readsLog` is not set. */
  readLog?(to: NodeId, from: LogIndex, upTo: LogIndex): void
  /** A checkpoint of at least `index` must be fetched from one of `from`; then `installed`. */
  needCheckpoint(index: LogIndex, from: readonly NodeId[]): void
  configurationChanged(configuration: Configuration, start: LogIndex): void
  leaderChanged(leader: NodeId | null): void
  /** A member told of a configuration that this node, no member any more, has not seen in its log. */
  heardOf(configuration: Configuration): void
}

export interface TurnLimits {
  readonly entryBytes: number
  readonly forwardedBytes: number
  /** Entries that one turn applies; at least one. Absent: all. */
  readonly applyBytes?: number
  /** Entries that may be left behind these before no more are taken in. Absent: any. */
  readonly unappliedEntries?: number
  /** Replies to reads in one turn; one reply always fits, for another node up to the most. */
  readonly repliesBytes?: number
  readonly replyMostBytes?: number
  /** How old the state may be that READONLY connections are answered from; 0 or absent: as old as it is. */
  readonly staleReadsMostMilliseconds?: number
}
