/** Sets the wall clock of one node of a test cluster; its monotonic clock goes on as it does. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeProcess } from './process.ts'

/** A node has seen its new clock by then. */
const SEEN_MILLISECONDS = 100

export const HOUR_MILLISECONDS = 3_600_000

/** `nodeArguments` of a cluster whose clocks can be set. */
export const SETTABLE_CLOCKS = ['--import', join(import.meta.dirname, '../fixtures/stepping-clock.mjs')]

/** From now on the node's wall clock is off by so much; one that does not run has it from its start on. */
export async function setClock(node: NodeProcess, offsetMilliseconds: number): Promise<void> {
  await writeFile(join(node.folder, 'clock'), String(offsetMilliseconds))
  if (node.isRunning) await sleep(SEEN_MILLISECONDS)
}
