/**
 * Exactly once: the table of sessions. PURE; part of the replicated state and of every checkpoint.
 *
 * A node has at most one session, that of its newest start. A command is applied only if its number is the
 * next one of its session; a smaller one is a duplicate and answered from memory; a larger one, or one of a
 * session that is not known, is refused and changes nothing. Replies are kept until the session says that
 * they were delivered. The session of a node that is no member ends after ten minutes of log time without a
 * command. What is left of it says how far it came, so that nobody opens it again and its node can be told
 * which of its commands were applied.
 *
 *   sessions  uint n, then each: uint node, uint incarnation, uint next, uint last active (2^53 - 1: it has ended),
 *             uint replies, (uint sequence, reply)…
 */
import type { ByteReader, ByteWriter } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { invariant } from '../invariant.ts'
import type { SessionId } from './entry.ts'
import { type Reply, decodeReply, encodeReply } from './reply.ts'

/** How long the session of a node outside the configuration lives without a command. */
export const SESSION_EXPIRY_MILLISECONDS = 600_000

/** In the place of the time of the last command. */
const ENDED = Number.MAX_SAFE_INTEGER

export interface Session {
  readonly incarnation: number
  /** Sequence number that is applied next. */
  next: number
  lastActiveMilliseconds: number
  readonly replies: ReplyWindow
}

/** The replies to consecutive commands; delivered ones are forgotten from the front. */
export class ReplyWindow {
  #replies: Reply[] = []
  /** Position of the oldest that is kept. */
  #head = 0
  /** Sequence number at position 0. */
  #base = 1

  get size(): number {
    return this.#replies.length - this.#head
  }

  /** Undefined: forgotten, or not there yet. */
  get(sequence: number): Reply | undefined {
    const position = sequence - this.#base
    return position < this.#head ? undefined : this.#replies[position]
  }

  /** Whether `sequence` is the one after the last that was kept, where there is one. */
  fits(sequence: number): boolean {
    return this.size === 0 || sequence === this.#base + this.#replies.length
  }

  /** Of a sequence that `fits`. */
  add(sequence: number, reply: Reply): void {
    invariant(this.fits(sequence), 'a reply leaves no gap')
    if (this.size === 0) this.#clear(sequence)
    this.#replies.push(reply)
  }

  forgetThrough(sequence: number): void {
    const head = sequence + 1 - this.#base
    if (head >= this.#replies.length) this.#clear(sequence + 1)
    else if (head > this.#head) {
      // What is forgotten must not be kept alive; the array is cut once half of it is empty.
      this.#replies.fill(null, this.#head, head)
      this.#head = head
      if (head < this.#replies.length / 2) return
      this.#replies = this.#replies.slice(head)
      this.#base += head
      this.#head = 0
    }
  }

  #clear(base: number): void {
    this.#replies = []
    this.#head = 0
    this.#base = base
  }

  *entries(): Generator<readonly [sequence: number, reply: Reply]> {
    for (let at = this.#head; at < this.#replies.length; at++) yield [this.#base + at, this.#replies[at]!]
  }
}

/** By node. */
export type Sessions = Map<number, Session>

/** Opens the session of a node's new start; an older start than the known one is refused, the same one is no news. */
export function openSession(sessions: Sessions, id: SessionId, timeMilliseconds: number): void {
  const known = sessions.get(id.node)
  if (known && known.incarnation >= id.incarnation) return
  const session = {
    incarnation: id.incarnation,
    next: 1,
    lastActiveMilliseconds: timeMilliseconds,
    replies: new ReplyWindow(),
  }
  sessions.set(id.node, session)
}

export const hasEnded = (session: Session): boolean => session.lastActiveMilliseconds === ENDED

/** Null: not known, or it has ended. */
export function findSession(sessions: Sessions, id: SessionId): Session | null {
  const session = sessions.get(id.node)
  return session?.incarnation === id.incarnation && !hasEnded(session) ? session : null
}

/** How far a session came that is not there (any more): what is before `next` was applied, nothing else ever will be. 0: not known. */
export function endOfSession(sessions: Sessions, id: SessionId): number {
  const session = sessions.get(id.node)
  return session?.incarnation === id.incarnation ? session.next : 0
}

/** Ends the sessions of nodes outside `members` that have been silent for so long. */
export function expireSessions(
  sessions: Sessions,
  members: ReadonlySet<number>,
  timeMilliseconds: number,
  expiryMilliseconds: number,
): void {
  for (const [node, session] of sessions) {
    const silent = timeMilliseconds - session.lastActiveMilliseconds
    if (members.has(node) || hasEnded(session) || silent < expiryMilliseconds) continue
    const { incarnation, next } = session
    sessions.set(node, { incarnation, next, lastActiveMilliseconds: ENDED, replies: new ReplyWindow() })
  }
}

export function writeSessions(writer: ByteWriter, sessions: Sessions): void {
  writer.uint(sessions.size)
  for (const [node, session] of [...sessions].sort(([a], [b]) => a - b)) {
    writer.uint(node).uint(session.incarnation).uint(session.next).uint(session.lastActiveMilliseconds)
    writer.uint(session.replies.size)
    for (const [sequence, reply] of session.replies.entries()) encodeReply(writer.uint(sequence), reply)
  }
}

export function readSessions(reader: ByteReader): Sessions {
  const sessions: Sessions = new Map()
  for (let left = reader.uint(); left > 0; left--) {
    const node = reader.uint()
    const incarnation = reader.uint()
    const next = reader.uint()
    const lastActiveMilliseconds = reader.uint()
    const replies = new ReplyWindow()
    for (let more = reader.uint(); more > 0; more--) {
      const sequence = reader.uint()
      if (!replies.fits(sequence)) throw new LokiError('FRAME_MALFORMED', `reply ${sequence} leaves a gap`)
      replies.add(sequence, decodeReply(reader))
    }
    sessions.set(node, { incarnation, next, lastActiveMilliseconds, replies })
  }
  return sessions
}
