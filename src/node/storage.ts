/**
 * Opens the volumes of a node as its configuration and its control file say, and tells how far that is: a log line
 * now and then, and what probes and status show. Errors: coded ones, those of storage and CONTROL_FILE_INVALID.
 */
import { randomBytes } from 'node:crypto'
import { type Config, LIMITS } from '../config.ts'
import type { StartProgressJson } from '../contract.ts'
import { readControlFile } from './control-file.ts'
import { LokiError } from '../errors.ts'
import type { Disk } from '../storage/disk.ts'
import { KeyRing } from '../storage/keys.ts'
import { type Storage, openStorage } from '../storage/storage.ts'
import { clusterId, nodeId, timeline, volumeId } from '../vocabulary.ts'

type Log = (message: string, fields: Record<string, unknown>) => void

const LOG_EVERY_MILLISECONDS = 1000

/** How far the start of a node is. */
export class StartWatch {
  readonly #log: Log
  readonly #now: () => number
  #loggedAt: number
  /** Null before there is something to tell, and when it is over. */
  current: StartProgressJson | null = null

  constructor(log: Log, now: () => number = () => performance.now()) {
    this.#log = log
    this.#now = now
    this.#loggedAt = now()
  }

  readonly report = (progress: StartProgressJson): void => {
    this.current = progress
    if (this.#now() - this.#loggedAt < LOG_EVERY_MILLISECONDS) return
    this.#loggedAt = this.#now()
    this.#log('starting', { ...progress })
  }

  over(): void {
    this.current = null
  }
}

export async function openNodeStorage(
  config: Config,
  disk: Disk,
  log: Log,
  fatal: (error: LokiError) => void,
  watch: StartWatch,
): Promise<Storage> {
  const file = await readControlFile(disk, config.controlFile)
  const { walSegmentBytes, walCompression, encryptionKeyId } = config.settings
  const storage = await openStorage({
    disk,
    walDirectory: config.walDirectory,
    checkpointDirectory: config.checkpointDirectory,
    segmentBytes: walSegmentBytes,
    compression: walCompression,
    keys: new KeyRing(config.keysDirectory, encryptionKeyId === '' ? null : encryptionKeyId),
    archive: true,
    archiveSegments: LIMITS.archiveSegments,
    scrub: { bytesPerSecond: LIMITS.scrubBytesPerSecond, restMilliseconds: LIMITS.scrubRestMilliseconds },
    random: () => volumeId(randomBytes(16).toString('hex')),
    onFatal: fatal,
    expected: file && { cluster: clusterId(file.clusterId), node: nodeId(file.selfIdentifier) },
    ...(file ? { lastTimeline: timeline(file.lastWalTimeline) } : {}),
    log: (message, fields) => log(message, fields as Record<string, unknown>),
    progress: watch.report,
  })
  if (file && storage.identity && file.volumeId !== storage.volume) {
    await storage.close()
    throw new LokiError(
      'VOLUME_MISMATCH',
      `${config.controlFile} is of volume ${file.volumeId}, ${config.walDirectory} is volume ${storage.volume}`,
    )
  }
  return storage
}
