/**
 * The node agent: pods become processes with folders, ports and an environment of their own; they are restarted,
 * stopped with a grace, found again by the next control plane, and never left behind.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ControlPlane } from '../local/control-plane.ts'
import { AT_ONCE, IN_GOOD_ORDER, remove } from '../local/delete.ts'
import { at } from '../local/objects.ts'
import { builtIn } from '../local/resources.ts'
import { folderOf } from '../local/volumes.ts'
import { PODS, addNodes, isAlive, openPlane, pidOf, podOf, probe, readyPod, until } from './local-plane.ts'

let opened: Awaited<ReturnType<typeof openPlane>>
let plane: ControlPlane

beforeEach(async () => {
  opened = await openPlane()
  plane = opened.plane
})
afterEach(() => opened.close())

const walOf = (pod: string): string => folderOf(plane.registry, 'default', `wal-${pod}`)!
const environmentOf = (pod: string): Record<string, string> =>
  JSON.parse(readFileSync(join(walOf(pod), 'environment.json'), 'utf8')) as Record<string, string>

test('a pod becomes a process with its environment, folders, token and ports', async () => {
  addNodes(plane, 'orders', 2)
  const pods = await Promise.all(['orders-0', 'orders-1'].map((name) => readyPod(plane, name)))
  expect(pods.map((pod) => at(pod, 'status', 'phase'))).toEqual(['Running', 'Running'])
  const environment = environmentOf('orders-1')
  expect(environment).toMatchObject({
    POD_NAME: 'orders-1',
    LOKIKV_ADDRESS: 'orders-1.orders-peers.default.svc:7400',
    LOKIKV_WAL_DIRECTORY: walOf('orders-1'),
    LOKIKV_CHECKPOINT_DIRECTORY: folderOf(plane.registry, 'default', 'checkpoints-orders-1'),
    LOKIKV_ADDRESS_BOOK: plane.agent.ports.book,
    token: 'sesame-sesame-sesame',
  })
  const book = JSON.parse(readFileSync(plane.agent.ports.book, 'utf8')) as Record<string, string>
  const addresses = [0, 1].flatMap((ordinal) =>
    [6379, 8080, 8081, 7400].map((port) => book[`orders-${ordinal}.orders-peers.default.svc:${port}`]),
  )
  expect(new Set(addresses).size).toBe(8)
  for (const address of addresses) expect(address).toMatch(/^127\.0\.0\.1:\d+$/)
  expect(Number(environment.pid)).toBe(pidOf(pods[1]!))
})

test('a killed process is started again, in the same place', async () => {
  addNodes(plane, 'orders', 1)
  const first = await readyPod(plane, 'orders-0')
  const ports = plane.agent.ports.of('orders-0.orders-peers.default.svc')
  process.kill(pidOf(first), 'SIGKILL')
  const again = await until('it runs again', () => {
    const pod = podOf(plane, 'orders-0')
    return at(pod, 'status', 'containerStatuses', 0, 'restartCount') === 1 &&
      at(pod, 'status', 'containerStatuses', 0, 'ready') === true
      ? pod
      : null
  })
  expect(again.metadata.uid).toBe(first.metadata.uid)
  expect(at(again, 'status', 'containerStatuses', 0, 'lastState', 'terminated')).toMatchObject({
    exitCode: 137,
    reason: 'Error',
  })
  expect(pidOf(again)).not.toBe(pidOf(first))
  expect(plane.agent.ports.of('orders-0.orders-peers.default.svc')).toEqual(ports)
})

test('probes: readiness comes and goes, liveness restarts', async () => {
  addNodes(plane, 'orders', 1, { livenessProbe: probe('/livez', { periodSeconds: 1, failureThreshold: 4 }) })
  const pod = await readyPod(plane, 'orders-0')
  writeFileSync(join(walOf('orders-0'), 'unready'), '')
  await until(
    'it is not ready',
    () => at(podOf(plane, 'orders-0'), 'status', 'containerStatuses', 0, 'ready') === false,
  )
  expect(isAlive(pidOf(pod))).toBe(true)
  writeFileSync(join(walOf('orders-0'), 'sick'), '')
  await until(
    'it was restarted',
    () => Number(at(podOf(plane, 'orders-0'), 'status', 'containerStatuses', 0, 'restartCount')) > 0,
  )
  await until('the first process is gone', () => !isAlive(pidOf(pod)))
})

test('a deleted pod stops in good order, and comes back on its volumes', async () => {
  addNodes(plane, 'orders', 1)
  const pod = await readyPod(plane, 'orders-0')
  writeFileSync(join(walOf('orders-0'), 'kept'), 'data')
  remove(plane.registry, PODS, 'default', 'orders-0', IN_GOOD_ORDER)
  expect(at(podOf(plane, 'orders-0'), 'metadata', 'deletionGracePeriodSeconds')).toBe(1)
  const next = await readyPod(plane, 'orders-0', pod.metadata.uid)
  expect(isAlive(pidOf(pod))).toBe(false)
  expect(readFileSync(join(walOf('orders-0'), 'kept'), 'utf8')).toBe('data')
  expect(pidOf(next)).not.toBe(pidOf(pod))
})

test('whoever does not stop is killed after the grace; by force at once', async () => {
  addNodes(plane, 'orders', 1)
  const stubborn = await readyPod(plane, 'orders-0')
  writeFileSync(join(walOf('orders-0'), 'stubborn'), '')
  remove(plane.registry, PODS, 'default', 'orders-0', IN_GOOD_ORDER)
  const second = await readyPod(plane, 'orders-0', stubborn.metadata.uid)
  expect(isAlive(pidOf(stubborn))).toBe(false)
  remove(plane.registry, PODS, 'default', 'orders-0', AT_ONCE)
  await until('the process is gone', () => !isAlive(pidOf(second)))
})

test('a deleted claim waits for its pod, then comes back empty', async () => {
  addNodes(plane, 'orders', 1)
  const pod = await readyPod(plane, 'orders-0')
  const old = walOf('orders-0')
  const claims = builtIn('persistentvolumeclaims')
  remove(plane.registry, claims, 'default', 'wal-orders-0', IN_GOOD_ORDER)
  expect(existsSync(old)).toBe(true)
  remove(plane.registry, PODS, 'default', 'orders-0', IN_GOOD_ORDER)
  await readyPod(plane, 'orders-0', pod.metadata.uid)
  expect(walOf('orders-0')).not.toBe(old)
  await until('the old folder is gone', () => !existsSync(old))
})

test('other commands than ours are refused, and the pod says so', async () => {
  addNodes(plane, 'orders', 1, { command: ['sh', '-c', 'true'] })
  const pod = await until('it is refused', () => {
    const found = podOf(plane, 'orders-0')
    return at(found, 'status', 'containerStatuses', 0, 'state', 'waiting') === undefined ? null : found
  })
  expect(at(pod, 'status', 'containerStatuses', 0, 'state', 'waiting')).toMatchObject({
    reason: 'CreateContainerError',
    message: expect.stringContaining("only 'node src/main.ts node' runs here") as string,
  })
})

test('a control plane that stops leaves no process, and the next one brings everything back', async () => {
  addNodes(plane, 'orders', 2)
  const pods = await Promise.all(['orders-0', 'orders-1'].map((name) => readyPod(plane, name)))
  const { revision } = plane.registry.store
  await plane.stop()
  expect(pods.map((pod) => isAlive(pidOf(pod)))).toEqual([false, false])
  opened = await openPlane(opened.folder)
  plane = opened.plane
  expect(plane.registry.store.revision).toBeGreaterThanOrEqual(revision)
  const again = await Promise.all(['orders-0', 'orders-1'].map((name) => readyPod(plane, name)))
  expect(again.map((pod) => pod.metadata.uid)).toEqual(pods.map((pod) => pod.metadata.uid))
  expect(again.map((pod) => at(pod, 'status', 'containerStatuses', 0, 'restartCount'))).toEqual([1, 1])
})
