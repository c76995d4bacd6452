/**
 * Metrics of a node for Prometheus (prom-client). Values are read when they are asked for, so that the hot
 * path counts with plain numbers.
 */
import { Gauge, Registry, collectDefaultMetrics } from 'prom-client'

/** What the node counts; read at every scrape. Counters only rise. */
export interface NodeFigures {
  readonly decidedIndex: number
  readonly appliedIndex: number
  readonly leader: boolean
  readonly leaseHeld: boolean
  readonly ready: boolean
  readonly keys: number
  readonly usedMemoryBytes: number
  readonly connectedClients: number
  readonly commandsProcessed: number
  readonly outstandingCommands: number
  readonly incomingCommandBytes: number
  readonly unsentReplyBytes: number
  readonly slowClients: number
  readonly leaderChanges: number
  readonly checkpointIndex: number
  readonly walBytes: number
  readonly walSegments: number
  readonly walFrames: number
  readonly walSyncInline: boolean
  readonly walSyncSeconds: number
  readonly readOnly: boolean
  readonly rotFound: number
  readonly rotOpen: boolean
  readonly scrubbedBytes: number
  readonly checkpointFailures: number
  readonly migrationSentBytes: number
  readonly migrationReceivedBytes: number
}

const HELP: Readonly<Record<keyof NodeFigures, readonly [name: string, help: string]>> = {
  decidedIndex: ['lokikv_decided_index', 'Index of the last entry known decided'],
  appliedIndex: ['lokikv_applied_index', 'Index of the last entry applied'],
  leader: ['lokikv_leader', '1 on the node that leads'],
  leaseHeld: ['lokikv_lease_held', '1 on a leader that answers reads alone at the moment'],
  ready: ['lokikv_ready', '1 while the node is ready'],
  keys: ['lokikv_keys', 'Keys in all collections'],
  usedMemoryBytes: ['lokikv_used_memory_bytes', 'Bytes of keys and values with their overhead'],
  connectedClients: ['lokikv_connected_clients', 'Connections on the Redis port'],
  commandsProcessed: ['lokikv_commands_total', 'Commands answered on the Redis port'],
  outstandingCommands: ['lokikv_outstanding_commands', 'Commands taken in and not yet answered'],
  incomingCommandBytes: [
    'lokikv_incoming_command_bytes',
    'Bytes of long commands on the Redis port that are not whole',
  ],
  unsentReplyBytes: ['lokikv_unsent_reply_bytes', 'Bytes of replies that clients on the Redis port have not taken'],
  slowClients: ['lokikv_slow_clients_total', 'Clients cut off since the start because they did not take their replies'],
  leaderChanges: ['lokikv_leader_changes_total', 'Changes of leader seen since the start'],
  checkpointIndex: ['lokikv_checkpoint_index', 'Index of the newest durable checkpoint'],
  walBytes: ['lokikv_wal_bytes', 'Bytes of the write-ahead log on disk'],
  walSegments: ['lokikv_wal_segments', 'Segments of the write-ahead log on disk'],
  walFrames: ['lokikv_wal_frames_total', 'Frames of the write-ahead log made durable since the start, one sync each'],
  walSyncInline: ['lokikv_wal_sync_inline', '1 while the disk is so quick that a write waits for it in line'],
  walSyncSeconds: ['lokikv_wal_sync_seconds', 'Running average of what the disk takes for a write in line'],
  rotFound: ['lokikv_rot_found_total', 'Files found rotten since the start of the process, the start included'],
  rotOpen: ['lokikv_rot_open', '1 while something that rot took is not replaced yet'],
  scrubbedBytes: ['lokikv_scrubbed_bytes_total', 'Bytes on the disk that were read and compared with their checksums'],
  checkpointFailures: ['lokikv_checkpoint_failures_total', 'Checkpoints that could not be written since the start'],
  migrationSentBytes: [
    'lokikv_migration_sent_bytes_total',
    'Bytes of log and checkpoints sent to nodes that catch up since the start; compare it between leader and others',
  ],
  migrationReceivedBytes: [
    'lokikv_migration_received_bytes_total',
    'Bytes of log and checkpoints received to catch up since the start',
  ],
  readOnly: ['lokikv_read_only', '1 while a full disk keeps the node from taking writes'],
}

export function createMetrics(figures: () => NodeFigures): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const [key, [name, help]] of Object.entries(HELP) as [keyof NodeFigures, readonly [string, string]][]) {
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [registry],
      collect: () => gauge.set(Number(figures()[key])),
    })
  }
  return registry
}
