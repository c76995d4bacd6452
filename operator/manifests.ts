/**
 * A LokiCluster as the objects that carry it: token Secret, ServiceAccount, Services, StatefulSet, disruption
 * budget, and the immutable record of genesis. PURE, and byte-stable: the same inputs give the same JSON.
 *
 * What is not here is on purpose not written: `spec.replicas` of the StatefulSet belongs to scaling, which sets
 * it with the resource version it has seen (see execute.ts), so that writing the template can never scale.
 */
import { ANNOTATIONS, API_VERSION, ENVIRONMENT, GROUP, KIND, LABELS, names, PATHS, PORTS } from '../src/contract.ts'
import type { MemberJson, PortName } from '../src/contract.ts'
import { inputsHash, ownerOf, wanted } from './resource.ts'
import type { KubeObject, LokiCluster, StatefulSet, VolumeSpec } from './resource.ts'

/** User and group of the image. */
const USER = 1000
const PORT_NAMES: readonly PortName[] = ['client', 'http', 'admin', 'peer']
export const TERMINATION_GRACE_SECONDS = 60
/** A node replays its log before it has started; nothing may kill it on the way. */
const STARTUP_SECONDS = 3600
/** Owner-readable, group-readable; the group is `fsGroup`. */
const TOKEN_MODE = 0o440
export const TOKEN_KEY = 'token'
export const GENESIS_KEY = 'genesis.json'

type Fields = Record<string, unknown>

/** Everything that server-side apply writes, in the order in which it is written. `voters`: how many vote now. */
export function manifests(
  cluster: LokiCluster,
  image: string,
  stored: StatefulSet | null,
  voters: number,
): KubeObject[] {
  return [
    serviceAccount(cluster),
    peersService(cluster),
    clientService(cluster),
    leaderService(cluster),
    disruptionBudget(cluster, voters),
    statefulSet(cluster, image, stored),
  ]
}

function labelsOf(cluster: LokiCluster): Record<string, string> {
  return {
    'app.kubernetes.io/name': 'lokikv',
    'app.kubernetes.io/instance': cluster.metadata.name,
    'app.kubernetes.io/managed-by': 'lokikv-operator',
    [LABELS.cluster]: cluster.metadata.name,
  }
}

function object(cluster: LokiCluster, apiVersion: string, kind: string, name: string, fields: Fields): KubeObject {
  return {
    apiVersion,
    kind,
    metadata: {
      name,
      namespace: cluster.metadata.namespace,
      labels: labelsOf(cluster),
      ownerReferences: [ownerOf(cluster)],
    },
    ...fields,
  }
}

/** The shared secret of the nodes and the operator. Created once and never changed by the operator. */
export function tokenSecret(cluster: LokiCluster, token: string): KubeObject {
  return object(cluster, 'v1', 'Secret', names.tokenSecret(cluster.metadata.name), {
    type: 'Opaque',
    stringData: { [TOKEN_KEY]: token },
  })
}

/** What genesis decided, once for all. The record is immutable; the volumes carry the truth. */
export interface Genesis {
  readonly clusterId: string
  readonly founders: readonly MemberJson[]
}

export function genesisRecord(cluster: LokiCluster, genesis: Genesis): KubeObject {
  return object(cluster, 'v1', 'ConfigMap', names.genesis(cluster.metadata.name), {
    immutable: true,
    data: { [GENESIS_KEY]: JSON.stringify(genesis) },
  })
}

function serviceAccount(cluster: LokiCluster): KubeObject {
  return object(cluster, 'v1', 'ServiceAccount', names.serviceAccount(cluster.metadata.name), {
    automountServiceAccountToken: false,
  })
}

const servicePort = (name: PortName): Fields => ({ name, port: PORTS[name], targetPort: name, protocol: 'TCP' })

/** Host names of the nodes. A node that is not ready must be found, or none would ever become ready. */
function peersService(cluster: LokiCluster): KubeObject {
  return object(cluster, 'v1', 'Service', names.peersService(cluster.metadata.name), {
    spec: {
      clusterIP: 'None',
      publishNotReadyAddresses: true,
      selector: { [LABELS.cluster]: cluster.metadata.name },
      ports: PORT_NAMES.map(servicePort),
    },
  })
}

function clientService(cluster: LokiCluster): KubeObject {
  const service = object(cluster, 'v1', 'Service', names.clientService(cluster.metadata.name), {
    spec: {
      type: wanted(cluster.spec).serviceType,
      selector: { [LABELS.cluster]: cluster.metadata.name },
      ports: [servicePort('client'), servicePort('http')],
    },
  })
  const annotations = cluster.spec.service?.annotations
  return annotations ? { ...service, metadata: { ...service.metadata, annotations } } : service
}

/** Routes to the leader. A hint and no fence: every node forwards. */
function leaderService(cluster: LokiCluster): KubeObject {
  return object(cluster, 'v1', 'Service', names.leaderService(cluster.metadata.name), {
    spec: {
      type: 'ClusterIP',
      selector: { [LABELS.cluster]: cluster.metadata.name, [LABELS.role]: 'leader' },
      ports: [servicePort('client'), servicePort('http')],
    },
  })
}

/**
 * One voter at a time, whatever their number: a single node must not block a drain for ever, and its pause is
 * accepted. Counted are pods that the operator has labelled as voters, against the voters of the configuration and
 * not against the replicas of the StatefulSet: nodes that wait to join, or have left, are neither missed nor counted.
 */
function disruptionBudget(cluster: LokiCluster, voters: number): KubeObject {
  return object(cluster, 'policy/v1', 'PodDisruptionBudget', names.disruptionBudget(cluster.metadata.name), {
    spec: {
      minAvailable: Math.max(0, voters - 1),
      selector: {
        matchLabels: { [LABELS.cluster]: cluster.metadata.name },
        matchExpressions: [{ key: LABELS.role, operator: 'In', values: ['leader', 'follower'] }],
      },
    },
  })
}

function statefulSet(cluster: LokiCluster, image: string, stored: StatefulSet | null): KubeObject {
  const name = cluster.metadata.name
  return object(cluster, 'apps/v1', 'StatefulSet', names.statefulSet(name), {
    spec: {
      serviceName: names.peersService(name),
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'OnDelete' },
      revisionHistoryLimit: 3,
      selector: { matchLabels: { [LABELS.cluster]: name } },
      template: { metadata: podMetadata(cluster, image), spec: podSpec(cluster, image) },
      // Kubernetes refuses to change them, so they are sent as they are stored.
      volumeClaimTemplates: stored?.spec.volumeClaimTemplates ?? [
        claimTemplate(cluster, 'wal', cluster.spec.storage.wal),
        claimTemplate(cluster, 'checkpoints', cluster.spec.storage.checkpoints),
      ],
    },
  })
}

function claimTemplate(cluster: LokiCluster, name: 'wal' | 'checkpoints', volume: VolumeSpec): Fields {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name, labels: { ...labelsOf(cluster), [LABELS.volume]: name } },
    spec: {
      accessModes: ['ReadWriteOnce'],
      ...(volume.storageClassName === undefined ? {} : { storageClassName: volume.storageClassName }),
      resources: { requests: { storage: volume.size } },
    },
  }
}

function podMetadata(cluster: LokiCluster, image: string): Fields {
  const restartedAt = cluster.metadata.annotations?.[ANNOTATIONS.restartedAt]
  return {
    labels: { ...cluster.spec.pod?.labels, ...labelsOf(cluster) },
    annotations: {
      ...cluster.spec.pod?.annotations,
      [ANNOTATIONS.inputsHash]: inputsHash(cluster, image),
      ...(restartedAt === undefined ? {} : { [ANNOTATIONS.restartedAt]: restartedAt }),
    },
  }
}

function podSpec(cluster: LokiCluster, image: string): Fields {
  const name = cluster.metadata.name
  const keys = cluster.spec.encryption?.secretName
  const { nodeSelector, tolerations, affinity, priorityClassName, imagePullSecrets } = cluster.spec.pod ?? {}
  return {
    serviceAccountName: names.serviceAccount(name),
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: TERMINATION_GRACE_SECONDS,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      fsGroupChangePolicy: 'OnRootMismatch',
      seccompProfile: { type: 'RuntimeDefault' },
      ...cluster.spec.pod?.securityContext,
    },
    ...present({ nodeSelector, tolerations, affinity, priorityClassName, imagePullSecrets }),
    topologySpreadConstraints: spreadConstraints(cluster),
    containers: [container(cluster, image)],
    volumes: [
      { name: 'token', secret: { secretName: names.tokenSecret(name), defaultMode: TOKEN_MODE } },
      { name: 'tmp', emptyDir: {} },
      ...(keys === undefined ? [] : [{ name: 'keys', secret: { secretName: keys, defaultMode: TOKEN_MODE } }]),
    ],
  }
}

/** The fields that have a value. */
const present = (fields: Fields): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== ''))

/** Over failure domains as asked for, and over machines wherever that is possible. */
function spreadConstraints(cluster: LokiCluster): Fields[] {
  const { spread, topologyKey } = wanted(cluster.spec)
  const constraint = (key: string, whenUnsatisfiable: string): Fields => ({
    maxSkew: 1,
    topologyKey: key,
    whenUnsatisfiable,
    labelSelector: { matchLabels: { [LABELS.cluster]: cluster.metadata.name } },
  })
  const asked = constraint(topologyKey, spread === 'Required' ? 'DoNotSchedule' : 'ScheduleAnyway')
  const machines = 'kubernetes.io/hostname'
  return topologyKey === machines ? [asked] : [asked, constraint(machines, 'ScheduleAnyway')]
}

function container(cluster: LokiCluster, image: string): Fields {
  const { resources, pod } = cluster.spec
  return {
    name: 'node',
    image,
    imagePullPolicy: 'IfNotPresent',
    command: ['node', 'src/main.ts', 'node'],
    env: [...environment(cluster), ...(pod?.env ?? [])],
    ports: PORT_NAMES.map((port) => ({ name: port, containerPort: PORTS[port], protocol: 'TCP' })),
    ...present({ resources }),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    startupProbe: probe('/startupz', { periodSeconds: 1, failureThreshold: STARTUP_SECONDS, timeoutSeconds: 2 }),
    readinessProbe: probe('/readyz', { periodSeconds: 1, failureThreshold: 2, timeoutSeconds: 2 }),
    livenessProbe: probe('/livez', { periodSeconds: 10, failureThreshold: 6, timeoutSeconds: 5 }),
    volumeMounts: [
      { name: 'wal', mountPath: PATHS.wal },
      { name: 'checkpoints', mountPath: PATHS.checkpoints },
      { name: 'token', mountPath: PATHS.token.slice(0, PATHS.token.lastIndexOf('/')), readOnly: true },
      { name: 'tmp', mountPath: '/tmp' },
      ...(cluster.spec.encryption ? [{ name: 'keys', mountPath: PATHS.keys, readOnly: true }] : []),
    ],
  }
}

function probe(path: string, limits: Fields): Fields {
  return { httpGet: { path, port: 'admin' }, ...limits }
}

function environment(cluster: LokiCluster): Fields[] {
  const field = (name: string, fieldPath: string): Fields => ({ name, valueFrom: { fieldRef: { fieldPath } } })
  const host = `$(POD_NAME).${names.peersService(cluster.metadata.name)}.$(POD_NAMESPACE).svc`
  return [
    field('POD_NAME', 'metadata.name'),
    field('POD_NAMESPACE', 'metadata.namespace'),
    { name: ENVIRONMENT.address, value: `${host}:${PORTS.peer}` },
    { name: ENVIRONMENT.walDirectory, value: PATHS.wal },
    { name: ENVIRONMENT.checkpointDirectory, value: PATHS.checkpoints },
    { name: ENVIRONMENT.tokenFile, value: PATHS.token },
    ...(cluster.spec.encryption ? [{ name: ENVIRONMENT.keysDirectory, value: PATHS.keys }] : []),
    { name: ENVIRONMENT.settings, value: JSON.stringify(sorted(cluster.spec.config ?? {})) },
  ]
}

const sorted = (settings: Readonly<Record<string, number | string>>): Record<string, number | string> =>
  Object.fromEntries(Object.entries(settings).sort(([a], [b]) => (a < b ? -1 : 1)))

/** The reference of an event to the object it is about. */
export function involved(cluster: LokiCluster): Fields {
  const { name, namespace, uid, resourceVersion } = cluster.metadata
  return { apiVersion: `${GROUP}/${API_VERSION}`, kind: KIND, name, namespace, uid, resourceVersion }
}
