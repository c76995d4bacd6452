/**
 * Endpoints of Services: one slice for each pod, because on one machine each pod has ports of its own. Nothing
 * routes here; the slices say where the pods behind a Service really are.
 */
import { PORTS, type PortName } from '../src/contract.ts'
import { Loop } from './loop.ts'
import { type Fields, type KubeObject, at, fields, hasCondition, labelsOf, list, same, text } from './objects.ts'
import type { Ports } from './ports.ts'
import type { Registry } from './registry.ts'
import { builtIn } from './resources.ts'
import { matchesSelector } from './selectors.ts'

const SERVICES = builtIn('services')
const PODS = builtIn('pods')
const SLICES = builtIn('endpointslices')
const LABEL = 'kubernetes.io/service-name'

export function startServices(registry: Registry, ports: Ports): Loop {
  return new Loop(registry, [SERVICES.key, PODS.key], () => {
    const wanted = new Map<string, Fields>()
    for (const service of registry.list(SERVICES)) {
      if (service.metadata.deletionTimestamp !== undefined) continue
      for (const slice of slicesOf(registry, service, ports)) wanted.set(placeOf(slice as unknown as KubeObject), slice)
    }
    for (const slice of registry.list(SLICES)) {
      if (slice.metadata.labels?.[LABEL] !== undefined && !wanted.has(placeOf(slice)))
        registry.store.remove(SLICES.key, slice)
    }
    for (const slice of wanted.values()) write(registry, slice as unknown as KubeObject)
  })
}

const placeOf = (object: KubeObject): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`

function write(registry: Registry, slice: KubeObject): void {
  const { name, namespace } = slice.metadata
  const present = registry.store.get(SLICES.key, namespace ?? '', name)
  if (present === null) registry.add(SLICES, slice)
  else if (!same(present.endpoints, slice.endpoints) || !same(present.ports, slice.ports)) {
    registry.change(SLICES, namespace ?? '', name, 'main', (object) => {
      object.endpoints = slice.endpoints
      object.ports = slice.ports
    })
  }
}

function slicesOf(registry: Registry, service: KubeObject, ports: Ports): Fields[] {
  const { namespace, name, uid } = service.metadata
  const selector = fields(at(service, 'spec', 'selector'))
  if (Object.keys(selector).length === 0) return []
  const chosen = registry
    .list(PODS, namespace)
    .filter(
      (pod) => matchesSelector({ matchLabels: selector }, labelsOf(pod)) && text(at(pod, 'status', 'podIP')) !== '',
    )
  return chosen.flatMap((pod) => {
    const own = ports.of(`${pod.metadata.name}.${text(at(pod, 'spec', 'subdomain'))}.${namespace}.svc`)
    if (own === null) return []
    const ready = hasCondition(pod, 'Ready') && pod.metadata.deletionTimestamp === undefined
    const publish = at(service, 'spec', 'publishNotReadyAddresses') === true
    return [
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: {
          name: `${name}-${pod.metadata.name}`,
          namespace,
          labels: { [LABEL]: name, 'endpointslice.kubernetes.io/managed-by': 'lokikv-local' },
          ownerReferences: [
            { apiVersion: 'v1', kind: 'Service', name, uid, controller: true, blockOwnerDeletion: true },
          ],
        },
        addressType: 'IPv4',
        endpoints: [
          {
            addresses: ['127.0.0.1'],
            conditions: {
              ready: ready || publish,
              serving: ready,
              terminating: pod.metadata.deletionTimestamp !== undefined,
            },
            nodeName: at(pod, 'spec', 'nodeName'),
            targetRef: { kind: 'Pod', name: pod.metadata.name, namespace, uid: pod.metadata.uid },
          },
        ],
        ports: list(at(service, 'spec', 'ports')).flatMap((port) => {
          const target = text(at(port, 'targetPort'))
          const known = (Object.keys(PORTS) as PortName[]).find(
            (each) => each === target || String(PORTS[each]) === target,
          )
          return known === undefined ? [] : [{ name: text(at(port, 'name')), port: own[known], protocol: 'TCP' }]
        }),
      },
    ]
  })
}
