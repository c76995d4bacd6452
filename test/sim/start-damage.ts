/**
 * Damage for the sweep of starts (starts.ts): what disk-damage.ts does, and what makes a start choose: a header of a
 * segment, a file that is gone, the newest checkpoint or the older one, log and checkpoint at once, a slot of meta.
 */
import type { SimulatedDisk } from '../storage/simulated-disk.ts'
import { damageDisk } from './disk-damage.ts'
import type { Random } from './random.ts'
import type { Written } from './timed-disk.ts'

/** Of a segment of the sweep. */
const HEADER_BYTES = 512

export function damageStart(random: Random, platter: SimulatedDisk, written: readonly Written[]): string | null {
  const kinds = [logAgain, logAgain, header, header, gone, checkpoint, checkpoint, logAndCheckpoint, meta]
  const kind = random.chance(0.5) ? damageDisk : random.pick(kinds)!
  const segments = segmentsOf(platter)
  const only = segments.length === 1 ? platter.peek(segments[0]!) : null
  const what = kind(random, platter, written)
  if (only === null || random.chance(0.05)) return what
  // Where the header of the only segment is rotten, there is no start any more: not too often.
  const isWhole = platter.peek(segments[0]!)!.subarray(0, HEADER_BYTES).equals(only.subarray(0, HEADER_BYTES))
  if (!isWhole) platter.poke(segments[0]!, only)
  return what
}

const segmentsOf = (platter: SimulatedDisk): string[] => platter.paths().filter((path) => path.endsWith('.wal'))

function flip(random: Random, platter: SimulatedDisk, path: string | undefined, within = Infinity): string | null {
  const bytes = path === undefined ? null : platter.peek(path)
  if (path === undefined || bytes === null || bytes.length === 0) return null
  let used = bytes.length
  while (used > 1 && bytes[used - 1] === 0) used--
  const at = random.integer(0, Math.min(used, within) - 1)
  bytes[at]! ^= 1 << random.integer(0, 7)
  platter.poke(path, bytes)
  return `${path} at ${at} of ${used}`
}

/** Two places of the log at once. */
function logAgain(random: Random, platter: SimulatedDisk): string | null {
  const found = [0, 1].map(() => flip(random, platter, random.pick(segmentsOf(platter))))
  return found.every((one) => one === null) ? null : found.join(' and ')
}

const header = (random: Random, platter: SimulatedDisk): string | null =>
  flip(random, platter, random.pick(segmentsOf(platter)), 60)

/** Never the newest segment: what was there only that one says. */
function gone(random: Random, platter: SimulatedDisk): string | null {
  const path = random.pick(segmentsOf(platter).slice(0, -1))
  if (path === undefined) return null
  platter.poke(path, null)
  return `${path} is gone`
}

function checkpoint(random: Random, platter: SimulatedDisk): string | null {
  const files = platter.paths().filter((path) => /checkpoints\/\d+\/(data|manifest)$/.test(path))
  return flip(random, platter, random.chance(0.6) ? files.at(-random.integer(1, 2)) : random.pick(files))
}

function logAndCheckpoint(random: Random, platter: SimulatedDisk): string | null {
  const found = [checkpoint(random, platter), flip(random, platter, random.pick(segmentsOf(platter)))]
  return found.every((one) => one === null) ? null : found.join(' and ')
}

const meta = (random: Random, platter: SimulatedDisk): string | null =>
  flip(
    random,
    platter,
    platter.paths().find((path) => path.endsWith('/meta')),
  )
