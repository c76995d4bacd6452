/* oxlint-disable vitest/no-standalone-expect -- `ok` is a part of the tests */
/**
 * Everyday kubectl against the embedded control plane: each verb that the README promises. Runs the kubectl on the
 * PATH (or the one that KUBECTL names) and says so where there is none.
 */
import { execFile, execFileSync, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { applyManifest, readManifest } from '../local/manifest.ts'
import { at } from '../local/objects.ts'
import type { Resource } from '../local/resources.ts'
import { addNodes, openPlane, readyPod, until } from './local-plane.ts'

const KUBECTL = process.env.KUBECTL ?? 'kubectl'
const ROOT = join(import.meta.dirname, '..')

function versionOf(): string | null {
  try {
    const said = execFileSync(KUBECTL, ['version', '--client', '-o', 'json'], { encoding: 'utf8' })
    return String(at(JSON.parse(said), 'clientVersion', 'gitVersion'))
  } catch {
    return null
  }
}
const version = versionOf()
if (version === null) console.log(`SKIPPED: there is no ${KUBECTL} on the PATH; its verbs were not tried`)

let opened: Awaited<ReturnType<typeof openPlane>>
let manifest: string
let clusters: Resource

interface Said {
  readonly code: number
  readonly out: string
  readonly err: string
}

function kubectl(args: readonly string[], environment: Record<string, string> = {}): Promise<Said> {
  const env = { ...process.env, KUBECONFIG: opened.plane.kubeconfig, HOME: opened.folder, ...environment }
  return new Promise((resolve) => {
    const child = execFile(KUBECTL, args, { env, timeout: 160_000 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : (child.exitCode ?? 1), out, err })
    })
  })
}

/** What a verb that must succeed prints. */
async function ok(...args: string[]): Promise<string> {
  const { code, out, err } = await kubectl(args)
  expect(`${code} ${err}`).toMatch(/^0 /)
  return out
}

/** `kubectl logs -f`: what it has shown so far, and its end. */
function followed(pod: string): { seen: string; readonly ended: Promise<unknown> } {
  const env = { ...process.env, KUBECONFIG: opened.plane.kubeconfig, HOME: opened.folder }
  const child = spawn(KUBECTL, ['logs', '-f', pod], { env })
  const following = { seen: '', ended: new Promise((resolve) => child.on('close', resolve)) }
  child.stdout.on('data', (chunk) => (following.seen += String(chunk)))
  return following
}

/** Marks the cluster as ready, as the operator would. */
function becomeReady(): void {
  opened.plane.registry.change(clusters, 'default', 'orders', 'status', (object) => {
    const condition = {
      type: 'Ready',
      status: 'True',
      reason: 'AllNodesReady',
      message: '',
      lastTransitionTime: '2026-01-01T00:00:00Z',
    }
    object.status = {
      replicas: 3,
      readyReplicas: 3,
      leader: 'orders-2',
      selector: 'lokikv.dev/cluster=orders',
      conditions: [condition],
    }
  })
}

describe.skipIf(version === null)(`kubectl ${version ?? ''}`, () => {
  beforeAll(async () => {
    opened = await openPlane()
    for (const object of readManifest(join(ROOT, 'crds', 'lokiclusters.lokikv.dev.yaml'))) {
      applyManifest(opened.plane.registry, object, 'crd')
    }
    clusters = opened.plane.registry.resources().find((each) => each.kind === 'LokiCluster')!
    manifest = join(opened.folder, 'orders.yaml')
    write(3)
  })
  afterAll(() => opened.close())

  const write = (replicas: number, more = ''): void => {
    const storage = 'storage: {wal: {size: 1Gi}, checkpoints: {size: 1Gi}}'
    writeFileSync(
      manifest,
      `apiVersion: lokikv.dev/v1alpha1\nkind: LokiCluster\nmetadata: {name: orders}\nspec:\n  replicas: ${replicas}\n  ${storage}\n${more}`,
    )
  }

  test('apply creates, changes, and does nothing twice', async () => {
    expect(await ok('apply', '-f', manifest)).toBe('lokicluster.lokikv.dev/orders created\n')
    expect(await ok('apply', '-f', manifest)).toBe('lokicluster.lokikv.dev/orders unchanged\n')
    write(5)
    expect(await ok('apply', '-f', manifest)).toBe('lokicluster.lokikv.dev/orders configured\n')
    expect(await ok('diff', '-f', manifest)).toBe('')
  })

  test('apply --server-side takes over', async () => {
    const { code, err } = await kubectl(['apply', '--server-side', '--force-conflicts', '-f', manifest])
    expect(`${code} ${err}`).toMatch(/^0 /)
    write(3)
    expect(await ok('apply', '--server-side', '--force-conflicts', '-f', manifest)).toContain('serverside-applied')
    expect(await ok('get', 'loki', 'orders', '-o', 'jsonpath={.spec.replicas}')).toBe('3')
  })

  test('a bad manifest is refused with a sentence that says what to do', async () => {
    write(3, '  bogus: 1\n')
    const unknown = await kubectl(['apply', '-f', manifest])
    expect(unknown.err).toContain('strict decoding error: unknown field "spec.bogus"')
    write(-1)
    const negative = await kubectl(['apply', '-f', manifest])
    expect(negative.err).toContain('replicas is a number of nodes')
    write(3)
  })

  test('get: table, yaml, watch', async () => {
    becomeReady()
    const table = await ok('get', 'lokiclusters')
    expect(table.split('\n')[0]).toMatch(/^NAME +REPLICAS +READY +LEADER +AGE$/)
    expect(table.split('\n')[1]).toMatch(/^orders +3 +3 +orders-2 +\d+s$/)
    expect(await ok('get', 'loki', 'orders', '-o', 'yaml')).toContain('kind: LokiCluster')
    const env = { ...process.env, KUBECONFIG: opened.plane.kubeconfig, HOME: opened.folder }
    const watching = spawn(KUBECTL, ['get', 'lokiclusters', '-w'], { env })
    let seen = ''
    watching.stdout.on('data', (chunk) => (seen += String(chunk)))
    await until('the first row', () => seen.includes('orders-2'))
    await ok('label', 'loki', 'orders', 'watched=yes')
    await until('the second row', () => seen.split('\n').length > 3)
    watching.kill()
    expect(seen.trimEnd().split('\n')).toHaveLength(3)
  })

  test('describe and explain', async () => {
    expect(await ok('describe', 'lokicluster', 'orders')).toMatch(/Kind: +LokiCluster[\s\S]*Events:/)
    expect(await ok('explain', 'lokicluster.spec')).toMatch(/KIND: +LokiCluster[\s\S]*replicas\t<integer>/)
  })

  test('scale, also from a known number', async () => {
    expect(await ok('scale', 'lokicluster', 'orders', '--replicas=5')).toBe('lokicluster.lokikv.dev/orders scaled\n')
    expect(await ok('scale', 'lokicluster', 'orders', '--replicas=3', '--current-replicas=5')).toContain('scaled')
    const wrong = await kubectl(['scale', 'lokicluster', 'orders', '--replicas=4', '--current-replicas=7'])
    expect(wrong.err).toContain('Expected replicas to be 7, was 3')
    const refused = await kubectl(['scale', 'lokicluster', 'orders', '--replicas=12'])
    expect(refused.err).toContain('so give 0 (hibernate, data stays) to 9')
  })

  test('patch, annotate, label, edit', async () => {
    expect(
      await ok('patch', 'loki', 'orders', '--type', 'merge', '-p', '{"spec":{"config":{"maxClients":500}}}'),
    ).toContain('patched')
    expect(
      await ok(
        'patch',
        'loki',
        'orders',
        '--type',
        'json',
        '-p',
        '[{"op":"replace","path":"/spec/config/maxClients","value":501}]',
      ),
    ).toContain('patched')
    expect(await ok('annotate', 'loki', 'orders', 'lokikv.dev/restartedAt=now')).toContain('annotated')
    expect(await ok('label', 'loki', 'orders', 'team=a')).toContain('labeled')
    const edited = await kubectl(['edit', 'loki', 'orders'], { KUBE_EDITOR: 'sed -i.bak s/501/502/' })
    expect(edited.out).toBe('lokicluster.lokikv.dev/orders edited\n')
    expect(await ok('get', 'loki', 'orders', '-o', 'jsonpath={.spec.config.maxClients} {.metadata.labels.team}')).toBe(
      '502 a',
    )
  })

  test('wait for a condition, one that holds and one that comes', async () => {
    becomeReady()
    expect(await ok('wait', '--for=condition=Ready', 'loki/orders', '--timeout=120s')).toContain('condition met')
    const waiting = ok('wait', '--for=jsonpath={.status.leader}=orders-0', 'loki/orders', '--timeout=120s')
    opened.plane.registry.change(clusters, 'default', 'orders', 'status', (object) => {
      object.status = { ...object.status, leader: 'orders-0' }
    })
    expect(await waiting).toContain('condition met')
  })

  test('pods: get, logs, events, delete', async () => {
    addNodes(opened.plane, 'nodes', 1)
    const pod = await readyPod(opened.plane, 'nodes-0')
    expect(await ok('get', 'pods', '-o', 'wide')).toMatch(/nodes-0 +1\/1 +Running +0 +\d+s +127\.0\.0\.1 +local/)
    expect(await ok('logs', 'nodes-0', '--tail=1')).toBe('fake node nodes-0 starts\n')
    const following = followed('nodes-0')
    await until('the log is followed', () => following.seen.includes('starts'))
    expect(await ok('events', '--for', 'pod/nodes-0')).toContain('Successfully assigned default/nodes-0 to local')
    expect(await ok('delete', 'pod', 'nodes-0')).toContain('deleted')
    await following.ended
    expect(following.seen).toBe('fake node nodes-0 starts\nfake node stops\n')
    await readyPod(opened.plane, 'nodes-0', pod.metadata.uid)
  })

  test('cordon, drain, uncordon', async () => {
    const pod = await readyPod(opened.plane, 'nodes-0')
    const drained = await ok('drain', 'local', '--ignore-daemonsets', '--delete-emptydir-data', '--timeout=120s')
    expect(drained).toContain('node/local drained')
    expect(await ok('get', 'nodes')).toContain('Ready,SchedulingDisabled')
    await ok('uncordon', 'local')
    await readyPod(opened.plane, 'nodes-0', pod.metadata.uid)
  })

  test('delete waits until it is gone', async () => {
    expect(await ok('delete', 'lokicluster', 'orders')).toMatch(/^lokicluster.lokikv.dev "orders" deleted/)
    expect((await kubectl(['get', 'loki', 'orders'])).err).toContain(
      '(NotFound): lokiclusters.lokikv.dev "orders" not found',
    )
  })
})
