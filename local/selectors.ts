/**
 * Label and field selectors, as in `?labelSelector=a=b,c in (d,e)&fieldSelector=metadata.name!=x`. PURE.
 */
import { badRequest } from './failure.ts'
import { type Fields, type KubeObject, at, fields, list, text } from './objects.ts'
import type { Resource } from './resources.ts'

export type Matches = (object: KubeObject) => boolean

type Requirement = (labels: Readonly<Record<string, string>>) => boolean

const has = (labels: Readonly<Record<string, string>>, key: string): boolean => Object.hasOwn(labels, key)

const KEY = /^\s*(!?)\s*([A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?)\s*/

/** Parses a label selector; 400 where it cannot be understood. An empty one matches everything. */
export function labelSelector(selector: string): Requirement {
  const requirements: Requirement[] = []
  let rest = selector.trim()
  while (rest !== '') {
    const match = KEY.exec(rest)
    if (match === null)
      throw badRequest(`unable to parse requirement: found '${rest[0]}', expected: !, identifier, or ','`)
    const [whole, not, key] = match as unknown as [string, string, string]
    rest = rest.slice(whole.length)
    const [requirement, after] = not === '!' ? [absent(key), rest] : operator(key, rest)
    requirements.push(requirement)
    rest = after.trim()
    if (rest.startsWith(',')) rest = rest.slice(1).trim()
    else if (rest !== '')
      throw badRequest(`unable to parse requirement: found '${rest.split(/\s/)[0]}', expected: ',' or 'end of string'`)
  }
  return (labels) => requirements.every((requirement) => requirement(labels))
}

const absent =
  (key: string): Requirement =>
  (labels) =>
    !has(labels, key)

function operator(key: string, rest: string): [Requirement, string] {
  if (rest === '' || rest.startsWith(',')) return [(labels) => has(labels, key), rest]
  const set = /^(in|notin)\s*\(([^)]*)\)/.exec(rest)
  if (set !== null) {
    const values = new Set((set[2] ?? '').split(',').map((value) => value.trim()))
    const inside: Requirement = (labels) => has(labels, key) && values.has(labels[key] ?? '')
    return [set[1] === 'in' ? inside : (labels) => !inside(labels), rest.slice(set[0].length)]
  }
  const equality = /^(==|=|!=)\s*([-A-Za-z0-9_.]*)/.exec(rest)
  if (equality === null) {
    const found = rest.split(/[\s,]/)[0] ?? ''
    throw badRequest(`unable to parse requirement: found '${found}', expected: in, notin, =, ==, !=, gt, lt`)
  }
  const value = equality[2] ?? ''
  const equal: Requirement = (labels) => has(labels, key) && labels[key] === value
  return [equality[1] === '!=' ? (labels) => !equal(labels) : equal, rest.slice(equality[0].length)]
}

/** A LabelSelector object (`matchLabels`, `matchExpressions`); an empty one matches everything. */
export function matchesSelector(selector: unknown, labels: Readonly<Record<string, string>>): boolean {
  const wanted = fields(selector)
  const equal = Object.entries(fields(wanted.matchLabels)).every(([key, value]) => labels[key] === value)
  return equal && list(wanted.matchExpressions).every((expression) => matchesExpression(fields(expression), labels))
}

function matchesExpression(expression: Fields, labels: Readonly<Record<string, string>>): boolean {
  const key = text(expression.key)
  const values = list(expression.values)
  switch (expression.operator) {
    case 'In':
      return has(labels, key) && values.includes(labels[key])
    case 'NotIn':
      return !has(labels, key) || !values.includes(labels[key])
    case 'Exists':
      return has(labels, key)
    case 'DoesNotExist':
      return !has(labels, key)
    default:
      return false
  }
}

/** A LabelSelector object as text, as `status.selector` of a scale has it. */
export function selectorText(selector: unknown): string {
  return Object.entries(fields(fields(selector).matchLabels))
    .map(([key, value]) => `${key}=${text(value)}`)
    .sort()
    .join(',')
}

/** Parses a field selector; 400 for a field that this resource does not select by. */
export function fieldSelector(selector: string, resource: Resource): Matches {
  const terms = selector.split(',').filter((term) => term.trim() !== '')
  const tests = terms.map((term): Matches => {
    const match = /^\s*([^=!\s]+)\s*(==|=|!=)\s*(.*?)\s*$/.exec(term)
    if (match === null) throw badRequest(`invalid selector: '${selector}'; can't understand '${term}'`)
    const [, field, sign, value] = match as unknown as [string, string, string, string]
    const known = field === 'metadata.name' || field === 'metadata.namespace' || resource.selectable.includes(field)
    if (!known) throw badRequest(`field label not supported: ${field}`)
    return (object) => (text(at(object, ...field.split('.'))) === value) === (sign !== '!=')
  })
  return (object) => tests.every((test) => test(object))
}

/** Both selectors of a request as one test; null where there is none, so that everything matches. */
export function selection(labels: string, field: string, resource: Resource): Matches | null {
  if (labels === '' && field === '') return null
  const byLabel = labelSelector(labels)
  const byField = fieldSelector(field, resource)
  return (object) => byLabel(object.metadata.labels ?? {}) && byField(object)
}
