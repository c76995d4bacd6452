/** The whole replicated state, as plain data: what entries change and checkpoints carry. PURE. */
import { type LogIndex, type VolumeId, logIndex } from '../vocabulary.ts'
import type { Sessions } from './sessions.ts'
import { Store } from './store.ts'

export interface MachineState {
  readonly store: Store
  applied: LogIndex
  /** The limit in force, 0 for none: set by the log, so that every replica refuses the same commands. */
  maxMemoryBytes: number
  /** Node id of every volume that ever had one. */
  ids: Map<VolumeId, number>
  /** Largest id that was ever given. */
  lastId: number
  /** Node ids of the newest configuration. */
  members: Set<number>
  /** Newest configuration whose members came by the log. */
  adoptedConfigurationId: number
  sessions: Sessions
}

export function emptyState(): MachineState {
  return {
    store: new Store(),
    applied: logIndex(0),
    maxMemoryBytes: 0,
    ids: new Map(),
    lastId: 0,
    members: new Set(),
    adoptedConfigurationId: 0,
    sessions: new Map(),
  }
}
