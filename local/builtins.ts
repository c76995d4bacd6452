/**
 * Defaults and rules of the built-in kinds, as far as the operator, the controllers and kubectl rest on them.
 * PURE. Texts and defaults: k8s.io/kubernetes/pkg/apis.
 */
import { type FieldError, forbiddenValue, invalidValue, requiredValue } from './failure.ts'
import { parseQuantity } from './cel.ts'
import { type Fields, type KubeObject, at, fields, isFields, list, same, text } from './objects.ts'
import type { Resource } from './resources.ts'
import { matchesSelector } from './selectors.ts'

/** Sets each field that is absent. */
function absent(target: Fields, defaults: Fields): void {
  for (const [field, value] of Object.entries(defaults)) target[field] ??= structuredClone(value)
}

const PROBE = { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 }

function defaultContainer(container: Fields): void {
  const image = text(container.image)
  const latest = !image.includes('@') && (!/:[^/]+$/.test(image) || image.endsWith(':latest'))
  absent(container, {
    imagePullPolicy: latest ? 'Always' : 'IfNotPresent',
    resources: {},
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
  })
  for (const port of list(container.ports).map(fields)) absent(port, { protocol: 'TCP' })
  for (const name of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    if (!isFields(container[name])) continue
    absent(container[name], PROBE)
    if (isFields(container[name].httpGet)) absent(container[name].httpGet, { scheme: 'HTTP', path: '/' })
  }
  for (const variable of list(container.env)) {
    const reference = at(variable, 'valueFrom', 'fieldRef')
    if (isFields(reference)) absent(reference, { apiVersion: 'v1' })
  }
}

function defaultPodSpec(spec: Fields): void {
  absent(spec, {
    restartPolicy: 'Always',
    dnsPolicy: 'ClusterFirst',
    terminationGracePeriodSeconds: 30,
    schedulerName: 'default-scheduler',
    securityContext: {},
  })
  for (const container of [...list(spec.initContainers), ...list(spec.containers)]) {
    if (isFields(container)) defaultContainer(container)
  }
  for (const volume of list(spec.volumes).map(fields)) {
    for (const kind of ['secret', 'configMap', 'projected']) {
      if (isFields(volume[kind])) absent(volume[kind], { defaultMode: 420 })
    }
  }
}

const specOf = (object: KubeObject): Fields => {
  if (!isFields(object.spec)) object.spec = {}
  return object.spec
}

const DEFAULTS: Readonly<Record<string, (object: KubeObject) => void>> = {
  Namespace(object) {
    absent(specOf(object), { finalizers: ['kubernetes'] })
    object.metadata.labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name }
  },
  Pod(object) {
    defaultPodSpec(specOf(object))
    absent(specOf(object), {
      serviceAccountName: 'default',
      enableServiceLinks: true,
      preemptionPolicy: 'PreemptLowerPriority',
      priority: 0,
    })
  },
  Service(object) {
    const spec = specOf(object)
    absent(spec, { type: 'ClusterIP', sessionAffinity: 'None', internalTrafficPolicy: 'Cluster' })
    for (const port of list(spec.ports).map(fields)) absent(port, { protocol: 'TCP', targetPort: port.port })
  },
  Secret(object) {
    const given = object.stringData
    object.type ??= 'Opaque'
    if (!isFields(given)) return
    const encoded = Object.entries(given).map(([key, value]) => [key, Buffer.from(text(value)).toString('base64')])
    object.data = { ...fields(object.data), ...(Object.fromEntries(encoded) as Fields) }
    delete object.stringData
  },
  StatefulSet(object) {
    const spec = specOf(object)
    absent(spec, {
      replicas: 1,
      podManagementPolicy: 'OrderedReady',
      revisionHistoryLimit: 10,
      updateStrategy: { type: 'RollingUpdate' },
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
    })
    absent(fields(spec.updateStrategy), { type: 'RollingUpdate' })
    const template = at(spec, 'template', 'spec')
    if (isFields(template)) defaultPodSpec(template)
    for (const claim of list(spec.volumeClaimTemplates).map(fields)) {
      absent(claim, { apiVersion: 'v1', kind: 'PersistentVolumeClaim', status: { phase: 'Pending' } })
      absent(fields(claim.spec), { volumeMode: 'Filesystem' })
    }
  },
  PersistentVolumeClaim(object) {
    absent(specOf(object), { volumeMode: 'Filesystem', storageClassName: 'standard' })
  },
}

/** Fills in, in place, what Kubernetes fills in. */
export function defaultBuiltIn(object: KubeObject, resource: Resource): void {
  DEFAULTS[resource.kind]?.(object)
}

/** The status that a new object begins with, whatever was sent. */
export function firstStatus(resource: Resource): Fields | null {
  switch (resource.kind) {
    case 'Namespace':
      return { phase: 'Active' }
    case 'Pod':
      return { phase: 'Pending', qosClass: 'Burstable' }
    case 'PersistentVolumeClaim':
      return { phase: 'Pending' }
    case 'Service':
      return { loadBalancer: {} }
    case 'StatefulSet':
      return { replicas: 0, availableReplicas: 0 }
    default:
      return resource.schema === null && resource.status ? {} : null
  }
}

/** Errors of an object; `before` is null for a new one. */
export function admitBuiltIn(
  object: KubeObject,
  before: KubeObject | null,
  resource: Resource,
  part: string,
): FieldError[] {
  if (part === 'status') return []
  switch (resource.kind) {
    case 'ConfigMap':
    case 'Secret':
      return before === null ? [] : immutableData(object, before)
    case 'StatefulSet':
      return statefulSetErrors(object, before)
    case 'PersistentVolumeClaim':
      return before === null ? claimErrors(object) : claimUpdateErrors(object, before)
    case 'Pod':
      return podErrors(object, before)
    case 'Service':
      return serviceErrors(object)
    default:
      return []
  }
}

function immutableData(object: KubeObject, before: KubeObject): FieldError[] {
  const errors: FieldError[] = []
  const why = 'field is immutable when `immutable` is set'
  if (before.immutable === true) {
    if (object.immutable !== true) errors.push(forbiddenValue('immutable', why))
    for (const field of ['data', 'binaryData']) {
      if (!same(object[field] ?? {}, before[field] ?? {})) errors.push(forbiddenValue(field, why))
    }
  }
  if (object.type !== before.type) errors.push(invalidValue('type', object.type, 'field is immutable'))
  return errors
}

const CHANGEABLE = [
  'replicas',
  'ordinals',
  'template',
  'updateStrategy',
  'revisionHistoryLimit',
  'persistentVolumeClaimRetentionPolicy',
  'minReadySeconds',
]

function statefulSetErrors(object: KubeObject, before: KubeObject | null): FieldError[] {
  const spec = fields(object.spec)
  const errors: FieldError[] = []
  if (typeof spec.replicas === 'number' && spec.replicas < 0) {
    errors.push(invalidValue('spec.replicas', spec.replicas, 'must be greater than or equal to 0'))
  }
  if (!isFields(spec.selector)) errors.push(requiredValue('spec.selector'))
  const labels = fields(at(spec, 'template', 'metadata', 'labels')) as Record<string, string>
  if (!matchesSelector(spec.selector, labels)) {
    errors.push(invalidValue('spec.template.metadata.labels', labels, '`selector` does not match template `labels`'))
  }
  if (list(at(spec, 'template', 'spec', 'containers')).length === 0) {
    errors.push(requiredValue('spec.template.spec.containers'))
  }
  if (before !== null) {
    const fixed = (of: KubeObject): Fields =>
      Object.fromEntries(Object.entries(fields(of.spec)).filter(([field]) => !CHANGEABLE.includes(field)))
    if (!same(fixed(object), fixed(before))) {
      errors.push(
        forbiddenValue(
          'spec',
          "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ),
      )
    }
  }
  return errors
}

const STORAGE = ['resources', 'requests', 'storage'] as const

function claimErrors(object: KubeObject): FieldError[] {
  const wanted = at(object.spec, ...STORAGE)
  if (wanted === undefined) return [requiredValue('spec.resources[storage]')]
  const quantity = parseQuantity(text(wanted))
  if (quantity === null || quantity <= 0n)
    return [invalidValue('spec.resources[storage]', wanted, 'must be greater than zero')]
  return list(at(object.spec, 'accessModes')).length === 0
    ? [requiredValue('spec.accessModes', 'at least 1 access mode is required')]
    : []
}

function claimUpdateErrors(object: KubeObject, before: KubeObject): FieldError[] {
  const errors = claimErrors(object)
  const fixed = (of: KubeObject): Fields => ({ ...fields(of.spec), resources: null, volumeName: null })
  if (!same(fixed(object), fixed(before))) {
    errors.push(
      forbiddenValue(
        'spec',
        'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
      ),
    )
  }
  const [wanted, had] = [at(object.spec, ...STORAGE), at(before.spec, ...STORAGE)].map((size) =>
    parseQuantity(text(size)),
  )
  if (wanted !== null && had !== null && wanted !== undefined && had !== undefined && wanted < had) {
    errors.push(forbiddenValue('spec.resources.requests.storage', 'field can not be less than previous value'))
  }
  return errors
}

const POD_CHANGEABLE = new Set(['nodeName', 'tolerations', 'activeDeadlineSeconds', 'terminationGracePeriodSeconds'])

function podErrors(object: KubeObject, before: KubeObject | null): FieldError[] {
  if (before === null) {
    return list(at(object.spec, 'containers')).length === 0 ? [requiredValue('spec.containers')] : []
  }
  const fixed = (of: KubeObject): Fields =>
    Object.fromEntries(
      Object.entries(fields(of.spec))
        .filter(([field]) => !POD_CHANGEABLE.has(field))
        .map(([field, value]) =>
          field === 'containers'
            ? [field, list(value).map((each) => ({ ...fields(each), image: null }))]
            : [field, value],
        ),
    )
  if (same(fixed(object), fixed(before))) return []
  return [
    forbiddenValue(
      'spec',
      'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
    ),
  ]
}

function serviceErrors(object: KubeObject): FieldError[] {
  const spec = fields(object.spec)
  if (list(spec.ports).length === 0 && spec.clusterIP !== 'None' && spec.type !== 'ExternalName') {
    return [requiredValue('spec.ports')]
  }
  return []
}
