/**
 * Gives the volumes of a removed node back: everything in them is moved into `removed/` beside it, so that the
 * next start finds them empty, stamps them anew and waits. One generation is kept; the one before is deleted.
 *
 * Crash-safe: the marker `reset` on the WAL volume is durable before the first file moves and goes last;
 * a start that finds it goes on where the crash was (`finishReset`).
 */
import { join } from 'node:path'
import type { Disk } from './disk.ts'

const MARKER = 'reset'
const ASIDE = 'removed'
const LEFT_ALONE = new Set([MARKER, ASIDE, 'lost+found'])

/** Nothing may have the volumes open. */
export async function moveAside(disk: Disk, walDirectory: string, checkpointDirectory: string): Promise<void> {
  for (const directory of [walDirectory, checkpointDirectory]) {
    await disk.removeDirectory(join(directory, ASIDE))
    // Gone before the marker is there: a generation that came back would be in the way of the next one, at every start.
    await disk.syncDirectory(directory)
  }
  const marker = await disk.open(join(walDirectory, MARKER), 'create')
  await marker.sync()
  await marker.close()
  await disk.syncDirectory(walDirectory)
  await finishReset(disk, walDirectory, checkpointDirectory)
}

/** At every start, before anything is read: finishes a reset that a crash interrupted. */
export async function finishReset(disk: Disk, walDirectory: string, checkpointDirectory: string): Promise<void> {
  const present = await disk.list(walDirectory)
  if (!present?.includes(MARKER)) return
  for (const directory of [checkpointDirectory, walDirectory]) await moveContents(disk, directory)
  await disk.unlink(join(walDirectory, MARKER))
  await disk.syncDirectory(walDirectory)
}

async function moveContents(disk: Disk, directory: string): Promise<void> {
  const present = (await disk.list(directory)) ?? []
  const aside = join(directory, ASIDE)
  if (!present.includes(ASIDE)) await disk.makeDirectory(aside)
  for (const name of present) {
    if (!LEFT_ALONE.has(name)) await disk.rename(join(directory, name), join(aside, name))
  }
  await disk.syncDirectory(aside)
  await disk.syncDirectory(directory)
}
