/**
 * A pod as a process of this machine: which command, with which environment, and which folder for each path.
 * PURE. The only command that is run is the entry point of our node; volumes become folders, so every value of
 * the environment that names a path inside a volume is rewritten to the folder.
 */
import { ENVIRONMENT, PATHS } from '../src/contract.ts'
import { type Fields, type KubeObject, at, fields, list, text } from './objects.ts'

/** What may be run, as the manifest says it. */
export const COMMAND = ['node', 'src/main.ts', 'node'] as const

/** Whether the container runs our node and nothing else. */
export function isOurs(container: Fields): boolean {
  const command = [...list(container.command), ...list(container.args)].map(text)
  return command.length === COMMAND.length && COMMAND.every((word, position) => command[position] === word)
}

/** `$(NAME)` -> the variable's value; `$$(NAME)` stays as `$(NAME)`; what is not known stays as it is. */
export function expand(value: string, variables: Readonly<Record<string, string>>): string {
  return value.replace(/\$(\$)?\(([A-Za-z_][\w.-]*)\)/g, (whole, escaped: string | undefined, name: string) =>
    escaped === undefined ? (variables[name] ?? whole) : `$(${name})`,
  )
}

function fieldOf(pod: KubeObject, path: string): string {
  const keyed = /^metadata\.(labels|annotations)\['([^']+)'\]$/.exec(path)
  if (keyed !== null) return text(at(pod, 'metadata', keyed[1]!, keyed[2]!))
  switch (path) {
    case 'status.podIP':
    case 'status.hostIP':
      return '127.0.0.1'
    case 'spec.nodeName':
    case 'metadata.name':
    case 'metadata.namespace':
    case 'metadata.uid':
    case 'spec.serviceAccountName':
      return text(at(pod, ...path.split('.')))
    default:
      return ''
  }
}

/** Looks up `key` in a ConfigMap or Secret of the pod's namespace; null where it is not there. */
export type Lookup = (kind: 'configMap' | 'secret', name: string, key: string) => string | null

function valueOf(variable: Fields, pod: KubeObject, lookup: Lookup): string {
  const from = fields(variable.valueFrom)
  if (from.fieldRef !== undefined) return fieldOf(pod, text(at(from, 'fieldRef', 'fieldPath')))
  for (const kind of ['secret', 'configMap'] as const) {
    const reference = fields(from[`${kind}KeyRef`])
    if (reference.key !== undefined) return lookup(kind, text(reference.name), text(reference.key)) ?? ''
  }
  return text(variable.value)
}

/** Folders by mount path. */
export type Mounts = ReadonlyMap<string, string>

/** The path on this machine of a path in the container; the path itself where no volume covers it. */
export function located(path: string, mounts: Mounts): string {
  let best: [string, string] | null = null
  for (const [mount, folder] of mounts) {
    const inside = path === mount || path.startsWith(`${mount}/`)
    if (inside && (best === null || mount.length > best[0].length)) best = [mount, folder]
  }
  return best === null ? path : `${best[1]}${path.slice(best[0].length)}`
}

/** The environment of the container's process. */
export function environmentOf(
  pod: KubeObject,
  container: Fields,
  mounts: Mounts,
  lookup: Lookup,
  addressBook: string,
): Record<string, string> {
  const variables: Record<string, string> = {}
  for (const variable of list(container.env).map(fields)) {
    variables[text(variable.name)] = expand(valueOf(variable, pod, lookup), variables)
  }
  for (const [name, value] of Object.entries(variables)) variables[name] = located(value, mounts)
  variables[ENVIRONMENT.walDirectory] ??= located(PATHS.wal, mounts)
  variables[ENVIRONMENT.checkpointDirectory] ??= located(PATHS.checkpoints, mounts)
  variables[ENVIRONMENT.tokenFile] ??= located(PATHS.token, mounts)
  variables[ENVIRONMENT.addressBook] = addressBook
  const temporary = mounts.get('/tmp')
  if (temporary !== undefined) variables.TMPDIR ??= temporary
  return variables
}

export interface Probe {
  readonly path: string
  /** Of the container; the address book says where it is here. */
  readonly port: number
  readonly initialDelaySeconds: number
  readonly periodSeconds: number
  readonly timeoutSeconds: number
  readonly failureThreshold: number
  readonly successThreshold: number
}

const amount = (value: unknown, otherwise: number): number =>
  typeof value === 'number' && value > 0 ? value : otherwise

/** A probe of the container; null where it has none of this kind. Only HTTP probes are known here. */
export function probeOf(container: Fields, kind: 'startupProbe' | 'livenessProbe' | 'readinessProbe'): Probe | null {
  const probe = fields(container[kind])
  const get = fields(probe.httpGet)
  if (get.port === undefined) return null
  const named = list(container.ports).find((port) => at(port, 'name') === get.port)
  return {
    path: text(get.path) || '/',
    port: Number(named === undefined ? get.port : at(named, 'containerPort')),
    initialDelaySeconds: amount(probe.initialDelaySeconds, 0),
    periodSeconds: amount(probe.periodSeconds, 10),
    timeoutSeconds: amount(probe.timeoutSeconds, 1),
    failureThreshold: amount(probe.failureThreshold, 3),
    successThreshold: amount(probe.successThreshold, 1),
  }
}
