/**
 * Performs one act, or writes the objects of a cluster. Every act carries what it expects, so an act that comes
 * too late is refused by the API server or the node, and the next turn decides anew. Nothing is tried twice here.
 */
import { randomBytes } from 'node:crypto'
import { LABELS, names } from '../src/contract.ts'
import { describe } from './actions.ts'
import type { Action } from './actions.ts'
import type { Context } from './context.ts'
import { ApiError, isApiError, pathOf } from './kube.ts'
import type { Kind } from './kube.ts'
import { genesisRecord, manifests, tokenSecret } from './manifests.ts'
import { NodeError } from './nodes.ts'
import type { NodeAddress } from './nodes.ts'
import { nodeAddress } from './observe.ts'
import { votersOf } from './observed.ts'
import type { Observed } from './observed.ts'
import { canonical, fingerprint } from './resource.ts'
import type { KubeObject } from './resource.ts'
import type { Held } from './plan.ts'
import type { Problem } from './status.ts'
import { unreachable } from './unreachable.ts'

/** How an act ended. `stale`: the world has moved on, the next turn will see. */
export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'stale' }
  | { readonly kind: 'held'; readonly held: Held }
  | { readonly kind: 'failed'; readonly problem: Problem }

const TOKEN_BYTES = 32
const CLUSTER_ID_BYTES = 16
/** A transfer takes a moment; asking again meanwhile would only begin it anew. */
const TRANSFER_INTERVAL_MILLISECONDS = 2000

export async function perform(context: Context, observed: Observed, action: Action): Promise<Outcome> {
  try {
    await act(context, observed, action)
    return { kind: 'done' }
  } catch (error) {
    return outcomeOf(action, error)
  }
}

function outcomeOf(action: Action, error: unknown): Outcome {
  const hold = (rule: string, message: string): Outcome => ({
    kind: 'held',
    held: { action: describe(action), rule, message },
  })
  if (error instanceof NodeError) return hold(error.code, error.message)
  if (isApiError(error, 429)) return hold('disruption-budget', error.message)
  if (isApiError(error, 404, 409)) return { kind: 'stale' }
  if (error instanceof ApiError && error.status >= 400 && error.status < 500) {
    return { kind: 'failed', problem: { reason: 'Refused', message: `${describe(action)}: ${error.message}` } }
  }
  throw error
}

async function act(context: Context, observed: Observed, action: Action): Promise<void> {
  const { kube, nodes } = context
  const { namespace } = observed.cluster.metadata
  switch (action.kind) {
    case 'record-genesis': {
      const clusterId = action.genesis.clusterId || randomBytes(CLUSTER_ID_BYTES).toString('hex')
      await kube.create(genesisRecord(observed.cluster, { ...action.genesis, clusterId }))
      return
    }
    case 'seed': {
      const { genesis, self } = action
      return nodes.genesis(await nodeAt(context, observed, action.target), { ...genesis, self })
    }
    case 'join':
      return join(context, observed, action)
    case 'reset': {
      const { nodeId, volumeId } = action
      return nodes.reset(await nodeAt(context, observed, action.target), { nodeId, volumeId })
    }
    case 'reconfigure':
      return nodes.configure(await nodeAt(context, observed, action.leader), {
        expectedConfigurationId: action.expectedConfigurationId,
        voters: action.voters,
        learners: [],
        preferredLeader: action.leaderId,
      })
    case 'withdraw':
      return nodes.withdraw(await nodeAt(context, observed, action.leader))
    case 'transfer':
      return transfer(context, observed, action)
    case 'restart':
      if (action.ready) return kube.evict(namespace, action.target.pod, action.target.uid)
      return kube.delete('Pod', namespace, action.target.pod, { uid: action.target.uid })
    case 'replace':
      return kube.delete('Pod', namespace, action.target.pod, { uid: action.target.uid })
    case 'set-replicas': {
      const { name, uid, resourceVersion } = action.statefulSet
      const patch = { metadata: { uid, resourceVersion }, spec: { replicas: action.to } }
      await kube.merge('StatefulSet', namespace, name, patch)
      return
    }
    case 'delete-claim':
      return kube.delete('PersistentVolumeClaim', namespace, action.claim.name, action.claim)
    case 'grow-claim':
      return patchClaim(context, namespace, action.claim, {
        spec: { resources: { requests: { storage: action.size } } },
      })
    case 'label-claim': {
      const { labels, ownerReferences } = action
      return patchClaim(context, namespace, action.claim, { metadata: { labels, ownerReferences } })
    }
    case 'label-pod': {
      const { pod, uid } = action.target
      await kube.merge('Pod', namespace, pod, { metadata: { uid, labels: { [LABELS.role]: action.role } } })
      return
    }
    default:
      return unreachable(action)
  }
}

async function nodeAt(
  context: Context,
  observed: Observed,
  target: { readonly ordinal: number; readonly pod: string },
) {
  const address = await nodeAddress(context, observed, target.ordinal)
  if (address === null) throw new NodeError(0, 'NO_ANSWER', `${target.pod} has no address`)
  return address
}

/** Two requests; a crash between them costs nothing, because the leader allots the same id again. */
async function join(context: Context, observed: Observed, action: Extract<Action, { kind: 'join' }>): Promise<void> {
  const { volumeId, address, clusterId, configuration } = action
  const leader: NodeAddress = await nodeAt(context, observed, action.leader)
  const target = await nodeAt(context, observed, action.target)
  const id = await context.nodes.allot(leader, { volumeId })
  await context.nodes.join(target, { clusterId, self: { id, volumeId, address }, configuration })
}

async function transfer(context: Context, observed: Observed, action: Extract<Action, { kind: 'transfer' }>) {
  const memory = `${observed.cluster.metadata.uid} transfer ${action.leader.uid} ${action.to.uid}`
  const last = context.recent.get(memory)
  if (last !== undefined && performance.now() - last < TRANSFER_INTERVAL_MILLISECONDS) return
  context.recent.set(memory, performance.now())
  const { expectedConfigurationId, toId: to } = action
  await context.nodes.transfer(await nodeAt(context, observed, action.leader), { expectedConfigurationId, to })
}

type ClaimTarget = Extract<Action, { kind: 'grow-claim' }>['claim']

async function patchClaim(context: Context, namespace: string, claim: ClaimTarget, patch: Record<string, unknown>) {
  const { name, uid, resourceVersion } = claim
  const metadata = { ...(patch.metadata as object | undefined), uid, resourceVersion }
  await context.kube.merge('PersistentVolumeClaim', namespace, name, { ...patch, metadata })
}

// ---- the objects of a cluster ---------------------------------------------------------------------------------

/** Writes what is not as it is wanted; gives back what the API server refused. */
export async function writeObjects(context: Context, observed: Observed): Promise<Problem[]> {
  const { cluster, image, statefulSet } = observed
  const { namespace, name } = cluster.metadata
  const stored = pathOf('StatefulSet', namespace, names.statefulSet(name))
  context.applied.seen(stored, statefulSet?.metadata ?? null)
  const problems: Problem[] = []
  await ensureToken(context, observed)
  for (const object of manifests(cluster, image, statefulSet, votersOf(observed))) {
    try {
      await write(context, cluster.metadata.name, object)
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 0 || error.status >= 500) throw error
      if (error.status === 409) continue
      const reason = error.reason === 'NameTaken' ? error.reason : 'ObjectRefused'
      problems.push({ reason, message: `${object.kind} ${object.metadata.name}: ${error.message}` })
    }
  }
  return problems
}

async function write(context: Context, cluster: string, object: KubeObject): Promise<void> {
  const kind = object.kind as Kind
  const { name, namespace } = object.metadata
  const path = pathOf(kind, namespace, name)
  const content = fingerprint(canonical(object))
  if (context.applied.holds(path, content)) return
  if (!context.applied.knows(path)) {
    const present = await context.kube.get(kind, namespace, name)
    if (present !== null && present.metadata.labels?.[LABELS.cluster] !== cluster) {
      throw new ApiError(
        422,
        'NameTaken',
        'there is already one that is not of this cluster; rename the LokiCluster or it',
      )
    }
  }
  context.applied.note(path, content, (await context.kube.apply(object)).metadata)
}

/** Made once. A Secret of this name that is there is used as it is. */
async function ensureToken(context: Context, observed: Observed): Promise<void> {
  const { namespace, name, uid } = observed.cluster.metadata
  if (context.tokens.has(uid)) return
  if ((await context.kube.get('Secret', namespace, names.tokenSecret(name))) !== null) return
  try {
    await context.kube.create(tokenSecret(observed.cluster, randomBytes(TOKEN_BYTES).toString('base64url')))
  } catch (error) {
    if (!isApiError(error, 409)) throw error
  }
}
