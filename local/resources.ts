/**
 * The table of resources that the API serves: the built-in ones here, the custom ones read from the stored
 * CustomResourceDefinitions. Everything that differs between kinds and is data is a column of this table. PURE.
 */
import { type Fields, type KubeObject, at, fields, list, text } from './objects.ts'
import type { Schema } from './schema.ts'

export interface Column {
  readonly name: string
  readonly type: string
  readonly format?: string
  readonly description: string
  readonly priority: number
  readonly jsonPath: string
}

export interface ScalePaths {
  readonly spec: readonly string[]
  readonly status: readonly string[]
  readonly selector: readonly string[] | null
}

export interface Resource {
  /** Where its objects are in the store: `group/plural`. */
  readonly key: string
  readonly group: string
  readonly version: string
  readonly plural: string
  readonly singular: string
  readonly kind: string
  readonly listKind: string
  readonly shortNames: readonly string[]
  readonly categories: readonly string[]
  readonly namespaced: boolean
  readonly status: boolean
  readonly scale: ScalePaths | null
  /** Whether a change of anything but metadata and status counts the generation up. */
  readonly generation: boolean
  /** Null for what is built in: its objects are kept as they come. */
  readonly schema: Schema | null
  readonly columns: readonly Column[] | null
  /** The CRD it comes from. */
  readonly definition: string | null
  /** Fields that a field selector may name, besides metadata.name and metadata.namespace. */
  readonly selectable: readonly string[]
  readonly verbs: readonly string[]
}

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'] as const

interface Row {
  readonly group?: string
  readonly version?: string
  readonly kind: string
  readonly plural: string
  readonly short?: readonly string[]
  readonly all?: boolean
  readonly cluster?: boolean
  readonly status?: boolean
  readonly scale?: boolean
  readonly generation?: boolean
  readonly selectable?: readonly string[]
}

const ROWS: readonly Row[] = [
  { kind: 'Namespace', plural: 'namespaces', short: ['ns'], cluster: true, status: true, selectable: ['status.phase'] },
  {
    kind: 'Node',
    plural: 'nodes',
    short: ['no'],
    cluster: true,
    status: true,
    selectable: ['spec.unschedulable'],
  },
  {
    kind: 'Pod',
    plural: 'pods',
    short: ['po'],
    all: true,
    status: true,
    generation: true,
    selectable: ['spec.nodeName', 'spec.restartPolicy', 'spec.schedulerName', 'status.phase', 'status.podIP'],
  },
  {
    kind: 'Service',
    plural: 'services',
    short: ['svc'],
    all: true,
    status: true,
    selectable: ['spec.clusterIP', 'spec.type'],
  },
  { kind: 'ConfigMap', plural: 'configmaps', short: ['cm'] },
  { kind: 'Secret', plural: 'secrets', selectable: ['type'] },
  { kind: 'ServiceAccount', plural: 'serviceaccounts', short: ['sa'] },
  { kind: 'PersistentVolumeClaim', plural: 'persistentvolumeclaims', short: ['pvc'], status: true },
  { kind: 'PersistentVolume', plural: 'persistentvolumes', short: ['pv'], cluster: true, status: true },
  { kind: 'Endpoints', plural: 'endpoints', short: ['ep'] },
  {
    kind: 'Event',
    plural: 'events',
    short: ['ev'],
    selectable: [
      'involvedObject.kind',
      'involvedObject.namespace',
      'involvedObject.name',
      'involvedObject.uid',
      'involvedObject.apiVersion',
      'involvedObject.resourceVersion',
      'involvedObject.fieldPath',
      'reason',
      'reportingComponent',
      'source',
      'type',
    ],
  },
  {
    group: 'apps',
    kind: 'StatefulSet',
    plural: 'statefulsets',
    short: ['sts'],
    all: true,
    status: true,
    scale: true,
    generation: true,
  },
  { group: 'apps', kind: 'ControllerRevision', plural: 'controllerrevisions' },
  {
    group: 'policy',
    kind: 'PodDisruptionBudget',
    plural: 'poddisruptionbudgets',
    short: ['pdb'],
    status: true,
    generation: true,
  },
  { group: 'discovery.k8s.io', kind: 'EndpointSlice', plural: 'endpointslices' },
  { group: 'coordination.k8s.io', kind: 'Lease', plural: 'leases' },
  {
    group: 'networking.k8s.io',
    kind: 'NetworkPolicy',
    plural: 'networkpolicies',
    short: ['netpol'],
    generation: true,
  },
  { group: 'storage.k8s.io', kind: 'StorageClass', plural: 'storageclasses', short: ['sc'], cluster: true },
  {
    group: 'apiextensions.k8s.io',
    kind: 'CustomResourceDefinition',
    plural: 'customresourcedefinitions',
    short: ['crd', 'crds'],
    cluster: true,
    status: true,
    generation: true,
  },
]

function builtin(row: Row): Resource {
  const group = row.group ?? ''
  return {
    key: `${group}/${row.plural}`,
    group,
    version: row.version ?? 'v1',
    plural: row.plural,
    singular: row.kind.toLowerCase(),
    kind: row.kind,
    listKind: `${row.kind}List`,
    shortNames: row.short ?? [],
    categories: row.all === true ? ['all'] : [],
    namespaced: row.cluster !== true,
    status: row.status === true,
    scale: row.scale === true ? { spec: ['spec', 'replicas'], status: ['status', 'replicas'], selector: null } : null,
    generation: row.generation === true,
    schema: null,
    columns: null,
    definition: null,
    selectable: row.selectable ?? [],
    verbs: VERBS,
  }
}

export const BUILT_IN: readonly Resource[] = ROWS.map(builtin)

/** The built-in resource of this plural; the table is checked by the compiler's eye only, so a miss is a bug. */
export function builtIn(plural: string): Resource {
  const found = BUILT_IN.find((resource) => resource.plural === plural)
  if (found === undefined) throw new Error(`no built-in resource '${plural}'`)
  return found
}

const path = (dotted: unknown): string[] => text(dotted).split('.').filter(Boolean)

/** Resources of a CustomResourceDefinition: one for each version that is served. */
export function resourcesOf(definition: KubeObject): Resource[] {
  const spec = fields(definition.spec)
  const given = fields(spec.names)
  const kind = text(given.kind)
  const group = text(spec.group)
  return list(spec.versions)
    .map((version) => fields(version))
    .filter((version) => version.served === true)
    .map((version) => {
      const subresources = fields(version.subresources)
      const scale = fields(subresources.scale)
      return {
        key: `${group}/${text(given.plural)}`,
        group,
        version: text(version.name),
        plural: text(given.plural),
        singular: text(given.singular) || kind.toLowerCase(),
        kind,
        listKind: text(given.listKind) || `${kind}List`,
        shortNames: list(given.shortNames).map(text),
        categories: list(given.categories).map(text),
        namespaced: spec.scope === 'Namespaced',
        status: subresources.status !== undefined,
        scale:
          subresources.scale === undefined
            ? null
            : {
                spec: path(scale.specReplicasPath),
                status: path(scale.statusReplicasPath),
                selector: scale.labelSelectorPath === undefined ? null : path(scale.labelSelectorPath),
              },
        generation: true,
        schema: (at(version, 'schema', 'openAPIV3Schema') as Schema | undefined) ?? {},
        columns: columnsOf(version),
        definition: definition.metadata.name,
        selectable: list(version.selectableFields).map((field) => path(at(field, 'jsonPath')).join('.')),
        verbs: VERBS,
      }
    })
}

function columnsOf(version: Fields): Column[] {
  const given = list(version.additionalPrinterColumns).map((column) => fields(column))
  if (given.length === 0) {
    return [
      {
        name: 'Age',
        type: 'date',
        description: AGE_DESCRIPTION,
        priority: 0,
        jsonPath: '.metadata.creationTimestamp',
      },
    ]
  }
  return given.map((column) => ({
    name: text(column.name),
    type: text(column.type),
    ...(column.format === undefined ? {} : { format: text(column.format) }),
    description:
      text(column.description) || `Custom resource definition column (in JSONPath format): ${text(column.jsonPath)}`,
    priority: typeof column.priority === 'number' ? column.priority : 0,
    jsonPath: text(column.jsonPath),
  }))
}

/** The description of `metadata.creationTimestamp`, as every table of Kubernetes repeats it. */
export const AGE_DESCRIPTION =
  'CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata'
