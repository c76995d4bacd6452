/**
 * What a start may find (starts.ts): everything that was called durable and is not in doubt, and nothing that
 * contradicts it; a log without a gap that reaches the newest checkpoint; a doubt that only consensus ends.
 */
import assert from 'node:assert/strict'
import { lastIndex, sameEntry } from '../../src/consensus/log.ts'
import { type LogRecord, type NodeId, type RecoveredLog, compareBallots } from '../../src/vocabulary.ts'
import type { DurableLog } from './durable-log.ts'

/** What the life before has left. */
export interface Left {
  /** What was called durable. */
  readonly log: DurableLog
  /** Given to storage, and not called durable. */
  readonly handed: readonly LogRecord[]
  /** The newest checkpoint that was called durable. */
  readonly checkpoint: number
  /** Something was damaged since. */
  readonly isDamaged: boolean
}

/** `checkpoint`: the newest one that the start has found whole; 0: none. */
export function compareStart(self: NodeId, who: string, was: Left, found: RecoveredLog, checkpoint: number): void {
  const { state, first, entries, doubtfulFrom } = found
  const end = first + entries.length
  entries.forEach((entry, at) => assert.equal(entry.index, first + at, `${who} the log has a gap`))
  assert(first <= checkpoint + 1, `${who} the log begins at ${first}, behind the checkpoint of ${checkpoint}`)
  assert(end > checkpoint, `${who} the log ends at ${end - 1}, before the checkpoint of ${checkpoint}`)
  assert(Math.min(state.decided, end - 1) >= checkpoint, `${who} what the checkpoint of ${checkpoint} has is decided`)
  const isKnown = doubtfulFrom === null || doubtfulFrom >= first
  assert(isKnown, `${who} in doubt from ${doubtfulFrom} on, and the log begins at ${first}`)
  if (!was.isDamaged) compareUndamaged(who, was, found, checkpoint)
  compareDoubt(who, was, found, checkpoint)
  comparePromises(self, who, was, found)
  compareAccepted(self, who, was, found)
  compareEntries(self, who, was, found)
}

function compareUndamaged(who: string, was: Left, found: RecoveredLog, checkpoint: number): void {
  const { state, doubtfulFrom, promiseLost = false } = found
  assert(checkpoint >= was.checkpoint, `${who} checkpoint ${was.checkpoint} is lost`)
  assert(state.decided >= was.log.image.state.decided, `${who} decided goes back to ${state.decided}`)
  assert(doubtfulFrom === null || was.log.doubtfulFrom !== null, `${who} it has lost what nothing took`)
  assert(!promiseLost || was.log.promiseLost, `${who} promises are lost that nothing took`)
}

/** It lasts, from where it was on or from before that, until consensus has said that it is over. */
function compareDoubt(who: string, { log, handed }: Left, found: RecoveredLog, checkpoint: number): void {
  const { doubtfulFrom, promiseLost = false } = found
  const isEnded = handed.some(({ kind }) => kind === 'doubt-over' || kind === 'accept-sync')
  if (log.doubtfulFrom === null || isEnded) return
  assert(doubtfulFrom !== null, `${who} the doubt from ${log.doubtfulFrom} on is forgotten`)
  const most = Math.max(log.doubtfulFrom, checkpoint + 1)
  assert(doubtfulFrom <= most, `${who} the doubt was from ${log.doubtfulFrom} on, and is from ${doubtfulFrom} on`)
  assert(promiseLost || !log.promiseLost, `${who} that promises may be lost is forgotten`)
}

/** Who votes alone has promised to nobody but itself, and accepted what it holds. */
const isAlone = (self: NodeId, { state }: RecoveredLog): boolean =>
  state.configuration?.voters.every(({ id }) => id === self) ?? true

/** What rot may take of promises, and of the ballot in which something was accepted. */
const mayBeLost = (self: NodeId, { isDamaged }: Pick<Left, 'isDamaged'>, found: RecoveredLog): boolean =>
  isDamaged && (isAlone(self, found) || (found.promiseLost ?? false))

function comparePromises(self: NodeId, who: string, was: Left, found: RecoveredLog): void {
  const isKept = compareBallots(found.state.promise, was.log.image.state.promise) >= 0
  assert(isKept || mayBeLost(self, was, found), `${who} a promise is lost`)
}

/** The ballot in which the log was accepted. */
export function compareAccepted(
  self: NodeId,
  who: string,
  was: Pick<Left, 'log' | 'isDamaged'>,
  found: RecoveredLog,
): void {
  const { image } = was.log
  const isAccepted = compareBallots(found.state.acceptedBallot, image.state.acceptedBallot) >= 0
  // Where all that was accepted is in a checkpoint, rot in the log takes nothing but the ballot of it: of what was
  // accepted in that ballot this node has answered for nothing above the checkpoint, and what was accepted there in
  // a smaller one, and comes back, was not chosen, or the leader of the larger one had not replaced it.
  const isCovered = was.isDamaged && found.first > lastIndex(image.log)
  assert(isAccepted || mayBeLost(self, was, found) || isCovered, `${who} an accepted ballot is lost`)
}

/** Entries that are not in doubt. */
export function compareEntries(
  self: NodeId,
  who: string,
  { log: { image }, handed }: Pick<Left, 'log' | 'handed'>,
  found: RecoveredLog,
): void {
  const { state, first, entries, doubtfulFrom } = found
  const isSame = compareBallots(state.acceptedBallot, image.state.acceptedBallot) === 0
  // A frame that replaces the end of the log may have survived although nobody was told.
  const replaced = handed.flatMap((record) => (record.kind === 'accept-sync' ? [record.base - 1] : []))
  // Nor was chosen what is above the checkpoint of a later configuration than any that it accepted in.
  const isCovered = first > image.state.decided + 1
  const before = Math.max(image.state.acceptedBallot.configuration, image.state.configuration?.id ?? 0)
  const isOver = isCovered && (state.configuration?.id ?? 0) > before
  const known = (isSame || isAlone(self, found)) && !isOver ? lastIndex(image.log) : image.state.decided
  const upTo = Math.min(known, (doubtfulFrom ?? Infinity) - 1, ...replaced)
  for (const entry of image.log.entries) {
    if (entry.index > upTo || entry.index < first) continue
    const mine = entries[entry.index - first]
    assert(mine !== undefined && sameEntry(mine, entry), `${who} durable entry ${entry.index} is lost`)
  }
}
