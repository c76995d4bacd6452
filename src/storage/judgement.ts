/**
 * Step 5 of a start (recovery.ts): what damage of the log and of the checkpoints means. PURE: it looks at what was
 * found and touches no file.
 *
 * What a checkpoint covers is not missed. What is lost above it ends the log: with other voters this one is in doubt
 * from there and gets it from them; a voter that is alone is refused, because nobody else has it.
 */
import { LokiError } from '../errors.ts'
import type { DurableState, Entry, RecoveredLog, VolumeId } from '../vocabulary.ts'
import { logIndex } from '../vocabulary.ts'
import type { CheckpointInfo } from './checkpoint.ts'
import { doubtAbove } from './records.ts'
import { type ReplayedLog, dropBelow } from './recovery.ts'

type StopSign = Extract<Entry, { kind: 'stop-sign' }>

/**
 * What consensus may rely on. `volume` is this node's: where it votes alone nobody else has what is lost.
 * Throws `LOG_DAMAGED`, `LOG_DAMAGED_ALONE`, `CHECKPOINT_DAMAGED`.
 */
export function judge(
  log: ReplayedLog,
  checkpoint: CheckpointInfo | null,
  checkpointDamage: readonly string[],
  directory: string,
  volume: VolumeId,
): RecoveredLog {
  let { state, entries } = log
  const covered = checkpoint?.index ?? 0
  // Where no checkpoint reaches the log, the entries between are as lost as any that rot took.
  let first = Math.min(log.first, covered + 1)
  let { next } = log
  if (checkpoint !== null && (covered > state.decided || next <= covered)) {
    // A checkpoint that is durable although the log does not know it yet: what it covers is decided. The log may know
    // that much was decided and not have it, where rot took its end at an earlier start.
    state = { ...state, decided: logIndex(Math.max(state.decided, covered)) }
    first = covered + 1
    entries = dropBelow(entries, first)
    if (state.configuration === null || checkpoint.configuration.id > state.configuration.id) {
      state = { ...state, configuration: checkpoint.configuration, configurationStart: checkpoint.start }
      // What was accepted above it stays, it may have been chosen; but not what an earlier configuration accepted
      // (where it is known which one did).
      if (state.acceptedBallot.configuration < checkpoint.configuration.id && log.stateLostAt === null) {
        entries = []
        next = logIndex(first)
      }
    }
  }
  if (state.configurationStart === 0 && checkpoint?.configuration.id === state.configuration?.id) {
    // A node that has joined was told its configuration; the checkpoint knows where that began.
    state = { ...state, configurationStart: checkpoint?.start ?? state.configurationStart }
  }
  let gapFrom: number | null = null
  for (const gap of gapsOf(first, entries, next, log.lostTail)) {
    if (gap.from <= covered) first = Math.min(gap.to, covered) + 1
    if (gap.to > covered) gapFrom ??= Math.max(gap.from, covered + 1)
  }
  if (first > log.first) entries = dropBelow(entries, first)
  if (state.configuration === null && log.damage.length > 0) throw refusal(log, first, state, [], directory)
  const stop = startedBy(entries, state)
  // Nothing but a decided stop-sign has anything behind it.
  if (stop !== null && stop.index > state.decided) state = { ...state, decided: stop.index }
  const configuration = stop?.next ?? state.configuration
  const isAlone = configuration?.voters.every((voter) => voter.volume === volume) ?? true
  if (isAlone && gapFrom !== null) throw refusal(log, gapFrom, state, checkpointDamage, directory)
  // Who votes alone has promised to nobody but itself, and accepted what it holds.
  const isStateLost = !isAlone && log.stateLostAt !== null
  // The log is cut where the state is lost, and never below the checkpoint, which has what was decided there.
  if (isStateLost && log.stateLostAt <= covered) {
    first = covered + 1
    entries = dropBelow(entries, first)
  }
  const stateLostAt = isStateLost ? Math.max(log.stateLostAt, first) : null
  const cuts = [gapFrom, stateLostAt].filter((index) => index !== null)
  const doubts = [...cuts, doubtAbove(log.doubtfulFrom, first - 1)].filter((index) => index !== null)
  return {
    state,
    first: logIndex(first),
    entries: cuts.length === 0 ? entries : entries.filter((entry) => entry.index < Math.min(...cuts)),
    doubtfulFrom: doubts.length === 0 ? null : logIndex(Math.min(...doubts)),
    promiseLost: log.promiseLost || stateLostAt !== null,
  }
}

/** The stop-sign that began a configuration which the state does not know: the record of it is in what was lost. */
function startedBy(entries: readonly Entry[], state: DurableState): StopSign | null {
  const last = entries.at(-1)?.index ?? 0
  const stop = entries.findLast(
    (entry): entry is StopSign => entry.kind === 'stop-sign' && (entry.index <= state.decided || entry.index < last),
  )
  return stop !== undefined && stop.next.id > (state.configuration?.id ?? 0) ? stop : null
}

/** Why a node does not start with entries lost that nobody else has. */
function refusal(
  log: ReplayedLog,
  from: number,
  state: DurableState,
  checkpointDamage: readonly string[],
  directory: string,
): LokiError {
  const damage = log.damage[0]
  const decided = from <= state.decided ? `, up to ${state.decided} is decided` : ''
  const lost = `entries from ${from} on are lost${decided}`
  if (damage === undefined) {
    const why = checkpointDamage.length > 0 ? checkpointDamage.join('; ') : 'there is no checkpoint'
    return new LokiError('CHECKPOINT_DAMAGED', `${directory}: ${why}; ${lost}`)
  }
  const code = state.configuration === null ? 'LOG_DAMAGED' : 'LOG_DAMAGED_ALONE'
  return new LokiError(code, `${damage.path} at ${damage.offset}: ${damage.reason}; ${lost}`)
}

interface Gap {
  readonly from: number
  readonly to: number
}

/** Ranges of indices that the log had and rot took, in order. */
function gapsOf(first: number, entries: readonly Entry[], next: number, lostTail: boolean): Gap[] {
  const gaps: Gap[] = []
  let expected = first
  for (const entry of entries) {
    if (entry.index > expected) gaps.push({ from: expected, to: entry.index - 1 })
    expected = entry.index + 1
  }
  if (expected < next) gaps.push({ from: expected, to: next - 1 })
  if (lostTail) gaps.push({ from: Math.max(expected, next), to: Number.POSITIVE_INFINITY })
  return gaps
}
