/** What a start clears away. */
import type { CheckpointInfo } from './checkpoint.ts'
import type { StorageOptions } from './storage-options.ts'

/** Temporary files of a start or a writer that was cut short. */
export async function removeLeftovers(options: StorageOptions, newest: CheckpointInfo | null): Promise<void> {
  const { disk, walDirectory, checkpointDirectory } = options
  for (const name of (await disk.list(walDirectory)) ?? []) {
    if (name === 'next.tmp' || name === 'meta.tmp' || name.endsWith('.wal.tmp')) {
      await disk.unlink(`${walDirectory}/${name}`)
    }
  }
  for (const name of (await disk.list(checkpointDirectory)) ?? []) {
    const receiving = /^receiving-(\d{16})$/.exec(name)
    const stale = receiving !== null && Number(receiving[1]) <= (newest?.index ?? 0)
    if (name === 'writing' || name.startsWith('removing-') || stale)
      await disk.removeDirectory(`${checkpointDirectory}/${name}`)
  }
}
