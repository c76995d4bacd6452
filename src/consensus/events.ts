/**
 * The border of the consensus core: `step(replica, event)` gives effects. PURE: no clock, no random source,
 * no promise; every event carries the monotonic time at which it happened.
 *
 * The shell (turn.ts) owns the order of things:
 * 1. `persist` effects of a turn go to storage in their order, as one frame and one sync.
 * 2. `send` effects with `afterSync: false` leave at once; those with `afterSync: true` leave, in order, when
 *    the frame with every persist effect that came before them is durable.
 * 3. When a frame is durable the core gets `persisted` for the position that `position()` named when the frame
 *    was handed to storage. One that is out of date (an older ballot) does not count.
 * 4. What `read-log` asks for is read from a log that was handed all records before it: what a checkpoint that was
 *    installed has taken the place of was perhaps never decided.
 */
import type { Ballot, Configuration, Entry, LogIndex, LogRecord, NodeId, Room } from '../vocabulary.ts'
import type { Message } from './messages.ts'

/** Milliseconds of a monotonic clock; only differences mean anything. */
export type Milliseconds = number

export type Event =
  | { readonly kind: 'tick'; readonly now: Milliseconds }
  | { readonly kind: 'message'; readonly now: Milliseconds; readonly from: NodeId; readonly message: Message }
  /** Only while `acceptsProposals(replica)`; the payload becomes the next entry. */
  | { readonly kind: 'propose'; readonly now: Milliseconds; readonly payload: Uint8Array }
  /** A linearizable read, answered by `read-ready` or `read-failed` with the same id. Ids increase. */
  | { readonly kind: 'read'; readonly now: Milliseconds; readonly id: number }
  /** Leader only. `next.id` must be the current configuration's + 1. Idempotent while the same change is under way. */
  | { readonly kind: 'reconfigure'; readonly now: Milliseconds; readonly next: Configuration }
  /** Withdraws a change whose stop-sign has not been proposed yet. */
  | { readonly kind: 'withdraw'; readonly now: Milliseconds }
  | { readonly kind: 'transfer'; readonly now: Milliseconds; readonly to: NodeId }
  | { readonly kind: 'persisted'; readonly now: Milliseconds; readonly position: Position }
  /** The checkpoint that `need-checkpoint` asked for (or a later one) is durable in the checkpoint folder. */
  | {
      readonly kind: 'checkpoint-installed'
      readonly now: Milliseconds
      readonly index: LogIndex
      readonly configuration: Configuration
      readonly start: LogIndex
    }
  /** Applied, and in a checkpoint of our own or read back from storage when they are asked for: may leave memory. */
  | { readonly kind: 'trim'; readonly now: Milliseconds; readonly index: LogIndex }
  /** What storage has of the entries that `read-log` asked for; if nothing, a checkpoint has what is below `first`. */
  | {
      readonly kind: 'log-read'
      readonly now: Milliseconds
      readonly to: NodeId
      readonly from: LogIndex
      readonly entries: readonly Entry[]
      readonly first: LogIndex
    }
  /** What the disk of this node has room for, where it changed (room.ts). */
  | { readonly kind: 'room'; readonly now: Milliseconds; readonly room: Room }
  /** The connection to a peer was lost or made anew: what was in flight may be gone. */
  | { readonly kind: 'reconnected'; readonly now: Milliseconds; readonly peer: NodeId }
  /** Bytes of a large message go to this peer, or come from it: what is said behind it takes its time. */
  | { readonly kind: 'moving'; readonly now: Milliseconds; readonly peer: NodeId }
  /** The last connection to a peer was closed: it may be gone. A hint: it may be wrong, late, or never come. */
  | { readonly kind: 'disconnected'; readonly now: Milliseconds; readonly peer: NodeId }

/**
 * How far the log reached, under which accepted ballot, when a frame was handed to storage. `generation` counts
 * the times the log's tail was replaced in this process: an index of an earlier generation says nothing now.
 */
export interface Position {
  readonly promise: Ballot
  readonly acceptedBallot: Ballot
  readonly index: LogIndex
  readonly generation: number
}

export type Effect =
  | { readonly kind: 'persist'; readonly record: LogRecord }
  | { readonly kind: 'send'; readonly to: NodeId; readonly message: Message; readonly afterSync: boolean }
  /** Everything up to `index` is decided and in the log of this replica: apply it. */
  | { readonly kind: 'decided'; readonly index: LogIndex }
  /** The reads up to and including `id` are confirmed: answer them from a state that has applied `index`. */
  | { readonly kind: 'read-ready'; readonly id: number; readonly index: LogIndex }
  /** The reads up to and including `id` were not confirmed (leadership was lost): ask the next leader. */
  | { readonly kind: 'read-failed'; readonly id: number }
  /** Who leads, as far as this replica knows, or null; `ballot` rises with every change. */
  | { readonly kind: 'leader-changed'; readonly leader: NodeId | null; readonly ballot: Ballot }
  /** This replica now leads in the accept phase and takes proposals and reads. */
  | { readonly kind: 'became-leader'; readonly ballot: Ballot }
  /** A configuration started here (also when this replica is not a member of it any more). */
  | { readonly kind: 'configuration-changed'; readonly configuration: Configuration; readonly start: LogIndex }
  /** `to` needs decided entries that are no longer in memory: read them, and answer with `log-read`, or not at all. */
  | { readonly kind: 'read-log'; readonly to: NodeId; readonly from: LogIndex; readonly upTo: LogIndex }
  /** Entries that are needed are no longer in any log: fetch a checkpoint of at least `index` from one of `from`. */
  | { readonly kind: 'need-checkpoint'; readonly index: LogIndex; readonly from: readonly NodeId[] }
