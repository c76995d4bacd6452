/**
 * What waits at the leader for its next entry: blocks of commands of all nodes, what the cluster itself has to
 * say, and the wish for an entry that only lets time pass. Bounded: above the bound a block is left out, and its
 * node sends it again when it misses the answer. PURE.
 */
import { type Block, type SystemCommand, encodeEntry } from './machine/entry.ts'

interface WaitingBlock {
  readonly opens: boolean
  readonly block: Block
  readonly bytes: number
}

const blockBytes = (block: Block): number => block.commands.reduce((sum, command) => sum + command.length, 32)

export class Inbox {
  readonly #limits: { readonly entryBytes: number; readonly forwardedBytes: number }
  #waiting: WaitingBlock[] = []
  #bytes = 0
  /** By node: which stretch of its session waits, or waited last. What was forgotten of it only lets a repetition in. */
  readonly #stretches = new Map<number, { readonly incarnation: number; from: number; next: number }>()
  #system: SystemCommand[] = []
  #timeWanted = false

  constructor(limits: { readonly entryBytes: number; readonly forwardedBytes: number }) {
    this.#limits = limits
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0 && this.#system.length === 0 && !this.#timeWanted
  }

  /** `opens`: the session is opened first. What waits already is not taken again. */
  admit(opens: boolean, block: Block): void {
    if (this.#isWaiting(block)) return
    const bytes = blockBytes(block)
    // A single block that is above the bound by itself (a value may be larger) waits alone.
    if (this.#bytes > 0 && this.#bytes + bytes > this.#limits.forwardedBytes) return
    this.#waiting.push({ opens, block, bytes })
    this.#bytes += bytes
    this.#noteWaiting(block)
  }

  /** Where the leader is slow, or has lost its quorum, nodes send everything again and again. */
  #isWaiting({ session, first, commands }: Block): boolean {
    const stretch = this.#stretches.get(session.node)
    if (stretch?.incarnation !== session.incarnation || stretch.from >= stretch.next) return false
    return first >= stretch.from && first + commands.length <= stretch.next
  }

  #noteWaiting({ session, first, commands }: Block): void {
    const stretch = this.#stretches.get(session.node)
    const next = first + commands.length
    const joins = stretch?.incarnation === session.incarnation && first <= stretch.next && next >= stretch.from
    if (joins) {
      stretch.from = Math.min(stretch.from, first)
      stretch.next = Math.max(stretch.next, next)
    } else this.#stretches.set(session.node, { incarnation: session.incarnation, from: first, next })
  }

  #noteTaken({ session, first, commands }: Block): void {
    const stretch = this.#stretches.get(session.node)
    if (stretch?.incarnation !== session.incarnation) return
    stretch.from = Math.max(stretch.from, first + commands.length)
  }

  say(command: SystemCommand): void {
    this.#system.push(command)
  }

  /** The next entry may be empty: it carries the time. */
  wantTime(): void {
    this.#timeWanted = true
  }

  /** This node does not lead: the nodes that the blocks came from send them to who does. */
  forgetBlocks(): void {
    this.#waiting = []
    this.#bytes = 0
    this.#stretches.clear()
  }

  /** Payload of the next entry, at most about `entryBytes`; what is left waits for the one after it. */
  nextEntry(timeMilliseconds: number, first: readonly SystemCommand[]): Buffer {
    let count = 0
    for (let bytes = 0; count < this.#waiting.length && bytes < this.#limits.entryBytes; count++) {
      bytes += this.#waiting[count]!.bytes
    }
    const taken = count === this.#waiting.length ? this.#waiting : this.#waiting.slice(0, count)
    this.#waiting = count === this.#waiting.length ? [] : this.#waiting.slice(count)
    for (const { bytes, block } of taken) {
      this.#bytes -= bytes
      this.#noteTaken(block)
    }
    const system = [...first, ...this.#system]
    this.#system = []
    this.#timeWanted = false
    for (const { opens, block } of taken) if (opens) system.push({ kind: 'open-session', session: block.session })
    const blocks = taken.map(({ block }) => block)
    return encodeEntry(timeMilliseconds, system, blocks)
  }
}
