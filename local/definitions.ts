/**
 * CustomResourceDefinitions: what is filled in, what is refused, and the conditions they get. PURE.
 */
import { compilationError } from './cel.ts'
import { type FieldError, invalid, invalidValue, requiredValue } from './failure.ts'
import { type Fields, type KubeObject, fields, isFields, list, text } from './objects.ts'
import type { Resource } from './resources.ts'
import { expression } from './schema.ts'

/** Fills in, in place, the names that follow from the others. */
export function defaultDefinition(definition: KubeObject): void {
  const spec = fields(definition.spec)
  const names = fields(spec.names)
  const kind = text(names.kind)
  names.singular ??= kind.toLowerCase()
  names.listKind ??= `${kind}List`
  spec.conversion ??= { strategy: 'None' }
}

/** Throws the 422 with every error: names, versions, and rules that cannot be compiled. */
export function admitDefinition(definition: KubeObject, resource: Resource): void {
  const spec = fields(definition.spec)
  const names = fields(spec.names)
  const errors: FieldError[] = []
  const wanted = `${text(names.plural)}.${text(spec.group)}`
  if (definition.metadata.name !== wanted) {
    errors.push(invalidValue('metadata.name', definition.metadata.name, 'must be spec.names.plural+"."+spec.group'))
  }
  for (const field of ['plural', 'kind'])
    if (text(names[field]) === '') errors.push(requiredValue(`spec.names.${field}`))
  const versions = list(spec.versions).map(fields)
  if (versions.filter((version) => version.storage === true).length !== 1) {
    errors.push(
      invalidValue(
        'spec.versions',
        versions.map((version) => version.name),
        'must have exactly one version marked as storage version',
      ),
    )
  }
  for (const [position, version] of versions.entries()) {
    const path = `spec.versions[${position}].schema.openAPIV3Schema`
    const schema = fields(version.schema).openAPIV3Schema
    if (!isFields(schema)) errors.push(requiredValue(path, 'schemas are required'))
    else {
      if (schema.type !== 'object')
        errors.push(invalidValue(`${path}.type`, schema.type ?? '', 'must be object at the root'))
      errors.push(...schemaErrors(schema, path))
    }
  }
  if (errors.length > 0) throw invalid(resource, definition.metadata.name, errors)
}

function schemaErrors(schema: Fields, path: string): FieldError[] {
  const errors: FieldError[] = []
  const structural = schema.type !== undefined || schema['x-kubernetes-int-or-string'] === true
  if (!structural && schema['x-kubernetes-preserve-unknown-fields'] !== true) {
    errors.push(requiredValue(`${path}.type`, 'must not be empty for specified object fields'))
  }
  if (schema.pattern !== undefined) {
    try {
      expression(text(schema.pattern))
    } catch (error) {
      errors.push(
        invalidValue(
          `${path}.pattern`,
          schema.pattern,
          `must be a valid regular expression, but isn't: ${(error as Error).message}`,
        ),
      )
    }
  }
  for (const [position, rule] of list(schema['x-kubernetes-validations']).map(fields).entries()) {
    const why = compilationError(text(rule.rule))
    if (why !== null) {
      errors.push(
        invalidValue(`${path}.x-kubernetes-validations[${position}].rule`, rule.rule, `compilation failed: ${why}`),
      )
    }
  }
  for (const [field, below] of Object.entries(fields(schema.properties))) {
    errors.push(...schemaErrors(fields(below), `${path}.properties[${field}]`))
  }
  if (isFields(schema.items)) errors.push(...schemaErrors(schema.items, `${path}.items`))
  if (isFields(schema.additionalProperties)) {
    errors.push(...schemaErrors(schema.additionalProperties, `${path}.additionalProperties`))
  }
  return errors
}

/** The status of a definition that is served. `now`: RFC 3339. */
export function definitionStatus(definition: KubeObject, now: string): Fields {
  const spec = fields(definition.spec)
  const before = fields(definition.status)
  const condition = (type: string, reason: string, message: string): Fields => ({
    lastTransitionTime: now,
    message,
    observedGeneration: definition.metadata.generation ?? 1,
    reason,
    status: 'True',
    type,
  })
  return {
    conditions:
      list(before.conditions).length > 0
        ? before.conditions
        : [
            condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
            condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
          ],
    acceptedNames: spec.names,
    storedVersions: list(spec.versions)
      .map(fields)
      .filter((version) => version.storage === true)
      .map((version) => version.name),
  }
}
