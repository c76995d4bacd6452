/** What is wrong with a recording, in sentences that a person can act on. */
import { checkHistory, explainVerdict } from './checker.ts'
import { type Cluster, eventually } from './harness.ts'
import type { Failure, Recorder, Recording } from './recorder.ts'

/**
 * Nothing, if all is as promised: some order of all that was recorded is that of one store (no lost write, no stale
 * read), there is no error at all, and commands without an answer only on connections to nodes that were killed.
 */
export function problemsOf(recording: Recording, killed: readonly string[] = []): string[] {
  const unexpected = recording.failures.filter(
    (failure) => failure.kind === 'error-reply' || !killed.includes(failure.target),
  )
  const verdict = checkHistory(recording.history)
  return [
    ...unexpected.slice(0, 20).map(describeFailure),
    ...(unexpected.length > 20 ? [`and ${unexpected.length - 20} more`] : []),
    ...(verdict.kind === 'linearizable' ? [] : [explainVerdict(verdict)]),
  ]
}

function describeFailure(failure: Failure): string {
  return `${new Date(failure.at).toISOString()} ${failure.target} ${failure.command}: ${failure.kind} ${failure.text}`
}

/** One line of figures: pauses are reported, not asserted. */
export function figuresOf(recording: Recording): string {
  return (
    `${recording.answered} commands, longest pause ${recording.longestGapMilliseconds} ms, ` +
    `${recording.reconnects} connections made anew, ${recording.failures.length} without an answer`
  )
}

/** Waits until the clients have got `more` further replies: load is really going on. */
export async function untilAnswered(recorder: Recorder, more: number): Promise<void> {
  const wanted = recorder.answered + more
  await eventually(`${more} more commands were answered`, () => Promise.resolve(recorder.answered >= wanted))
}

/** Ends the clients, reads every key once more on each of the given nodes, and gives the whole recording. */
export async function finish(cluster: Cluster, recorder: Recorder, readOn: readonly number[]): Promise<Recording> {
  const recording = await recorder.stop()
  for (const target of cluster.targets(...readOn)) await recorder.readAll(target)
  console.log(figuresOf(recording))
  return recording
}
