/**
 * Disruption budgets: how many pods may be evicted at the moment. Source: pkg/controller/disruption.
 */
import { Loop } from './loop.ts'
import {
  type Fields,
  type KubeObject,
  at,
  controllerOf,
  fields,
  hasCondition,
  labelsOf,
  list,
  number,
  same,
  text,
} from './objects.ts'
import { type Registry, now } from './registry.ts'
import { builtIn } from './resources.ts'
import { matchesSelector } from './selectors.ts'

const BUDGETS = builtIn('poddisruptionbudgets')
const PODS = builtIn('pods')
const SETS = builtIn('statefulsets')
/** An eviction that was allowed and has not shown after this time is forgotten. */
const DISRUPTION_MILLISECONDS = 120_000

export function startBudgets(registry: Registry): Loop {
  return new Loop(registry, [BUDGETS.key, PODS.key, SETS.key], () => {
    for (const budget of registry.list(BUDGETS)) reconcile(registry, budget)
  })
}

/** `2` or `50%`, of `total`; percentages are rounded up. */
function amount(value: unknown, total: number): number {
  if (typeof value === 'number') return value
  return Math.ceil((Number.parseFloat(text(value)) * total) / 100)
}

/** How many pods there should be: what their controllers want, and pods without one. */
function expected(registry: Registry, pods: readonly KubeObject[], namespace: string): number {
  const controllers = new Set<string>()
  let count = 0
  for (const pod of pods) {
    const controller = controllerOf(pod)
    const set = controller === undefined ? null : registry.store.get(SETS.key, namespace, controller.name)
    if (set === null) count++
    else if (!controllers.has(set.metadata.uid)) {
      controllers.add(set.metadata.uid)
      count += number(at(set, 'spec', 'replicas'))
    }
  }
  return count
}

function reconcile(registry: Registry, budget: KubeObject): void {
  const namespace = budget.metadata.namespace ?? ''
  const pods = registry
    .list(PODS, namespace)
    .filter((pod) => matchesSelector(at(budget, 'spec', 'selector'), labelsOf(pod)))
  const expectedPods = expected(registry, pods, namespace)
  const { minAvailable, maxUnavailable } = fields(budget.spec)
  const desiredHealthy =
    minAvailable === undefined
      ? Math.max(0, expectedPods - amount(maxUnavailable ?? 0, expectedPods))
      : amount(minAvailable, expectedPods)
  const disrupted = stillDisrupted(budget, pods)
  const healthy = pods.filter(
    (pod) =>
      hasCondition(pod, 'Ready') &&
      pod.metadata.deletionTimestamp === undefined &&
      disrupted[pod.metadata.name] === undefined,
  )
  const disruptionsAllowed = Math.max(0, healthy.length - desiredHealthy)
  const allowed = disruptionsAllowed > 0
  const before = fields(budget.status)
  const [known] = list(before.conditions).map(fields)
  const condition: Fields = {
    type: 'DisruptionAllowed',
    status: allowed ? 'True' : 'False',
    reason: allowed ? 'SufficientPods' : 'InsufficientPods',
    message: '',
    observedGeneration: budget.metadata.generation,
    lastTransitionTime: known?.status === (allowed ? 'True' : 'False') ? known.lastTransitionTime : now(),
  }
  const status: Fields = {
    observedGeneration: budget.metadata.generation,
    ...(Object.keys(disrupted).length === 0 ? {} : { disruptedPods: disrupted }),
    disruptionsAllowed,
    currentHealthy: healthy.length,
    desiredHealthy,
    expectedPods,
    conditions: [condition],
  }
  if (same(before, status)) return
  registry.change(BUDGETS, namespace, budget.metadata.name, 'status', (object) => {
    object.status = status
  })
}

/** Pods whose eviction was allowed and which are not yet being deleted. */
function stillDisrupted(budget: KubeObject, pods: readonly KubeObject[]): Fields {
  const entries = Object.entries(fields(at(budget, 'status', 'disruptedPods'))).filter(([name, since]) => {
    const pod = pods.find((each) => each.metadata.name === name)
    const young = Date.now() - Date.parse(text(since)) < DISRUPTION_MILLISECONDS
    return pod !== undefined && pod.metadata.deletionTimestamp === undefined && young
  })
  return Object.fromEntries(entries)
}
