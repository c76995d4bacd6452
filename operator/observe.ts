/**
 * Reads everything that a rule may need, in one go, and gives it as data: objects of the API server, read live,
 * and the status of each node, asked in parallel. A node that does not answer in time is one without a status;
 * it never holds up the others.
 */
import { readFile } from 'node:fs/promises'
import { API_VERSION, GROUP, KIND, names, parseAddressBook, PORTS } from '../src/contract.ts'
import type { AddressBook, NodeStatus } from '../src/contract.ts'
import type { Context } from './context.ts'
import type { Stored } from './kube.ts'
import { GENESIS_KEY, TOKEN_KEY } from './manifests.ts'
import type { Genesis } from './manifests.ts'
import { NodeError } from './nodes.ts'
import type { NodeAddress } from './nodes.ts'
import type { Observed, ObservedNode } from './observed.ts'
import { imageOf, inputsHash, ordinalOf, selectorOf, wanted } from './resource.ts'
import type { Claim, LokiCluster, Metadata, Pod, StatefulSet } from './resource.ts'

/** A pod that is still there so long after its grace is overdue: its machine may be gone. */
const OVERDUE_MILLISECONDS = 30_000
/** The schema allows no more; what an object says that never met it is not believed. */
const REPLICAS_MOST = 9

/** Null if there is no such LokiCluster (any more). */
export async function observe(context: Context, namespace: string, name: string): Promise<Observed | null> {
  const { kube } = context
  const cluster = await kube.get<LokiCluster>('LokiCluster', namespace, name)
  if (cluster === null) return null
  const [statefulSet, pods, claims, record, token, book] = await Promise.all([
    kube.get<StatefulSet>('StatefulSet', namespace, names.statefulSet(name)),
    kube.list<Pod>('Pod', namespace, selectorOf(name)),
    kube.list<Claim>('PersistentVolumeClaim', namespace, selectorOf(name)),
    kube.get('ConfigMap', namespace, names.genesis(name)),
    readToken(context, cluster),
    readAddressBook(context),
  ])
  const former = formerOwner(cluster, { StatefulSet: statefulSet, ConfigMap: record, Secret: token.secret })
  const image = imageOf(cluster, statefulSet, context.image)
  const places = placesOf(cluster, statefulSet, pods)
  return {
    now: new Date().toISOString().replace(/\.\d+Z$/, 'Z'),
    cluster,
    image,
    hash: inputsHash(cluster, image),
    statefulSet,
    nodes: await Promise.all(
      places.map((pod, ordinal) => observeNode(context, cluster, ordinal, pod, token.value, book)),
    ),
    claims,
    genesis: record === null ? null : parseGenesis(record),
    former,
  }
}

/** For every ordinal that is wanted, stored or filled: its pod, if there is one. */
function placesOf(cluster: LokiCluster, stored: StatefulSet | null, pods: readonly Pod[]): (Pod | null)[] {
  const byOrdinal = new Map<number, Pod>()
  for (const pod of pods) {
    const ordinal = ordinalOf(cluster.metadata.name, pod.metadata.name)
    if (ordinal !== null) byOrdinal.set(ordinal, pod)
  }
  const wantedCount = Math.min(wanted(cluster.spec).replicas, REPLICAS_MOST)
  const count = Math.max(
    wantedCount,
    stored?.spec.replicas ?? 0,
    ...[...byOrdinal.keys()].map((ordinal) => ordinal + 1),
  )
  return Array.from({ length: count }, (_, ordinal) => byOrdinal.get(ordinal) ?? null)
}

// ---- nodes ----------------------------------------------------------------------------------------------------

async function observeNode(
  context: Context,
  cluster: LokiCluster,
  ordinal: number,
  pod: Pod | null,
  token: string | null,
  book: AddressBook | null,
): Promise<ObservedNode> {
  const address = pod === null ? null : adminAddress(cluster, ordinal, pod, book)
  const { status, unanswered } = await ask(context, cluster, address, token)
  const startedAt = pod?.status?.containerStatuses?.[0]?.state?.running?.startedAt
  const deadline = pod?.metadata.deletionTimestamp
  return {
    ordinal,
    name: names.pod(cluster.metadata.name, ordinal),
    pod,
    status,
    unanswered,
    overdue: deadline !== undefined && Date.now() > Date.parse(deadline) + OVERDUE_MILLISECONDS,
    runningMilliseconds: startedAt === undefined ? 0 : Math.max(0, Date.now() - Date.parse(startedAt)),
  }
}

async function ask(
  context: Context,
  cluster: LokiCluster,
  address: string | null,
  token: string | null,
): Promise<{ status: NodeStatus | null; unanswered: string | null }> {
  if (address === null) return { status: null, unanswered: 'it has no address yet' }
  if (token === null) return { status: null, unanswered: 'there is no token yet' }
  try {
    return { status: await context.nodes.status({ address, token }), unanswered: null }
  } catch (error) {
    if (error instanceof NodeError && error.status === 401) context.tokens.delete(cluster.metadata.uid)
    return { status: null, unanswered: error instanceof Error ? error.message : String(error) }
  }
}

/** The address book, where there is one, else the address of the pod. */
function adminAddress(cluster: LokiCluster, ordinal: number, pod: Pod, book: AddressBook | null): string | null {
  const { name, namespace } = cluster.metadata
  const listed = book?.[`${names.host(name, ordinal, namespace)}:${PORTS.admin}`]
  if (listed !== undefined) return listed
  const ip = pod.status?.podIP
  if (ip === undefined || ip === '') return null
  return ip.includes(':') ? `[${ip}]:${PORTS.admin}` : `${ip}:${PORTS.admin}`
}

async function readAddressBook(context: Context): Promise<AddressBook | null> {
  if (context.addressBook === null) return null
  try {
    return parseAddressBook(await readFile(context.addressBook, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') context.log.warn({ err: error }, 'address book unreadable')
    return null
  }
}

/** Where orders for a node go; null when it cannot be reached. */
export async function nodeAddress(context: Context, observed: Observed, ordinal: number): Promise<NodeAddress | null> {
  const pod = observed.nodes[ordinal]?.pod ?? null
  const token = context.tokens.get(observed.cluster.metadata.uid)
  if (pod === null || token === undefined) return null
  const address = adminAddress(observed.cluster, ordinal, pod, await readAddressBook(context))
  return address === null ? null : { address, token }
}

// ---- objects --------------------------------------------------------------------------------------------------

interface Token {
  readonly value: string | null
  /** Null too when the token is remembered. */
  readonly secret: Stored | null
}

async function readToken(context: Context, cluster: LokiCluster): Promise<Token> {
  const { namespace, name, uid } = cluster.metadata
  const remembered = context.tokens.get(uid)
  if (remembered !== undefined) return { value: remembered, secret: null }
  const secret = await context.kube.get('Secret', namespace, names.tokenSecret(name))
  const encoded = (secret?.data as Record<string, string> | undefined)?.[TOKEN_KEY]
  const value = encoded === undefined ? null : Buffer.from(encoded, 'base64').toString('utf8').trim()
  if (value !== null && secret !== null && formerOwner(cluster, { Secret: secret }) === null)
    context.tokens.set(uid, value)
  return { value, secret }
}

function parseGenesis(record: Stored): Genesis {
  const text = (record.data as Record<string, string> | undefined)?.[GENESIS_KEY]
  if (text === undefined) throw new Error(`ConfigMap ${record.metadata.name} holds no ${GENESIS_KEY}`)
  return JSON.parse(text) as Genesis
}

/** The first object that is being deleted or that belongs to another LokiCluster of this name. */
function formerOwner(
  cluster: LokiCluster,
  objects: Readonly<Record<string, { readonly metadata: Partial<Metadata> } | null>>,
): string | null {
  for (const [kind, object] of Object.entries(objects)) {
    const owners = object?.metadata.ownerReferences ?? []
    const ours = owners.filter((owner) => owner.kind === KIND && owner.apiVersion === `${GROUP}/${API_VERSION}`)
    const former = ours.length > 0 && ours.every((owner) => owner.uid !== cluster.metadata.uid)
    if (object !== null && (former || object.metadata.deletionTimestamp !== undefined)) {
      return `${kind} ${object.metadata.name ?? cluster.metadata.name}`
    }
  }
  return null
}
