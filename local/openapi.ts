/**
 * OpenAPI v3: the index at /openapi/v3 and one document for each group and version. kubectl reads it for
 * `explain`, to know that the server validates fields (the PATCH parameter `fieldValidation`), and for the
 * schemas of custom resources. What is built in is described by name only. PURE.
 */
import { type Fields, groupVersion, isFields } from './objects.ts'
import type { Resource } from './resources.ts'
import { groups } from './discovery.ts'

/** `apis/lokikv.dev/v1alpha1` */
const rootOf = (group: string, version: string): string =>
  group === '' ? `api/${version}` : `apis/${group}/${version}`

/** `/openapi/v3`. `stamp` changes whenever a document may have changed. */
export function openApiIndex(resources: readonly Resource[], stamp: string): Fields {
  const paths: Fields = {}
  for (const [group, versions] of groups(resources)) {
    for (const version of versions.keys()) {
      const root = rootOf(group, version)
      paths[root] = { serverRelativeURL: `/openapi/v3/${root}?hash=${stamp}` }
    }
  }
  return { paths }
}

/** `dev.lokikv.v1alpha1.LokiCluster` */
function schemaName(resource: Resource): string {
  const reversed = resource.group === '' ? 'io.k8s.api.core' : resource.group.split('.').toReversed().join('.')
  return `${reversed}.${resource.version}.${resource.kind}`
}

const METADATA = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta'

const METADATA_SCHEMA: Fields = {
  type: 'object',
  description:
    'ObjectMeta is metadata that all persisted resources must have, which includes all objects users must create.',
  properties: {
    name: { type: 'string', description: 'Name must be unique within a namespace. Cannot be updated.' },
    namespace: { type: 'string', description: 'Namespace defines the space within which each name must be unique.' },
    labels: {
      type: 'object',
      additionalProperties: { type: 'string', default: '' },
      description: 'Map of string keys and values that can be used to organize and categorize objects.',
    },
    annotations: {
      type: 'object',
      additionalProperties: { type: 'string', default: '' },
      description: 'Annotations is an unstructured key value map stored with a resource.',
    },
    generation: { type: 'integer', format: 'int64' },
    resourceVersion: { type: 'string' },
    uid: { type: 'string' },
    creationTimestamp: { type: 'string', format: 'date-time' },
    deletionTimestamp: { type: 'string', format: 'date-time' },
    finalizers: { type: 'array', items: { type: 'string', default: '' } },
  },
}

/** The schema as OpenAPI knows it: extensions and CEL rules stay, they are extensions too. */
function published(resource: Resource): Fields {
  const schema: Fields = isFields(resource.schema) ? { ...resource.schema } : { type: 'object' }
  return {
    ...schema,
    type: 'object',
    ...(schema.description === undefined
      ? { description: `${resource.kind}: see the documentation of Kubernetes.` }
      : {}),
    properties: {
      ...(isFields(schema.properties) ? schema.properties : {}),
      apiVersion: {
        type: 'string',
        description: 'APIVersion defines the versioned schema of this representation of an object.',
      },
      kind: {
        type: 'string',
        description: 'Kind is a string value representing the REST resource this object represents.',
      },
      metadata: {
        description: "Standard object's metadata.",
        allOf: [{ $ref: `#/components/schemas/${METADATA}` }],
      },
    },
    ...(resource.schema === null ? { 'x-kubernetes-preserve-unknown-fields': true } : {}),
    'x-kubernetes-group-version-kind': [kindOf(resource)],
  }
}

const kindOf = (resource: Resource): Fields => ({
  group: resource.group,
  version: resource.version,
  kind: resource.kind,
})

const query = (name: string, description: string): Fields => ({
  name,
  in: 'query',
  description,
  schema: { type: 'string', uniqueItems: true },
})

const PATCH_PARAMETERS: readonly Fields[] = [
  query('dryRun', 'When present, indicates that modifications should not be persisted.'),
  query('fieldManager', 'The name of the actor that is making these changes.'),
  query('fieldValidation', 'What the server does about unknown and duplicate fields: Ignore, Warn or Strict.'),
  query('force', 'Force is going to force apply requests.'),
]

const PATCH_TYPES = ['application/apply-patch+yaml', 'application/json-patch+json', 'application/merge-patch+json']

function operations(resource: Resource): Fields {
  const reference = { $ref: `#/components/schemas/${schemaName(resource)}` }
  const ok = { '200': { description: 'OK', content: { 'application/json': { schema: reference } } } }
  const body = (types: readonly string[]): Fields => ({
    content: Object.fromEntries(types.map((type) => [type, { schema: reference }])),
  })
  const action = (verb: string, more: Fields = {}): Fields => ({
    operationId: `${verb}${resource.kind}`,
    responses: ok,
    ...more,
    'x-kubernetes-action': verb,
    'x-kubernetes-group-version-kind': kindOf(resource),
  })
  return {
    get: action('get'),
    put: action('put', { parameters: PATCH_PARAMETERS, requestBody: body(['application/json']) }),
    patch: action('patch', { parameters: PATCH_PARAMETERS, requestBody: body(PATCH_TYPES) }),
    delete: action('delete'),
  }
}

/** The document of one group and version. */
export function openApiDocument(group: string, version: string, resources: readonly Resource[]): Fields {
  const own = resources.filter((each) => each.group === group && each.version === version)
  const paths: Fields = {}
  const schemas: Fields = { [METADATA]: METADATA_SCHEMA }
  for (const resource of own) {
    const scope = resource.namespaced ? '/namespaces/{namespace}' : ''
    paths[`/${rootOf(group, version)}${scope}/${resource.plural}/{name}`] = operations(resource)
    schemas[schemaName(resource)] = published(resource)
  }
  return {
    openapi: '3.0.0',
    info: { title: 'LokiKV local', version: groupVersion(group, version) },
    paths,
    components: { schemas },
  }
}
