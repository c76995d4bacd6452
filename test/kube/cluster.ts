/**
 * A LokiCluster on a real Kubernetes and clients inside that Kubernetes: what the tests of test/kube do to the one
 * and ask of the other.
 */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { LABELS, PORTS, names } from '../../src/contract.ts'
import { eventually } from '../cluster/harness.ts'
import type { Failure, Recording } from '../cluster/recorder.ts'
import { type LokiClusterObject, type Pod, apply, get, isReady, kubectl, list, readyPod } from './kubectl.ts'

export const IMAGE = process.env['LOKIKV_IMAGE'] ?? 'lokikv:dev'
export const NAME = 'orders'
const PATIENCE_MILLISECONDS = 180_000
const PROJECT = new URL('../../', import.meta.url)

/** One namespace with the LokiCluster `orders` in it. */
export class KubeCluster {
  readonly namespace = `lokikv-e2e-${randomBytes(3).toString('hex')}`

  async object(): Promise<LokiClusterObject> {
    const found = await get<LokiClusterObject>(this.namespace, 'lokicluster', NAME)
    if (!found) throw new Error(`there is no LokiCluster ${NAME}`)
    return found
  }

  async pods(): Promise<Pod[]> {
    return list<Pod>(this.namespace, 'pods', `${LABELS.cluster}=${NAME}`)
  }

  async pod(name: string): Promise<Pod> {
    const found = await get<Pod>(this.namespace, 'pod', name)
    if (!found) throw new Error(`there is no pod ${name}`)
    return found
  }

  /** What a person would look at first, for a failed test. */
  async describe(): Promise<string> {
    const looks = [
      ['get', 'lokicluster,pods,pvc', '-o', 'wide'],
      ['get', 'lokicluster', NAME, '-o', 'jsonpath={.status}'],
      ['logs', '-l', `${LABELS.cluster}=${NAME}`, '--prefix', '--tail=15'],
    ]
    const shown = await Promise.all(looks.map((look) => kubectl(...look, '-n', this.namespace).catch(String)))
    return shown.join('\n')
  }

  /** Name of the pod that leads, by the status, once there is one. */
  async leader(): Promise<string> {
    return eventually('the status names a leader', async () => (await this.object()).status?.leader, 60_000)
  }

  async follower(): Promise<string> {
    const leader = await this.leader()
    const pods = (await this.pods()).map((pod) => pod.metadata.name).filter((name) => name !== leader)
    const found = pods.toSorted().at(-1)
    if (found === undefined) throw new Error('there is no follower')
    return found
  }

  /** Waits until the status says Ready for this generation, with `replicas` ready voters, and nothing in progress. */
  async untilReady(replicas: number): Promise<LokiClusterObject> {
    return eventually(
      `${NAME} is Ready with ${replicas} voters`,
      async () => {
        const { metadata, status, ...rest } = await this.object()
        const is = (type: string): boolean =>
          (status?.conditions ?? []).some((condition) => condition.type === type && condition.status === 'True')
        const { generation } = metadata as { generation?: number }
        const voters = (status?.members ?? []).filter((member) => member.role === 'voter')
        const settled = status?.observedGeneration === generation && is('Ready') && !is('Progressing')
        const whole = status?.readyReplicas === replicas && voters.length === replicas
        return settled && whole && { metadata, status, ...rest }
      },
      PATIENCE_MILLISECONDS,
    )
  }

  /** Waits until every pod of the cluster is another one than before, and all is settled. */
  async untilAllReplaced(before: readonly Pod[], replicas: number): Promise<void> {
    const old = new Set(before.map((pod) => pod.metadata.uid))
    await eventually(
      'every pod was restarted',
      async () => {
        const pods = await this.pods()
        return pods.length === replicas && pods.every((pod) => !old.has(pod.metadata.uid) && isReady(pod))
      },
      PATIENCE_MILLISECONDS,
    )
    await this.untilReady(replicas)
  }

  /**
   * kill -9 of the node in a pod. Inside its own PID namespace it is process 1, which no signal from inside can kill:
   * a privileged pod beside it, on the same machine, does it from outside.
   */
  async kill9(...podNames: string[]): Promise<void> {
    const pods = await Promise.all(podNames.map((name) => this.pod(name)))
    await Promise.all(
      pods.map(async (pod) => {
        const containerId = pod.status.containerStatuses?.[0]?.containerID?.split('//')[1] ?? ''
        const killer = `kill-${pod.metadata.name}-${randomBytes(3).toString('hex')}`
        await apply(this.namespace, killerPod(killer, pod, containerId))
        await eventually(`${killer} has run`, async () => (await this.pod(killer)).status.phase === 'Succeeded', 60_000)
      }),
    )
  }

  /** Clients inside the cluster: some on the client Service, some on each pod. Not on the machine `avoid`. */
  async startClients(options: { readonly pods: readonly string[]; readonly avoidNode?: string }): Promise<KubeClients> {
    const name = `clients-${randomBytes(3).toString('hex')}`
    const host = (pod: string): string => `${pod}.${names.peersService(NAME)}.${this.namespace}.svc`
    const targets = [
      { name: 'service', host: `${names.clientService(NAME)}.${this.namespace}.svc`, port: PORTS.client },
      ...options.pods.map((pod) => ({
        name: pod,
        host: host(pod),
        port: PORTS.client,
        readyUrl: `http://${host(pod)}:${PORTS.admin}/readyz`,
      })),
    ]
    const source = async (path: string): Promise<string> => readFile(new URL(path, PROJECT), 'utf8')
    await apply(this.namespace, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name },
      data: Object.fromEntries(
        await Promise.all(
          Object.entries(SOURCES).map(async ([key, path]): Promise<[string, string]> => [key, await source(path)]),
        ),
      ),
    })
    const settings = { connectionsPerTarget: 3, prefix: name }
    await apply(this.namespace, clientsPod(name, targets, settings, options.avoidNode))
    await readyPod(this.namespace, name)
    return new KubeClients(this.namespace, name)
  }
}

const SOURCES = {
  'resp-client.ts': 'bench/resp-client.ts',
  'recorder.ts': 'test/cluster/recorder.ts',
  'recorder-main.ts': 'test/kube/recorder-main.ts',
} as const

function clientsPod(name: string, targets: unknown, settings: unknown, avoidNode: string | undefined): unknown {
  const avoid = { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'NotIn', values: [avoidNode] }] }
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: 'clients' } },
    spec: {
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 1,
      ...(avoidNode === undefined
        ? {}
        : {
            affinity: {
              nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [avoid] } },
            },
          }),
      containers: [
        {
          name: 'clients',
          image: IMAGE,
          imagePullPolicy: 'IfNotPresent',
          command: ['node', '/clients/test/kube/recorder-main.ts'],
          env: [
            { name: 'TARGETS', value: JSON.stringify(targets) },
            { name: 'OPTIONS', value: JSON.stringify(settings) },
          ],
          ports: [{ containerPort: 9000 }],
          readinessProbe: { httpGet: { path: '/progress', port: 9000 }, periodSeconds: 1 },
          volumeMounts: [{ name: 'source', mountPath: '/clients' }],
        },
      ],
      volumes: [
        {
          name: 'source',
          configMap: { name, items: Object.entries(SOURCES).map(([key, path]) => ({ key, path })) },
        },
      ],
    },
  }
}

/** Ends, from outside, every process of one container. */
const KILL_SCRIPT = `
const fs = require('node:fs')
const mine = fs.readdirSync('/proc').filter((pid) => /^[0-9]+$/.test(pid)).filter((pid) => {
  try { return fs.readFileSync('/proc/' + pid + '/cgroup', 'utf8').includes(process.argv[1]) } catch { return false }
})
if (mine.length === 0) throw new Error('no process of container ' + process.argv[1])
for (const pid of mine) process.kill(Number(pid), 'SIGKILL')`

function killerPod(name: string, victim: Pod, containerId: string): unknown {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      nodeName: victim.spec.nodeName,
      hostPID: true,
      restartPolicy: 'Never',
      containers: [
        {
          name: 'kill',
          image: IMAGE,
          imagePullPolicy: 'IfNotPresent',
          command: ['node', '-e', KILL_SCRIPT, containerId],
          securityContext: { privileged: true, runAsUser: 0 },
        },
      ],
    },
  }
}

/** A pod with recording clients. */
export class KubeClients {
  readonly #namespace: string
  readonly #name: string

  constructor(namespace: string, name: string) {
    this.#namespace = namespace
    this.#name = name
  }

  async #ask<T>(path: string): Promise<T> {
    const url = `/api/v1/namespaces/${this.#namespace}/pods/${this.#name}:9000/proxy${path}`
    return JSON.parse(await kubectl('get', '--raw', url)) as T
  }

  async progress(): Promise<{ answered: number; failures: Failure[] }> {
    return this.#ask('/progress')
  }

  /** Waits until `more` further commands were answered. */
  async untilAnswered(more: number): Promise<void> {
    const wanted = (await this.progress()).answered + more
    await eventually(
      `${more} more commands were answered`,
      async () => (await this.progress()).answered >= wanted,
      60_000,
    )
  }

  /** Ends the clients, reads every key once more through every target, and gives the recording. */
  async stop(): Promise<Recording> {
    const recording = await this.#ask<Recording>('/stop')
    await kubectl('delete', 'pod', this.#name, '-n', this.#namespace, '--wait=false')
    const history = recording.history.map((operation) => ({
      ...operation,
      completed: (operation.completed as number | null) ?? Infinity,
    }))
    return { ...recording, history }
  }
}
