/**
 * `lokikv fsck <folder> [<checkpoint folder>]`: verifies stamps, meta, log and checkpoints of a node
 * that does not run, and says what its next start would make of them. Reads only.
 *
 * `<folder>` has `wal` and `checkpoints` in it, or is the WAL volume and the second folder the other one.
 * Exit code: 0 everything is whole, 1 there is damage and the node would start, 2 its start would be refused,
 * 64 wrong use. With each finding comes what would repair it (`Repair`).
 */
import { LokiError, explain } from '../errors.ts'
import { type RecoveredLog, logIndex } from '../vocabulary.ts'
import { readSlices } from './checkpoint.ts'
import type { Disk } from './disk.ts'
import { type KeyRing, NO_KEYS } from './keys.ts'
import { loadMeta } from './meta.ts'
import { RealDisk } from './real-disk.ts'
import { judge } from './judgement.ts'
import { type Damage, goodCheckpoints, replayLog } from './recovery.ts'
import { inspectVolumes } from './stamp.ts'
import { green, keysOf, parseArguments, red, runTool, volumeIn } from './tool.ts'
import { showState } from './waldump.ts'

const USAGE = `usage: lokikv fsck <folder> [<checkpoint folder>] [--json] [--keys <folder>]

Verifies stamps, meta, log and checkpoints of a node that does not run, and says what its next start would make of
them. Reads only.

  <folder>         has 'wal' and 'checkpoints' in it, or is the WAL volume and the second folder the other one
  --keys <folder>  the keys of volumes that are encrypted (by default LOKIKV_KEYS_DIRECTORY)
  --json           one JSON object a line

Exit code: 0 everything is whole, 1 there is damage and the node would start, 2 its start would be refused, 64 for
wrong use.
`

/**
 * - `cut`: the start leaves it out; it was never acknowledged.
 * - `rewritten`: the start writes it again, nothing is lost.
 * - `covered`: a checkpoint, or a later part of the log, has what was lost.
 * - `peer`: the start leaves it out, and the leader sends it again.
 * - `person`: the start is refused.
 */
export type Repair = 'cut' | 'rewritten' | 'covered' | 'peer' | 'person'

export interface Finding {
  /** `damage`: the node starts in spite of it; `refused`: it does not. */
  readonly level: 'good' | 'damage' | 'refused'
  readonly text: string
  readonly repair?: Repair
}

const REPAIRS: Readonly<Record<Repair, string>> = {
  cut: 'a torn write, never acknowledged; a start leaves it out',
  rewritten: 'a start writes it again, nothing is lost',
  covered: 'nothing is lost by it: what was there is covered, or here again',
  peer: 'a start leaves it out, and the leader sends it again',
  person: '',
}

/** Everything there is to say about a pair of volumes. Throws nothing that the volumes can cause. */
export async function check(
  disk: Disk,
  walDirectory: string,
  checkpointDirectory: string,
  keys: KeyRing = NO_KEYS,
): Promise<Finding[]> {
  const findings: Finding[] = []
  try {
    await checkAll(disk, walDirectory, checkpointDirectory, findings, keys)
  } catch (error) {
    if (!(error instanceof LokiError)) throw error
    findings.push({ level: 'refused', text: explain(error), repair: 'person' })
  }
  return findings
}

async function checkAll(
  disk: Disk,
  walDirectory: string,
  checkpointDirectory: string,
  findings: Finding[],
  keys: KeyRing,
): Promise<void> {
  const good = (text: string): unknown => findings.push({ level: 'good', text })
  const damage = (text: string, repair: Repair): unknown =>
    findings.push({ level: 'damage', text: `${text}; ${REPAIRS[repair]}`, repair })
  let empty = false
  const unused = (): never => {
    empty = true
    throw new LokiError('NO_IDENTITY', `${walDirectory} is an empty volume`)
  }
  const volumes = await inspectVolumes(disk, walDirectory, checkpointDirectory, unused).catch((error: unknown) => {
    if (empty) return null
    throw error
  })
  if (volumes === null) {
    good(`${walDirectory} is an empty volume: a start would stamp it`)
    return
  }
  good(`stamps: volume ${volumes.volume}`)
  const meta = await loadMeta(disk, walDirectory, volumes.volume)
  if (meta === null) good('meta: none yet, the first start did not finish')
  else if (meta.lame === 'damaged') damage('meta: one of the two slots is damaged', 'rewritten')
  else good(`meta: first index ${meta.content.first}, node ${meta.content.identity?.node ?? 'without identity'}`)
  const checkpoints = volumes.fresh ? { good: [], damage: [] } : await goodCheckpoints(disk, checkpointDirectory, keys)
  for (const info of checkpoints.good) {
    for await (const _ of readSlices(disk, checkpointDirectory, info));
    good(
      `checkpoint ${info.index}: ${info.chunks.length} chunks, ${info.storedBytes} bytes stored, ${info.bytes} in all`,
    )
  }
  const { first, timeline, identity } = meta?.content ?? { first: logIndex(1), timeline: 0, identity: null }
  const options = { keys, whole: true, newest: timeline, mustExist: identity !== null }
  const log = await replayLog(disk, walDirectory, first, volumes.volume, options)
  for (const { path, reason } of log.damagedIndices) damage(`${path}: ${reason}`, 'rewritten')
  const show = ({ path, offset, reason }: Damage): string => `${path} at ${offset}: ${reason}`
  for (const rot of log.healed) damage(show(rot), 'covered')
  const newest = checkpoints.good.at(-1) ?? null
  const recovered = tryJudge(() => judge(log, newest, checkpoints.damage, walDirectory, volumes.volume))
  const from = recovered instanceof LokiError ? 0 : (recovered.doubtfulFrom ?? Infinity)
  const isLost = (newest?.index ?? 0) + 1 >= from
  const repairOf = (isGone: boolean): Repair =>
    recovered instanceof LokiError ? 'person' : isGone ? 'peer' : 'covered'
  for (const text of checkpoints.damage) damage(text, repairOf(isLost))
  for (const rot of log.damage) damage(show(rot), repairOf(rot.index >= from))
  if (log.torn !== null) findings.push({ level: 'good', text: `${show(log.torn)}; ${REPAIRS.cut}`, repair: 'cut' })
  if (recovered instanceof LokiError) throw recovered
  if (recovered.doubtfulFrom !== null) damage(`entries from ${recovered.doubtfulFrom} on are doubtful`, 'peer')
  const last = recovered.entries.at(-1)?.index ?? recovered.first - 1
  good(`log: ${log.segments.length} segments, entries ${recovered.first} to ${last}; ${showState(recovered.state)}`)
}

function tryJudge(act: () => RecoveredLog): RecoveredLog | LokiError {
  try {
    return act()
  } catch (error) {
    if (error instanceof LokiError) return error
    throw error
  }
}

/** The command line tool; gives the exit code. */
export function fsck(argv: readonly string[]): Promise<number> {
  return runTool(argv, USAGE, async () => {
    const given = parseArguments(argv, ['--json'], ['--keys'])
    const { folders } = given
    if (folders.length < 1 || folders.length > 2) throw new LokiError('TOOL_USAGE', 'one or two folders expected')
    const disk = new RealDisk()
    const wal = await volumeIn(disk, folders[0]!, 'wal')
    const checkpoints = await volumeIn(disk, folders[1] ?? folders[0]!, 'checkpoints')
    if (checkpoints === wal) {
      const message = `there is no wal and checkpoints in ${wal}; name both volumes: lokikv fsck <wal> <checkpoints>`
      throw new LokiError('TOOL_USAGE', message)
    }
    const findings = await check(disk, wal, checkpoints, keysOf(given) ?? NO_KEYS)
    const marks = { good: green('good   '), damage: red('damage '), refused: red('refused') }
    for (const finding of findings) {
      const line = `${marks[finding.level]}  ${finding.text}`
      process.stdout.write(`${given.flags.has('--json') ? JSON.stringify(finding) : line}\n`)
    }
    if (findings.some(({ level }) => level === 'refused')) return 2
    return findings.some(({ level }) => level === 'damage') ? 1 : 0
  })
}
