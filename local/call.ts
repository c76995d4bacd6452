/**
 * A request for a resource as data, and what its body says. PURE.
 */
import { decodePatch, decodeYaml } from './decode.ts'
import { unsupportedMediaType } from './failure.ts'
import type { Patch } from './registry.ts'
import type { Resource } from './resources.ts'

export interface Call {
  readonly method: string
  readonly group: string
  readonly version: string
  /** Of the path, after group and version. */
  readonly segments: readonly string[]
  readonly query: URLSearchParams
  readonly accept: string
  readonly contentType: string
  readonly userAgent: string
  readonly body: string
}

export const mediaType = (call: Call): string => (call.contentType.split(';')[0] ?? '').trim()

/** The kind of a patch and its value; 415 for one that this resource does not take. */
export function patchOf(call: Call, resource: Resource): Patch {
  switch (mediaType(call)) {
    case 'application/json-patch+json':
      return { kind: 'json', value: decodePatch(call.body) }
    case 'application/merge-patch+json':
      return { kind: 'merge', value: decodePatch(call.body) }
    case 'application/apply-patch+yaml':
      return { kind: 'apply', value: decodeYaml(call.body).value, force: call.query.get('force') === 'true' }
    case 'application/strategic-merge-patch+json':
      if (resource.schema === null) return { kind: 'strategic', value: decodePatch(call.body) }
      break
    default:
  }
  const strategic = resource.schema === null ? ['application/strategic-merge-patch+json'] : []
  throw unsupportedMediaType([
    'application/json-patch+json',
    'application/merge-patch+json',
    'application/apply-patch+yaml',
    ...strategic,
  ])
}
