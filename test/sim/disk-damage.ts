/**
 * Damage to the disk of one node of the simulation of whole nodes: a flipped bit, in the log most often, in every
 * checkpoint at once sometimes; a write that was reported as done and is not there, or 4096 bytes further on. The very
 * last write is never one of these: a disk that lies about that one is not promised to be borne. The last is the last
 * that is there: a segment whose name was not durable goes with a crash, and nothing in it shows what was before.
 */
import type { SimulatedDisk } from '../storage/simulated-disk.ts'
import type { Random } from './random.ts'
import type { Written } from './timed-disk.ts'

/** Does it, and says what it did; null where there is nothing to damage. `written`: oldest first. */
export function damageDisk(random: Random, platter: SimulatedDisk, written: readonly Written[]): string | null {
  const files = platter.paths().filter((path) => platter.peek(path)!.length > 0)
  const log = files.filter((path) => path.endsWith('.wal'))
  const checkpoints = files.filter((path) => /checkpoints.*(data|manifest)$/.test(path))
  if (checkpoints.length > 0 && random.chance(0.2)) {
    return checkpoints.map((path) => flip(random, platter, path)).join(', ')
  }
  const lost = random.chance(0.3)
    ? loseWrite(random, platter, framesOf(written, platter).slice(0, -1).slice(-20))
    : null
  if (lost !== null) return lost
  const path = random.pick(random.chance(0.5) ? log.slice(-1) : random.chance(0.7) ? log : files)
  return path === undefined ? null : flip(random, platter, path)
}

/**
 * Writes that are there, to segments that are in use: what is prepared for the next one says nothing about the last of
 * these. The file of a write may be gone, or its name belong to another one by now.
 */
const framesOf = (written: readonly Written[], platter: SimulatedDisk): Written[] =>
  written.filter(({ file, offset, bytes }) => {
    if (!file.path.endsWith('.wal')) return false
    return (
      platter
        .peek(file.path)
        ?.subarray(offset, offset + bytes.length)
        .equals(bytes) ?? false
    )
  })

function loseWrite(random: Random, platter: SimulatedDisk, written: readonly Written[]): string | null {
  const write = random.pick(written)
  if (!write) return null
  const { offset, file } = write
  const bytes = platter.peek(file.path)!
  const end = offset + write.bytes.length
  bytes.fill(0, offset, end)
  const isMisdirected = random.chance(0.5) && end + 4096 <= bytes.length
  if (isMisdirected) write.bytes.copy(bytes, offset + 4096)
  platter.poke(file.path, bytes)
  return `${file.path} at ${offset}: ${write.bytes.length} bytes ${isMisdirected ? 'misdirected' : 'lost'}`
}

function flip(random: Random, platter: SimulatedDisk, path: string): string {
  const bytes = platter.peek(path)!
  let used = bytes.length
  while (used > 1 && bytes[used - 1] === 0) used--
  const at = random.chance(0.5) ? random.integer(Math.max(0, used - 300), used - 1) : random.integer(0, used - 1)
  bytes[at]! ^= 1 << random.integer(0, 7)
  platter.poke(path, bytes)
  return `${path} at ${at} of ${used}`
}
