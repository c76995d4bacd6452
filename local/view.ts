/**
 * What people see of a cluster while it comes up: a picture of its state as data, the picture as lines, and the
 * differences between two pictures as sentences. PURE.
 */
import { KIND, LABELS, PORTS } from '../src/contract.ts'
import { type KubeObject, at, fields, hasCondition, labelsOf, list, number, text } from './objects.ts'
import type { Ports } from './ports.ts'
import type { Registry } from './registry.ts'
import { builtIn } from './resources.ts'
import { podReason } from './tables.ts'

export interface NodeView {
  readonly name: string
  readonly phase: 'absent' | 'starting' | 'waiting' | 'ready' | 'stopping' | 'trouble'
  readonly role: string
  readonly clientPort: number | null
  readonly decided: string
  readonly trouble: string
  readonly restarts: number
}

export interface View {
  readonly name: string
  readonly namespace: string
  readonly wanted: number
  readonly volumesBound: number
  readonly volumes: number
  readonly nodes: readonly NodeView[]
  readonly leader: string
  readonly begun: boolean
  readonly ready: boolean
  readonly configurationId: number
  readonly held: readonly string[]
  readonly degraded: string
}

/** The picture of a LokiCluster; null where it is gone. */
export function viewOf(registry: Registry, ports: Ports, namespace: string, name: string): View | null {
  const resource = registry.resources().find((each) => each.kind === KIND)
  const cluster = resource === undefined ? null : registry.store.get(resource.key, namespace, name)
  if (cluster === null) return null
  const ofCluster = (object: KubeObject): boolean => labelsOf(object)[LABELS.cluster] === name
  const claims = registry.list(builtIn('persistentvolumeclaims'), namespace).filter(ofCluster)
  const pods = registry.list(builtIn('pods'), namespace).filter(ofCluster)
  const wanted = number(at(cluster, 'spec', 'replicas'))
  const status = fields(cluster.status)
  const members = list(status.members).map(fields)
  const told = text(status.leader)
  const leader = pods.some((pod) => pod.metadata.name === told && isReady(pod)) ? told : ''
  const names = new Set([
    ...Array.from({ length: wanted }, (_, ordinal) => `${name}-${ordinal}`),
    ...pods.map((pod) => pod.metadata.name),
  ])
  const condition = list(status.conditions)
    .map(fields)
    .find((each) => each.type === 'Degraded' && each.status === 'True')
  const settled = number(status.observedGeneration) === (cluster.metadata.generation ?? 0)
  return {
    name,
    namespace,
    wanted,
    volumes: Math.max(wanted * 2, claims.length),
    volumesBound: claims.filter((claim) => at(claim, 'status', 'phase') === 'Bound').length,
    nodes: [...names]
      .sort((a, b) => ordinalOf(a) - ordinalOf(b))
      .map((each) => {
        const pod = pods.find(({ metadata }) => metadata.name === each)
        const member = members.find((other) => other.pod === each)
        const host = `${each}.${text(at(pod, 'spec', 'subdomain'))}.${namespace}.svc`
        return nodeView(each, pod, member, leader, pod === undefined ? null : (ports.of(host)?.client ?? null))
      }),
    leader,
    begun: status.bootstrapped === true,
    // The status may be of an earlier run; the pods are of this one.
    ready: settled && hasCondition(cluster, 'Ready') && pods.filter(isReady).length === wanted,
    configurationId: number(status.configurationId),
    held: list(status.held).map((each) => `${text(at(each, 'action'))}: ${text(at(each, 'rule'))}`),
    degraded: text(condition?.message),
  }
}

const isReady = (pod: KubeObject): boolean => pod.metadata.deletionTimestamp === undefined && hasCondition(pod, 'Ready')

const ordinalOf = (pod: string): number => Number(/-(\d+)$/.exec(pod)?.[1] ?? 0)

/** Roles in the status, as people read them; a node without identity has none. */
const ROLES: Readonly<Record<string, string>> = { voter: 'follower', learner: 'learner' }

function nodeView(
  name: string,
  pod: KubeObject | undefined,
  member: Record<string, unknown> | undefined,
  leader: string,
  clientPort: number | null,
): NodeView {
  const restarts = number(at(pod, 'status', 'containerStatuses', 0, 'restartCount'))
  const waiting = fields(at(pod, 'status', 'containerStatuses', 0, 'state', 'waiting'))
  const trouble =
    text(waiting.reason) === 'ContainerCreating'
      ? ''
      : [text(waiting.reason), text(waiting.message)].filter(Boolean).join(': ')
  const role = name === leader ? 'leader' : (ROLES[text(member?.role)] ?? '')
  return {
    name,
    phase: phaseOf(pod, trouble),
    role,
    clientPort,
    decided: text(member?.decidedIndex),
    trouble,
    restarts,
  }
}

function phaseOf(pod: KubeObject | undefined, trouble: string): NodeView['phase'] {
  if (pod === undefined) return 'absent'
  if (pod.metadata.deletionTimestamp !== undefined) return 'stopping'
  if (trouble !== '') return 'trouble'
  if (hasCondition(pod, 'Ready')) return 'ready'
  return at(pod, 'status', 'containerStatuses', 0, 'started') === true
    ? 'waiting'
    : podReason(pod) === 'Terminating'
      ? 'stopping'
      : 'starting'
}

export type Paint = (text: string, colour: 'green' | 'yellow' | 'red' | 'cyan' | 'dim' | 'bold') => string

const MARKS: Readonly<Record<NodeView['phase'], readonly [string, 'green' | 'yellow' | 'red' | 'dim']>> = {
  absent: ['·', 'dim'],
  starting: ['◌', 'yellow'],
  waiting: ['◍', 'yellow'],
  ready: ['●', 'green'],
  stopping: ['◌', 'dim'],
  trouble: ['✖', 'red'],
}

const WORDS: Readonly<Record<NodeView['phase'], string>> = {
  absent: 'to come',
  starting: 'starting',
  waiting: 'alive, not ready',
  ready: 'ready',
  stopping: 'stopping',
  trouble: 'in trouble',
}

/** The picture as lines. */
export function render(view: View, seconds: number, paint: Paint): string[] {
  const bar = '█'.repeat(view.volumesBound) + '░'.repeat(Math.max(0, view.volumes - view.volumesBound))
  const election =
    view.leader === ''
      ? paint(view.begun ? 'electing' : 'nodes wait for their identity', 'yellow')
      : paint(`${view.leader} leads`, 'green')
  const lines = [
    `${paint(view.name, 'bold')}  ${paint(`${seconds.toFixed(1)} s`, 'dim')}`,
    `  volumes   ${paint(bar, 'cyan')} ${view.volumesBound} of ${view.volumes} bound`,
    `  election  ${election}`,
  ]
  for (const node of view.nodes) {
    const [mark, colour] = MARKS[node.phase]
    const where = node.clientPort === null ? '' : `127.0.0.1:${node.clientPort}`
    const word = node.phase === 'trouble' ? node.trouble : WORDS[node.phase]
    const role = node.role.padEnd(8)
    lines.push(
      `  ${paint(mark, colour)} ${node.name.padEnd(12)} ${where.padEnd(16)} ${node.role === 'leader' ? paint(role, 'green') : role} ${paint(word, colour)}`,
    )
  }
  for (const held of view.held) lines.push(`  ${paint(`held: ${held}`, 'yellow')}`)
  if (view.degraded !== '') lines.push(`  ${paint(view.degraded, 'red')}`)
  return lines
}

const nodes = (count: number): string => (count === 1 ? '1 node is' : `${count} nodes are`)

/** What has changed, as sentences. `before`: null at the first look. */
export function changes(before: View | null, view: View): string[] {
  const told: string[] = []
  if (before === null) told.push(`${view.name}: ${nodes(view.wanted)} wanted`)
  else if (before.wanted !== view.wanted)
    told.push(`${view.name}: ${nodes(view.wanted)} wanted now, ${before.wanted} before`)
  if (view.volumes > 0 && view.volumesBound === view.volumes && before?.volumesBound !== view.volumesBound) {
    told.push(`volumes: ${view.volumesBound} of ${view.volumes} bound`)
  }
  for (const node of view.nodes) {
    const old = before?.nodes.find((each) => each.name === node.name)
    if (old?.phase === 'ready' && node.restarts > old.restarts) told.push(`${node.name}: restarted`)
    if (old?.phase === node.phase || node.phase === 'absent' || node.phase === 'waiting') continue
    const where = node.phase === 'ready' && node.clientPort !== null ? ` (client port ${node.clientPort})` : ''
    told.push(`${node.name}: ${node.phase === 'trouble' ? node.trouble : WORDS[node.phase]}${where}`)
  }
  for (const old of before?.nodes ?? []) {
    if (old.phase !== 'absent' && !view.nodes.some((node) => node.name === old.name)) told.push(`${old.name}: gone`)
  }
  if (view.begun && before !== null && !before.begun) told.push('the cluster has begun: nodes have their identities')
  if (view.leader !== '' && view.leader !== before?.leader) told.push(`${view.leader} leads`)
  if (before !== null && before.configurationId > 0 && view.configurationId > before.configurationId) {
    told.push(`configuration ${view.configurationId} is in force`)
  }
  for (const held of view.held) if (before?.held.includes(held) !== true) told.push(`held: ${held}`)
  if (view.degraded !== '' && view.degraded !== before?.degraded) told.push(view.degraded)
  return told
}

/** A client port that answers, of the leader if there is one. */
export function clientPort(view: View): number {
  const ready = view.nodes.filter((node) => node.phase === 'ready' && node.clientPort !== null)
  return (ready[0] ?? view.nodes[0])?.clientPort ?? PORTS.client
}
