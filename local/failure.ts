/**
 * What the API answers when it does not do what was asked: a `Status` with the code, the reason and the text
 * of Kubernetes itself (k8s.io/apimachinery/pkg/api/errors and util/validation/field). PURE.
 */
import type { Fields } from './objects.ts'

/** One error of one field, as in `details.causes`. */
export interface FieldError {
  readonly field: string
  readonly reason: string
  readonly message: string
}

/** An answer that is an error. `headers` go out with it. */
export class Failure extends Error {
  override name = 'Failure'
  readonly code: number
  readonly reason: string
  readonly details: Fields | null
  readonly headers: Readonly<Record<string, string>>

  constructor(code: number, reason: string, message: string, details: Fields | null = null, headers = {}) {
    super(message)
    this.code = code
    this.reason = reason
    this.details = details
    this.headers = headers
  }

  status(): Fields {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      ...(this.reason === '' ? {} : { reason: this.reason }),
      ...(this.details === null ? {} : { details: this.details }),
      code: this.code,
    }
  }
}

/** Of a resource (resources.ts). */
interface Named {
  readonly group: string
  readonly plural: string
  readonly kind: string
}

const details = (resource: Named, name: string): Fields => ({
  ...(name === '' ? {} : { name }),
  ...(resource.group === '' ? {} : { group: resource.group }),
  kind: resource.plural,
})

/** `lokiclusters.lokikv.dev`, `pods` */
export const qualified = (resource: Pick<Named, 'group' | 'plural'>): string =>
  resource.group === '' ? resource.plural : `${resource.plural}.${resource.group}`

export const notFound = (resource: Named, name: string): Failure =>
  new Failure(404, 'NotFound', `${qualified(resource)} "${name}" not found`, details(resource, name))

export const noSuchResource = (): Failure =>
  new Failure(404, 'NotFound', 'the server could not find the requested resource')

export const alreadyExists = (resource: Named, name: string): Failure =>
  new Failure(409, 'AlreadyExists', `${qualified(resource)} "${name}" already exists`, details(resource, name))

export const conflict = (resource: Named, name: string, why: string): Failure =>
  new Failure(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(resource)} "${name}": ${why}`,
    details(resource, name),
  )

export const modified = (resource: Named, name: string): Failure =>
  conflict(
    resource,
    name,
    'the object has been modified; please apply your changes to the latest version and try again',
  )

export const badRequest = (message: string): Failure => new Failure(400, 'BadRequest', message)

export const forbidden = (resource: Named, name: string, why: string): Failure =>
  new Failure(403, 'Forbidden', `${qualified(resource)} "${name}" is forbidden: ${why}`, details(resource, name))

export const gone = (message: string): Failure => new Failure(410, 'Expired', message)

export const methodNotAllowed = (): Failure =>
  new Failure(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource')

export const unsupportedMediaType = (accepted: readonly string[]): Failure =>
  new Failure(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')}`,
  )

export const unauthorized = (): Failure => new Failure(401, 'Unauthorized', 'Unauthorized')

/** 422 with all errors of all fields. */
export function invalid(resource: Named, named: string | undefined, errors: readonly FieldError[]): Failure {
  const name = named ?? ''
  const kind = resource.group === '' ? resource.kind : `${resource.kind}.${resource.group}`
  const each = errors.map((error) => `${error.field === '' ? '<nil>' : error.field}: ${error.message}`)
  const unique = [...new Set(each)]
  return new Failure(
    422,
    'Invalid',
    `${kind} "${name}" is invalid: ${unique.length === 1 ? unique[0] : `[${unique.join(', ')}]`}`,
    {
      ...(name === '' ? {} : { name }),
      ...(resource.group === '' ? {} : { group: resource.group }),
      kind: resource.kind,
      causes: errors.map((error) => ({
        reason: error.reason,
        message: error.message,
        field: error.field === '' ? '<nil>' : error.field,
      })),
    },
  )
}

/** How Kubernetes prints the offending value: strings quoted, numbers bare, the rest as JSON. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return 'null'
  return JSON.stringify(value)
}

export const invalidValue = (field: string, value: unknown, why: string): FieldError => ({
  field,
  reason: 'FieldValueInvalid',
  message: `Invalid value: ${shown(value)}: ${why}`,
})

export const requiredValue = (field: string, why = ''): FieldError => ({
  field,
  reason: 'FieldValueRequired',
  message: why === '' ? 'Required value' : `Required value: ${why}`,
})

export const forbiddenValue = (field: string, why: string): FieldError => ({
  field,
  reason: 'FieldValueForbidden',
  message: `Forbidden: ${why}`,
})

export const unsupportedValue = (field: string, value: unknown, supported: readonly unknown[]): FieldError => ({
  field,
  reason: 'FieldValueNotSupported',
  message: `Unsupported value: ${shown(value)}: supported values: ${supported.map((item) => shown(item)).join(', ')}`,
})

export const duplicateValue = (field: string, value: unknown): FieldError => ({
  field,
  reason: 'FieldValueDuplicate',
  message: `Duplicate value: ${shown(value)}`,
})

export const typeInvalid = (field: string, value: unknown, why: string): FieldError => ({
  field,
  reason: 'FieldValueTypeInvalid',
  message: `Invalid value: ${shown(value)}: ${why}`,
})
