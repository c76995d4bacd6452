/**
 * What the log of one node amounts to on its disk: the storage model of the simulator, for the consensus core.
 *
 * Records that were synced stay. A frame is all or nothing, but for one thing: a record that replaces a part of
 * the log opens a new segment, and a crash may come just before it. Rot takes away a part of what was synced, decided
 * entries or checkpoints too, and leaves a doubt from there on.
 */
import assert from 'node:assert/strict'
import {
  lastIndex,
  type Log,
  append,
  createLog,
  entryAt,
  sameEntry,
  slice,
  truncateFrom,
} from '../../src/consensus/log.ts'
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
import type { Random } from './random.ts'

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
  promiseLost = false
  /** Promises were lost once. */
  hasForgotten = false
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

  /** Where it begins: a checkpoint that it was given has taken the place of what is below, synced or not. */
  get first(): LogIndex {
    const installed = this.#unsynced.flat().map((record) => (record.kind === 'installed' ? record.index + 1 : 0))
    return logIndex(Math.max(this.image.log.first, ...installed))
  }

  #keep(record: LogRecord): void {
    const before = this.image.state.acceptedBallot
    apply(this.image, record)
    const isAhead = record.kind === 'accept-sync' && compareBallots(record.ballot, before) > 0
    if (isAhead || record.kind === 'doubt-over') {
      this.doubtfulFrom = null
      this.promiseLost = false
    }
    if (record.kind === 'installed' && this.doubtfulFrom !== null) {
      this.doubtfulFrom = logIndex(Math.max(this.doubtfulFrom, record.index + 1))
    }
    this.#since.push(record)
    while (this.#since.length > 60) apply(this.#past, this.#since.shift()!)
  }

  /** Rot takes something that was durable: the end, the middle of the log, or every checkpoint. False: it takes nothing. */
  rot(random: Random): boolean {
    const { configuration } = this.image.state
    // A node that votes alone refuses to start with such damage.
    if (configuration === null || configuration.voters.length === 1) return false
    const kind = random.integer(0, 3)
    if (this.checkpoint !== null && kind === 0) return this.#doubt(this.image.state, 1, [], false)
    const { log } = this.image
    if (kind <= 1 && log.entries.length > 0) {
      return this.loseLog(random.integer(0, log.entries.length - 1))
    }
    return this.loseEnd(random.integer(1, 10), random.chance(0.5))
  }

  /**
   * The last `count` synced records are gone, whatever they were. `keepsBallot`: back to the last accept-sync, whose
   * ballot stays (it is in the header of a segment) while the entries that came with it are gone.
   */
  loseEnd(count: number, keepsBallot = false): boolean {
    const sync = this.#since.findLast((record) => record.kind === 'accept-sync')
    const left = keepsBallot && sync ? this.#since.indexOf(sync) : this.#since.length - count
    if (left < 0 || this.checkpoint !== null) return false
    if (this.#since.slice(left).some((record) => record.kind === 'installed')) return false
    const image = copy(this.#past)
    const kept = this.#since.slice(0, left)
    if (keepsBallot && sync?.kind === 'accept-sync') kept.push({ ...sync, entries: [] })
    for (const record of kept) apply(image, record)
    const { state, log } = image
    if (state.configuration === null || state.configuration.voters.length === 1) return false
    return this.#doubt(state, log.first, log.entries, true)
  }

  /** Rot in the middle: of the log the first `left` entries are there. What else was written is. */
  loseLog(left: number): boolean {
    const { state, log } = this.image
    return this.#doubt(state, log.first, log.entries.slice(0, left), false)
  }

  #doubt(state: DurableState, first: number, entries: readonly Entry[], promiseLost: boolean): boolean {
    this.image = { state, log: createLog(logIndex(first), entries) }
    if (first === 1) this.checkpoint = null
    const from = lastIndex(this.image.log) + 1
    this.doubtfulFrom = logIndex(Math.min(from, this.doubtfulFrom ?? from))
    this.promiseLost ||= promiseLost
    this.hasForgotten ||= promiseLost
    this.#past = copy(this.image)
    this.#since = []
    return true
  }

  recover(): RecoveredLog {
    const { doubtfulFrom, promiseLost } = this
    this.#adoptCheckpoint()
    const { state, log } = this.image
    return { state, first: logIndex(log.first), entries: [...log.entries], doubtfulFrom, promiseLost }
  }

  /** As src/storage/recovery.ts: a checkpoint may be durable although the log does not know of it yet. */
  #adoptCheckpoint(): void {
    const { checkpoint, image } = this
    const isTold =
      image.state.configurationStart === 0 && checkpoint?.configuration.id === image.state.configuration?.id
    if (isTold && checkpoint !== null) image.state = { ...image.state, configurationStart: checkpoint.start }
    if (checkpoint === null || checkpoint.index <= image.state.decided || this.doubtfulFrom !== null) return
    const { index: decided, configuration, start: configurationStart } = checkpoint
    const isLater = configuration.id > (image.state.configuration?.id ?? 0)
    image.state = { ...image.state, decided, ...(isLater ? { configuration, configurationStart } : {}) }
    // What an earlier configuration accepted above it cannot have been chosen. What is below it may not have been, either.
    const isOver = isLater && image.state.acceptedBallot.configuration < configuration.id
    const kept = isOver ? [] : slice(image.log, decided + 1, lastIndex(image.log), Infinity)
    image.log = createLog(logIndex(decided + 1), kept)
    this.#past = copy(image)
    this.#since = []
  }

  /** A checkpoint is durable and the log before it is gone. */
  truncateHead(checkpoint: Checkpoint): void {
    this.checkpoint = checkpoint
    const { log } = this.image
    const drop = checkpoint.index + 1 - log.first
    if (drop > 0) this.image.log = createLog(logIndex(checkpoint.index + 1), log.entries.slice(drop))
    this.#past = copy(this.image)
    this.#since = []
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
      assert(record.base > Math.min(state.decided, lastIndex(log)), 'an accept-sync replaces what is known decided')
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
    case 'doubt-over':
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
