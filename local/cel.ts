/**
 * `x-kubernetes-validations`: CEL rules of custom resources, evaluated by @marcbachmann/cel-js, with the
 * functions that Kubernetes adds for quantities. Rules that name `oldSelf` are transition rules: they hold
 * only where there was a value before. PURE.
 */
import { Environment } from '@marcbachmann/cel-js'
import { type FieldError, duplicateValue, invalidValue } from './failure.ts'
import { isFields } from './objects.ts'
import { type Schema, type ValidationRule, child, correlated, fieldSchema } from './schema.ts'

/** An amount such as `1.5Gi`, exactly, in billionths. */
class Quantity {
  readonly nanos: bigint
  constructor(nanos: bigint) {
    this.nanos = nanos
  }
}

const NANO = 1_000_000_000n
const SUFFIXES: Readonly<Record<string, bigint>> = {
  n: 1n,
  u: 1000n,
  m: 1_000_000n,
  '': NANO,
  k: NANO * 10n ** 3n,
  M: NANO * 10n ** 6n,
  G: NANO * 10n ** 9n,
  T: NANO * 10n ** 12n,
  P: NANO * 10n ** 15n,
  E: NANO * 10n ** 18n,
  Ki: NANO << 10n,
  Mi: NANO << 20n,
  Gi: NANO << 30n,
  Ti: NANO << 40n,
  Pi: NANO << 50n,
  Ei: NANO << 60n,
}

/** Parses a quantity; null for what is none. What is finer than a billionth is rounded up, as Kubernetes does. */
export function parseQuantity(given: string): bigint | null {
  const match = /^([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:([eE])([+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)$/.exec(given)
  if (match === null) return null
  const [, sign, digits, exponential, exponent, suffix] = match
  const [whole, fraction = ''] = (digits ?? '').split('.')
  let scaled = BigInt(`${whole}${fraction}` || '0') * (exponential === undefined ? SUFFIXES[suffix ?? '']! : NANO)
  let divisor = 10n ** BigInt(fraction.length)
  const power = Number(exponent ?? 0)
  if (power > 0) scaled *= 10n ** BigInt(Math.min(power, 30))
  else divisor *= 10n ** BigInt(Math.min(-power, 30))
  const nanos = scaled / divisor + (scaled % divisor === 0n ? 0n : 1n)
  return sign === '-' ? -nanos : nanos
}

function quantity(given: string): Quantity {
  const nanos = parseQuantity(given)
  if (nanos === null) throw new Error(`'${given}' is not a quantity`)
  return new Quantity(nanos)
}

const environment = new Environment({ unlistedVariablesAreDyn: true, enableOptionalTypes: true })
  .registerType('kubernetes.Quantity', Quantity)
  .registerFunction('isQuantity(string): bool', (given: string) => parseQuantity(given) !== null)
  .registerFunction('quantity(string): kubernetes.Quantity', quantity)
  .registerFunction(
    'kubernetes.Quantity.isGreaterThan(kubernetes.Quantity): bool',
    (a: Quantity, b: Quantity) => a.nanos > b.nanos,
  )
  .registerFunction(
    'kubernetes.Quantity.isLessThan(kubernetes.Quantity): bool',
    (a: Quantity, b: Quantity) => a.nanos < b.nanos,
  )
  .registerFunction('kubernetes.Quantity.compareTo(kubernetes.Quantity): int', (a: Quantity, b: Quantity) =>
    a.nanos < b.nanos ? -1n : a.nanos > b.nanos ? 1n : 0n,
  )
  .registerFunction(
    'kubernetes.Quantity.add(kubernetes.Quantity): kubernetes.Quantity',
    (a: Quantity, b: Quantity) => new Quantity(a.nanos + b.nanos),
  )
  .registerFunction(
    'kubernetes.Quantity.sub(kubernetes.Quantity): kubernetes.Quantity',
    (a: Quantity, b: Quantity) => new Quantity(a.nanos - b.nanos),
  )
  .registerFunction('kubernetes.Quantity.isInteger(): bool', (a: Quantity) => a.nanos % NANO === 0n)
  .registerFunction('kubernetes.Quantity.asInteger(): int', (a: Quantity) => a.nanos / NANO)
  .registerFunction('kubernetes.Quantity.asApproximateFloat(): double', (a: Quantity) => Number(a.nanos) / 1e9)
  .registerFunction('kubernetes.Quantity.sign(): int', (a: Quantity) => (a.nanos < 0n ? -1n : a.nanos > 0n ? 1n : 0n))

type Program = (context: Record<string, unknown>) => unknown
const programs = new Map<string, Program>()

function compile(rule: string): Program {
  let program = programs.get(rule)
  if (program === undefined) programs.set(rule, (program = environment.parse(rule) as Program))
  return program
}

/** Why a rule cannot be compiled; null for one that can. */
export function compilationError(rule: string): string | null {
  try {
    compile(rule)
    return null
  } catch (error) {
    return (error as Error).message
  }
}

/** JSON as CEL sees it through the schema: integers are integers, not doubles. */
function typed(value: unknown, schema: Schema): unknown {
  if (typeof value === 'number') {
    const integer = schema.type === 'integer' || schema['x-kubernetes-int-or-string'] === true
    return integer && Number.isInteger(value) ? BigInt(value) : value
  }
  if (Array.isArray(value)) return value.map((item: unknown) => typed(item, schema.items ?? {}))
  if (!isFields(value)) return value
  const shown: [string, unknown][] = []
  for (const [field, item] of Object.entries(value)) {
    const declared = fieldSchema(schema, field)
    if (declared !== null && item !== undefined) shown.push([field, typed(item, declared)])
  }
  return Object.fromEntries(shown)
}

/** Of the metadata a rule sees the name, and only at the root. */
function visible(value: unknown, schema: Schema, root: boolean): unknown {
  const seen = typed(value, schema)
  if (!root || !isFields(value) || !isFields(seen) || !isFields(value.metadata)) return seen
  const { name, generateName } = value.metadata
  return {
    ...seen,
    apiVersion: value.apiVersion,
    kind: value.kind,
    metadata: { ...(name === undefined ? {} : { name }), ...(generateName === undefined ? {} : { generateName }) },
  }
}

/**
 * Every rule that does not hold. `before` is the value before an update; undefined for a new one, and where
 * old and new cannot be told to be the same thing.
 */
export function checkRules(value: unknown, before: unknown, schema: Schema, path = '', root = true): FieldError[] {
  if (value === null || value === undefined) return []
  const errors: FieldError[] = []
  for (const rule of schema['x-kubernetes-validations'] ?? []) {
    const error = checkRule(rule, value, before, schema, path, root)
    if (error !== null) errors.push(error)
  }
  if (Array.isArray(value)) {
    const { items } = schema
    if (items === undefined) return errors
    value.forEach((item: unknown, position) => {
      errors.push(...checkRules(item, correlated(item, before, schema), items, `${path}[${position}]`, false))
    })
  } else if (isFields(value)) {
    for (const [field, item] of Object.entries(value)) {
      const declared = schema.properties?.[field] ?? schema.additionalProperties
      if (!isFields(declared)) continue
      const old = isFields(before) ? before[field] : undefined
      errors.push(...checkRules(item, old, declared, child(path, field), false))
    }
  }
  return errors
}

function checkRule(
  rule: ValidationRule,
  value: unknown,
  before: unknown,
  schema: Schema,
  path: string,
  root: boolean,
): FieldError | null {
  const transition = /\boldSelf\b/.test(rule.rule)
  if (transition && (before === undefined || before === null)) return null
  const context: Record<string, unknown> = { self: visible(value, schema, root) }
  if (transition) context.oldSelf = visible(before, schema, root)
  let holds: unknown
  try {
    holds = compile(rule.rule)(context)
  } catch (error) {
    return {
      field: path,
      reason: 'FieldValueInvalid',
      message: `Invalid value: rule evaluation error: ${(error as Error).message}`,
    }
  }
  return holds === true ? null : broken(rule, value, context, path)
}

function broken(rule: ValidationRule, value: unknown, context: Record<string, unknown>, path: string): FieldError {
  let message = rule.message?.trim() ?? `failed rule: ${rule.rule.trim()}`
  if (rule.messageExpression !== undefined) {
    try {
      const said = compile(rule.messageExpression)(context)
      if (typeof said === 'string' && said.trim() !== '') message = said.trim()
    } catch {
      // As in Kubernetes: a message that cannot be made falls back to the plain one.
    }
  }
  const field = rule.fieldPath === undefined ? path : `${path}${rule.fieldPath}`
  switch (rule.reason ?? 'FieldValueInvalid') {
    case 'FieldValueForbidden':
      return { field, reason: 'FieldValueForbidden', message: `Forbidden: ${message}` }
    case 'FieldValueRequired':
      return { field, reason: 'FieldValueRequired', message: `Required value: ${message}` }
    case 'FieldValueDuplicate':
      return duplicateValue(field, value)
    default:
      // Objects and lists are too long to be shown.
      return typeof value === 'object'
        ? { field, reason: 'FieldValueInvalid', message: `Invalid value: ${message}` }
        : invalidValue(field, value, message)
  }
}
