/**
 * `lokikv checkpoint inspect <folder>`: what is in the checkpoints of a node, and whether they are whole: manifest,
 * sizes, and, read through to the end, how many keys of which type each collection has. Reads only.
 */
import { ByteReader } from '../bytes.ts'
import { LokiError } from '../errors.ts'
import { SECTION_BUCKET, SECTION_COLLECTION, SECTION_HEADER, readHeader } from '../machine/checkpoint.ts'
import { readRecord } from '../machine/records.ts'
import { emptyState } from '../machine/state.ts'
import { type CheckpointInfo, isCheckpointName, readSlices, verifyCheckpoint } from '../storage/checkpoint.ts'
import type { Disk } from '../storage/disk.ts'
import { NO_KEYS, type KeyRing } from '../storage/keys.ts'
import { RealDisk } from '../storage/real-disk.ts'
import { bold, green, keysOf, parseArguments, red, runTool, volumeIn } from '../storage/tool.ts'

const USAGE = `usage: lokikv checkpoint inspect <folder> [--json] [--keys <folder>]

Shows the checkpoints in a folder, oldest first, and verifies them to the last byte. Reads only.

  <folder>         the checkpoint volume, or a folder with 'checkpoints' in it
  --keys <folder>  the keys of checkpoints that are encrypted (by default LOKIKV_KEYS_DIRECTORY)
  --json           one JSON object a line

Exit code: 0, 1 where a checkpoint is damaged or cannot be opened, 64 for wrong use.
`

interface CollectionCount {
  keys: number
  /** Bytes of the records, as they are in the checkpoint. */
  bytes: number
  readonly types: Record<string, number>
}

/** What the slices of a checkpoint amount to. */
class Contents {
  /** What the header says; nothing is loaded into it. */
  readonly state = emptyState()
  readonly collections: Record<string, CollectionCount> = {}

  /** A slice has whole sections. Throws `FRAME_MALFORMED`. */
  add(slice: Buffer): void {
    const reader = new ByteReader(slice)
    while (reader.remaining > 0) {
      const kind = reader.uint8()
      if (kind === SECTION_HEADER) readHeader(reader, this.state)
      else if (kind === SECTION_COLLECTION) {
        this.#collection(reader.string())
        reader.uint()
      } else if (kind === SECTION_BUCKET) this.#bucket(reader)
      else {
        reader.uint()
        reader.uint()
      }
    }
  }

  #collection(name: string): CollectionCount {
    return (this.collections[name] ??= { keys: 0, bytes: 0, types: {} })
  }

  #bucket(reader: ByteReader): void {
    const count = this.#collection(reader.string())
    reader.uint()
    reader.uint()
    for (let left = reader.uint(); left > 0; left--) {
      const from = reader.offset
      const { record } = readRecord(reader)
      count.keys++
      count.bytes += reader.offset - from
      count.types[record.kind] = (count.types[record.kind] ?? 0) + 1
    }
  }
}

/** One line of `--json`. */
export type Inspection =
  | {
      readonly id: string
      readonly whole: true
      readonly index: number
      readonly cluster: string | null
      readonly configuration: { readonly id: number; readonly start: number; readonly voters: readonly number[] }
      readonly key: string | null
      readonly chunks: number
      readonly slices: number
      readonly bytes: number
      readonly storedBytes: number
      readonly hash: string
      readonly applied: number
      readonly commands: number
      readonly sessions: number
      readonly members: readonly number[]
      readonly collections: Readonly<Record<string, CollectionCount>>
    }
  | { readonly id: string; readonly whole: false; readonly reason: string }

/** The checkpoints in `directory`, oldest first. Throws nothing that they can cause. */
export async function* inspect(disk: Disk, directory: string, keys: KeyRing): AsyncGenerator<Inspection, void> {
  for (const id of ((await disk.list(directory)) ?? []).filter(isCheckpointName)) {
    try {
      const info = await verifyCheckpoint(disk, directory, id, keys)
      const contents = new Contents()
      for await (const slice of readSlices(disk, directory, info)) contents.add(slice)
      yield shown(info, contents)
    } catch (error) {
      if (!(error instanceof LokiError)) throw error
      yield { id, whole: false, reason: error.message }
    }
  }
}

function shown(info: CheckpointInfo, { state, collections }: Contents): Inspection {
  const { id, index, cluster, configuration, start, chunks, slices, bytes, storedBytes, hash, cipher } = info
  const voters = configuration.voters.map((voter) => voter.id)
  return {
    id,
    whole: true,
    index,
    cluster,
    configuration: { id: configuration.id, start, voters },
    key: cipher?.need.keyId ?? null,
    chunks: chunks.length,
    slices,
    bytes,
    storedBytes,
    hash,
    applied: state.applied,
    commands: state.store.version,
    sessions: state.sessions.size,
    members: [...state.members],
    collections,
  }
}

function render(line: Inspection): string {
  if (!line.whole) return `${bold(line.id)}  ${red('not whole')}\n  ${line.reason}\n`
  const { configuration, collections } = line
  const ratio = line.bytes === 0 ? '' : ` (${((100 * line.storedBytes) / line.bytes).toFixed(1)} %)`
  const lines = [
    `${bold(line.id)}  ${green('whole')}`,
    `  up to ${line.index}, cluster ${line.cluster ?? 'none'}, configuration ${configuration.id} from ${configuration.start}, voters ${configuration.voters.join(' ')}`,
    `  ${line.bytes} bytes in ${line.slices} slices, stored as ${line.storedBytes}${ratio} in ${line.chunks} chunks, ${line.key === null ? 'not encrypted' : `key ${line.key}`}`,
    `  ${line.commands} commands applied, ${line.sessions} sessions, members ${line.members.join(' ')}`,
  ]
  for (const [name, { keys, bytes, types }] of Object.entries(collections)) {
    const kinds = Object.entries(types).map(([type, count]) => `${count} ${type}`)
    lines.push(`  collection '${name}': ${keys} keys, ${bytes} bytes: ${kinds.join(', ') || 'empty'}`)
  }
  return `${lines.join('\n')}\n`
}

/** The command line tool, behind `lokikv checkpoint`. Gives the exit code. */
export function checkpointTool(argv: readonly string[]): Promise<number> {
  return runTool(argv, USAGE, async () => {
    const given = parseArguments(argv, ['--json'], ['--keys'])
    const [verb, folder] = given.folders
    if (verb !== 'inspect' || folder === undefined || given.folders.length > 2) {
      throw new LokiError('TOOL_USAGE', "'inspect' and one folder expected")
    }
    const disk = new RealDisk()
    let code = 0
    let count = 0
    for await (const line of inspect(disk, await volumeIn(disk, folder, 'checkpoints'), keysOf(given) ?? NO_KEYS)) {
      count++
      if (!line.whole) code = 1
      process.stdout.write(given.flags.has('--json') ? `${JSON.stringify(line)}\n` : render(line))
    }
    if (count === 0 && !given.flags.has('--json')) process.stdout.write('there is no checkpoint\n')
    return code
  })
}
