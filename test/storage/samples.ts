/** What the tests of the storage share: entries, configurations, options on a disk. */
import type { Disk } from '../../src/storage/disk.ts'
import type { StorageOptions } from '../../src/storage/storage.ts'
import type { Ballot, Configuration, Entry, LogRecord } from '../../src/vocabulary.ts'
import { clusterId, configurationId, logIndex, nodeId, volumeId } from '../../src/vocabulary.ts'

export const CLUSTER = clusterId('c'.repeat(32))
export const VOLUME = volumeId('a'.repeat(32))

export function configuration(id: number, voters: number): Configuration {
  const members = Array.from({ length: voters }, (_, at) => ({
    id: nodeId(at + 1),
    volume: volumeId(
      String(at + 1)
        .repeat(32)
        .slice(0, 32),
    ),
    address: `node-${at + 1}:7400`,
  }))
  return { id: configurationId(id), voters: members, learners: [], preferredLeader: nodeId(0) }
}

export const ballot = (n: number, node = 1): Ballot => ({
  configuration: configurationId(1),
  n,
  priority: 0,
  node: nodeId(node),
})

export const entry = (index: number, payload: string | Buffer = `payload ${index}`): Entry => ({
  kind: 'commands',
  index: logIndex(index),
  payload: Buffer.from(payload),
})

/** Entries `from` to `to`, inclusive. */
export const entries = (from: number, to: number, tag = ''): Entry[] =>
  Array.from({ length: to - from + 1 }, (_, at) => entry(from + at, `payload ${from + at}${tag}`))

export const appended = (from: number, to: number, tag = ''): LogRecord => ({
  kind: 'entries',
  entries: entries(from, to, tag),
})
export const promised = (n: number): LogRecord => ({ kind: 'promise', ballot: ballot(n) })
export const decided = (index: number): LogRecord => ({ kind: 'decided', index: logIndex(index) })
export const genesis = (voters: number): LogRecord => ({
  kind: 'configuration',
  configuration: configuration(1, voters),
  start: logIndex(0),
})
export const acceptSync = (n: number, base: number, to: number, tag = ''): LogRecord => ({
  kind: 'accept-sync',
  ballot: ballot(n),
  base: logIndex(base),
  entries: entries(base, to, tag),
})
export const installed = (index: number, voters = 3): LogRecord => ({
  kind: 'installed',
  index: logIndex(index),
  configuration: configuration(1, voters),
  start: logIndex(0),
})

export function options(disk: Disk, folder: string, change: Partial<StorageOptions> = {}): StorageOptions {
  return {
    disk,
    walDirectory: `${folder}/wal`,
    checkpointDirectory: `${folder}/checkpoints`,
    segmentBytes: 1024 * 1024,
    archive: false,
    random: () => VOLUME,
    onFatal: (error) => {
      throw error
    },
    pause: () => Promise.resolve(),
    spaceCheckMilliseconds: 0,
    ...change,
  }
}

/** Writes and waits until it is durable. */
export const written = (
  storage: { write(records: readonly LogRecord[], done: () => void): void },
  ...records: LogRecord[]
): Promise<void> => new Promise((resolve) => storage.write(records, resolve))

/** `index:payload` of every entry, short enough to read in a failure. */
export const shown = (log: { readonly entries: readonly Entry[] }): string[] =>
  log.entries.map((each) =>
    each.kind === 'commands' ? `${each.index}:${Buffer.from(each.payload).toString()}` : `${each.index}:stop-sign`,
  )
