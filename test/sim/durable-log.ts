/**
 * What the log of one node amounts to on its disk: the storage model of the simulator, for the consensus core.
 *
 * Records that were synced stay. A frame is all or nothing, but for one thing: a record that replaces a part of
 * the log opens a new segment, and a crash may come just before it. Rot takes away the end of what was synced,
 * and leaves a doubt from there on.
 */
import assert from 'node:assert/strict'
import { lastIndex, type Log, append, createLog, entryAt, sameEntry, truncateFrom } from '../../src/consensus/log.ts'
import {
  type Configuration,
  type DurableState,
  type Entry,
  type LogIndex,
  type LogRecord,
  type RecoveredLog,
  EMPTY_STATE,
  compareBallots,
  logIndex,
} from '../../src/vocabulary.ts'

export interface Checkpoint {
  readonly index: LogIndex
  readonly configuration: Configuration
  readonly start: LogIndex
}

interface Image {
  state: DurableState
  log: Log
}

const copy = (image: Image): Image => ({
  state: image.state,
  log: { first: image.log.first, entries: [...image.log.entries], bytes: image.log.bytes },
})

export class DurableLog {
  /** After every synced record. */
  image: Image
  checkpoint: Checkpoint | null = null
  doubtfulFrom: LogIndex | null = null
  /** The state at some point in the past, and the synced records since: where rot may go back to. */
  #past: Image
  #since: LogRecord[] = []
  #unsynced: LogRecord[][] = []

  constructor(state: DurableState = EMPTY_STATE, first = logIndex(1), entries: readonly Entry[] = []) {
    this.image = { state, log: createLog(first, [...entries]) }
    this.#past = copy(this.image)
  }

  /** Hands a frame to the disk. */
  write(records: readonly LogRecord[]): void {
    for (const record of records) {
      const cut = record.kind === 'installed' || record.kind === 'accept-sync'
      if (cut || this.#unsynced.length === 0) this.#unsynced.push([])
      this.#unsynced.at(-1)!.push(record)
    }
  }

  /** Makes the frame that was written durable. */
  sync(): void {
    this.crash(this.#unsynced.length)
  }

  /** Of the pieces of the frame that was not synced, the first `kept` stay. */
  crash(kept: number): void {
    for (const piece of this.#unsynced.slice(0, kept)) for (const record of piece) this.#keep(record)
    this.#unsynced = []
  }

  get unsynced(): number {
    return this.#unsynced.length
  }

  #keep(record: LogRecord): void {
    apply(this.image, record)
    if (record.kind === 'accept-sync') this.doubtfulFrom = null
    this.#since.push(record)
    while (this.#since.length > 60) apply(this.#past, this.#since.shift()!)
  }

  /** Loses the last `count` synced records to rot; false where there is nothing to lose. */
  rot(count: number): boolean {
    const left = this.#since.length - count
    if (count < 1 || left < 0 || this.checkpoint !== null) return false
    if (this.#since.slice(left).some((record) => record.kind === 'installed')) return false
    const image = copy(this.#past)
    for (const record of this.#since.slice(0, left)) apply(image, record)
    const { state, log } = image
    // A node that votes alone refuses to start with such damage.
    if (state.configuration === null || state.configuration.voters.length === 1) return false
    this.image = image
    this.#since.length = left
    this.doubtfulFrom = logIndex(Math.max(lastIndex(log), state.decided) + 1)
    return true
  }

  /** As src/storage/recovery.ts: a checkpoint may be durable although the log does not know of it yet. */
  recover(): RecoveredLog {
    const { checkpoint, image } = this
    if (checkpoint !== null && checkpoint.index > image.state.decided) {
      const { index: decided, configuration, start: configurationStart } = checkpoint
      const isLater = configuration.id > (image.state.configuration?.id ?? 0)
      image.state = { ...image.state, decided, ...(isLater ? { configuration, configurationStart } : {}) }
      // What an earlier configuration accepted above it cannot have been chosen.
      if (isLater && image.state.acceptedBallot.configuration < configuration.id && this.doubtfulFrom === null) {
        image.log = createLog(logIndex(decided + 1), [])
      }
    }
    const { state, log } = image
    return { state, first: logIndex(log.first), entries: [...log.entries], doubtfulFrom: this.doubtfulFrom }
  }

  /** A checkpoint is durable and the log before it is gone. */
  truncateHead(checkpoint: Checkpoint): void {
    this.checkpoint = checkpoint
    for (const image of [this.image, this.#past]) {
      const drop = checkpoint.index + 1 - image.log.first
      if (drop <= 0) continue
      image.log = createLog(logIndex(checkpoint.index + 1), image.log.entries.slice(drop))
    }
  }

  /** Whether the entry is durable here, in the log or in a checkpoint. */
  holds(entry: Entry): boolean {
    const { log } = this.image
    if (entry.index < log.first) return true
    const mine = entryAt(log, entry.index)
    return mine !== undefined && sameEntry(mine, entry)
  }
}

/** Does to an image what a record says, and checks what storage would refuse. */
function apply(image: Image, record: LogRecord): void {
  const { log, state } = image
  switch (record.kind) {
    case 'entries':
      append(
        log,
        record.entries.filter((entry) => entry.index >= log.first),
      )
      return
    case 'promise':
      assert(compareBallots(record.ballot, state.promise) > 0, 'a promise on disk goes back')
      image.state = { ...state, promise: record.ballot }
      return
    case 'accept-sync':
      assert(record.base > state.decided, 'an accept-sync replaces what is known decided')
      assert(record.base <= lastIndex(log) + 1, 'an accept-sync leaves a gap')
      truncateFrom(log, record.base)
      append(
        log,
        record.entries.filter((entry) => entry.index >= log.first),
      )
      image.state = { ...state, acceptedBallot: record.ballot }
      return
    case 'decided':
      assert(record.index >= state.decided, 'what is decided on disk goes back')
      assert(record.index <= lastIndex(log), 'decided beyond the log')
      image.state = { ...state, decided: record.index }
      return
    case 'configuration':
      image.state = { ...state, configuration: record.configuration, configurationStart: record.start }
      return
    case 'installed':
      image.log = createLog(logIndex(record.index + 1), [])
      image.state = {
        ...state,
        decided: record.index,
        configuration: record.configuration,
        configurationStart: record.start,
      }
  }
}
