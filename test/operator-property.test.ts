/**
 * From any observation, however strange: one disruptive act at most, and never one that leaves a majority of the
 * voters without healthy nodes. Health is judged here anew, from the raw answers, not by the operator's own word.
 */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ConfigurationJson, NodeStatus } from '../src/contract.ts'
import { isDisruptive } from '../operator/actions.ts'
import type { Action } from '../operator/actions.ts'
import { addressOf } from '../operator/observed.ts'
import type { Observed, ObservedNode } from '../operator/observed.ts'
import { plan, proposals } from '../operator/plan.ts'
import { permits } from '../operator/rules.ts'
import { statusOf } from '../operator/status.ts'
import { changed, claimOf, emptyNode, ending, podOf, saying, silent, withoutPod, world } from './operator-world.ts'

type Damage = (observed: Observed, ordinal: number) => Observed

const PHASES = ['waiting', 'recovering', 'member', 'learner', 'removed', 'refused'] as const

const damage: fc.Arbitrary<Damage> = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Damage>((observed) => observed) },
  fc.constantFrom<Damage>(silent, withoutPod, ending),
  fc.constantFrom(...PHASES).map(
    (phase): Damage =>
      (observed, ordinal) =>
        saying(observed, ordinal, { phase }),
  ),
  fc
    .record<Partial<NodeStatus>>({
      caughtUp: fc.boolean(),
      role: fc.constantFrom('leader', 'follower', 'learner', 'none'),
      leaderId: fc.option(fc.integer({ min: 1, max: 5 })),
      nodeId: fc.option(fc.integer({ min: 1, max: 7 })),
      configurationComplete: fc.boolean(),
    })
    .map(
      (says): Damage =>
        (observed, ordinal) =>
          saying(observed, ordinal, says),
    ),
  fc.constant<Damage>((observed, ordinal) =>
    changed(observed, ordinal, () => ({ status: emptyNode(observed.cluster, ordinal, 70 + ordinal) })),
  ),
  fc.constantFrom('older', 'other').map(
    (hash): Damage =>
      (observed, ordinal) =>
        changed(observed, ordinal, () => ({ pod: podOf(ordinal, hash, {}, false), status: null, unanswered: 'no' })),
  ),
  fc.constant<Damage>((observed, ordinal) => changed(ending(observed, ordinal), ordinal, () => ({ overdue: true }))),
  fc.constant<Damage>((observed, ordinal) =>
    changed(observed, ordinal, (node) => ({
      pod: node.pod && { ...node.pod, status: { ...node.pod.status, conditions: [] } },
    })),
  ),
)

const observations: fc.Arbitrary<Observed> = fc
  .record({
    voters: fc.integer({ min: 1, max: 5 }),
    fewAccept: fc.boolean(),
    pods: fc.integer({ min: 0, max: 7 }),
    replicas: fc.integer({ min: 0, max: 7 }),
    leader: fc.option(fc.integer({ min: 1, max: 5 }), { freq: 6 }),
    old: fc.subarray([0, 1, 2, 3, 4, 5, 6]),
    damages: fc.array(damage, { minLength: 7, maxLength: 7 }),
    reconfiguring: fc.option(fc.constantFrom('catching-up', 'proposed'), { freq: 1 }),
    complete: fc.boolean(),
    recorded: fc.boolean(),
    bootstrapped: fc.boolean(),
    deletes: fc.boolean(),
  })
  .map((of) => {
    const storage = {
      wal: { size: '1Gi' },
      checkpoints: { size: '1Gi' },
      retention: { whenScaled: of.deletes ? ('Delete' as const) : ('Retain' as const) },
    }
    const base = world({
      voters: of.voters,
      acceptQuorum: of.fewAccept && of.voters >= 4 ? 2 : undefined,
      pods: Math.max(of.pods, of.bootstrapped ? of.voters : 0),
      leaderId: of.leader === null ? null : Math.min(of.leader, of.voters),
      old: of.old,
      spec: { replicas: of.replicas, storage },
      status: of.bootstrapped ? { bootstrapped: true } : {},
      leaderSays: {
        configurationComplete: of.complete,
        reconfiguration: of.reconfiguring ? { voters: [1, 2, 9], state: of.reconfiguring } : null,
      },
    })
    const damaged = base.nodes.reduce((next, { ordinal }) => of.damages[ordinal]?.(next, ordinal) ?? next, base)
    const claims = [...damaged.claims, ...[5, 6].map((ordinal) => claimOf('wal', ordinal))]
    return { ...damaged, claims, ...(of.recorded ? {} : { genesis: null }) }
  })

/** The one node that says it leads, as a member. */
function leaderIn(
  observed: Observed,
): (ObservedNode & { status: NodeStatus & { configuration: ConfigurationJson } }) | null {
  const claimed = observed.nodes.filter(({ status }) => status?.role === 'leader' && status.phase === 'member')
  return claimed.length === 1 ? (claimed[0] as ReturnType<typeof leaderIn>) : null
}

/** Voters whose own answers say that they follow the leader and have caught up, and whose pods stay. */
function wellOrdinals(observed: Observed): number[] {
  const leader = leaderIn(observed)
  if (leader === null) return []
  return leader.status.configuration.voters.flatMap((voter) => {
    const node = observed.nodes.find(({ ordinal }) => addressOf(observed.cluster, ordinal) === voter.address)
    const status = node?.status
    const follows = status?.caughtUp && status.phase === 'member' && status.leaderId === leader.status.nodeId
    const same = status?.volumeId === voter.volumeId && status.nodeId === voter.id
    return node?.pod && !node.pod.metadata.deletionTimestamp && follows && same ? [node.ordinal] : []
  })
}

/** What an act that was let through would do that it must not. */
function violations(observed: Observed, action: Action): string[] {
  const leader = leaderIn(observed)
  const voters = leader?.status.configuration.voters ?? []
  const majority = Math.floor(voters.length / 2) + 1
  const elects = Math.max(majority, voters.length - (leader?.status.configuration.acceptQuorum ?? majority) + 1)
  const well = wellOrdinals(observed)
  const addressAt = (ordinal: number): string => addressOf(observed.cluster, ordinal)
  const membersFrom = (from: number) =>
    observed.nodes.filter((n) => n.ordinal >= from && voters.some(({ address }) => address === addressAt(n.ordinal)))
  const must = (holds: boolean, what: string): string[] => (holds ? [] : [what])
  switch (action.kind) {
    case 'restart': {
      const { ordinal } = action.target
      if (leader === null)
        return must(
          observed.nodes.every((n) => n.ordinal === ordinal || n.status),
          'others answer',
        )
      if (!voters.some(({ address }) => address === addressAt(ordinal))) return []
      const others = well.filter((each) => each !== ordinal).length
      return [
        ...must(others >= (voters.length <= 2 ? voters.length - 1 : elects), 'the others can elect'),
        ...must(voters.length === 1 || ordinal !== leader.ordinal, 'the leader hands over first'),
        ...must(leader.status.reconfiguration === null, 'not in the middle of a reconfiguration'),
      ]
    }
    case 'transfer':
      return [
        ...must(well.includes(action.to.ordinal), 'the heir is well'),
        ...must(well.length >= elects, 'enough to elect it'),
      ]
    case 'reconfigure':
      return [
        ...must(well.length >= majority, 'a majority is well'),
        ...must(
          action.voters.some(({ id }) => id === leader?.status.nodeId),
          'the leader stays',
        ),
        ...must(new Set(action.voters.map(({ id }) => id)).size === action.voters.length, 'ids differ'),
        ...must(action.missing.length === 0, 'all have joined'),
      ]
    case 'set-replicas':
      if (action.to === 0) return must(observed.cluster.spec.replicas === 0, 'hibernation is asked for')
      return must(membersFrom(action.to).length === 0, 'no member loses its pod')
    case 'replace': {
      const node = observed.nodes[action.target.ordinal]
      const running = node?.pod?.status?.containerStatuses?.[0]?.state?.running !== undefined
      return must(!running || ['waiting', 'refused'].includes(node?.status?.phase ?? ''), 'it takes no part')
    }
    case 'delete-claim':
      return [
        ...must(
          membersFrom(action.ordinal).every((n) => n.ordinal !== action.ordinal),
          'no member loses its volume',
        ),
        ...must(leader?.status.configurationComplete ?? false, 'the configuration is complete'),
        ...must(observed.cluster.spec.replicas !== 0, 'hibernation keeps volumes'),
      ]
    case 'reset':
      return must(
        voters.every(({ id }) => id !== action.nodeId),
        'no member is reset',
      )
    case 'record-genesis':
    case 'seed':
    case 'join':
    case 'withdraw':
    case 'grow-claim':
    case 'label-claim':
    case 'label-pod':
      return [`${action.kind} is not disruptive`]
    default:
      throw new Error('a kind of act without a check')
  }
}

test('from any observation, no act that takes away a majority', () => {
  const reached = new Set<string>()
  fc.assert(
    fc.property(observations, (observed) => {
      const { steps, disruption } = plan(observed)
      expect(steps.filter(isDisruptive)).toEqual([])
      // The rules alone must be enough, whatever the plan proposes first.
      const allowed = proposals(observed).filter((action) => isDisruptive(action) && permits(action, observed) === null)
      for (const { kind } of allowed) reached.add(kind)
      expect(disruption === null ? 0 : 1).toBe(Math.min(1, allowed.length))
      expect(allowed.flatMap((action) => violations(observed, action))).toEqual([])
    }),
    { numRuns: 5000 },
  )
  // A property about acts that never come says nothing.
  const kinds = ['delete-claim', 'reconfigure', 'replace', 'restart', 'set-replicas', 'transfer']
  expect([...reached].sort()).toEqual(expect.arrayContaining(kinds))
})

test('no empty volume is ever given the id of another', () => {
  fc.assert(
    fc.property(observations, (observed) => {
      for (const step of plan(observed).steps) {
        if (step.kind !== 'seed') continue
        const founder = step.genesis.founders.find(({ id }) => id === step.self)
        expect(observed.nodes[step.target.ordinal]?.status?.volumeId).toBe(founder?.volumeId)
      }
    }),
    { numRuns: 2000 },
  )
})

test('plan and status are functions: the same observation, the same answer', () => {
  fc.assert(
    fc.property(observations, (observed) => {
      const first = plan(observed)
      expect(plan(structuredClone(observed))).toEqual(first)
      const status = statusOf(observed, first, first.held, [])
      expect(status.conditions?.map(({ type }) => type)).toEqual([
        'Ready',
        'QuorumAvailable',
        'Progressing',
        'Reconfiguring',
        'StorageResizing',
        'Degraded',
      ])
      expect(status.bootstrapped ?? false).toSatisfy((now) => now || !observed.cluster.status?.bootstrapped)
      const isReady = status.conditions?.[0]?.status === 'True'
      expect(!isReady || wellOrdinals(observed).length === observed.cluster.spec.replicas).toBe(true)
    }),
    { numRuns: 2000 },
  )
})
