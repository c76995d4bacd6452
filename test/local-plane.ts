/**
 * A control plane for tests: in a folder of its own, with fake nodes in place of real ones, and everything gone
 * at the end. What the operator would write is written by hand: `statefulSet`.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ControlPlane } from '../local/control-plane.ts'
import { type KubeObject, at, hasCondition } from '../local/objects.ts'
import type { PodPorts } from '../local/ports.ts'
import { builtIn } from '../local/resources.ts'

export const FAKE_NODE = join(import.meta.dirname, 'fixtures', 'fake-node.mjs')
export const PODS = builtIn('pods')

export async function until<T>(what: string, look: () => T | null | undefined | false): Promise<T> {
  for (let turn = 0; turn < 1200; turn++) {
    const found = look()
    if (found !== null && found !== undefined && found !== false) return found
    await sleep(50)
  }
  throw new Error(`never came true: ${what}`)
}

/**
 * Ports of its own for each worker of the test runner: two control planes that look for free ports at the same
 * moment may find the same one, and the process that comes second ends and is started again, on another port.
 */
const worker = Number(process.env.VITEST_POOL_ID ?? 0)
const FIRST_PORTS: PodPorts = Object.fromEntries(
  ['client', 'http', 'admin', 'peer'].map((name, at) => [name, 30_000 + worker * 400 + at * 100]),
) as PodPorts

/** Opens and serves; `close` stops it and removes the folder. */
export async function openPlane(folder = mkdtempSync(join(tmpdir(), 'lokikv-local-'))): Promise<{
  plane: ControlPlane
  folder: string
  close: () => Promise<void>
}> {
  const plane = await ControlPlane.open({ folder, entryPoint: FAKE_NODE, firstPorts: FIRST_PORTS })
  await plane.serve(null)
  const close = async (): Promise<void> => {
    await plane.stop(true)
    rmSync(folder, { recursive: true, force: true })
  }
  return { plane, folder, close }
}

export const probe = (path: string, limits: object): object => ({ httpGet: { path, port: 'admin' }, ...limits })

/** What the operator makes of a LokiCluster, as far as the agent is concerned. */
export function addNodes(plane: ControlPlane, name: string, replicas: number, more: object = {}): KubeObject {
  const { registry } = plane
  const metadata = { name: `${name}-token`, namespace: 'default' }
  if (registry.store.get(builtIn('secrets').key, 'default', `${name}-token`) === null) {
    registry.add(builtIn('secrets'), {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata,
      stringData: { token: 'sesame-sesame-sesame' },
    })
  }
  const claim = (volume: string): object => ({
    metadata: { name: volume },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
  })
  const field = (variable: string, fieldPath: string): object => ({
    name: variable,
    valueFrom: { fieldRef: { fieldPath } },
  })
  const container = {
    name: 'node',
    image: 'lokikv:dev',
    command: ['node', 'src/main.ts', 'node'],
    env: [
      field('POD_NAME', 'metadata.name'),
      field('POD_NAMESPACE', 'metadata.namespace'),
      { name: 'LOKIKV_ADDRESS', value: `$(POD_NAME).${name}-peers.$(POD_NAMESPACE).svc:7400` },
      { name: 'LOKIKV_WAL_DIRECTORY', value: '/var/lib/lokikv/wal' },
    ],
    ports: [{ name: 'admin', containerPort: 8081 }],
    startupProbe: probe('/startupz', { periodSeconds: 1, failureThreshold: 30 }),
    readinessProbe: probe('/readyz', { periodSeconds: 1, failureThreshold: 1 }),
    // A busy machine may keep a process waiting for seconds: that is no reason to start it again.
    livenessProbe: probe('/livez', { periodSeconds: 1, failureThreshold: 20 }),
    volumeMounts: [
      { name: 'wal', mountPath: '/var/lib/lokikv/wal' },
      { name: 'checkpoints', mountPath: '/var/lib/lokikv/checkpoints' },
      { name: 'token', mountPath: '/var/run/secrets/lokikv' },
    ],
    ...more,
  }
  return registry.add(builtIn('statefulsets'), {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name, namespace: 'default' },
    spec: {
      serviceName: `${name}-peers`,
      replicas,
      podManagementPolicy: 'Parallel',
      updateStrategy: { type: 'OnDelete' },
      selector: { matchLabels: { 'lokikv.dev/cluster': name } },
      template: {
        metadata: { labels: { 'lokikv.dev/cluster': name } },
        spec: {
          terminationGracePeriodSeconds: 1,
          containers: [container],
          volumes: [{ name: 'token', secret: { secretName: `${name}-token` } }],
        },
      },
      volumeClaimTemplates: [claim('wal'), claim('checkpoints')],
    },
  })
}

export const podOf = (plane: ControlPlane, name: string): KubeObject | null =>
  plane.registry.store.get(PODS.key, 'default', name)

/** The pod once it is ready, other than the one with the uid `not`. */
export const readyPod = (plane: ControlPlane, name: string, not = ''): Promise<KubeObject> =>
  until(`${name} is ready`, () => {
    const pod = podOf(plane, name)
    return pod !== null &&
      pod.metadata.uid !== not &&
      pod.metadata.deletionTimestamp === undefined &&
      hasCondition(pod, 'Ready')
      ? pod
      : null
  })

/** The process of a pod that runs. */
export const pidOf = (pod: KubeObject): number =>
  Number(String(at(pod, 'status', 'containerStatuses', 0, 'containerID')).replace('process://', ''))

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
