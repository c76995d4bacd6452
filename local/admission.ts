/**
 * What an object must be before it is stored: names and metadata, the custom resource's schema and rules, the
 * scale's fields. Defaults and rules of what is built in: builtins.ts. PURE.
 */
import { checkRules } from './cel.ts'
import { admitBuiltIn, defaultBuiltIn } from './builtins.ts'
import { type FieldError, Failure, forbiddenValue, invalid, invalidValue, requiredValue } from './failure.ts'
import { type KubeObject, type Metadata, at, isFields, same, text } from './objects.ts'
import type { Resource } from './resources.ts'
import { NOT_ALL_CHECKED, fillDefaults, isBlocking, prune, validate } from './schema.ts'

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const SERVICE = /^[a-z]([-a-z0-9]*[a-z0-9])?$/

const SUBDOMAIN_TEXT =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
const LABEL_TEXT =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
const SERVICE_TEXT =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"

const METADATA_FIELDS = new Set([
  'name',
  'generateName',
  'namespace',
  'selfLink',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'labels',
  'annotations',
  'ownerReferences',
  'finalizers',
  'managedFields',
])

function nameErrors(resource: Resource, name: string): FieldError[] {
  const form: readonly [RegExp, string, number] =
    resource.plural === 'services'
      ? [SERVICE, SERVICE_TEXT, 63]
      : resource.plural === 'namespaces'
        ? [LABEL, LABEL_TEXT, 63]
        : [SUBDOMAIN, SUBDOMAIN_TEXT, 253]
  const errors: FieldError[] = []
  if (name.length > form[2]) errors.push(invalidValue('metadata.name', name, `must be no more than ${form[2]} bytes`))
  if (!form[0].test(name)) errors.push(invalidValue('metadata.name', name, form[1]))
  return errors
}

const LABEL_VALUE = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/
const LABEL_VALUE_TEXT =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"

/** Errors of the metadata that do not depend on what was there before. */
function metadataErrors(object: KubeObject, resource: Resource): FieldError[] {
  const { name, generateName, labels, ownerReferences } = object.metadata
  const errors: FieldError[] = []
  if (text(name) === '' && text(generateName) === '') {
    errors.push(requiredValue('metadata.name', 'name or generateName is required'))
  } else errors.push(...nameErrors(resource, name))
  for (const value of Object.values(labels ?? {})) {
    if (typeof value !== 'string' || value.length > 63 || !LABEL_VALUE.test(value)) {
      errors.push(invalidValue('metadata.labels', value, LABEL_VALUE_TEXT))
    }
  }
  for (const [position, reference] of (ownerReferences ?? []).entries()) {
    for (const field of ['apiVersion', 'kind', 'name', 'uid'] as const) {
      if (text(reference[field]) === '') {
        errors.push(requiredValue(`metadata.ownerReferences[${position}].${field}`, 'must not be empty'))
      }
    }
  }
  return errors
}

/** Errors of an update's metadata. Texts: apimachinery/pkg/api/validation/objectmeta.go. */
function metadataUpdateErrors(object: Metadata, before: Metadata): FieldError[] {
  const errors: FieldError[] = []
  const added = (object.finalizers ?? []).filter((finalizer) => !(before.finalizers ?? []).includes(finalizer))
  if (before.deletionTimestamp !== undefined && added.length > 0) {
    const found = `[]string{${added.map((finalizer) => JSON.stringify(finalizer)).join(', ')}}`
    errors.push(
      forbiddenValue(
        'metadata.finalizers',
        `no new finalizers can be added if the object is being deleted, found new finalizers ${found}`,
      ),
    )
  }
  for (const field of ['name', 'namespace', 'uid', 'creationTimestamp'] as const) {
    if (object[field] !== before[field]) {
      errors.push(invalidValue(`metadata.${field}`, object[field], 'field is immutable'))
    }
  }
  return errors
}

/** Fields of the scale must be whole numbers that are not negative. Source: apiextensions validation of scale. */
function scaleErrors(object: KubeObject, resource: Resource): FieldError[] {
  const errors: FieldError[] = []
  if (resource.scale === null || resource.schema === null) return errors
  for (const path of [resource.scale.spec, resource.scale.status]) {
    const value = at(object, ...path)
    const field = `.${path.join('.')}`
    if (value === undefined || value === null) continue
    if (typeof value !== 'number') {
      const type = Array.isArray(value) ? 'slice' : isFields(value) ? 'map[string]interface {}' : typeof value
      const shown = typeof value === 'string' ? value : JSON.stringify(value)
      errors.push(invalidValue(field, 0, `${field} accessor error: ${shown} is of the type ${type}, expected int64`))
    } else if (value < 0) errors.push(invalidValue(field, value, 'should be a non-negative integer'))
  }
  return errors
}

/** Prunes, in place, what is not declared; names it as strict decoding does. */
export function dropUnknown(object: KubeObject, resource: Resource): string[] {
  const unknown: string[] = []
  for (const field of Object.keys(object.metadata)) {
    if (METADATA_FIELDS.has(field)) continue
    delete (object.metadata as unknown as Record<string, unknown>)[field]
    unknown.push(`metadata.${field}`)
  }
  if (resource.schema !== null) unknown.push(...prune(object, resource.schema))
  return unknown
}

/** Fills in, in place, the defaults of the schema or of what is built in. */
export function withDefaults(object: KubeObject, resource: Resource): void {
  if (resource.schema === null) defaultBuiltIn(object, resource)
  else {
    fillDefaults(object, resource.schema)
    dropNulls(object, resource)
  }
}

/** A null for a field that is neither nullable nor has a default is an error of type; the rest of nulls stay. */
function dropNulls(object: KubeObject, resource: Resource): void {
  for (const field of Object.keys(object)) {
    if (object[field] === null && resource.schema?.properties?.[field]?.nullable !== true) delete object[field]
  }
}

/** Which part of the object a request may change. */
export type Part = 'main' | 'status'

/** Throws the 422 with every error of the object. `before`: null for a new one. */
export function admit(object: KubeObject, before: KubeObject | null, resource: Resource, part: Part): void {
  const errors = [...metadataErrors(object, resource)]
  if (before !== null) errors.push(...metadataUpdateErrors(object.metadata, before.metadata))
  if (resource.schema === null) {
    errors.push(...admitBuiltIn(object, before, resource, part))
    if (errors.length > 0) throw invalid(resource, object.metadata.name, errors)
    return
  }
  if (part === 'status') {
    const status = resource.schema.properties?.status
    if (status !== undefined && object.status !== undefined)
      errors.push(...validate(object.status, status, 'status', ''))
  } else errors.push(...validate(object, resource.schema))
  errors.push(...scaleErrors(object, resource))
  if (errors.some(isBlocking)) throw invalid(resource, object.metadata.name, [...errors, NOT_ALL_CHECKED])
  const rules = checkRules(object, before ?? undefined, resource.schema)
  const relevant = part === 'status' ? rules.filter((error) => error.field.startsWith('status')) : rules
  const all = [...errors, ...relevant]
  if (all.length === 0) return
  // What was wrong before and has not been touched does not stand in the way (ratcheting).
  const ratcheted = before === null ? all : all.filter((error) => !isUntouched(error.field, object, before))
  if (ratcheted.length > 0) throw invalid(resource, object.metadata.name, ratcheted)
}

function isUntouched(field: string, object: KubeObject, before: KubeObject): boolean {
  if (field === '' || field.startsWith('metadata') || field.startsWith('.')) return false
  const path = field.split('.').flatMap((step) => {
    const [name, ...positions] = step.split('[')
    return [name ?? '', ...positions.map((position) => Number.parseInt(position, 10))]
  })
  return same(at(object, ...path), at(before, ...path))
}

/** 400 with the words of strict decoding. */
export function strictDecoding(resource: Resource, duplicates: readonly string[], unknown: readonly string[]): Failure {
  return new Failure(
    400,
    'BadRequest',
    `${resource.kind} in version "${resource.version}" cannot be handled as a ${resource.kind}: strict decoding error: ${strictTexts(duplicates, unknown).join(', ')}`,
  )
}

export const strictTexts = (duplicates: readonly string[], unknown: readonly string[]): string[] => [
  ...duplicates.map((field) => `duplicate field "${field}"`),
  ...unknown.map((field) => `unknown field "${field}"`),
]
