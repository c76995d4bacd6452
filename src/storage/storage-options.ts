/**
 * What a storage is opened with, and what it says of itself. Types only.
 */
import type { LokiError } from '../errors.ts'
import type { ClusterId, LogIndex, NodeId, Timeline, VolumeId } from '../vocabulary.ts'
import type { Disk } from './disk.ts'
import type { KeyRing } from './keys.ts'
import type { StartProgress } from './recovery.ts'
import type { SyncMode } from './sync-pace.ts'
import type { Compression } from './wal.ts'

export interface StorageOptions {
  readonly disk: Disk
  readonly walDirectory: string
  readonly checkpointDirectory: string
  readonly segmentBytes: number
  /** Whether segments that are no longer needed go to `archive/`; otherwise they are deleted. */
  readonly archive: boolean
  /** The newest segments that the archive keeps; older ones are deleted. All of them while the disk has room: absent. */
  readonly archiveSegments?: number
  /** Stamps an empty pair of volumes. */
  readonly random: () => VolumeId
  /** A write or sync of the log failed: the process must end. Nothing is acknowledged after it. */
  readonly onFatal: (error: LokiError) => void
  /** What the control file says; where the volume says otherwise the start is refused. */
  readonly expected?: { readonly cluster: ClusterId; readonly node: NodeId } | null
  /** From the control file; the new timeline is above it. */
  readonly lastTimeline?: Timeline
  readonly log?: (message: string, fields: object) => void
  /** Between two slices of background work on the disk; by default two milliseconds. */
  readonly pause?: () => Promise<void>
  /** Whether the log is written in line or by the thread pool; by default as measured (sync-pace.ts). */
  readonly sync?: 'auto' | SyncMode
  /** Of the log; none by default. */
  readonly compression?: Compression
  /** The keys that are here, and the one that seals what is written from now on; by default none. */
  readonly keys?: KeyRing
  /** How far the start is, now and then. */
  readonly progress?: (progress: StartProgress) => void
  /** How fast what lies still is verified again and again, and how long between two passes; absent: it is not. */
  readonly scrub?: { readonly bytesPerSecond: number; readonly restMilliseconds: number }
  /** How often the free space is looked at; 0: never. By default every second. */
  readonly spaceCheckMilliseconds?: number
}

export interface StorageStatus {
  /** The WAL volume is nearly full: propose nothing but deletes. Ends by itself when space returns. */
  readonly readOnly: boolean
  /** Free bytes of the WAL volume, as far as known. */
  readonly freeBytes: number
  readonly failed: boolean
  /** Written to the log since the start, and in how many frames. */
  readonly bytes: number
  readonly frames: number
  /** How the log is written at the moment, and the average time of a sync in line (null: not measured). */
  readonly sync: SyncMode
  readonly syncMilliseconds: number | null
  readonly segments: number
  readonly timeline: Timeline
  readonly first: LogIndex
  readonly last: LogIndex
  readonly lastError: string | null
  readonly rot: RotStatus
}

/** What was found rotten since the start, the start included, and what of it is not repaired yet. */
export interface RotStatus {
  readonly found: number
  readonly last: string | null
  /** A rotten file is still part of what the node rests on. */
  readonly open: boolean
  readonly verifiedBytes: number
  readonly passes: number
}
