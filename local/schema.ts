/**
 * Structural schemas of custom resources: pruning, defaulting and validation, with the texts of Kubernetes
 * (apiextensions-apiserver/pkg/apiserver/schema and kube-openapi/pkg/validation). PURE. CEL rules: cel.ts.
 */
import {
  duplicateValue,
  type FieldError,
  invalidValue,
  requiredValue,
  typeInvalid,
  unsupportedValue,
} from './failure.ts'
import { type Fields, copy, isFields, list, same } from './objects.ts'

export interface Schema {
  readonly type?: string
  readonly format?: string
  readonly description?: string
  readonly nullable?: boolean
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema | boolean
  readonly items?: Schema
  readonly required?: readonly string[]
  readonly enum?: readonly unknown[]
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: boolean
  readonly exclusiveMaximum?: boolean
  readonly multipleOf?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly pattern?: string
  readonly minItems?: number
  readonly maxItems?: number
  readonly minProperties?: number
  readonly maxProperties?: number
  readonly anyOf?: readonly Schema[]
  readonly allOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly not?: Schema
  readonly 'x-kubernetes-int-or-string'?: boolean
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean
  readonly 'x-kubernetes-embedded-resource'?: boolean
  readonly 'x-kubernetes-list-type'?: string
  readonly 'x-kubernetes-list-map-keys'?: readonly string[]
  readonly 'x-kubernetes-map-type'?: string
  readonly 'x-kubernetes-validations'?: readonly ValidationRule[]
}

export interface ValidationRule {
  readonly rule: string
  readonly message?: string
  readonly messageExpression?: string
  readonly reason?: string
  readonly fieldPath?: string
  readonly optionalOldSelf?: boolean
}

export const child = (path: string, field: string): string => (path === '' ? field : `${path}.${field}`)
/** How a key of a map is named in a path: `labels[a.b]`. */
export const keyed = (path: string, key: string): string => `${path}[${key}]`

const ROOT_FIELDS = ['apiVersion', 'kind', 'metadata']

/** The schema of a field of this object; null where the field is not declared. */
export function fieldSchema(schema: Schema, field: string): Schema | null {
  const declared = schema.properties?.[field]
  if (declared !== undefined) return declared
  if (isFields(schema.additionalProperties)) return schema.additionalProperties
  return schema.additionalProperties === true || schema['x-kubernetes-preserve-unknown-fields'] === true ? {} : null
}

/** Removes, in place, what the schema does not declare, and names it. The root keeps apiVersion, kind and metadata. */
export function prune(value: unknown, schema: Schema, path = ''): string[] {
  if (Array.isArray(value)) {
    return value.flatMap((item, position) =>
      schema.items === undefined ? [] : prune(item, schema.items, `${path}[${position}]`),
    )
  }
  if (!isFields(value)) return []
  const unknown: string[] = []
  for (const field of Object.keys(value).sort()) {
    if (path === '' && ROOT_FIELDS.includes(field)) continue
    const declared = fieldSchema(schema, field)
    if (declared !== null) {
      // What is not declared at all keeps everything below it.
      if (Object.keys(declared).length > 0) unknown.push(...prune(value[field], declared, child(path, field)))
    } else if (schema.properties !== undefined || schema.type === 'object') {
      delete value[field]
      unknown.push(child(path, field))
    }
  }
  return unknown
}

/** Fills in, in place, the defaults of absent fields; a null where null is not allowed counts as absent. */
export function fillDefaults(value: unknown, schema: Schema): void {
  if (Array.isArray(value)) {
    for (const item of value) if (schema.items !== undefined) fillDefaults(item, schema.items)
    return
  }
  if (!isFields(value)) return
  for (const [field, declared] of Object.entries(schema.properties ?? {})) {
    if (value[field] === null && declared.nullable !== true && declared.default !== undefined) delete value[field]
    if (value[field] === undefined && declared.default !== undefined) value[field] = copy(declared.default)
  }
  for (const [field, item] of Object.entries(value)) {
    const declared = fieldSchema(schema, field)
    if (declared !== null) fillDefaults(item, declared)
  }
}

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  return typeof value
}

function fitsType(value: unknown, schema: Schema): boolean {
  const actual = typeOf(value)
  if (schema['x-kubernetes-int-or-string'] === true) return actual === 'integer' || actual === 'string'
  if (schema.type === undefined) return true
  return actual === schema.type || (schema.type === 'number' && actual === 'integer')
}

/**
 * Every error of the value against the schema. `path` is the field in the error, `body` the field in its text
 * (they differ where only the status is validated). CEL rules are not looked at.
 */
export function validate(value: unknown, schema: Schema, path = '', body = path): FieldError[] {
  if (value === null && schema.nullable === true) return []
  if (!fitsType(value, schema)) {
    const wanted = schema['x-kubernetes-int-or-string'] === true ? 'integer,string' : (schema.type ?? '')
    const actual = typeOf(value)
    return [typeInvalid(path, actual, `${body} in body must be of type ${wanted}: ${JSON.stringify(actual)}`)]
  }
  const errors: FieldError[] = []
  if (typeof value === 'string') errors.push(...validateString(value, schema, path, body))
  if (typeof value === 'number') errors.push(...validateNumber(value, schema, path, body))
  if (Array.isArray(value)) errors.push(...validateList(value, schema, path, body))
  if (isFields(value)) errors.push(...validateObject(value, schema, path, body))
  if (schema.enum !== undefined && !schema.enum.some((allowed) => same(allowed, value))) {
    errors.push(unsupportedValue(path, value, schema.enum))
  }
  errors.push(...validateJunctors(value, schema, path, body))
  return errors
}

/** Kubernetes' expressions are RE2, which allows escapes that the strict form here does not. */
export function expression(pattern: string): RegExp {
  try {
    return new RegExp(pattern, 'u')
  } catch {
    return new RegExp(pattern)
  }
}

function validateString(value: string, schema: Schema, path: string, body: string): FieldError[] {
  const errors: FieldError[] = []
  const { length } = Array.from(value)
  if (schema.maxLength !== undefined && length > schema.maxLength) {
    errors.push({
      field: path,
      reason: 'FieldValueTooLong',
      message: `Too long: may not be more than ${schema.maxLength} bytes`,
    })
  }
  if (schema.minLength !== undefined && length < schema.minLength) {
    errors.push(invalidValue(path, value, `${body} in body should be at least ${schema.minLength} chars long`))
  }
  if (schema.pattern !== undefined && !expression(schema.pattern).test(value)) {
    errors.push(invalidValue(path, value, `${body} in body should match '${schema.pattern}'`))
  }
  return errors
}

const RANGES: Readonly<Record<string, readonly [number, number]>> = {
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int64: [-(2 ** 63), 2 ** 63 - 1],
}

function validateNumber(value: number, schema: Schema, path: string, body: string): FieldError[] {
  const errors: FieldError[] = []
  const range = RANGES[schema.format ?? '']
  if (range !== undefined && (value < range[0] || value > range[1])) {
    errors.push(
      invalidValue(path, value, `${body} in body must be of type ${schema.format}: ${JSON.stringify(String(value))}`),
    )
  }
  const { minimum, maximum } = schema
  if (minimum !== undefined && (value < minimum || (schema.exclusiveMinimum === true && value === minimum))) {
    const relation = schema.exclusiveMinimum === true ? 'greater than' : 'greater than or equal to'
    errors.push(invalidValue(path, value, `${body} in body should be ${relation} ${minimum}`))
  }
  if (maximum !== undefined && (value > maximum || (schema.exclusiveMaximum === true && value === maximum))) {
    const relation = schema.exclusiveMaximum === true ? 'less than' : 'less than or equal to'
    errors.push(invalidValue(path, value, `${body} in body should be ${relation} ${maximum}`))
  }
  if (schema.multipleOf !== undefined && !Number.isInteger(value / schema.multipleOf)) {
    errors.push(invalidValue(path, value, `${body} in body should be a multiple of ${schema.multipleOf}`))
  }
  return errors
}

const tooMany = (field: string, count: number, most: number): FieldError => ({
  field,
  reason: 'FieldValueTooMany',
  message: `Too many: ${count}: must have at most ${most} items`,
})

function validateList(value: unknown[], schema: Schema, path: string, body: string): FieldError[] {
  const errors: FieldError[] = []
  if (schema.maxItems !== undefined && value.length > schema.maxItems) {
    errors.push(tooMany(path, value.length, schema.maxItems))
  }
  if (schema.minItems !== undefined && value.length < schema.minItems) {
    errors.push(invalidValue(path, value.length, `${body} in body should have at least ${schema.minItems} items`))
  }
  const { items } = schema
  if (items !== undefined) {
    errors.push(...value.flatMap((item, at) => validate(item, items, `${path}[${at}]`, `${body}[${at}]`)))
  }
  const identity = identityOf(schema)
  if (identity !== null) {
    value.forEach((item, position) => {
      const key = identity(item)
      if (value.slice(0, position).some((earlier) => same(identity(earlier), key))) {
        errors.push(duplicateValue(`${path}[${position}]`, key))
      }
    })
  }
  return errors
}

/** What must be unique in a list of type set or map; null for other lists. */
function identityOf(schema: Schema): ((item: unknown) => unknown) | null {
  switch (schema['x-kubernetes-list-type'] ?? 'atomic') {
    case 'set':
      return (item) => item
    case 'map': {
      const keys = schema['x-kubernetes-list-map-keys'] ?? []
      return (item) => (isFields(item) ? Object.fromEntries(keys.map((key) => [key, item[key]])) : item)
    }
    default:
      return null
  }
}

function validateObject(value: Fields, schema: Schema, path: string, body: string): FieldError[] {
  const errors: FieldError[] = []
  const count = Object.keys(value).length
  if (schema.maxProperties !== undefined && count > schema.maxProperties) {
    errors.push(tooMany(path, count, schema.maxProperties))
  }
  if (schema.minProperties !== undefined && count < schema.minProperties) {
    errors.push(invalidValue(path, count, `${body} in body should have at least ${schema.minProperties} properties`))
  }
  for (const field of schema.required ?? []) {
    if (value[field] === undefined) errors.push(requiredValue(child(path, field)))
  }
  for (const [field, item] of Object.entries(value)) {
    const declared = schema.properties?.[field]
    if (path === '' && ROOT_FIELDS.includes(field)) continue
    if (declared !== undefined) errors.push(...validate(item, declared, child(path, field), child(body, field)))
    else if (isFields(schema.additionalProperties)) {
      errors.push(...validate(item, schema.additionalProperties, child(path, field), child(body, field)))
    }
  }
  return errors
}

function validateJunctors(value: unknown, schema: Schema, path: string, body: string): FieldError[] {
  const fits = (option: Schema): boolean => validate(value, option, path, body).length === 0
  const errors: FieldError[] = (schema.allOf ?? []).flatMap((each) => validate(value, each, path, body))
  if (schema.anyOf !== undefined && !schema.anyOf.some(fits)) {
    errors.push(invalidValue(path, value, `${body} in body must validate at least one schema (anyOf)`))
  }
  if (schema.oneOf !== undefined && schema.oneOf.filter(fits).length !== 1) {
    errors.push(invalidValue(path, value, `${body} in body must validate one and only one schema (oneOf)`))
  }
  if (schema.not !== undefined && fits(schema.not)) {
    errors.push(invalidValue(path, value, `${body} in body must not validate the schema (not)`))
  }
  return errors
}

/** After an error of one of these kinds the CEL rules are not evaluated, and the answer says so. */
const BLOCKING = new Set([
  'FieldValueNotSupported',
  'FieldValueRequired',
  'FieldValueTooLong',
  'FieldValueTooMany',
  'FieldValueTypeInvalid',
])

export const isBlocking = (error: FieldError): boolean => BLOCKING.has(error.reason)

export const NOT_ALL_CHECKED: FieldError = {
  field: '',
  reason: 'FieldValueInvalid',
  message:
    'Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation',
}

/** Items of a list of type map that are the same item before and after, for transition rules. */
export function correlated(item: unknown, before: unknown, schema: Schema): unknown {
  if (schema['x-kubernetes-list-type'] !== 'map') return undefined
  const identity = identityOf(schema)
  return identity === null ? undefined : list(before).find((old) => same(identity(old), identity(item)))
}
