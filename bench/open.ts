/**
 * `npm run bench -- open`: three nodes at half of their peak rate for a minute, with checkpoints on. Commands leave at
 * their times whatever is unanswered, so that a pause counts for everything that was due in it.
 */
import { runLoad } from './load.ts'
import { lokikv } from './peers.ts'

const CLIENTS = 64
const CHECKPOINT_SECONDS = 10

export interface OpenReport {
  readonly peakPerSecond: number
  readonly perSecond: number
  readonly p50Milliseconds: number
  readonly p999Milliseconds: number
  readonly errors: Readonly<Record<string, number>>
}

export async function measureOpenLoop(seconds: number): Promise<OpenReport> {
  const settings = { checkpointIntervalSeconds: CHECKPOINT_SECONDS }
  const peer = await lokikv(3, { settings }).start()
  if (peer === null) throw new Error('there are always nodes of ours')
  try {
    const targets = [peer.target]
    const peak = await runLoad({ targets, clients: CLIENTS, seconds: 5, warmUpSeconds: 3 })
    const perSecond = Math.round(peak.perSecond / 2)
    const report = await runLoad({ targets, clients: CLIENTS, seconds, warmUpSeconds: 2, perSecond })
    const { p50, p999 } = report.latencyMilliseconds
    return {
      peakPerSecond: peak.perSecond,
      perSecond: report.perSecond,
      p50Milliseconds: p50,
      p999Milliseconds: p999,
      errors: report.errors,
    }
  } finally {
    await peer.stop()
  }
}
