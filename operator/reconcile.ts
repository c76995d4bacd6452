/**
 * observe -> plan -> execute -> status: one turn for one LokiCluster.
 *
 * A disruptive act is planned twice: it is done only if it is planned again from observations that are taken
 * right before it. A turn that is cut off anywhere is simply begun anew.
 */
import { describe } from './actions.ts'
import type { Action } from './actions.ts'
import type { Context } from './context.ts'
import { announce } from './events.ts'
import { perform, writeObjects } from './execute.ts'
import type { Outcome } from './execute.ts'
import { observe } from './observe.ts'
import type { Observed } from './observed.ts'
import { plan as makePlan } from './plan.ts'
import type { Held, Plan } from './plan.ts'
import { canonical, keyOf } from './resource.ts'
import { statusOf } from './status.ts'
import type { Problem } from './status.ts'

/** When to look again, in milliseconds. */
const AFTER_ACT = 50
const IN_PROGRESS = 400
const HELD = 1000
const QUIET = 5000

/** Null: the LokiCluster is gone. */
export async function reconcile(context: Context, key: string): Promise<number | null> {
  const [namespace = '', name = ''] = key.split('/')
  const observed = await observe(context, namespace, name)
  if (observed === null) {
    count(context, key, [])
    return null
  }
  const plan = makePlan(observed)
  const problems = plan.apply ? await writeObjects(context, observed) : []
  const outcomes = await execute(context, observed, plan)
  const held = [...plan.held, ...outcomes.flatMap((outcome) => (outcome.kind === 'held' ? [outcome.held] : []))]
  problems.push(...outcomes.flatMap((outcome) => (outcome.kind === 'failed' ? [outcome.problem] : [])))
  await writeStatus(context, observed, plan, held, problems)
  count(context, key, held)
  return lookAgain(observed, plan, outcomes, problems)
}

async function execute(context: Context, observed: Observed, plan: Plan): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  for (const action of plan.steps) outcomes.push(await one(context, observed, action))
  if (plan.disruption !== null) {
    const { namespace, name } = observed.cluster.metadata
    const fresh = await observe(context, namespace, name)
    const again = fresh === null ? null : makePlan(fresh).disruption
    const same = again !== null && canonical(essence(again)) === canonical(essence(plan.disruption))
    outcomes.push(same && fresh !== null && again !== null ? await one(context, fresh, again) : { kind: 'stale' })
  }
  return outcomes
}

/** An act but for resource versions, which move with every status and are read afresh. */
function essence(action: Action): unknown {
  return JSON.parse(
    JSON.stringify(action, (field, value: unknown) => (field === 'resourceVersion' ? undefined : value)),
  )
}

async function one(context: Context, observed: Observed, action: Action): Promise<Outcome> {
  const outcome = await perform(context, observed, action)
  context.metrics.actions.inc({ kind: action.kind, result: outcome.kind })
  const key = keyOf(observed.cluster.metadata)
  const quiet = action.kind === 'label-pod' || action.kind === 'label-claim' || outcome.kind === 'stale'
  const known = outcome.kind === 'held' && observed.cluster.status?.held?.some(({ rule }) => rule === outcome.held.rule)
  const level = quiet || known ? 'debug' : 'info'
  context.log[level]({ cluster: key, act: describe(action), outcome }, outcome.kind)
  if (outcome.kind === 'done') await announce(context, observed, action)
  return outcome
}

async function writeStatus(
  context: Context,
  observed: Observed,
  plan: Plan,
  held: readonly Held[],
  problems: readonly Problem[],
): Promise<void> {
  const { namespace, name } = observed.cluster.metadata
  const status = statusOf(observed, plan, held, problems)
  if (canonical(status) === canonical(observed.cluster.status)) return
  await context.kube.merge('LokiCluster', namespace, name, { status }, 'status')
}

function count({ metrics }: Context, key: string, held: readonly Held[]): void {
  for (const rule of metrics.heldRules.get(key) ?? []) metrics.held.remove({ cluster: key, rule })
  for (const { rule } of held) metrics.held.inc({ cluster: key, rule })
  metrics.heldRules.set(key, [...new Set(held.map(({ rule }) => rule))])
}

function lookAgain(observed: Observed, plan: Plan, outcomes: readonly Outcome[], problems: readonly Problem[]): number {
  if (problems.length > 0) return QUIET
  if (observed.statefulSet === null && plan.apply) return AFTER_ACT
  if (outcomes.some((outcome) => outcome.kind === 'done' || outcome.kind === 'stale')) return AFTER_ACT
  if (plan.stage === 'Settled' || plan.stage === 'Hibernated' || plan.stage === 'Paused') return QUIET
  return plan.held.length > 0 ? HELD : IN_PROGRESS
}
