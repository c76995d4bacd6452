/**
 * Discovery: which groups, versions and resources there are, in both forms that clients ask for (one aggregated
 * document by Accept header, or one list for each group and version). PURE.
 */
import { type Fields, groupVersion } from './objects.ts'
import type { Resource } from './resources.ts'

interface Subresource {
  readonly name: string
  readonly group: string
  readonly version: string
  readonly kind: string
  readonly verbs: readonly string[]
}

const CHANGE = ['get', 'patch', 'update'] as const

export function subresources(resource: Resource): Subresource[] {
  const { group, version, kind } = resource
  const found: Subresource[] = []
  if (resource.status) found.push({ name: 'status', group, version, kind, verbs: CHANGE })
  if (resource.scale !== null)
    found.push({ name: 'scale', group: 'autoscaling', version: 'v1', kind: 'Scale', verbs: CHANGE })
  if (kind === 'Pod') {
    found.push({ name: 'eviction', group: 'policy', version: 'v1', kind: 'Eviction', verbs: ['create'] })
    found.push({ name: 'log', group, version, kind, verbs: ['get'] })
  }
  return found
}

/** Groups, each with its versions in the order of the table; the core group first. */
export function groups(resources: readonly Resource[]): Map<string, Map<string, Resource[]>> {
  const found = new Map<string, Map<string, Resource[]>>()
  for (const resource of resources) {
    const versions = found.get(resource.group) ?? new Map<string, Resource[]>()
    found.set(resource.group, versions)
    versions.set(resource.version, [...(versions.get(resource.version) ?? []), resource])
  }
  return found
}

/** The content type of the aggregated form, and what a client that wants it says. */
export const AGGREGATED = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList'
export const wantsAggregated = (accept: string): boolean =>
  /g=apidiscovery\.k8s\.io/.test(accept) && /v=v2(?!beta)/.test(accept) && /as=APIGroupDiscoveryList/.test(accept)

function described(resource: Resource): Fields {
  return {
    resource: resource.plural,
    responseKind: { group: resource.group, version: resource.version, kind: resource.kind },
    scope: resource.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: resource.singular,
    verbs: resource.verbs,
    ...(resource.shortNames.length === 0 ? {} : { shortNames: resource.shortNames }),
    ...(resource.categories.length === 0 ? {} : { categories: resource.categories }),
    ...(subresources(resource).length === 0
      ? {}
      : {
          subresources: subresources(resource).map((each) => ({
            subresource: each.name,
            responseKind: { group: each.group, version: each.version, kind: each.kind },
            verbs: each.verbs,
          })),
        }),
  }
}

/** `/api` (the core group) or `/apis` (all others) in one document. */
export function aggregated(resources: readonly Resource[], core: boolean): Fields {
  const chosen = [...groups(resources)].filter(([group]) => (group === '') === core)
  return {
    kind: 'APIGroupDiscoveryList',
    apiVersion: 'apidiscovery.k8s.io/v2',
    metadata: {},
    items: chosen.map(([group, versions]) => ({
      metadata: group === '' ? { creationTimestamp: null } : { name: group, creationTimestamp: null },
      versions: [...versions].map(([version, each]) => ({
        version,
        resources: each.map(described),
        freshness: 'Current',
      })),
    })),
  }
}

/** `/apis/G` */
export function apiGroup(group: string, versions: Iterable<string>, withKind = true): Fields {
  const named = [...versions].map((version) => ({ groupVersion: groupVersion(group, version), version }))
  return {
    ...(withKind ? { kind: 'APIGroup', apiVersion: 'v1' } : {}),
    name: group,
    versions: named,
    preferredVersion: named[0],
  }
}

/** `/apis` */
export function apiGroupList(resources: readonly Resource[]): Fields {
  const named = [...groups(resources)].filter(([group]) => group !== '')
  return {
    kind: 'APIGroupList',
    apiVersion: 'v1',
    groups: named.map(([group, versions]) => apiGroup(group, versions.keys(), false)),
  }
}

/** `/api` */
export const apiVersions = (address: string): Fields => ({
  kind: 'APIVersions',
  versions: ['v1'],
  serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: address }],
})

/** `/api/v1`, `/apis/G/V` */
export function apiResourceList(group: string, version: string, resources: readonly Resource[]): Fields {
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: groupVersion(group, version),
    resources: resources.flatMap((resource) => [
      {
        name: resource.plural,
        singularName: resource.singular,
        namespaced: resource.namespaced,
        kind: resource.kind,
        verbs: resource.verbs,
        ...(resource.shortNames.length === 0 ? {} : { shortNames: resource.shortNames }),
        ...(resource.categories.length === 0 ? {} : { categories: resource.categories }),
      },
      ...subresources(resource).map((each) => ({
        name: `${resource.plural}/${each.name}`,
        singularName: '',
        namespaced: resource.namespaced,
        ...(each.group === resource.group ? {} : { group: each.group, version: each.version }),
        kind: each.kind,
        verbs: each.verbs,
      })),
    ]),
  }
}
