/**
 * Manifests that `npm start` applies: read from a file, checked, applied as kubectl would. An object whose
 * manifest has not changed since it was last applied is left as it is, so that a scale or an edit survives a
 * restart. Errors: LOCAL_MANIFEST, with the file and the words of the API.
 */
import { readFileSync } from 'node:fs'
import { parseAllDocuments } from 'yaml'
import { LokiError } from '../src/errors.ts'
import { Failure } from './failure.ts'
import { type Fields, type KubeObject, at, fields, isFields, list, text } from './objects.ts'
import type { Registry, Write } from './registry.ts'

const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration'

const WRITE: Write = { manager: 'npm-start', dryRun: false, validation: 'Strict', warn: () => {} }

/** The objects of a file, lists taken apart. `shown`: how errors name the file. */
export function readManifest(path: string, file = path): Fields[] {
  let content: string
  try {
    content = readFileSync(path, 'utf8')
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'there is no such file' : (error as Error).message
    throw new LokiError('LOCAL_MANIFEST', `${file}: ${why}`)
  }
  const objects: Fields[] = []
  for (const document of parseAllDocuments(content)) {
    const [problem] = document.errors ?? []
    if (problem !== undefined) throw new LokiError('LOCAL_MANIFEST', `${file}: ${problem.message.split('\n')[0]}`)
    const value = document.toJS() as unknown
    if (value === null) continue
    if (!isFields(value)) throw new LokiError('LOCAL_MANIFEST', `${file}: an object expected`)
    objects.push(...(value.kind === 'List' ? list(value.items).map(fields) : [value]))
  }
  if (objects.length === 0) throw new LokiError('LOCAL_MANIFEST', `${file}: there is no object in it`)
  return objects
}

export interface Applied {
  readonly object: KubeObject
  readonly outcome: 'created' | 'configured' | 'unchanged'
}

/** Applies one object. */
export function applyManifest(registry: Registry, manifest: Fields, file: string, dryRun = false): Applied {
  const [apiVersion, kind] = [text(manifest.apiVersion), text(manifest.kind)]
  const resource = registry.findKind(apiVersion, kind)
  if (resource === null) {
    throw new LokiError(
      'LOCAL_MANIFEST',
      `${file}: no resource of kind '${kind}' in apiVersion '${apiVersion}' is served here`,
    )
  }
  const name = text(at(manifest, 'metadata', 'name'))
  const namespace = resource.namespaced ? text(at(manifest, 'metadata', 'namespace')) || 'default' : ''
  const said = `${JSON.stringify(manifest)}\n`
  const before = registry.store.get(resource.key, namespace, name)
  if (before !== null && before.metadata.annotations?.[LAST_APPLIED] === said)
    return { object: before, outcome: 'unchanged' }
  const metadata = fields(manifest.metadata)
  const annotations = { ...fields(metadata.annotations), [LAST_APPLIED]: said }
  const value = { ...manifest, metadata: { ...metadata, annotations } }
  try {
    // A strict create tells of every field that is not known; an apply alone would stop at the first.
    if (before === null) registry.create(resource, namespace, { value, duplicates: [] }, { ...WRITE, dryRun: true })
    const patch = { kind: 'apply', value, force: true } as const
    const { object } = registry.patch(resource, namespace, name, patch, 'main', { ...WRITE, dryRun })
    return { object, outcome: before === null ? 'created' : 'configured' }
  } catch (error) {
    if (error instanceof Failure) throw new LokiError('LOCAL_MANIFEST', `${file}: ${error.message}`, { cause: error })
    throw error
  }
}
