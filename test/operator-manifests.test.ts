/** Manifests, hash and schema: byte-stable, agreeing with the contract, and safe from restarting anybody unasked. */
import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { ANNOTATIONS, ENVIRONMENT, LABELS, PATHS, names } from '../src/contract.ts'
import { SETTINGS, TEXT_SETTINGS } from '../src/settings.ts'
import { applyManifest } from '../local/manifest.ts'
import type { Fields } from '../local/objects.ts'
import { Registry } from '../local/registry.ts'
import { builtIn } from '../local/resources.ts'
import { Store } from '../local/store.ts'
import { genesisRecord, manifests, tokenSecret } from '../operator/manifests.ts'
import { quantityBytes } from '../operator/quantity.ts'
import { canonical, fingerprint, imageOf, inputsHash, ordinalOf, wanted } from '../operator/resource.ts'
import type { KubeObject } from '../operator/resource.ts'
import { IMAGE, lokiCluster, statefulSetOf } from './operator-world.ts'

const file = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>
  readonly minimum?: number
  readonly pattern?: string
  readonly maximum?: number
  readonly type?: string
  readonly default?: unknown
  readonly enum?: readonly string[]
}

const crd = parse(file('crds/lokiclusters.lokikv.dev.yaml')) as {
  spec: {
    versions: [
      { schema: { openAPIV3Schema: Schema }; subresources: unknown; additionalPrinterColumns: { name: string }[] },
    ]
  }
}
const schemaOf = (...path: string[]): Schema =>
  path.reduce((schema, name) => schema.properties?.[name] ?? {}, crd.spec.versions[0].schema.openAPIV3Schema)

describe('the schema', () => {
  test('spec.config has the settings of the contract, with their ranges', () => {
    const settings = Object.entries(schemaOf('spec', 'config').properties ?? {})
    const numbers = settings.filter(([, { type }]) => type === 'integer')
    expect(numbers.map(([name, { minimum, maximum }]) => [name, minimum, maximum])).toEqual(
      Object.entries(SETTINGS).map(([name, row]) => [name, row.least, row.most]),
    )
    const texts = settings.filter(([, { type }]) => type !== 'integer')
    expect(texts.map(([name, { type, pattern }]) => [name, type, pattern])).toEqual(
      Object.entries(TEXT_SETTINGS).map(([name, row]) => [name, 'string', row.pattern]),
    )
    expect(settings.every(([, schema]) => schema.default === undefined)).toBe(true)
  })
  test('a key needs its Secret, and a compression is one that there is', () => {
    const refusal = (spec: object): string | null => {
      const registry = new Registry(new Store(':memory:'))
      registry.add(builtIn('namespaces'), { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } })
      const path = 'crds/lokiclusters.lokikv.dev.yaml'
      applyManifest(registry, parse(file(path)) as Fields, path)
      const storage = { wal: { size: '1Gi' }, checkpoints: { size: '1Gi' } }
      const object = { apiVersion: 'lokikv.dev/v1alpha1', kind: 'LokiCluster', metadata: { name: 'orders' } }
      try {
        applyManifest(registry, { ...object, spec: { storage, ...spec } }, 'test')
        return null
      } catch (error) {
        return (error as Error).message
      }
    }
    const encryption = { secretName: 'orders-keys' }
    expect(refusal({ config: { encryptionKeyId: 'k1' } })).toContain('give encryption.secretName')
    expect(refusal({ config: { encryptionKeyId: '../k1' }, encryption })).toContain('encryptionKeyId')
    expect(refusal({ config: { walCompression: 'gzip' } })).toContain('walCompression')
    for (const spec of [
      { config: { encryptionKeyId: 'k1', walCompression: 'zstd' }, encryption },
      { config: { encryptionKeyId: '' } },
      { encryption },
      {},
    ]) {
      expect(refusal(spec)).toBeNull()
    }
  })
  test('its defaults are those of the operator', () => {
    const spec = { storage: { wal: { size: '1Gi' }, checkpoints: { size: '1Gi' } } }
    expect(wanted(spec)).toMatchObject({
      replicas: schemaOf('spec', 'replicas').default,
      whenScaled: schemaOf('spec', 'storage', 'retention', 'whenScaled').default,
      whenDeleted: schemaOf('spec', 'storage', 'retention', 'whenDeleted').default,
      spread: schemaOf('spec', 'placement', 'spread').default,
      topologyKey: schemaOf('spec', 'placement', 'topologyKey').default,
      serviceType: schemaOf('spec', 'service', 'type').default,
      paused: schemaOf('spec', 'paused').default,
    })
  })
  test('the columns of kubectl get', () => {
    expect(crd.spec.versions[0].additionalPrinterColumns.map(({ name }) => name).slice(0, 4)).toEqual([
      'Replicas',
      'Ready',
      'Leader',
      'Age',
    ])
  })
  test('the chart carries the same text', () => {
    expect(file('charts/lokikv-operator/files/lokiclusters.lokikv.dev.yaml')).toBe(
      file('crds/lokiclusters.lokikv.dev.yaml'),
    )
  })
})

describe('manifests', () => {
  const cluster = lokiCluster({ config: { maxClients: 100, electionTimeoutMilliseconds: 400 } })
  const made = manifests(cluster, IMAGE, null, 3)
  const byKind = (kind: string): KubeObject[] => made.filter((object) => object.kind === kind)

  test('are the objects of a cluster, labelled and owned', () => {
    expect(made.map((object) => `${object.kind} ${object.metadata.name}`)).toEqual([
      'ServiceAccount orders',
      'Service orders-peers',
      'Service orders',
      'Service orders-leader',
      'PodDisruptionBudget orders',
      'StatefulSet orders',
    ])
    for (const { metadata } of [
      ...made,
      tokenSecret(cluster, 'x'),
      genesisRecord(cluster, { clusterId: 'x', founders: [] }),
    ]) {
      expect(metadata).toMatchObject({
        namespace: 'shop',
        labels: { [LABELS.cluster]: 'orders' },
        ownerReferences: [{ kind: 'LokiCluster', uid: 'uid-of-orders', controller: true }],
      })
    }
  })
  test('are the same bytes for the same inputs, in whatever order the inputs come', () => {
    const turned = lokiCluster({ config: { electionTimeoutMilliseconds: 400, maxClients: 100 } })
    expect(JSON.stringify(manifests(turned, IMAGE, null, 3))).toBe(JSON.stringify(made))
    // A change of this value changes every StatefulSet at the next upgrade of the operator. It restarts nobody.
    expect(fingerprint(JSON.stringify(made))).toMatchInlineSnapshot(`"9eb8dd1399d763ec"`)
  })
  test('a pod gets the environment of the contract', () => {
    const set = byKind('StatefulSet')[0] as unknown as {
      spec: { replicas?: number; template: { spec: { containers: { env: { name: string; value?: string }[] }[] } } }
    }
    const env = Object.fromEntries(
      set.spec.template.spec.containers[0]?.env.map(({ name, value }) => [name, value]) ?? [],
    )
    expect(env).toMatchObject({
      [ENVIRONMENT.address]: '$(POD_NAME).orders-peers.$(POD_NAMESPACE).svc:7400',
      [ENVIRONMENT.walDirectory]: PATHS.wal,
      [ENVIRONMENT.checkpointDirectory]: PATHS.checkpoints,
      [ENVIRONMENT.tokenFile]: PATHS.token,
      [ENVIRONMENT.settings]: '{"electionTimeoutMilliseconds":400,"maxClients":100}',
    })
    expect(set.spec.replicas, 'the number of replicas is written by scaling only').toBeUndefined()
    const host = String(env[ENVIRONMENT.address]).replace('$(POD_NAME)', 'orders-0').replace('$(POD_NAMESPACE)', 'shop')
    expect(host).toBe(`${names.host('orders', 0, 'shop')}:7400`)
  })
  test('a pod gets the keys of the encryption, where a Secret is named, and nothing of it otherwise', () => {
    const config = { encryptionKeyId: 'k1', walCompression: 'zstd' }
    const [set] = manifests(lokiCluster({ config, encryption: { secretName: 'orders-keys' } }), IMAGE, null, 3).slice(
      -1,
    )
    expect(set).toMatchObject({
      spec: {
        template: {
          spec: {
            containers: [
              {
                env: expect.arrayContaining([
                  { name: ENVIRONMENT.keysDirectory, value: PATHS.keys },
                  { name: ENVIRONMENT.settings, value: '{"encryptionKeyId":"k1","walCompression":"zstd"}' },
                ]) as unknown,
                volumeMounts: expect.arrayContaining([
                  { name: 'keys', mountPath: PATHS.keys, readOnly: true },
                ]) as unknown,
              },
            ],
            volumes: expect.arrayContaining([
              { name: 'keys', secret: { secretName: 'orders-keys', defaultMode: 0o440 } },
            ]) as unknown,
          },
        },
      },
    })
    expect(JSON.stringify(made)).not.toContain('keys')
  })
  test('claim templates are sent as they are stored', () => {
    const stored = { ...statefulSetOf(3), spec: { ...statefulSetOf(3).spec, volumeClaimTemplates: ['as stored'] } }
    const [set] = manifests(cluster, IMAGE, stored, 3).slice(-1)
    expect((set as unknown as { spec: { volumeClaimTemplates: unknown } }).spec.volumeClaimTemplates).toEqual([
      'as stored',
    ])
  })
  test('the budget counts voters: one at a time, and a single one does not block a drain', () => {
    const least = [0, 1, 2, 3, 5].map((voters) => manifests(cluster, IMAGE, null, voters)[4])
    expect(least).toMatchObject([0, 0, 1, 2, 4].map((minAvailable) => ({ spec: { minAvailable } })))
  })
  test('labels of a manifest never take the place of our own', () => {
    const [set] = manifests(
      lokiCluster({ pod: { labels: { [LABELS.cluster]: 'other', team: 'shop' } } }),
      IMAGE,
      null,
      3,
    ).slice(-1)
    expect(set).toMatchObject({
      spec: { template: { metadata: { labels: { [LABELS.cluster]: 'orders', team: 'shop' } } } },
    })
  })
})

describe('the hash of the inputs', () => {
  const base = lokiCluster()
  const hash = (change: Parameters<typeof lokiCluster>[0], image = IMAGE): string =>
    inputsHash(lokiCluster(change), image)
  test('is what it was: another value here restarts every cluster', () => {
    expect(inputsHash(base, IMAGE)).toMatchInlineSnapshot(`"85f3667a6bd22dc3"`)
  })
  test('changes with every input that a pod is made from', () => {
    const others = [
      hash({}, 'lokikv:other'),
      hash({ resources: { limits: { memory: '1Gi' } } }),
      hash({ config: { maxClients: 5 } }),
      hash({ pod: { env: [{ name: 'A', value: 'b' }] } }),
      hash({ placement: { spread: 'Required' } }),
      hash({ encryption: { secretName: 'orders-keys' } }),
      inputsHash({ ...base, metadata: { ...base.metadata, annotations: { [ANNOTATIONS.restartedAt]: 'now' } } }, IMAGE),
    ]
    expect(new Set([inputsHash(base, IMAGE), ...others]).size).toBe(8)
  })
  test('does not change with what no pod is made from, nor with what says nothing', () => {
    const same = [
      hash({ replicas: 5 }),
      hash({ paused: true }),
      hash({ service: { type: 'NodePort' } }),
      hash({ storage: { wal: { size: '9Gi' }, checkpoints: { size: '1Gi' } } }),
      hash({ pod: { labels: {}, tolerations: [], priorityClassName: '' }, config: {}, resources: {} }),
      hash({ placement: { spread: 'Preferred' } }),
    ]
    expect(new Set([inputsHash(base, IMAGE), ...same]).size).toBe(1)
  })
  test('an absent image stays what it is when the operator gets another', () => {
    expect(imageOf(base, null, 'lokikv:2')).toBe('lokikv:2')
    expect(imageOf(base, statefulSetOf(3), 'lokikv:2')).toBe(IMAGE)
    expect(imageOf(lokiCluster({ image: 'mine' }), statefulSetOf(3), 'lokikv:2')).toBe('mine')
  })
  test('canonical JSON does not depend on the order of keys', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.integer()), (fields) => {
        const turned = Object.fromEntries(Object.entries(fields).toReversed())
        expect(canonical(turned)).toBe(canonical(fields))
      }),
    )
  })
})

test.each([
  ['2Gi', 2 ** 31],
  ['1.5k', 1500],
  ['100m', 0.1],
  ['1e3', 1000],
  ['+7', 7],
  ['5E', 5e18],
])('the quantity %s is %d', (text, bytes) => expect(quantityBytes(text)).toBe(bytes))

test.each(['', 'Gi', '1.2.3', '1gi', 'abc'])("'%s' is no quantity", (text) => expect(quantityBytes(text)).toBeNaN())

test('ordinals of pods', () => {
  expect(ordinalOf('orders', 'orders-12')).toBe(12)
  for (const name of ['orders-', 'orders-01', 'orders-a', 'orders-eu-1', 'other-1'])
    expect(ordinalOf('orders', name)).toBeNull()
})
