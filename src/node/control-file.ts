/**
 * The control file: who this node is and whom it knows, as TOML on the WAL volume.
 *
 * It is seeded once (by the operator through the admin port, or by hand with `lokikv init`) and from then on
 * owned by the node, which replaces it atomically: written beside, synced, renamed, directory synced. Nothing
 * that safety rests on lives in it alone: the log and meta hold identity and configuration too, and a control
 * file that contradicts them refuses the start (CONTROL_FILE_INVALID, IDENTITY_CONFLICT).
 *
 * Field names are those that LokiKV users know.
 */
import { basename, dirname, join } from 'node:path'
import { TomlError, parse as parseToml, stringify as stringifyToml } from 'smol-toml'
import { LokiError } from '../errors.ts'
import type { Disk } from '../storage/disk.ts'
import { isHexId } from '../vocabulary.ts'

export interface ControlFile {
  readonly clusterId: string
  readonly selfIdentifier: number
  readonly volumeId: string
  readonly configurationId: number
  /** Node id of the leader as last seen; 0: none. A hint for people. */
  readonly currentLeaderValue: number
  readonly lastWalTimeline: number
  readonly lastCheckpointId: number
  readonly walDirectoryPath: string
  readonly checkpointDirectoryPath: string
  readonly peers: readonly ControlFilePeer[]
}

export interface ControlFilePeer {
  readonly identifier: number
  readonly address: string
  readonly role: 'voter' | 'learner'
}

type Table = Record<string, unknown>

function invalid(path: string, detail: string): never {
  throw new LokiError('CONTROL_FILE_INVALID', `${path}: ${detail}`)
}

/** Throws CONTROL_FILE_INVALID, which names the file and the line or the field. */
export function parseControlFile(text: string, path: string): ControlFile {
  const table = parseTable(text, path)
  const known = ['cluster_id', 'self_identifier', 'volume_id', 'configuration_id', 'current_leader_value']
  known.push('last_wal_timeline', 'last_checkpoint_id', 'wal_directory_path', 'checkpoint_directory_path', 'peers')
  const unknown = Object.keys(table).find((key) => !known.includes(key))
  if (unknown !== undefined) invalid(path, `unknown key '${unknown}'; known: ${known.join(', ')}`)
  const peers = table.peers ?? []
  if (!Array.isArray(peers)) invalid(path, 'peers: tables [[peers]] expected')
  return {
    clusterId: hexField(table, 'cluster_id', path),
    selfIdentifier: integerField(table, 'self_identifier', path, 1),
    volumeId: hexField(table, 'volume_id', path),
    configurationId: integerField(table, 'configuration_id', path, 0),
    currentLeaderValue: integerField(table, 'current_leader_value', path, 0),
    lastWalTimeline: integerField(table, 'last_wal_timeline', path, 0),
    lastCheckpointId: integerField(table, 'last_checkpoint_id', path, 0),
    walDirectoryPath: stringField(table, 'wal_directory_path', path),
    checkpointDirectoryPath: stringField(table, 'checkpoint_directory_path', path),
    peers: peers.map((peer: Table) => ({
      identifier: integerField(peer, 'identifier', path, 1),
      address: stringField(peer, 'address', path),
      role:
        peer.role === 'voter' || peer.role === 'learner' ? peer.role : invalid(path, 'role: voter or learner expected'),
    })),
  }
}

function parseTable(text: string, path: string): Table {
  try {
    return parseToml(text)
  } catch (error) {
    if (error instanceof TomlError) {
      invalid(path, `line ${error.line}, column ${error.column}: ${error.message.split('\n')[0]}`)
    }
    throw error
  }
}

function stringField(table: Table, key: string, path: string): string {
  const value = table[key]
  return typeof value === 'string' ? value : invalid(path, `${key}: a string expected`)
}

function hexField(table: Table, key: string, path: string): string {
  const value = stringField(table, key, path)
  return isHexId(value) ? value : invalid(path, `${key}: 32 hexadecimal digits expected`)
}

function integerField(table: Table, key: string, path: string, least: number): number {
  const value = table[key]
  if (Number.isSafeInteger(value) && (value as number) >= least) return value as number
  return invalid(path, `${key}: an integer from ${least} expected`)
}

export function renderControlFile(file: ControlFile): string {
  const body = stringifyToml({
    cluster_id: file.clusterId,
    self_identifier: file.selfIdentifier,
    volume_id: file.volumeId,
    configuration_id: file.configurationId,
    current_leader_value: file.currentLeaderValue,
    last_wal_timeline: file.lastWalTimeline,
    last_checkpoint_id: file.lastCheckpointId,
    wal_directory_path: file.walDirectoryPath,
    checkpoint_directory_path: file.checkpointDirectoryPath,
    peers: file.peers.map((peer) => ({ identifier: peer.identifier, address: peer.address, role: peer.role })),
  })
  return `# Written by the node; it replaces this file atomically. Edit it only while the node is stopped.\n${body}\n`
}

/** The control file at `path`, or null if there is none. */
export async function readControlFile(disk: Disk, path: string): Promise<ControlFile | null> {
  const present = await disk.list(dirname(path))
  if (!present?.includes(basename(path))) return null
  const file = await disk.open(path, 'read')
  try {
    const bytes = await file.read(0, await file.size())
    return parseControlFile(bytes.toString('utf8'), path)
  } finally {
    await file.close()
  }
}

/** Replaces the control file: a crash leaves the old one or the new one, whole. */
export async function replaceControlFile(disk: Disk, path: string, content: ControlFile): Promise<void> {
  const directory = dirname(path)
  const temporary = join(directory, `${basename(path)}.new`)
  const present = await disk.list(directory)
  if (present?.includes(basename(temporary))) await disk.unlink(temporary)
  const file = await disk.open(temporary, 'create')
  try {
    await file.write(Buffer.from(renderControlFile(content)), 0)
    await file.sync()
  } finally {
    await file.close()
  }
  await disk.rename(temporary, path)
  await disk.syncDirectory(directory)
}
