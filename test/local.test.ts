/**
 * The parts of the embedded control plane by themselves: store, ownership of fields, patches, quantities, selectors,
 * tables, decoding, paths of pods, ports, processes, and what `npm start` shows.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { applied, book } from '../local/apply.ts'
import { parseQuantity } from '../local/cel.ts'
import { duplicateFields } from '../local/decode.ts'
import { tailOffset } from '../local/logs.ts'
import type { Fields, KubeObject } from '../local/objects.ts'
import { mergePatch, strategicMergePatch } from '../local/patch.ts'
import { expand, located } from '../local/podspec.ts'
import { Ports } from '../local/ports.ts'
import { Processes, startOf } from '../local/processes.ts'
import { builtIn } from '../local/resources.ts'
import { labelSelector, matchesSelector } from '../local/selectors.ts'
import { Store } from '../local/store.ts'
import { humanDuration, jsonPath } from '../local/tables.ts'
import { type View, changes, render } from '../local/view.ts'
import { isAlive, until } from './local-plane.ts'

const folder = mkdtempSync(join(tmpdir(), 'lokikv-local-parts-'))
afterAll(() => rmSync(folder, { recursive: true }))

const object = (name: string, more: Fields = {}): KubeObject => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'default', uid: name, resourceVersion: '', creationTimestamp: '2026-01-01T00:00:00Z' },
  ...more,
})

describe('store', () => {
  test('keeps objects and the revision across a restart', () => {
    const file = join(folder, 'state.db')
    const first = new Store(file)
    first.write('/configmaps', object('a', { data: { x: '1' } }))
    const b = first.write('/configmaps', object('b'))
    first.remove('/configmaps', b)
    const { revision } = first
    first.close()
    const second = new Store(file)
    expect(second.revision).toBe(revision)
    expect(second.list('/configmaps').map((each) => each.metadata.name)).toEqual(['a'])
    expect(second.get('/configmaps', 'default', 'a')?.data).toEqual({ x: '1' })
    // What was before the restart is not remembered, and nobody is told otherwise.
    expect(second.since(revision - 1)).toBeNull()
    expect(second.since(revision)).toEqual([])
    second.close()
  })

  test('lists the past as it was, whatever happened since', () => {
    const change = fc.record({ name: fc.constantFrom('a', 'b', 'c', 'd'), kind: fc.constantFrom('write', 'remove') })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), (steps) => {
        const store = new Store(':memory:')
        const history = new Map<number, string>()
        const shown = (list: KubeObject[] | null): string =>
          JSON.stringify(list?.map((each) => [each.metadata.name, each.metadata.resourceVersion]))
        history.set(store.revision, shown(store.list('/configmaps')))
        for (const { name, kind } of steps) {
          const present = store.get('/configmaps', 'default', name)
          if (kind === 'write') store.write('/configmaps', object(name))
          else if (present !== null) store.remove('/configmaps', present)
          history.set(store.revision, shown(store.list('/configmaps')))
        }
        for (const [revision, before] of history) expect(shown(store.listAt('/configmaps', '', revision))).toBe(before)
        store.close()
      }),
      { numRuns: 40 },
    )
  })

  test('forgets old changes and says so', () => {
    const store = new Store(':memory:')
    const begin = store.revision
    for (let turn = 0; turn < 8200; turn++) store.write('/configmaps', object('a'))
    expect(store.since(begin)).toBeNull()
    expect(store.listAt('/configmaps', '', begin)).toBeNull()
    expect(store.since(store.revision - 10)).toHaveLength(10)
    store.close()
  })
})

describe('server-side apply', () => {
  const pods = builtIn('pods')
  const who = (manager: string) => ({ manager, operation: 'Apply', subresource: '' }) as const
  const name = fc.constantFrom('a', 'b', 'c')
  const value = fc.constantFrom('1', '2')
  const container = fc.record({
    image: value,
    env: fc.uniqueArray(fc.record({ name, value }), { selector: (each) => each.name, maxLength: 3 }),
  })
  const configuration = fc
    .record({
      labels: fc.dictionary(name, value),
      containers: fc.dictionary(name, container, { maxKeys: 3 }),
      hostname: fc.option(value, { nil: undefined }),
    })
    .map(({ labels, containers, hostname }): KubeObject => {
      const list = Object.entries(containers).map(([each, rest]) => ({ name: each, ...rest }))
      return {
        ...object('pod'),
        kind: 'Pod',
        metadata: { ...object('pod').metadata, labels },
        spec: { containers: list, ...(hostname === undefined ? {} : { hostname }) },
      }
    })
  /** Order and emptiness aside. */
  const meaning = (pod: KubeObject): unknown => {
    const containers = ((pod.spec?.containers ?? []) as Fields[]).map((each) => {
      const env = ((each.env ?? []) as Fields[]).map((variable) => JSON.stringify(variable)).sort()
      return JSON.stringify([each.name, each.image, env])
    })
    const labels = Object.entries(pod.metadata.labels ?? {})
      .map(([label, said]) => `${label}=${said}`)
      .sort()
    return { containers: containers.sort(), labels, hostname: pod.spec?.hostname ?? null }
  }

  test('what one manager applies last is what there is', () => {
    fc.assert(
      fc.property(fc.array(configuration, { minLength: 1, maxLength: 5 }), (steps) => {
        let live: KubeObject | null = null
        for (const step of steps) live = applied(live, step, pods, who('m'), false, 't')
        expect(meaning(live!)).toEqual(meaning(steps.at(-1)!))
        // Once more may write an empty list out, as in Kubernetes; from then on nothing changes.
        const again = applied(live, steps.at(-1)!, pods, who('m'), false, 'later')
        expect(meaning(again)).toEqual(meaning(live!))
        expect(applied(again, steps.at(-1)!, pods, who('m'), false, 'even later')).toEqual(again)
      }),
    )
  })

  test('a forced apply holds everything it says, and leaves what others own beside it', () => {
    fc.assert(
      fc.property(configuration, configuration, (mine, theirs) => {
        const first = applied(null, theirs, pods, who('theirs'), false, 't')
        const both = applied(first, mine, pods, who('mine'), true, 't')
        // What mine says is there.
        expect(meaning(applied(both, mine, pods, who('mine'), false, 't'))).toEqual(meaning(both))
        // When mine says nothing any more, what only theirs had said is still there.
        const nothing = { ...object('pod'), kind: 'Pod', spec: {} }
        const after = applied(both, nothing, pods, who('mine'), true, 't')
        for (const [label, wanted] of Object.entries(theirs.metadata.labels ?? {})) {
          if (mine.metadata.labels?.[label] === undefined) expect(after.metadata.labels?.[label]).toBe(wanted)
        }
      }),
    )
  })

  test('an update takes fields over, and the next apply without force meets a conflict', () => {
    const configured: KubeObject = { ...object('pod'), kind: 'Pod', spec: { hostname: 'a' } }
    const first = applied(null, configured, pods, who('m'), false, 't')
    const changed = { ...first, spec: { hostname: 'b' } }
    book(first, changed, pods, { manager: 'editor', operation: 'Update', subresource: '' }, 't')
    expect(() => applied(changed, configured, pods, who('m'), false, 't')).toThrow(
      'Apply failed with 1 conflict: conflict with "editor" using v1: .spec.hostname',
    )
    expect(applied(changed, configured, pods, who('m'), true, 't').spec).toEqual({ hostname: 'a' })
  })
})

describe('patches', () => {
  test('merge patch: the examples of RFC 7396', () => {
    const examples: [unknown, unknown, unknown][] = [
      [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
      [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
      [{ a: 'b' }, { a: null }, {}],
      [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
      [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
      [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
      [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
      [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
      [
        ['a', 'b'],
        ['c', 'd'],
        ['c', 'd'],
      ],
      [{ a: 'foo' }, null, null],
      [{ e: null }, { a: 1 }, { e: null, a: 1 }],
      [[1, 2], { a: 'b', c: null }, { a: 'b' }],
      [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
    ]
    for (const [before, patch, after] of examples) expect(mergePatch(before, patch)).toEqual(after)
  })

  test('strategic merge: keys, deletion, replacement, sets', () => {
    const pods = builtIn('pods')
    const pod = {
      metadata: { finalizers: ['x'] },
      spec: {
        containers: [
          { name: 'a', image: '1', args: ['p'] },
          { name: 'b', image: '2' },
        ],
      },
    }
    expect(strategicMergePatch(pod, { spec: { containers: [{ name: 'a', image: '3' }] } }, pods)).toEqual({
      ...pod,
      spec: {
        containers: [
          { name: 'a', image: '3', args: ['p'] },
          { name: 'b', image: '2' },
        ],
      },
    })
    expect(strategicMergePatch(pod, { spec: { containers: [{ name: 'a', $patch: 'delete' }] } }, pods)).toMatchObject({
      spec: { containers: [{ name: 'b', image: '2' }] },
    })
    expect(
      strategicMergePatch(pod, { spec: { containers: [{ name: 'c' }, { $patch: 'replace' }] } }, pods),
    ).toMatchObject({
      spec: { containers: [{ name: 'c' }] },
    })
    expect(strategicMergePatch(pod, { metadata: { finalizers: ['y'] } }, pods)).toMatchObject({
      metadata: { finalizers: ['x', 'y'] },
    })
    expect(
      strategicMergePatch(pod, { metadata: { '$deleteFromPrimitiveList/finalizers': ['x'] } }, pods),
    ).toMatchObject({ metadata: { finalizers: [] } })
  })
})

test('quantities', () => {
  const nano = 1_000_000_000n
  const known: [string, bigint | null][] = [
    ['1', nano],
    ['1.5Gi', (3n * nano * 2n ** 30n) / 2n],
    ['100m', nano / 10n],
    ['1e3', 1000n * nano],
    ['-2Ki', -2048n * nano],
    ['0.0000000001', 1n],
    ['.5', nano / 2n],
    ['', null],
    ['1GiB', null],
    ['abc', null],
    ['1 Gi', null],
  ]
  for (const [text, nanos] of known) expect([text, parseQuantity(text)]).toEqual([text, nanos])
})

test('ages as kubectl shows them', () => {
  const [second, minute, hour, day] = [1000, 60_000, 3_600_000, 86_400_000]
  const known: [number, string][] = [
    [0, '0s'],
    [70 * second, '70s'],
    [190 * second, '3m10s'],
    [70 * minute, '70m'],
    [47 * hour, '47h'],
    [49 * hour, '2d1h'],
    [8 * day + 2 * hour, '8d'],
    [367 * day, '367d'],
    [(365 * 2 + 25) * day, '2y25d'],
    [(365 * 8 + 2) * day, '8y'],
  ]
  for (const [milliseconds, shown] of known) expect(humanDuration(milliseconds)).toBe(shown)
})

test('paths of printer columns', () => {
  const value = {
    a: {
      'b.c': [
        { type: 'X', v: 1 },
        { type: 'Ready', v: 2 },
      ],
    },
    list: [1, 2],
  }
  expect(jsonPath(value, '.list[1]')).toEqual([2])
  expect(jsonPath(value, '.list[*]')).toEqual([1, 2])
  expect(jsonPath(value, `.a['b.c'][?(@.type=="Ready")].v`)).toEqual([2])
  expect(jsonPath(value, '.a.nothing.there')).toEqual([])
})

test('selectors', () => {
  const labels = { app: 'a', tier: 'x' }
  const known: [string, boolean][] = [
    ['', true],
    ['app=a,tier', true],
    ['app==a', true],
    ['app!=a', false],
    ['other!=a', true],
    ['app in (a, b)', true],
    ['app notin (a,b)', false],
    ['other notin (a)', true],
    ['!other,!tier', false],
  ]
  for (const [selector, matches] of known)
    expect([selector, labelSelector(selector)(labels)]).toEqual([selector, matches])
  for (const selector of ['a b', 'a=b c', '=x', 'a in b'])
    expect(() => labelSelector(selector)).toThrow('unable to parse requirement')
  expect(matchesSelector({ matchExpressions: [{ key: 'app', operator: 'In', values: ['a'] }] }, labels)).toBe(true)
  expect(matchesSelector({ matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] }, labels)).toBe(false)
})

test('fields that are given twice are found, in any JSON', () => {
  expect(duplicateFields('{"a":{"b":1,"b":2},"c":[{"d":1,"d":1}],"e":"\\"a\\"", "a":3}')).toEqual([
    'a.b',
    'c[0].d',
    'a',
  ])
  fc.assert(
    fc.property(fc.json(), (text) => {
      expect(duplicateFields(JSON.stringify(JSON.parse(text)))).toEqual([])
    }),
  )
})

test('variables and paths of a pod', () => {
  expect(expand('$(A).$(B)-$$(A)-$(C)', { A: 'x', B: 'y' })).toBe('x.y-$(A)-$(C)')
  const mounts = new Map([
    ['/var/lib', '/one'],
    ['/var/lib/deep', '/two'],
  ])
  expect(['/var/lib', '/var/lib/a', '/var/lib/deep/b', '/var/library'].map((path) => located(path, mounts))).toEqual([
    '/one',
    '/one/a',
    '/two/b',
    '/var/library',
  ])
})

test('the last lines of a log', () => {
  const file = join(folder, 'some.log')
  for (const content of ['', 'one', 'one\n', 'one\ntwo', 'one\ntwo\n', `${'x'.repeat(70_000)}\ntwo\nthree\n`]) {
    writeFileSync(file, content)
    const lines = content.split('\n').filter((line, index, all) => line !== '' || index < all.length - 1)
    for (const count of [1, 2, 3]) {
      const tail = readFileSync(file, 'utf8').slice(tailOffset(openSync(file, 'r'), count))
      expect(tail.split('\n').filter((line) => line !== '')).toEqual(lines.slice(-count).filter((line) => line !== ''))
    }
  }
})

test('ports: everybody has his own, keeps them, and leaves those of others alone', async () => {
  const server = createServer()
  const ports = new Ports(folder)
  const first = await ports.allot('a-0.a-peers.default.svc')
  const others = await Promise.all(['a-1', 'a-2'].map((name) => ports.allot(`${name}.a-peers.default.svc`)))
  expect(new Set([first, ...others].flatMap((each) => Object.values(each))).size).toBe(12)
  expect(new Ports(folder).of('a-0.a-peers.default.svc')).toEqual(first)
  await new Promise<void>((resolve) => server.listen(first.client, '127.0.0.1', resolve))
  const moved = await ports.allot('a-0.a-peers.default.svc')
  expect([moved.client === first.client, moved.admin === first.admin]).toEqual([false, true])
  const book = JSON.parse(readFileSync(ports.book, 'utf8')) as Record<string, string>
  expect(book['a-0.a-peers.default.svc:6379']).toBe(`127.0.0.1:${moved.client}`)
  server.close()
})

test('processes: those that are noted are ended, those that only share the number are not', async () => {
  const processes = new Processes(join(folder, 'run'))
  const child = spawn(process.execPath, [
    '-e',
    'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000); console.log("up")',
  ])
  await new Promise((resolve) => child.stdout.once('data', resolve))
  processes.note('stubborn', child.pid!)
  // The same number, another start: the process that had it before is gone.
  writeFileSync(join(folder, 'run', 'other.json'), JSON.stringify({ pid: process.pid, start: 'long ago' }))
  expect([...processes.running().keys()]).toEqual(['stubborn'])
  expect(await processes.endAll(100)).toBe(1)
  await until('it is gone', () => !isAlive(child.pid!))
  expect(startOf(child.pid!)).toBeNull()
})

test('what people see: a picture, and its changes as sentences', () => {
  const plain = (text: string): string => text
  const node = (name: string, phase: 'ready' | 'starting', role = '') => ({
    name,
    phase,
    role,
    clientPort: 6379,
    decided: '1',
    trouble: '',
    restarts: 0,
  })
  const before: View = {
    name: 'orders',
    namespace: 'default',
    wanted: 2,
    volumes: 4,
    volumesBound: 3,
    nodes: [node('orders-0', 'starting'), node('orders-1', 'starting')],
    leader: '',
    begun: false,
    ready: false,
    configurationId: 0,
    held: [],
    degraded: '',
  }
  const after: View = {
    ...before,
    volumesBound: 4,
    nodes: [
      node('orders-0', 'ready', 'leader'),
      { ...node('orders-1', 'ready'), phase: 'trouble', trouble: 'CrashLoopBackOff: exit code 1' },
    ],
    leader: 'orders-0',
    begun: true,
    held: ['restart orders-1: one-at-a-time'],
  }
  expect(render(before, 1.25, plain)).toEqual([
    'orders  1.3 s',
    '  volumes   ███░ 3 of 4 bound',
    '  election  nodes wait for their identity',
    '  ◌ orders-0     127.0.0.1:6379            starting',
    '  ◌ orders-1     127.0.0.1:6379            starting',
  ])
  expect(changes(null, before)).toEqual(['orders: 2 nodes are wanted', 'orders-0: starting', 'orders-1: starting'])
  expect(changes(before, before)).toEqual([])
  expect(changes(before, after)).toEqual([
    'volumes: 4 of 4 bound',
    'orders-0: ready (client port 6379)',
    'orders-1: CrashLoopBackOff: exit code 1',
    'the cluster has begun: nodes have their identities',
    'orders-0 leads',
    'held: restart orders-1: one-at-a-time',
  ])
})
