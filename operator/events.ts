/** Events (core/v1) for what a person should see with `kubectl describe` and `kubectl events`. Told, never relied on. */
import { randomBytes } from 'node:crypto'
import { describe } from './actions.ts'
import type { Action } from './actions.ts'
import type { Context } from './context.ts'
import { FIELD_MANAGER } from './kube.ts'
import { involved } from './manifests.ts'
import { leaderOf } from './observed.ts'
import type { Observed } from './observed.ts'
import { keyOf } from './resource.ts'
import { unreachable } from './unreachable.ts'

interface Notice {
  readonly type: 'Normal' | 'Warning'
  readonly reason: string
  readonly message: string
}

/** An act that is repeated while it has not shown yet is told once. */
const REPEAT_MILLISECONDS = 30_000
const MEMORY_ENTRIES = 10_000

export async function announce(context: Context, observed: Observed, action: Action): Promise<void> {
  const notice = noticeOf(observed, action)
  if (notice === null) return
  const memory = `${observed.cluster.metadata.uid} event ${notice.reason} ${notice.message}`
  const last = context.recent.get(memory)
  if (last !== undefined && performance.now() - last < REPEAT_MILLISECONDS) return
  if (context.recent.size > MEMORY_ENTRIES) context.recent.clear()
  context.recent.set(memory, performance.now())
  const { namespace, name } = observed.cluster.metadata
  const now = new Date().toISOString()
  try {
    await context.kube.create({
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: `${name}.${randomBytes(8).toString('hex')}`, namespace },
      involvedObject: involved(observed.cluster),
      ...notice,
      source: { component: FIELD_MANAGER },
      reportingComponent: FIELD_MANAGER,
      reportingInstance: '',
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    })
  } catch (error) {
    context.log.warn({ err: error, cluster: keyOf(observed.cluster.metadata) }, 'event not written')
  }
}

function noticeOf(observed: Observed, action: Action): Notice | null {
  const normal = (reason: string, message: string): Notice => ({ type: 'Normal', reason, message })
  switch (action.kind) {
    case 'record-genesis':
      return action.adopted
        ? normal('Adopted', `took up the data of cluster ${action.genesis.clusterId}`)
        : normal(
            'Genesis',
            `the cluster begins with ${action.genesis.founders.length} node${action.genesis.founders.length === 1 ? '' : 's'}`,
          )
    case 'join':
      return normal('Joined', `${action.target.pod} joins as a learner`)
    case 'reset':
      return normal('Reset', `${action.target.pod} moves the data of its former membership aside and begins anew`)
    case 'reconfigure':
      return normal('Reconfiguring', `the next voters are ${action.voters.map(({ id }) => id).join(', ')}`)
    case 'withdraw':
      return normal('Withdrawn', describe(action))
    case 'transfer':
      return normal('Transfer', `leadership goes from ${action.leader.pod} to ${action.to.pod}`)
    case 'restart':
      return restartNotice(observed, action.target.pod)
    case 'replace':
      return normal('Replaced', `${action.target.pod} is replaced: ${action.reason}`)
    case 'set-replicas':
      if (action.hibernate) return normal('Hibernating', 'all nodes stop; the data stays in the volumes')
      return normal(action.to > action.from ? 'ScalingOut' : 'ScalingIn', `pods: ${action.from} to ${action.to}`)
    case 'delete-claim':
      return normal('ClaimDeleted', `${action.claim.name} of a node that was scaled in`)
    case 'grow-claim':
      return normal('Growing', `${action.claim.name} grows to ${action.size}`)
    case 'seed':
    case 'label-claim':
    case 'label-pod':
      return null
    default:
      return unreachable(action)
  }
}

/** With one or two voters there is no majority without the one that restarts. */
function restartNotice(observed: Observed, pod: string): Notice {
  const voters = leaderOf(observed)?.status.configuration.voters.length ?? 0
  return voters === 1 || voters === 2
    ? {
        type: 'Warning',
        reason: 'Pause',
        message: `${pod} restarts; with ${voters} voters requests wait until it is back`,
      }
    : { type: 'Normal', reason: 'Restarting', message: `${pod} restarts` }
}
