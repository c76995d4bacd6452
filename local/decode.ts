/**
 * Bodies of requests as JSON: JSON and YAML are read, fields given twice are noticed. PURE.
 */
import { parse } from 'yaml'
import { badRequest, unsupportedMediaType } from './failure.ts'
import { type Fields, isFields } from './objects.ts'

/** Deepest nesting of a body. */
const DEPTH_LIMIT = 100

/** Names of the fields that a JSON text gives more than once, as paths. The text must be valid JSON. */
export function duplicateFields(json: string): string[] {
  const found: string[] = []
  let position = 0
  const skip = (): void => {
    while (position < json.length && /\s/.test(json[position]!)) position++
  }
  const string = (): string => {
    const start = position++
    while (json[position] !== '"') position += json[position] === '\\' ? 2 : 1
    position++
    return JSON.parse(json.slice(start, position)) as string
  }
  const value = (path: string, depth: number): void => {
    if (depth > DEPTH_LIMIT) throw badRequest('exceeded max depth')
    skip()
    if (json[position] === '{') members(path, depth)
    else if (json[position] === '[') elements(path, depth)
    else if (json[position] === '"') string()
    else while (position < json.length && !/[\s,\]}]/.test(json[position]!)) position++
    skip()
  }
  const members = (path: string, depth: number): void => {
    const seen = new Set<string>()
    position++
    skip()
    while (json[position] !== '}') {
      const field = string()
      const here = path === '' ? field : `${path}.${field}`
      if (seen.has(field)) found.push(here)
      seen.add(field)
      skip()
      position++
      value(here, depth + 1)
      if (json[position] === ',') position++
      skip()
    }
    position++
  }
  const elements = (path: string, depth: number): void => {
    position++
    skip()
    for (let index = 0; json[position] !== ']'; index++) {
      value(`${path}[${index}]`, depth + 1)
      if (json[position] === ',') position++
    }
    position++
  }
  value('', 0)
  return found
}

export interface Body {
  readonly value: unknown
  readonly duplicates: readonly string[]
}

const ACCEPTED = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf']

/**
 * Reads the body of a create or an update. 415 for protobuf and other forms, 400 for what cannot be parsed.
 * `otherwise`: the apiVersion of a body that names none; null: it must name one.
 */
export function decodeObject(text: string, contentType: string, kind: string, otherwise: string | null = null): Body {
  const type = contentType.split(';')[0]!.trim()
  if (type !== '' && type !== 'application/json' && type !== 'application/yaml' && type !== 'text/plain') {
    throw unsupportedMediaType(ACCEPTED.slice(0, 2))
  }
  const unrecognized = (why: string): never => {
    throw badRequest(`the object provided is unrecognized (must be of type ${kind}): ${why} (${text.slice(0, 100)})`)
  }
  const body = type === 'application/yaml' ? decodeYaml(text) : decodeJson(text, unrecognized)
  if (!isFields(body.value)) return unrecognized("couldn't get version/kind; json parse error: not an object")
  const given: Fields = body.value
  // What is built in is known by its path, so its kind may be left out.
  if (otherwise !== null && text.trim() !== '') {
    given.kind ??= kind
    given.apiVersion ??= otherwise
  }
  if (typeof given.kind !== 'string' || given.kind === '') {
    return unrecognized(`Object 'Kind' is missing in '${text.slice(0, 100)}'`)
  }
  return body
}

function decodeJson(text: string, unrecognized: (why: string) => never): Body {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const why =
      text.trim() === '' || /end of JSON|Expected property name/.test((error as Error).message)
        ? 'unexpected end of JSON input'
        : (error as Error).message
    return unrecognized(`couldn't get version/kind; json parse error: ${why}`)
  }
  return { value, duplicates: duplicateFields(text) }
}

/** YAML (which JSON is a part of); 400 for what cannot be parsed. */
export function decodeYaml(text: string): Body {
  try {
    return { value: parse(text) as unknown, duplicates: [] }
  } catch (error) {
    throw badRequest(`error decoding YAML: ${(error as Error).message}`)
  }
}

/** JSON of a patch; 400 for what cannot be parsed. */
export function decodePatch(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw badRequest(`error decoding patch: ${(error as Error).message}`)
  }
}
