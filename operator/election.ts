/**
 * Leader election among operators by a Lease. It keeps two operators from doing the same work; it is no fence,
 * and nothing relies on it: every act names what it expects.
 *
 * The expiry of another's lease is measured on our own monotonic clock, from when we first saw its renewal, so
 * that clocks of different machines need not agree. Source: the leader election of Kubernetes' client-go.
 */
import { isApiError, sleep } from './kube.ts'
import type { Kube, Stored } from './kube.ts'
import type { KubeObject } from './resource.ts'

const LEASE_SECONDS = 15
const RENEW_MILLISECONDS = 3000
/** Without a renewal for this long, the holder must assume that another takes over soon. */
const GIVE_UP_MILLISECONDS = 10_000
const RETRY_MILLISECONDS = 1000

interface LeaseSpec {
  readonly holderIdentity?: string
  readonly renewTime?: string
  readonly leaseTransitions?: number
}

export interface ElectionOptions {
  readonly kube: Kube
  readonly name: string
  readonly identity: string
  readonly onError: (error: unknown) => void
}

/** Resolves when the lease is ours; rejects only if `signal` ends first. */
export async function acquire(options: ElectionOptions, signal: AbortSignal): Promise<void> {
  let seen = ''
  let seenAt = 0
  while (!signal.aborted) {
    try {
      const lease = await options.kube.get('Lease', options.kube.namespace, options.name)
      const spec = (lease?.spec ?? {}) as LeaseSpec
      const renewal = `${spec.holderIdentity ?? ''} ${spec.renewTime ?? ''}`
      if (renewal !== seen) [seen, seenAt] = [renewal, performance.now()]
      const free = !spec.holderIdentity || spec.holderIdentity === options.identity
      if (lease === null || free || performance.now() - seenAt > LEASE_SECONDS * 1000) {
        await take(options, lease)
        return
      }
    } catch (error) {
      if (!isApiError(error, 409)) options.onError(error)
    }
    await sleep(RETRY_MILLISECONDS * (0.5 + Math.random()), signal)
  }
  throw new Error('stopped before the lease was acquired')
}

/** Renews until `signal` ends; resolves with false if the lease was lost. */
export async function hold(options: ElectionOptions, signal: AbortSignal): Promise<boolean> {
  let renewedAt = performance.now()
  while (!signal.aborted) {
    await sleep(RENEW_MILLISECONDS, signal)
    if (signal.aborted) break
    try {
      const lease = await options.kube.get('Lease', options.kube.namespace, options.name)
      if ((lease?.spec as LeaseSpec | undefined)?.holderIdentity !== options.identity) return false
      await take(options, lease)
      renewedAt = performance.now()
    } catch (error) {
      options.onError(error)
      if (performance.now() - renewedAt > GIVE_UP_MILLISECONDS) return false
    }
  }
  return true
}

/** Lets the next operator begin at once. */
export async function release(options: ElectionOptions): Promise<void> {
  const lease = await options.kube.get('Lease', options.kube.namespace, options.name)
  if (lease === null || (lease.spec as LeaseSpec).holderIdentity !== options.identity) return
  await options.kube.replace({ ...lease, spec: { ...(lease.spec as object), holderIdentity: '' } })
}

async function take(options: ElectionOptions, lease: Stored | null): Promise<void> {
  const now = microTime()
  const before = (lease?.spec ?? {}) as LeaseSpec & { readonly acquireTime?: string }
  const ours = before.holderIdentity === options.identity
  const object: KubeObject = {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { ...lease?.metadata, name: options.name, namespace: options.kube.namespace },
    spec: {
      holderIdentity: options.identity,
      leaseDurationSeconds: LEASE_SECONDS,
      acquireTime: ours ? (before.acquireTime ?? now) : now,
      renewTime: now,
      leaseTransitions: (before.leaseTransitions ?? 0) + (ours ? 0 : 1),
    },
  }
  await (lease === null ? options.kube.create(object) : options.kube.replace(object))
}

/** The form that Lease times have. */
const microTime = (): string => new Date().toISOString().replace('Z', '000Z')
