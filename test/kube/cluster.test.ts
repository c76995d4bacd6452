/**
 * A LokiCluster on a real Kubernetes, end to end: the operator by Helm, the example manifest, then all that promise 4
 * and promise 1 say, with clients inside the cluster whose history is checked. Takes whatever KUBECONFIG names; the
 * image (LOKIKV_IMAGE, default lokikv:dev) must be there. The tests build on each other.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { ANNOTATIONS, names } from '../../src/contract.ts'
import { eventually } from '../cluster/harness.ts'
import type { Recording } from '../cluster/recorder.ts'
import { figuresOf, problemsOf } from '../cluster/verify.ts'
import { IMAGE, KubeCluster, NAME } from './cluster.ts'
import { type KubeObject, type Pod, helm, kubectl, list } from './kubectl.ts'

const OPERATOR_NAMESPACE = `lokikv-e2e-operator-${randomBytes(3).toString('hex')}`
const RELEASE = 'lokikv-operator'
const CHART = 'charts/lokikv-operator'
/** The same image under its full name: a changed image without another build. */
const OTHER_IMAGE = process.env['LOKIKV_OTHER_IMAGE'] ?? `docker.io/library/${IMAGE}`

function reachable(): boolean {
  if (!process.env['KUBECONFIG']) return false
  try {
    execFileSync('kubectl', ['version'], { stdio: 'ignore' })
    execFileSync('helm', ['version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

const runs = reachable()
if (!runs) console.log('test/kube is skipped: it needs KUBECONFIG, kubectl and helm (see docs/OPERATIONS.md)')

const cluster = new KubeCluster()
const PODS = [0, 1, 2].map((ordinal) => names.pod(NAME, ordinal))
const CLIENTS = [...PODS, 'service']

/** The CRD may be there from an earlier run, kept by `helm uninstall`: `--take-ownership` (Helm 3.17) adopts it. */
async function installOperator(): Promise<void> {
  const [repository = '', tag = ''] = IMAGE.split(':')
  const values = [`image.repository=${repository}`, `image.tag=${tag}`]
  const namespace = ['--namespace', OPERATOR_NAMESPACE, '--create-namespace']
  await helm(
    'upgrade',
    '--install',
    RELEASE,
    CHART,
    ...namespace,
    '--set',
    values.join(','),
    '--take-ownership',
    '--wait',
    '--timeout',
    '120s',
  )
}

/** Pauses are reported, not asserted; `killed`: targets whose clients may have lost an answer. */
function judge(what: string, recording: Recording, killed: readonly string[] = []): string[] {
  console.log(`${what}: ${figuresOf(recording)}`)
  return problemsOf(recording, killed)
}

beforeAll(async () => {
  if (!runs) return
  await kubectl('create', 'namespace', cluster.namespace)
  await installOperator()
  await kubectl('apply', '-n', cluster.namespace, '-f', 'examples/orders.yaml')
  await cluster.untilReady(3)
})

afterAll(async () => {
  if (!runs) return
  await kubectl('delete', 'lokicluster', '--all', '-n', cluster.namespace, '--ignore-not-found', '--wait=false')
  await kubectl('delete', 'namespace', cluster.namespace, '--ignore-not-found', '--wait=false')
  await helm('uninstall', RELEASE, '--namespace', OPERATOR_NAMESPACE, '--ignore-not-found')
  await kubectl('delete', 'namespace', OPERATOR_NAMESPACE, '--ignore-not-found', '--wait=false')
})

beforeEach(({ onTestFailed }) => {
  onTestFailed(async () => {
    console.log(await cluster.describe())
    console.log(await kubectl('logs', '-n', OPERATOR_NAMESPACE, '--tail=40', `deploy/${RELEASE}`).catch(String))
  })
})

describe.skipIf(!runs)('a LokiCluster on Kubernetes', () => {
  test('the manifest becomes the objects of a cluster, and the status shows it', async () => {
    const namesOf = async (kind: string): Promise<string[]> =>
      (await list<KubeObject>(cluster.namespace, kind)).map((object) => object.metadata.name)
    expect(await namesOf('secrets')).toContain(names.tokenSecret(NAME))
    const services = [names.clientService(NAME), names.leaderService(NAME), names.peersService(NAME)]
    expect(await namesOf('services')).toEqual(expect.arrayContaining(services))
    expect(await namesOf('poddisruptionbudgets')).toEqual([names.disruptionBudget(NAME)])
    expect((await namesOf('persistentvolumeclaims')).toSorted()).toEqual(
      [0, 1, 2].flatMap((ordinal) => [names.walClaim(NAME, ordinal), names.checkpointsClaim(NAME, ordinal)]).toSorted(),
    )
    const { status } = await cluster.object()
    expect(status?.members?.map((member) => member.role).toSorted()).toEqual(['voter', 'voter', 'voter'])
    expect(new Set(status?.members?.map((member) => member.id)).size).toBe(3)
    const shown = await kubectl('get', 'lokiclusters', '-n', cluster.namespace)
    expect(shown).toMatch(/NAME\s+REPLICAS\s+READY\s+LEADER\s+AGE/)
    expect(shown).toMatch(new RegExp(`${NAME}\\s+3\\s+3\\s+${NAME}-\\d`))
  })

  test('kubectl delete pod of the leader, under load, fails no request', async () => {
    const clients = await cluster.startClients({ pods: PODS })
    await clients.untilAnswered(500)
    const leader = await cluster.leader()
    await kubectl('delete', 'pod', leader, '-n', cluster.namespace)
    await cluster.untilReady(3)
    await clients.untilAnswered(500)
    expect(judge('delete of the leader', await clients.stop())).toEqual([])
  })

  test('kill -9 of the leader, under load: clients of the others get no error, nothing is lost', async () => {
    const clients = await cluster.startClients({ pods: PODS })
    await clients.untilAnswered(500)
    const leader = await cluster.leader()
    const before = await restarts([leader])
    await cluster.kill9(leader)
    await clients.untilAnswered(500)
    await untilRestarted(before)
    await cluster.untilReady(3)
    await clients.untilAnswered(500)
    // A client of the Service may have been connected to the pod that was killed.
    expect(judge('kill -9 of the leader', await clients.stop(), [leader, 'service'])).toEqual([])
  })

  test('kill -9 of all nodes at once: nothing acknowledged is lost', async () => {
    const clients = await cluster.startClients({ pods: PODS })
    await clients.untilAnswered(500)
    const before = await restarts(PODS)
    await cluster.kill9(...PODS)
    await untilRestarted(before)
    await cluster.untilReady(3)
    await clients.untilAnswered(500)
    expect(judge('kill -9 of all', await clients.stop(), CLIENTS)).toEqual([])
  })

  test("drain of the leader's node, under load, fails no request", async ({ skip }) => {
    const machines = await list<KubeObject>('', 'nodes')
    skip(machines.length < 2, 'a drain needs two nodes')
    const leader = await cluster.pod(await cluster.leader())
    const node = leader.spec.nodeName ?? ''
    const clients = await cluster.startClients({ pods: PODS, avoidNode: node })
    await clients.untilAnswered(500)
    try {
      await kubectl('drain', node, '--ignore-daemonsets', '--delete-emptydir-data', '--force', '--timeout', '180s')
      await cluster.untilReady(3)
      await clients.untilAnswered(500)
    } finally {
      await kubectl('uncordon', node)
    }
    expect(judge('drain', await clients.stop())).toEqual([])
  })

  test('scale 3 -> 5 -> 3 -> 1 -> 3, under load, fails no request', async () => {
    // The clients talk to the node that stays, and to the Service.
    const clients = await cluster.startClients({ pods: PODS.slice(0, 1) })
    for (const replicas of [5, 3, 1, 3]) {
      await clients.untilAnswered(300)
      await kubectl('scale', 'lokicluster', NAME, '-n', cluster.namespace, `--replicas=${replicas}`)
      await cluster.untilReady(replicas)
      await eventually('pods and replicas agree', async () => (await cluster.pods()).length === replicas)
    }
    await clients.untilAnswered(300)
    expect(judge('scale 3 -> 5 -> 3 -> 1 -> 3', await clients.stop())).toEqual([])
  })

  test.each([
    ['annotation', ['annotate', 'lokicluster', NAME, `${ANNOTATIONS.restartedAt}=2026-01-01T00:00:00Z`, '--overwrite']],
    [
      'setting',
      ['patch', 'lokicluster', NAME, '--type=merge', '-p', '{"spec":{"config":{"checkpointIntervalSeconds":60}}}'],
    ],
    ['image', ['patch', 'lokicluster', NAME, '--type=merge', '-p', JSON.stringify({ spec: { image: OTHER_IMAGE } })]],
  ])('a rolling restart by a changed %s, under load, fails no request', async (what, command) => {
    const clients = await cluster.startClients({ pods: PODS })
    await clients.untilAnswered(300)
    const before = await cluster.pods()
    await kubectl(...command, '-n', cluster.namespace)
    await cluster.untilAllReplaced(before, 3)
    await clients.untilAnswered(300)
    expect(judge(`rolling restart by ${what}`, await clients.stop())).toEqual([])
  })

  test('a node whose WAL claim was deleted comes back as a stranger, never under its old id', async () => {
    const clients = await cluster.startClients({ pods: [] })
    await clients.untilAnswered(300)
    const lost = await cluster.follower()
    const ordinal = Number(lost.slice(lost.lastIndexOf('-') + 1))
    const before = (await cluster.object()).status?.members?.find((member) => member.pod === lost)
    const pod = await cluster.pod(lost)
    await kubectl('delete', 'pvc', names.walClaim(NAME, ordinal), '-n', cluster.namespace, '--wait=false')
    await kubectl('delete', 'pod', lost, '-n', cluster.namespace)
    await eventually(
      'the pod runs again, on an empty volume',
      async () => {
        const now = await cluster.pod(lost)
        return now.metadata.uid !== pod.metadata.uid && now.status.phase === 'Running'
      },
      120_000,
    )
    await eventually(
      'the status tells of the lost volume, or of its repair',
      async () => {
        const { status } = await cluster.object()
        const member = status?.members?.find((each) => each.pod === lost)
        const votes = member?.role === 'voter' && member.volumeId !== before?.volumeId
        if (votes && member.id === before?.id) throw new Error('an empty volume votes under the old id')
        return votes || status?.conditions?.some((condition) => condition.reason === 'VolumeLost')
      },
      120_000,
    )
    await clients.untilAnswered(300)
    expect(judge('lost volume', await clients.stop())).toEqual([])
  })

  test('helm uninstall keeps the CRD and the data, and a new operator takes over', async () => {
    const clients = await cluster.startClients({ pods: PODS.slice(0, 1) })
    await clients.untilAnswered(300)
    const before = (await cluster.pods()).map((pod: Pod) => pod.metadata.uid).toSorted()
    await helm('uninstall', RELEASE, '--namespace', OPERATOR_NAMESPACE, '--wait')
    await clients.untilAnswered(300)
    expect(await kubectl('get', 'crd', 'lokiclusters.lokikv.dev', '-o', 'name')).toMatch(/lokiclusters/)
    expect((await cluster.pods()).map((pod: Pod) => pod.metadata.uid).toSorted()).toEqual(before)
    await installOperator()
    await clients.untilAnswered(300)
    expect((await cluster.pods()).map((pod: Pod) => pod.metadata.uid).toSorted()).toEqual(before)
    expect(judge('helm uninstall and install', await clients.stop())).toEqual([])
  })
})

/** How often the container of each pod was started again so far. */
async function restarts(podNames: readonly string[]): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  for (const name of podNames) {
    counts.set(name, (await cluster.pod(name)).status.containerStatuses?.[0]?.restartCount ?? 0)
  }
  return counts
}

/** Waits until each container was started again, in the same pod. */
async function untilRestarted(before: ReadonlyMap<string, number>): Promise<void> {
  for (const [name, count] of before) {
    await eventually(`${name} was restarted`, async () => ((await restarts([name])).get(name) ?? 0) > count, 60_000)
  }
}
