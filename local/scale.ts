/**
 * The scale subresource: how many are wanted and how many there are, whatever the kind. Changes go through the
 * same checks as a change of the object itself.
 */
import { type Call, patchOf } from './call.ts'
import { badRequest, modified } from './failure.ts'
import { type Fields, type KubeObject, at, copy, fields, isFields, number, put, text } from './objects.ts'
import { jsonPatch, mergePatch } from './patch.ts'
import type { Registry, Write } from './registry.ts'
import type { Resource, ScalePaths } from './resources.ts'
import { selectorText } from './selectors.ts'

export function readScale(object: KubeObject, resource: Resource, paths: ScalePaths): Fields {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata
  const selector =
    paths.selector === null
      ? resource.schema === null
        ? selectorText(at(object, 'spec', 'selector'))
        : ''
      : text(at(object, ...paths.selector))
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: number(at(object, ...paths.spec)) },
    status: { replicas: number(at(object, ...paths.status)), ...(selector === '' ? {} : { selector }) },
  }
}

/** PUT or PATCH of the scale. kubectl sends its PUT without a Content-Type. */
export function writeScale(
  registry: Registry,
  resource: Resource,
  namespace: string,
  name: string,
  call: Call,
  write: Write,
): Fields {
  const before = registry.get(resource, namespace, name)
  const paths = resource.scale!
  const scale = readScale(before, resource, paths)
  const wanted = call.method === 'PUT' ? (JSON.parse(call.body) as unknown) : patched(scale, call, resource)
  if (!isFields(wanted)) throw badRequest('the scale is not an object')
  const given = text(at(wanted, 'metadata', 'resourceVersion'))
  if (given !== '' && given !== before.metadata.resourceVersion) throw modified(resource, name)
  const replicas = fields(wanted.spec).replicas ?? 0
  const object = copy(before)
  put(object, paths.spec, replicas)
  return readScale(registry.commit(resource, before, object, 'main', write), resource, paths)
}

function patched(scale: Fields, call: Call, resource: Resource): unknown {
  const patch = patchOf(call, resource)
  switch (patch.kind) {
    case 'json':
      return jsonPatch(scale, patch.value)
    case 'merge':
    case 'strategic':
      return mergePatch(scale, patch.value)
    case 'apply':
      return mergePatch(scale, { spec: fields(patch.value).spec })
    default:
      throw badRequest('unknown kind of patch')
  }
}
