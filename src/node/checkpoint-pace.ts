/**
 * When a checkpoint begins and how fast it goes, so that what it takes is missed by nobody.
 *
 * - All nodes apply the same, so all would be due at the same moment, and slow together; one at a time is hidden by
 *   the quorum of the others. Each is due after another share of what the settings allow at the most.
 * - Between two slices it pauses: a process that works without a break is made to wait by the system's scheduler, and
 *   its writes with it. Where it did wait for a processor, others need it, and the pause is longer.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { processorWaitMilliseconds } from '../storage/processor-wait.ts'

const LEAST_SHARE = 0.6
const LEAST_PAUSE_MILLISECONDS = 1
const MOST_PAUSE_MILLISECONDS = 20
const PAUSE_FOR_WAIT = 4

/** Of the interval and the bytes of log after which a checkpoint is taken at the latest. `random`: from 0 to 1. */
export const shareOfDue = (random: number): number => LEAST_SHARE + (1 - LEAST_SHARE) * random

/** `waited`: milliseconds without a processor since the pause before. */
export const pauseMilliseconds = (waited: number): number =>
  Math.min(LEAST_PAUSE_MILLISECONDS + PAUSE_FOR_WAIT * waited, MOST_PAUSE_MILLISECONDS)

/** The pauses of one checkpoint. */
export function checkpointPauses(): () => Promise<void> {
  let total = processorWaitMilliseconds()
  return () => {
    const before = total
    total = processorWaitMilliseconds()
    return sleep(pauseMilliseconds(total - before))
  }
}
