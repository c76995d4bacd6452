/**
 * Tables, as `kubectl get` asks for them: columns of the CRD by their JSONPath, and those of the built-in kinds
 * as Kubernetes prints them (k8s.io/kubernetes/pkg/printers/internalversion). PURE: `now` is given.
 */
import { type Fields, type KubeObject, at, fields, isFields, list, number, text } from './objects.ts'
import { AGE_DESCRIPTION, type Column, type Resource } from './resources.ts'

type Cell = string | number | boolean | null

interface TableColumn {
  readonly name: string
  readonly type: string
  readonly format: string
  readonly description: string
  readonly priority: number
}

/** `5m`, `3h20m`, `12d`: k8s.io/apimachinery/pkg/util/duration.HumanDuration. */
export function humanDuration(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000)
  if (seconds < -1) return '<invalid>'
  if (seconds < 0) return '0s'
  if (seconds < 120) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 10) return seconds % 60 === 0 ? `${minutes}m` : `${minutes}m${seconds % 60}s`
  if (minutes < 180) return `${minutes}m`
  const hours = Math.floor(minutes / 60)
  if (hours < 8) return minutes % 60 === 0 ? `${hours}h` : `${hours}h${minutes % 60}m`
  if (hours < 48) return `${hours}h`
  const days = Math.floor(hours / 24)
  if (hours < 192) return hours % 24 === 0 ? `${days}d` : `${days}d${hours % 24}h`
  if (hours < 365 * 48) return `${days}d`
  const years = Math.floor(days / 365)
  return years < 8 && days % 365 !== 0 ? `${years}y${days % 365}d` : `${years}y`
}

/** Time since a timestamp; `<unknown>` where there is none. */
export function age(timestamp: unknown, now: number): string {
  const then = Date.parse(text(timestamp))
  return Number.isNaN(then) ? '<unknown>' : humanDuration(now - then)
}

/** The part of JSONPath that printer columns use: `.a.b[0]['c'][?(@.type=="Ready")].status`, `[*]`. */
export function jsonPath(value: unknown, path: string): unknown[] {
  let current: unknown[] = [value]
  const steps =
    /\.([\w-]+(?:\\\.[\w-]+)*)|\[['"]([^'"]+)['"]\]|\[(\d+)\]|\[(\*)\]|\[\?\(@\.([\w.-]+)\s*(==|!=)\s*['"]?([^'")]*)['"]?\)\]/g
  for (const step of path.matchAll(steps)) {
    const [, field, quoted, position, all, test, sign, wanted] = step
    const name = field?.replaceAll('\\.', '.') ?? quoted
    if (name !== undefined) current = current.map((each) => at(each, name))
    else if (position !== undefined) current = current.map((each) => at(each, Number(position)))
    else if (all !== undefined) current = current.flatMap((each) => (isFields(each) ? Object.values(each) : list(each)))
    else if (test !== undefined) {
      current = current.flatMap((each) =>
        list(each).filter((item) => (text(at(item, ...test.split('.'))) === wanted) === (sign === '==')),
      )
    }
  }
  return current.filter((each) => each !== undefined && each !== null)
}

function customCell(object: KubeObject, column: Column, now: number): Cell {
  const found = jsonPath(object, column.jsonPath)
  if (found.length === 0) return null
  const [first] = found
  switch (column.type) {
    case 'date':
      return age(first, now)
    case 'integer':
    case 'number':
      return typeof first === 'number' ? first : null
    case 'boolean':
      return typeof first === 'boolean' ? first : null
    default:
      return found.map((each) => (typeof each === 'object' ? JSON.stringify(each) : text(each))).join(',')
  }
}

type Printer = {
  columns: readonly (readonly [name: string, type: string, priority?: number])[]
  row: (object: KubeObject, now: number) => Cell[]
}

const NONE = '<none>'
const orNone = (value: unknown): string => text(value) || NONE
const containersOf = (spec: unknown): Fields[] => list(at(spec, 'containers')).map(fields)
const joined = (object: unknown): string =>
  Object.entries(fields(object))
    .map(([key, value]) => `${key}=${text(value)}`)
    .sort()
    .join(',') || NONE

/** Why a pod is as it is, in one word. */
export function podReason(pod: KubeObject): string {
  const status = fields(pod.status)
  for (const container of list(status.containerStatuses)) {
    const waiting = text(at(container, 'state', 'waiting', 'reason'))
    const ended = text(at(container, 'state', 'terminated', 'reason'))
    if (pod.metadata.deletionTimestamp === undefined && (waiting || ended) !== '') return waiting || ended
  }
  return pod.metadata.deletionTimestamp === undefined ? text(status.reason) || text(status.phase) : 'Terminating'
}

const PRINTERS: Readonly<Record<string, Printer>> = {
  Pod: {
    columns: [
      ['Name', 'string'],
      ['Ready', 'string'],
      ['Status', 'string'],
      ['Restarts', 'string'],
      ['Age', 'string'],
      ['IP', 'string', 1],
      ['Node', 'string', 1],
      ['Nominated Node', 'string', 1],
      ['Readiness Gates', 'string', 1],
    ],
    row(pod, now) {
      const statuses = list(at(pod, 'status', 'containerStatuses')).map(fields)
      const ready = statuses.filter((each) => each.ready === true).length
      const restarts = statuses.reduce((sum, each) => sum + number(each.restartCount), 0)
      const last = statuses
        .map((each) => at(each, 'lastState', 'terminated', 'finishedAt'))
        .find((each) => each !== undefined)
      const restarted = restarts > 0 && last !== undefined ? `${restarts} (${age(last, now)} ago)` : String(restarts)
      return [
        `${ready}/${containersOf(pod.spec).length}`,
        podReason(pod),
        restarted,
        age(pod.metadata.creationTimestamp, now),
        orNone(at(pod, 'status', 'podIP')),
        orNone(at(pod, 'spec', 'nodeName')),
        NONE,
        NONE,
      ]
    },
  },
  StatefulSet: {
    columns: [
      ['Name', 'string'],
      ['Ready', 'string'],
      ['Age', 'string'],
      ['Containers', 'string', 1],
      ['Images', 'string', 1],
    ],
    row(set, now) {
      const containers = containersOf(at(set, 'spec', 'template', 'spec'))
      return [
        `${number(at(set, 'status', 'readyReplicas'))}/${number(at(set, 'spec', 'replicas'))}`,
        age(set.metadata.creationTimestamp, now),
        containers.map((each) => text(each.name)).join(','),
        containers.map((each) => text(each.image)).join(','),
      ]
    },
  },
  Service: {
    columns: [
      ['Name', 'string'],
      ['Type', 'string'],
      ['Cluster-IP', 'string'],
      ['External-IP', 'string'],
      ['Port(s)', 'string'],
      ['Age', 'string'],
      ['Selector', 'string', 1],
    ],
    row(service, now) {
      const spec = fields(service.spec)
      const ports = list(spec.ports).map((port) => `${text(at(port, 'port'))}/${text(at(port, 'protocol')) || 'TCP'}`)
      return [
        text(spec.type),
        orNone(spec.clusterIP),
        NONE,
        ports.join(',') || NONE,
        age(service.metadata.creationTimestamp, now),
        joined(spec.selector),
      ]
    },
  },
  PersistentVolumeClaim: {
    columns: [
      ['Name', 'string'],
      ['Status', 'string'],
      ['Volume', 'string'],
      ['Capacity', 'string'],
      ['Access Modes', 'string'],
      ['StorageClass', 'string'],
      ['VolumeAttributesClass', 'string'],
      ['Age', 'string'],
      ['VolumeMode', 'string', 1],
    ],
    row(claim, now) {
      const modes: Readonly<Record<string, string>> = {
        ReadWriteOnce: 'RWO',
        ReadOnlyMany: 'ROX',
        ReadWriteMany: 'RWX',
        ReadWriteOncePod: 'RWOP',
      }
      const phase = claim.metadata.deletionTimestamp === undefined ? text(at(claim, 'status', 'phase')) : 'Terminating'
      const access = list(at(claim, 'status', 'accessModes')).map((mode) => modes[text(mode)] ?? text(mode))
      return [
        phase,
        text(at(claim, 'spec', 'volumeName')),
        text(at(claim, 'status', 'capacity', 'storage')),
        access.join(','),
        text(at(claim, 'spec', 'storageClassName')),
        '<unset>',
        age(claim.metadata.creationTimestamp, now),
        text(at(claim, 'spec', 'volumeMode')),
      ]
    },
  },
  PodDisruptionBudget: {
    columns: [
      ['Name', 'string'],
      ['Min Available', 'string'],
      ['Max Unavailable', 'string'],
      ['Allowed Disruptions', 'integer'],
      ['Age', 'string'],
    ],
    row: (budget, now) => [
      text(at(budget, 'spec', 'minAvailable')) || 'N/A',
      text(at(budget, 'spec', 'maxUnavailable')) || 'N/A',
      number(at(budget, 'status', 'disruptionsAllowed')),
      age(budget.metadata.creationTimestamp, now),
    ],
  },
  ConfigMap: {
    columns: [
      ['Name', 'string'],
      ['Data', 'string'],
      ['Age', 'string'],
    ],
    row: (map, now) => [
      String(Object.keys(fields(map.data)).length + Object.keys(fields(map.binaryData)).length),
      age(map.metadata.creationTimestamp, now),
    ],
  },
  Secret: {
    columns: [
      ['Name', 'string'],
      ['Type', 'string'],
      ['Data', 'integer'],
      ['Age', 'string'],
    ],
    row: (secret, now) => [
      text(secret.type),
      Object.keys(fields(secret.data)).length,
      age(secret.metadata.creationTimestamp, now),
    ],
  },
  Event: {
    columns: [
      ['Last Seen', 'string'],
      ['Type', 'string'],
      ['Reason', 'string'],
      ['Object', 'string'],
      ['Subobject', 'string', 1],
      ['Source', 'string', 1],
      ['Message', 'string'],
      ['First Seen', 'string', 1],
      ['Count', 'string', 1],
      ['Name', 'string', 1],
    ],
    row(event, now) {
      const seen = event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp
      const about = fields(event.involvedObject)
      const source = [text(at(event, 'source', 'component')), text(at(event, 'source', 'host'))]
        .filter(Boolean)
        .join(', ')
      return [
        age(seen, now),
        text(event.type),
        text(event.reason),
        `${text(about.kind).toLowerCase()}/${text(about.name)}`,
        text(about.fieldPath),
        source || text(event.reportingComponent),
        text(event.message).trim(),
        age(event.firstTimestamp ?? event.eventTime, now),
        String(number(event.count, 1)),
        event.metadata.name,
      ]
    },
  },
  Namespace: {
    columns: [
      ['Name', 'string'],
      ['Status', 'string'],
      ['Age', 'string'],
    ],
    row: (namespace, now) => [text(at(namespace, 'status', 'phase')), age(namespace.metadata.creationTimestamp, now)],
  },
  Node: {
    columns: [
      ['Name', 'string'],
      ['Status', 'string'],
      ['Roles', 'string'],
      ['Age', 'string'],
      ['Version', 'string'],
    ],
    row(node, now) {
      const ready = list(at(node, 'status', 'conditions')).some(
        (each) => at(each, 'type') === 'Ready' && at(each, 'status') === 'True',
      )
      const cordoned = at(node, 'spec', 'unschedulable') === true ? ',SchedulingDisabled' : ''
      return [
        `${ready ? 'Ready' : 'NotReady'}${cordoned}`,
        NONE,
        age(node.metadata.creationTimestamp, now),
        text(at(node, 'status', 'nodeInfo', 'kubeletVersion')),
      ]
    },
  },
  Lease: {
    columns: [
      ['Name', 'string'],
      ['Holder', 'string'],
      ['Age', 'string'],
    ],
    row: (lease, now) => [text(at(lease, 'spec', 'holderIdentity')), age(lease.metadata.creationTimestamp, now)],
  },
  CustomResourceDefinition: {
    columns: [
      ['Name', 'string'],
      ['Created At', 'date'],
    ],
    row: (definition) => [definition.metadata.creationTimestamp],
  },
}

const DEFAULT_PRINTER: Printer = {
  columns: [
    ['Name', 'string'],
    ['Age', 'string'],
  ],
  row: (object, now) => [age(object.metadata.creationTimestamp, now)],
}

const NAME_DESCRIPTION =
  'Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names'

function columnsOf(resource: Resource): TableColumn[] {
  const name: TableColumn = { name: 'Name', type: 'string', format: 'name', description: NAME_DESCRIPTION, priority: 0 }
  if (resource.columns !== null) {
    return [
      name,
      ...resource.columns.map(({ name, type, format, description, priority }) => ({
        name,
        type,
        format: format ?? '',
        description,
        priority,
      })),
    ]
  }
  const { columns } = PRINTERS[resource.kind] ?? DEFAULT_PRINTER
  return columns.map(([title, type, priority]) => ({
    name: title,
    type,
    format: title === 'Name' ? 'name' : '',
    description: title === 'Name' ? NAME_DESCRIPTION : title === 'Age' ? AGE_DESCRIPTION : title,
    priority: priority ?? 0,
  }))
}

function cells(object: KubeObject, resource: Resource, now: number): Cell[] {
  if (resource.columns !== null) {
    return [object.metadata.name, ...resource.columns.map((column) => customCell(object, column, now))]
  }
  const row = (PRINTERS[resource.kind] ?? DEFAULT_PRINTER).row(object, now)
  // Of all kinds only events do not begin with their name.
  return resource.kind === 'Event' ? row : [object.metadata.name, ...row]
}

/** What goes with each row: `Metadata` (the default), `Object` or `None`. */
function rowObject(object: KubeObject, include: string): unknown {
  if (include === 'None') return undefined
  return include === 'Object'
    ? object
    : { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata }
}

/** A Table of these objects. In a watch only the first one has its columns (`withColumns`). */
export function table(
  objects: readonly KubeObject[],
  resource: Resource,
  metadata: Fields,
  options: { readonly include: string; readonly withColumns: boolean; readonly now: number },
): Fields {
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: options.withColumns ? columnsOf(resource) : null,
    rows: objects.map((object) => ({
      cells: cells(object, resource, options.now),
      object: rowObject(object, options.include),
    })),
  }
}
