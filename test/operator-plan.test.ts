/** The operator's decisions, told as a table: what is observed, what is done, what is held and by which rule. */
import { describe, expect, test } from 'vitest'
import { describe as sentence } from '../operator/actions.ts'
import type { Observed } from '../operator/observed.ts'
import { plan } from '../operator/plan.ts'
import { RULE_NAMES, permits } from '../operator/rules.ts'
import { statusOf } from '../operator/status.ts'
import { canonical } from '../operator/resource.ts'
import {
  changed,
  claimOf,
  emptyNode,
  ending,
  lokiCluster,
  memberOf,
  podOf,
  saying,
  silent,
  statefulSetOf,
  volumeOf,
  withoutPod,
  world,
} from './operator-world.ts'

/** Acts (the disruptive one with a `!`), then what is held. */
function decisions(observed: Observed): string[] {
  const { steps, disruption, held } = plan(observed)
  return [
    ...steps.map(sentence),
    ...(disruption ? [`! ${sentence(disruption)}`] : []),
    ...held.map(({ action, rule }) => `${action}: ${rule}`),
  ]
}

function newborn(count = 3): Observed {
  const base = world({ voters: count, status: {} })
  const nodes = base.nodes.map((node) => ({ ...node, status: emptyNode(base.cluster, node.ordinal) }))
  const unlabelled = nodes.map((node) => ({ ...node, pod: podOf(node.ordinal, base.hash) }))
  const claims = base.claims.map((claim) =>
    claimOf(claim.metadata.name.startsWith('wal') ? 'wal' : 'checkpoints', 0, null),
  )
  return { ...base, genesis: null, nodes: unlabelled, claims }
}

const grown = (observed: Observed, change: { id: number; ordinals: number[] }, ...says: number[]): Observed => {
  const voters = change.ordinals.map((ordinal) => memberOf(observed.cluster, ordinal))
  const configuration = { id: change.id, voters, learners: [] }
  return says.reduce((next, ordinal) => saying(next, ordinal, { configuration }), observed)
}

describe('genesis', () => {
  test('a LokiCluster without a StatefulSet: its objects are written, nothing else', () => {
    const bare = { ...newborn(), statefulSet: null, nodes: [], claims: [] }
    expect(plan(bare).apply).toBe(true)
    expect(decisions(bare)).toEqual(['begin the cluster: all-founders-answer'])
  })
  test('the first pod is joined by the others', () => {
    const young = { ...newborn(), statefulSet: statefulSetOf(1) }
    expect(decisions(withoutPod(withoutPod(young, 1), 2))).toEqual([
      'set replicas to 3',
      'begin the cluster: all-founders-answer',
    ])
  })
  test('all founders answer: their volumes and addresses become the record', () => {
    const observed = newborn()
    expect(decisions(observed)).toEqual(['begin the cluster'])
    const [step] = plan(observed).steps
    expect(step).toMatchObject({
      kind: 'record-genesis',
      adopted: false,
      genesis: {
        founders: [0, 1, 2].map((ordinal) => ({
          id: ordinal + 1,
          volumeId: volumeOf(100 + ordinal),
          address: `orders-${ordinal}.orders-peers.shop.svc:7400`,
        })),
      },
    })
  })
  test('one founder is silent: wait for it, and say which', () => {
    expect(plan(silent(newborn(), 1)).held).toEqual([
      { action: 'begin the cluster', rule: 'all-founders-answer', message: 'waiting for orders-1: no answer' },
    ])
  })
  test('a claim that has held data is never used for a new beginning', () => {
    const observed = newborn()
    const used = { ...observed, claims: [...observed.claims, claimOf('wal', 3, 4)] }
    expect(decisions(used)).toEqual(['begin the cluster: volumes-are-new'])
  })
  test('the record is there: every founder gets its identity, by volume', () => {
    const observed = newborn()
    const founders = [0, 1, 2].map((ordinal) => ({
      ...memberOf(observed.cluster, ordinal),
      volumeId: volumeOf(100 + ordinal),
    }))
    const recorded = { ...observed, genesis: { clusterId: 'd'.repeat(32), founders } }
    expect(decisions(recorded)).toEqual([
      'give orders-0 its identity',
      'give orders-1 its identity',
      'give orders-2 its identity',
    ])
    const emptied = saying(recorded, 1, { volumeId: volumeOf(999) })
    expect(decisions(emptied)).toEqual(['give orders-0 its identity', 'give orders-2 its identity'])
  })
  test('a change of replicas between the record and the first leader waits', () => {
    const recorded = { ...world({ leaderId: null, status: {}, spec: { replicas: 5 }, pods: 3 }) }
    expect(decisions(recorded).filter((line) => line.includes('replicas'))).toEqual([])
  })
})

describe('a LokiCluster that was deleted and made again', () => {
  const kept = (spec: { replicas: number }, options: { leaderId?: number | null } = {}): Observed => ({
    ...world({ voters: 3, spec, status: {}, ...options }),
    genesis: null,
  })
  test('volumes with an identity: their cluster is taken up, there is no new genesis', () => {
    const [step] = plan(kept({ replicas: 3 })).steps
    expect(step).toMatchObject({ kind: 'record-genesis', adopted: true, genesis: { clusterId: 'c'.repeat(32) } })
  })
  test('fewer replicas than the volumes have voters: first all of them start', () => {
    const observed = { ...kept({ replicas: 1 }, { leaderId: null }), statefulSet: statefulSetOf(1) }
    expect(decisions(withoutPod(withoutPod(observed, 1), 2))).toContain('set replicas to 3')
  })
  test('volumes of two clusters: nothing that could mix them', () => {
    const mixed = saying(world({ spec: { replicas: 5 }, pods: 5 }), 2, { clusterId: 'f'.repeat(32) })
    expect(plan(mixed).disruption).toBeNull()
    expect(decisions(mixed)).toContain('join orders-3: one-cluster-id')
  })
  test('objects of the former one are waited for', () => {
    const observed = { ...kept({ replicas: 3 }), former: 'StatefulSet orders' }
    expect(plan(observed).apply).toBe(false)
    expect(decisions(observed)).toEqual(['start: former-cluster-gone'])
  })
})

describe('restart', () => {
  const old = (options: Parameters<typeof world>[0] = {}): Observed => world({ old: [0, 1, 2], ...options })
  test('nothing is out of date: nothing is done', () => expect(decisions(world())).toEqual([]))
  test('the follower with the highest ordinal goes first', () => {
    expect(decisions(old())).toEqual(['! restart orders-2'])
    expect(decisions(old({ leaderId: 3 }))).toEqual(['! restart orders-1'])
  })
  test('the restarted one is ending, gone, silent, or catching up: wait', () => {
    const second = world({ old: [0, 1] })
    const hold = ['restart orders-1: one-at-a-time']
    expect(decisions(ending(second, 2))).toEqual(hold)
    expect(decisions(withoutPod(second, 2))).toEqual(hold)
    expect(decisions(silent(second, 2))).toEqual(hold)
    expect(decisions(saying(second, 2, { caughtUp: false }))).toEqual(hold)
    expect(decisions(saying(second, 2, { phase: 'recovering' }))[0]).toEqual(hold[0])
    expect(decisions(second)).toEqual(['! restart orders-1'])
  })
  test('Ready is not rejoined: the leader must see it', () => {
    const second = world({ old: [0, 1] })
    const progress = [1, 2, 3].map((id) => ({ id, acceptedIndex: '10', connected: id !== 3 }))
    expect(decisions(saying(second, 0, { progress }))).toEqual(['restart orders-1: one-at-a-time'])
  })
  test('only the leader is left: it hands over to a follower on the new inputs', () => {
    expect(decisions(world({ old: [0] }))).toEqual(['! transfer leadership to orders-1'])
    const ahead = saying(world({ old: [0] }), 2, { acceptedIndex: '12' })
    expect(decisions(ahead)).toEqual(['! transfer leadership to orders-2'])
  })
  test('a leader that moved is last again', () => {
    expect(decisions(world({ old: [0, 1], leaderId: 2 }))).toEqual(['! restart orders-0'])
  })
  test('nobody leads, or two do: wait', () => {
    expect(decisions(old({ leaderId: null }))).toContain('restart orders-2: exactly-one-leader')
    const two = saying(old(), 2, { role: 'leader' })
    expect(decisions(two)).toContain('restart orders-2: exactly-one-leader')
  })
  test('a follower that is down on the old inputs blocks a majority of three, not of five', () => {
    expect(decisions(silent(silent(old(), 1), 2))).toEqual(['restart orders-2: majority-of-others-caught-up'])
    const five = silent(world({ voters: 5, old: [0, 1, 2, 3] }), 4)
    expect(decisions({ ...five, hash: 'newer' })).toEqual(['! restart orders-4'])
  })
  test('where fewer accept, more must be left to elect', () => {
    const target = (ordinal: number) => ({ pod: `orders-${ordinal}`, ordinal, uid: `uid-of-pod-${ordinal}` })
    const restart = { kind: 'restart', target: target(3), ready: true } as const
    const to = { to: target(1), toId: 2, expectedConfigurationId: 1 }
    const transfer = { kind: 'transfer', leader: target(0), ...to } as const
    const refused = (action: typeof restart | typeof transfer, acceptQuorum: number | undefined, ...down: number[]) => {
      const five = world({ voters: 5, acceptQuorum, old: [0, 1, 2, 3, 4] })
      return permits(action, down.reduce(silent, five))?.message ?? null
    }
    expect(refused(restart, undefined, 4)).toBeNull()
    expect(refused(restart, 3, 4)).toBeNull()
    expect(refused(restart, 2)).toBeNull()
    expect(refused(restart, 2, 4)).toBe('3 of the other voters are caught up, 4 are needed')
    expect(refused(transfer, undefined, 3, 4)).toBeNull()
    expect(refused(transfer, 2, 4)).toBeNull()
    expect(refused(transfer, 2, 3, 4)).toBe('3 voters are caught up, 4 are needed')
  })
  test('a voter that is not well goes before those that are, and its budget does not matter', () => {
    const unwell = changed(silent(old(), 1), 1, (node) => ({
      pod: node.pod && {
        ...node.pod,
        status: { ...node.pod.status, conditions: [{ type: 'Ready', status: 'False' }] },
      },
    }))
    expect(plan(unwell).disruption).toMatchObject({ kind: 'restart', target: { pod: 'orders-1' }, ready: false })
    expect(plan(old()).disruption).toMatchObject({ kind: 'restart', ready: true })
  })
  test('non-voters are restarted first and need nobody', () => {
    const removed = saying(world({ voters: 1, pods: 3, old: [0, 1, 2], spec: { replicas: 3 } }), 2, {
      phase: 'removed',
      clusterId: 'c'.repeat(32),
      nodeId: 3,
    })
    expect(decisions(removed)).toContain('! replace orders-1')
    const replaced = changed(removed, 1, () => ({ pod: null, status: null }))
    expect(decisions(replaced)).toContain('! restart orders-2')
  })
  test('a pod that does not run on old inputs is replaced without asking', () => {
    const stuck = changed(old(), 1, () => ({ pod: podOf(1, 'older', {}, false), status: null, unanswered: 'no' }))
    expect(decisions(stuck)[0]).toBe('! replace orders-1')
  })
  test('a pod that does not run on new inputs stops the roll, until the spec is reverted', () => {
    const bad = changed(world({ old: [0, 1] }), 2, (node) => ({
      pod: podOf(2, node.pod?.metadata.annotations?.['lokikv.dev/inputs-hash'] ?? '', {}, false),
      status: null,
      unanswered: 'no',
    }))
    expect(decisions(bad)).toEqual(['restart orders-1: one-at-a-time'])
    const reverted = { ...bad, hash: 'older' }
    expect(decisions(reverted)[0]).toBe('! replace orders-2')
  })
  test('one voter: a pause, without a transfer. Two: the other must be well', () => {
    expect(decisions(world({ voters: 1, old: [0] }))).toEqual(['! restart orders-0'])
    expect(decisions(world({ voters: 2, old: [0, 1] }))).toEqual(['! restart orders-1'])
    expect(decisions(silent(world({ voters: 2, old: [0, 1] }), 0))).toContain('restart orders-1: exactly-one-leader')
  })
  test('nothing is restarted during a reconfiguration', () => {
    const reconfiguration = { voters: [1, 2, 3, 4], state: 'proposed' } as const
    expect(decisions(old({ leaderSays: { reconfiguration } }))).toContain('restart orders-2: not-reconfiguring')
    expect(decisions(old({ leaderSays: { configurationComplete: false } }))).toContain(
      'restart orders-2: not-reconfiguring',
    )
  })
  test('settings that keep nodes from electing do not keep their correction out', () => {
    const wedged = [0, 1, 2].reduce(
      (next, ordinal) =>
        changed(saying(next, ordinal, { phase: 'recovering', role: 'none' }), ordinal, (node) => ({
          pod: node.pod && {
            ...node.pod,
            status: { ...node.pod.status, conditions: [{ type: 'Ready', status: 'False' }] },
          },
        })),
      old({ leaderId: null }),
    )
    expect(decisions(wedged)).toEqual(['! restart orders-2'])
    expect(decisions(silent(wedged, 0))).toEqual(['restart orders-2: exactly-one-leader'])
    const young = changed(wedged, 2, () => ({ runningMilliseconds: 5_000 }))
    expect(decisions(young)).toEqual(['restart orders-2: exactly-one-leader'])
  })
  test('a pod whose machine is gone does not block for ever', () => {
    const gone = changed(ending(silent(world({ voters: 5, old: [0, 1, 2, 3] }), 4), 4), 4, () => ({ overdue: true }))
    expect(decisions(gone)).toEqual(['! restart orders-3'])
  })
})

describe('scale out', () => {
  const out = (pods = 5, more: Parameters<typeof world>[0] = {}) => world({ spec: { replicas: 5 }, pods, ...more })
  test('pods first', () => {
    expect(decisions(out(3))).toEqual(['set replicas to 5', 'reconfigure to 3 voters: all-new-nodes-joined'])
  })
  test('each waiting node joins under an id from the leader', () => {
    expect(decisions(out())).toEqual([
      'join orders-3',
      'join orders-4',
      'reconfigure to 3 voters: all-new-nodes-joined',
    ])
  })
  test('all have joined: one reconfiguration to all of them, which the leader goes on leading', () => {
    const learner = { phase: 'learner', role: 'learner', clusterId: 'c'.repeat(32) } as const
    const joined = saying(saying(out(), 3, { ...learner, nodeId: 4 }), 4, { ...learner, nodeId: 5 })
    expect(decisions(joined).filter((line) => line.startsWith('!'))).toEqual(['! reconfigure to 5 voters'])
    expect(plan(joined).disruption).toMatchObject({ expectedConfigurationId: 1, leaderId: 1, missing: [] })
  })
  test('not while nodes are out of date', () => {
    expect(decisions(out(3, { old: [2] }))).toContain('set replicas to 5: no-scaling-during-a-restart')
  })
  test('a reverted scale-out is withdrawn as long as it can be', () => {
    const reconfiguration = { voters: [1, 2, 3, 4, 5], state: 'catching-up' } as const
    const learner = { phase: 'learner', role: 'learner', clusterId: 'c'.repeat(32) } as const
    const reverted = saying(
      saying(world({ pods: 5, leaderSays: { reconfiguration } }), 3, { ...learner, nodeId: 4 }),
      4,
      { ...learner, nodeId: 5 },
    )
    expect(decisions(reverted)).toContain('withdraw the change of membership')
    expect(decisions(reverted)).toContain('set replicas to 3: not-reconfiguring')
  })
  test('an ordinal that returns to a kept volume is reset, then joins under a new id', () => {
    const returned = saying(out(4), 3, {
      phase: 'removed',
      clusterId: 'c'.repeat(32),
      nodeId: 4,
      volumeId: volumeOf(4),
    })
    expect(decisions(returned)).toContain('! reset orders-3')
    expect(decisions(ending(returned, 3)).filter((line) => line.includes('reset'))).toEqual([])
  })
})

describe('scale in', () => {
  test('the leader stays: reconfigure without the highest ordinals', () => {
    const observed = world({ voters: 5, spec: { replicas: 3 } })
    expect(decisions(observed)).toEqual(['! reconfigure to 3 voters'])
    expect(plan(observed).disruption).toMatchObject({ voters: [{ id: 1 }, { id: 2 }, { id: 3 }] })
  })
  test('the leader goes: it hands over to one that stays', () => {
    expect(decisions(world({ voters: 5, spec: { replicas: 3 }, leaderId: 5 }))).toEqual([
      '! transfer leadership to orders-0',
    ])
  })
  test('nobody that stays can take over: the leader stays', () => {
    const observed = world({ voters: 3, spec: { replicas: 1 }, leaderId: 3 })
    const lagging = saying(observed, 0, { caughtUp: false })
    expect(decisions(lagging)).toEqual(['reconfigure to 1 voters: leader-stays'])
  })
  const left = (says: Record<string, unknown> = {}) => {
    const observed = world({ voters: 5, spec: { replicas: 3 }, configurationId: 2, leaderSays: says })
    const smaller = grown(observed, { id: 3, ordinals: [0, 1, 2] }, 0, 1, 2)
    return saying(saying(smaller, 3, { phase: 'removed', role: 'none' }), 4, { phase: 'removed', role: 'none' })
  }
  test('they have left: fewer pods', () => expect(decisions(left())).toContain('! set replicas to 3'))
  test('not before the new configuration is complete', () => {
    expect(decisions(left({ configurationComplete: false }))).toContain('set replicas to 3: not-reconfiguring')
  })
  test('not before a leaver that answers knows', () => {
    expect(decisions(saying(left(), 4, { phase: 'member' }))).toContain('set replicas to 3: leavers-know')
    expect(decisions(silent(left(), 4))).toContain('! set replicas to 3')
  })
  test('a dead node can be scaled in', () => {
    expect(decisions(silent(world({ voters: 5, spec: { replicas: 3 } }), 4))).toEqual(['! reconfigure to 3 voters'])
  })
  test('not without a majority', () => {
    const observed = silent(silent(world({ voters: 5, spec: { replicas: 3 } }), 1), 2)
    expect(decisions(observed)).toEqual(['reconfigure to 3 voters: majority-caught-up'])
  })
  test('claims of nodes that left go where that is asked for, after their pods', () => {
    const storage = { wal: { size: '1Gi' }, checkpoints: { size: '1Gi' }, retention: { whenScaled: 'Delete' as const } }
    const smaller = world({ voters: 3, spec: { storage } })
    const kept = { ...smaller, claims: [...smaller.claims, claimOf('wal', 3), claimOf('checkpoints', 3)] }
    expect(decisions(kept)).toEqual(['! delete claim wal-orders-3'])
    expect(decisions({ ...kept, cluster: world().cluster })).toEqual([])
    const hibernating = { ...kept, cluster: lokiCluster({ storage, replicas: 0 }, { bootstrapped: true }) }
    expect(decisions(hibernating).filter((line) => line.includes('claim'))).toEqual([])
  })
})

describe('hibernation', () => {
  test('replicas 0 stops every pod and keeps every claim', () => {
    expect(decisions(world({ spec: { replicas: 0 } }))).toEqual(['! hibernate'])
  })
  test('not in the middle of a reconfiguration', () => {
    const observed = world({ spec: { replicas: 0 }, leaderSays: { configurationComplete: false } })
    expect(decisions(observed)).toEqual(['hibernate: not-reconfiguring'])
  })
  test('waking starts the pods that are wanted, and more if they say that they were more', () => {
    const asleep = { ...world({ spec: { replicas: 3 }, pods: 0 }), statefulSet: statefulSetOf(0) }
    expect(decisions(asleep)).toEqual(['set replicas to 3'])
  })
})

describe('lost volumes', () => {
  const lost = changed(world(), 1, (node) => ({ status: emptyNode(world().cluster, node.ordinal, 77) }))
  test('an empty volume under a member is never given its old id, and never a new one unasked', () => {
    expect(decisions(lost).filter((line) => !line.startsWith('label'))).toEqual(['join orders-1: volume-lost'])
  })
  test('the status says what happened', () => {
    const { conditions } = statusOf(lost, plan(lost), plan(lost).held, [])
    expect(conditions?.find(({ type }) => type === 'Degraded')).toMatchObject({ status: 'True', reason: 'VolumeLost' })
    expect(conditions?.find(({ type }) => type === 'Ready')?.status).toBe('False')
  })
  test('nothing else is restarted while it is away', () => {
    const rolling = { ...lost, hash: 'newer' }
    expect(plan(rolling).disruption).toMatchObject({ kind: 'replace', target: { pod: 'orders-1' } })
    const replaced = changed(rolling, 1, () => ({ pod: podOf(1, 'newer') }))
    expect(decisions(replaced)).toContain('restart orders-2: majority-of-others-caught-up')
  })
})

describe('labels and claims', () => {
  test('the new leader gets its label before the old one loses it; without a leader nobody loses it', () => {
    const moved = world({ leaderId: 1 })
    const voters = moved.nodes.map((node) => node.pod?.metadata.labels?.['lokikv.dev/role'])
    expect(voters).toEqual(['leader', 'follower', 'follower'])
    const now = [0, 1, 2].reduce(
      (next, ordinal) => saying(next, ordinal, { leaderId: 3, role: ordinal === 2 ? 'leader' : 'follower' }),
      moved,
    )
    expect(plan(now).steps).toMatchObject([
      { kind: 'label-pod', target: { pod: 'orders-2' }, role: 'leader' },
      { kind: 'label-pod', target: { pod: 'orders-0' }, role: 'follower' },
    ])
    const none = saying(moved, 0, { role: 'follower', leaderId: null })
    expect(decisions(none)).toEqual([])
  })
  test('claims carry the id of their node, and an owner where they go with the LokiCluster', () => {
    const observed = world()
    const fresh = { ...observed, claims: [claimOf('wal', 0, null)] }
    expect(plan(fresh).steps).toMatchObject([
      { kind: 'label-claim', labels: { 'lokikv.dev/node-id': '1' }, ownerReferences: [] },
    ])
    const storage = {
      wal: { size: '1Gi' },
      checkpoints: { size: '1Gi' },
      retention: { whenDeleted: 'Delete' as const },
    }
    const owned = world({ spec: { storage } })
    expect(plan({ ...owned, claims: [claimOf('wal', 0)] }).steps).toMatchObject([
      { kind: 'label-claim', labels: {}, ownerReferences: [{ kind: 'LokiCluster', uid: 'uid-of-orders' }] },
    ])
  })
  test('claims grow', () => {
    const storage = { wal: { size: '2Gi' }, checkpoints: { size: '1Gi' } }
    expect(decisions(world({ voters: 1, spec: { storage } }))).toEqual(['grow claim wal-orders-0'])
  })
})

describe('paused, deleted', () => {
  test('paused: nothing is written and nothing done, and the status says so', () => {
    const paused = world({ old: [0, 1, 2], spec: { paused: true } })
    expect(plan(paused)).toMatchObject({ apply: false, steps: [], disruption: null, stage: 'Paused' })
  })
  test('deleted: hands off', () => {
    const observed = world()
    const cluster = { ...observed.cluster, metadata: { ...observed.cluster.metadata, deletionTimestamp: 'x' } }
    expect(plan({ ...observed, cluster })).toMatchObject({ apply: false, steps: [], disruption: null, held: [] })
  })
})

describe('status', () => {
  const statusAt = (observed: Observed) => statusOf(observed, plan(observed), plan(observed).held, [])
  test('a cluster at rest', () => {
    const observed = world({ status: { bootstrapped: true, observedGeneration: 1 } })
    const status = statusAt(observed)
    expect(status).toMatchObject({
      replicas: 3,
      readyReplicas: 3,
      selector: 'lokikv.dev/cluster=orders',
      leader: 'orders-0',
      bootstrapped: true,
      configurationId: 1,
      held: [],
    })
    expect(status.members?.[1]).toEqual({
      pod: 'orders-1',
      id: 2,
      volumeId: volumeOf(2),
      role: 'voter',
      state: 'ready',
      decidedIndex: '10',
      version: '0.1.0',
    })
    expect(status.conditions?.map(({ type, status: value, reason }) => `${type}=${value} ${reason}`)).toEqual([
      'Ready=True AllNodesReady',
      'QuorumAvailable=True AllVotersHealthy',
      'Progressing=False Settled',
      'Reconfiguring=False Complete',
      'StorageResizing=False Settled',
      'Degraded=False AsExpected',
    ])
  })
  test('it is written once: times stay while nothing changes', () => {
    const first = world({ status: { bootstrapped: true, observedGeneration: 1 } })
    const status = statusAt(first)
    const later = { ...first, now: '2027-01-01T00:00:00Z', cluster: { ...first.cluster, status } }
    expect(canonical(statusAt(later))).toBe(canonical(status))
  })
  test('a lost quorum is reported with the way out, and bootstrapped stays', () => {
    const down = silent(silent(saying(world({ leaderId: null }), 0, { phase: 'recovering' }), 1), 2)
    const status = statusAt(down)
    expect(status.bootstrapped).toBe(true)
    expect(status.conditions?.find(({ type }) => type === 'QuorumAvailable')).toMatchObject({
      status: 'False',
      reason: 'QuorumLost',
      message: expect.stringContaining('1 of 3 voters answer and 2 are needed') as string,
    })
  })
  test('where fewer accept, more are needed to elect', () => {
    const three = silent(silent(world({ voters: 5, acceptQuorum: 2, leaderId: null }), 3), 4)
    expect(statusAt(three).conditions?.find(({ type }) => type === 'QuorumAvailable')).toMatchObject({
      reason: 'QuorumLost',
      message: expect.stringContaining('3 of 5 voters answer and 4 are needed') as string,
    })
  })
  test('an even number of voters is remarked upon', () => {
    const { conditions } = statusAt(world({ voters: 4 }))
    expect(conditions?.[1]?.message).toContain('4 voters survive no more failures than 3')
  })
})

test('the rules refuse what the plan would never propose', () => {
  const observed = world()
  const { uid, name, resourceVersion } = statefulSetOf(3).metadata
  const fewer = {
    kind: 'set-replicas',
    from: 3,
    to: 2,
    statefulSet: { uid, name, resourceVersion },
    hibernate: false,
  } as const
  expect(permits(fewer, observed)).toEqual({ rule: 'left-the-configuration', message: 'still a member: orders-2' })
  const claim = {
    kind: 'delete-claim',
    claim: { uid: 'x', name: 'wal-orders-2', resourceVersion: '1' },
    ordinal: 2,
  } as const
  expect(permits(claim, withoutPod(observed, 2))?.rule).toBe('left-the-configuration')
  expect(permits({ ...claim, ordinal: 3 }, world({ pods: 4 }))?.rule).toBe('pod-is-gone')
  const target = (ordinal: number) => ({ pod: `orders-${ordinal}`, ordinal, uid: `uid-of-pod-${ordinal}` })
  expect(permits({ kind: 'restart', target: target(0), ready: true }, observed)?.rule).toBe('leader-last')
  const transfer = { kind: 'transfer', leader: target(0), to: target(1), toId: 2, expectedConfigurationId: 1 } as const
  expect(permits(transfer, saying(world({ voters: 5 }), 1, { phase: 'recovering', caughtUp: false }))?.rule).toBe(
    'target-caught-up',
  )
  expect(permits({ kind: 'replace', target: target(1), reason: '' }, observed)?.rule).toBe('takes-no-part')
})

test('every rule has a name of its own', () => {
  expect(new Set(RULE_NAMES).size).toBe(RULE_NAMES.length)
})
