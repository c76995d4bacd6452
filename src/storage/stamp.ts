/**
 * Volume stamps: the file `stamp` in both volumes of a node, with the same random id, so that a foreign or
 * swapped volume is noticed before anything is read from it or written to it.
 *
 *   lokikv volume 1 <wal|checkpoints> <volume id, 32 hexadecimal digits> <CRC-32 of all before, 8 digits>\n
 *
 * An empty WAL volume always gets a new id, whatever the checkpoint volume says: a node that lost its log must
 * not vote under its old id. The checkpoints it finds there belong to that old id and are moved to
 * `aside-<old id>`, not deleted. Order of a first start: WAL stamp, checkpoint stamp, meta. So a WAL volume
 * with a stamp, no meta and no log is a first start that was cut short, and is gone on with.
 */
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { LokiError } from '../errors.ts'
import { type VolumeId, isHexId, volumeId } from '../vocabulary.ts'
import { type Disk, publishFile, readWhole } from './disk.ts'
import { META_FILE } from './meta.ts'
import { segmentsAmong } from './segment.ts'

export const STAMP_FILE = 'stamp'
type Role = 'wal' | 'checkpoints'

export function encodeStamp(role: Role, volume: VolumeId): Buffer {
  const text = `lokikv volume 1 ${role} ${volume} `
  return Buffer.from(`${text}${crc32(text).toString(16).padStart(8, '0')}\n`, 'latin1')
}

/** Throws `VOLUME_MISMATCH` with the path in the message. */
export function decodeStamp(bytes: Buffer, role: Role, path: string): VolumeId {
  const match = /^(lokikv volume (\d+) (wal|checkpoints) ([0-9a-f]{32}) )([0-9a-f]{8})\n$/.exec(
    bytes.toString('latin1'),
  )
  if (match === null || crc32(match[1]!) !== Number.parseInt(match[5]!, 16)) {
    throw new LokiError('VOLUME_MISMATCH', `${path} is damaged`)
  }
  if (match[2] !== '1') throw new LokiError('FORMAT_TOO_NEW', `${path} has format ${match[2]}, this version knows 1`)
  if (match[3] !== role) {
    throw new LokiError('VOLUME_MISMATCH', `${path} stamps a volume for ${match[3]}, and ${role} is expected`)
  }
  return volumeId(match[4]!)
}

export interface Volumes {
  readonly volume: VolumeId
  /** A first start: there is no meta, no log, and what the checkpoint volume has is not of this volume id. */
  readonly fresh: boolean
  /** What must be written before the start goes on. Nothing was written so far. */
  readonly stamp: () => Promise<void>
}

/** Looks at both volumes and refuses, with `VOLUME_MISMATCH`, what does not belong together. Writes nothing. */
export async function inspectVolumes(
  disk: Disk,
  walDirectory: string,
  checkpointDirectory: string,
  random: () => VolumeId,
): Promise<Volumes> {
  const walNames = (await disk.list(walDirectory)) ?? []
  const checkpointNames = (await disk.list(checkpointDirectory)) ?? []
  const walStamp = await readStamp(disk, walDirectory, 'wal')
  const checkpointStamp = await readStamp(disk, checkpointDirectory, 'checkpoints')
  const hasMeta = walNames.includes(META_FILE)
  if (walStamp !== null && !hasMeta && segmentsAmong(walNames).length > 0) {
    throw new LokiError('META_DAMAGED', `${walDirectory} has a log and no file '${META_FILE}'`)
  }
  if (walStamp === null) {
    if (hasMeta || segmentsAmong(walNames).length > 0) {
      throw new LokiError('VOLUME_MISMATCH', `${walDirectory} has a log and no file '${STAMP_FILE}'`)
    }
    const volume = random()
    if (!isHexId(volume)) throw new LokiError('VOLUME_MISMATCH', `'${volume}' is no volume id`)
    return {
      volume,
      fresh: true,
      stamp: async () => {
        await makeVolume(disk, walDirectory)
        await makeVolume(disk, checkpointDirectory)
        if (checkpointStamp !== null) await moveAside(disk, checkpointDirectory, checkpointNames, checkpointStamp)
        await publishFile(disk, walDirectory, STAMP_FILE, encodeStamp('wal', volume))
        await publishFile(disk, checkpointDirectory, STAMP_FILE, encodeStamp('checkpoints', volume))
      },
    }
  }
  if (checkpointStamp === null) {
    if (hasMeta) {
      throw new LokiError(
        'VOLUME_MISMATCH',
        `${walDirectory} is stamped ${walStamp}, and ${checkpointDirectory} has no file '${STAMP_FILE}'`,
      )
    }
    return {
      volume: walStamp,
      fresh: true,
      stamp: async () => {
        await makeVolume(disk, checkpointDirectory)
        await publishFile(disk, checkpointDirectory, STAMP_FILE, encodeStamp('checkpoints', walStamp))
      },
    }
  }
  if (walStamp !== checkpointStamp) {
    throw new LokiError(
      'VOLUME_MISMATCH',
      `${walDirectory} is stamped ${walStamp}, and ${checkpointDirectory} is stamped ${checkpointStamp}`,
    )
  }
  return { volume: walStamp, fresh: !hasMeta, stamp: () => Promise.resolve() }
}

/**
 * Its name is durable when it returns, also where a process that was killed has made it and did not come to that. What
 * is above it may belong to somebody else, who has made it, or mounted it there, and lets nobody read.
 */
async function makeVolume(disk: Disk, directory: string): Promise<void> {
  await disk.makeDirectory(directory)
  await disk.syncDirectory(dirname(directory)).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
  })
}

async function readStamp(disk: Disk, directory: string, role: Role): Promise<VolumeId | null> {
  const path = `${directory}/${STAMP_FILE}`
  const bytes = await readWhole(disk, path)
  return bytes === null ? null : decodeStamp(bytes, role, path)
}

/** The stamp goes last: a crash on the way leaves the volume foreign, and the next start goes on. */
async function moveAside(disk: Disk, directory: string, names: readonly string[], old: VolumeId): Promise<void> {
  const aside = `${directory}/aside-${old}`
  await disk.makeDirectory(aside)
  const ours = names.filter((name) => /^\d{16}$/.test(name) || name.startsWith('receiving-'))
  for (const name of [...ours, STAMP_FILE]) {
    await disk.rename(`${directory}/${name}`, `${aside}/${name}`)
    await disk.syncDirectory(aside)
    await disk.syncDirectory(directory)
  }
}
