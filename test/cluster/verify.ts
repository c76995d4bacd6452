/** What the cluster tests assert about a recording, with messages that a person can act on. */
import { expect } from 'vitest'
import { checkHistory, explainVerdict } from './checker.ts'
import type { Failure, Recorder, Recording } from './recorder.ts'
import { type Cluster, eventually } from './harness.ts'

/** No lost write, no stale read: some order of all that was recorded is that of one store. */
export function expectLinearizable(recording: Recording): void {
  expect(explainVerdict(checkHistory(recording.history))).toMatch(/^linearizable/)
}

/** No error at all, and commands without an answer only on connections to nodes that were killed. */
export function expectFailuresOnlyOn(killed: readonly string[], recording: Recording): void {
  const unexpected = recording.failures.filter(
    (failure) => failure.kind === 'error-reply' || !killed.includes(failure.target),
  )
  expect(unexpected.map(describeFailure)).toEqual([])
}

function describeFailure(failure: Failure): string {
  return `${new Date(failure.at).toISOString()} ${failure.target} ${failure.command}: ${failure.kind} ${failure.text}`
}

/** Waits until the clients have got `more` further replies: load is really going on. */
export async function untilAnswered(recorder: Recorder, more: number): Promise<void> {
  const wanted = recorder.answered + more
  await eventually(`${more} more commands were answered`, async () => Promise.resolve(recorder.answered >= wanted))
}

/** Ends the clients, reads every key once more on every given node, and checks the whole. */
export async function finish(
  cluster: Cluster,
  recorder: Recorder,
  options: { readonly readOn: readonly number[]; readonly killed?: readonly string[] },
): Promise<Recording> {
  const recording = await recorder.stop()
  for (const target of cluster.targets(...options.readOn)) await recorder.readAll(target)
  expectFailuresOnlyOn(options.killed ?? [], recording)
  expectLinearizable(recording)
  console.log(
    `${recording.answered} commands, longest pause ${recording.longestGapMilliseconds} ms, ` +
      `${recording.reconnects} connections made anew, ${recording.failures.length} without an answer`,
  )
  return recording
}
