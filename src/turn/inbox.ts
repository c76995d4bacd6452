/**
 * What waits at the leader for its next entry: blocks of commands of all nodes, what the cluster itself has to
 * say, and the wish for an entry that only lets time pass. Bounded: above the bound a block is left out, and its
 * node sends it again when it misses the answer. What it sends again is taken once. PURE.
 */
import { SharedMemory } from '../bytes.ts'
import { CommandsUnderWay, type Stretch } from './commands-under-way.ts'
import { type Block, type SystemCommand, encodeEntry, entryCapacity } from '../machine/entry.ts'
import type { LogIndex } from '../vocabulary.ts'

interface WaitingBlock {
  readonly opens: boolean
  readonly block: Block
  readonly bytes: number
  /** See commands-under-way.ts. */
  readonly stretch: Stretch | null
}

const blockBytes = (block: Block): number => block.commands.reduce((sum, command) => sum + command.length, 32)

export class Inbox {
  readonly #limits: { readonly entryBytes: number; readonly forwardedBytes: number }
  #waiting: WaitingBlock[] = []
  #bytes = 0
  readonly #underWay = new CommandsUnderWay()
  #system: SystemCommand[] = []
  #timeWanted = false
  /** Of entries, which stay for long. */
  readonly #memory = new SharedMemory()

  constructor(limits: { readonly entryBytes: number; readonly forwardedBytes: number }) {
    this.#limits = limits
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0 && this.#system.length === 0 && !this.#timeWanted
  }

  /** `opens`: the session is opened first. What waits already, or is proposed, is not taken again. */
  admit(opens: boolean, block: Block): void {
    const missing = this.#underWay.missingOf(block)
    if (missing === null) return
    const bytes = blockBytes(missing)
    // A single block that is above the bound by itself (a value may be larger) waits alone.
    if (this.#bytes > 0 && this.#bytes + bytes > this.#limits.forwardedBytes) return
    this.#waiting.push({ opens, block: missing, bytes, stretch: this.#underWay.add(missing) })
    this.#bytes += bytes
  }

  /** Entries up to `index` are applied. */
  applied(index: LogIndex): void {
    this.#underWay.applied(index)
  }

  say(command: SystemCommand): void {
    this.#system.push(command)
  }

  /** The next entry may be empty: it carries the time. */
  wantTime(): void {
    this.#timeWanted = true
  }

  /** The leader is another one, or the same anew: the nodes that the blocks came from send them again. */
  forgetBlocks(): void {
    this.#waiting = []
    this.#bytes = 0
    this.#underWay.forget()
  }

  /** Payload of the entry that will be at `index`, at most about `entryBytes`; what is left waits for the one after it. */
  nextEntry(index: LogIndex, timeMilliseconds: number, first: readonly SystemCommand[]): Buffer {
    let count = 0
    for (let bytes = 0; count < this.#waiting.length && bytes < this.#limits.entryBytes; count++) {
      bytes += this.#waiting[count]!.bytes
    }
    const taken = count === this.#waiting.length ? this.#waiting : this.#waiting.slice(0, count)
    this.#waiting = count === this.#waiting.length ? [] : this.#waiting.slice(count)
    for (const { bytes, stretch } of taken) {
      this.#bytes -= bytes
      if (stretch !== null) stretch.index = index
    }
    const system = [...first, ...this.#system]
    this.#system = []
    this.#timeWanted = false
    for (const { opens, block } of taken) if (opens) system.push({ kind: 'open-session', session: block.session })
    const blocks = taken.map(({ block }) => block)
    return encodeEntry(timeMilliseconds, system, blocks, this.#memory.writerFor(entryCapacity(blocks)))
  }
}
