/**
 * The schema of LokiCluster in a real API server: what it takes, what it refuses, and whether the refusal says what
 * to do. Dry runs only, but for the one object whose changes are refused. Takes whatever KUBECONFIG names.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'

type Fields = Record<string, unknown>

const NAMESPACE = `lokikv-schema-${randomBytes(3).toString('hex')}`
const PROJECT = new URL('../../', import.meta.url)
const EXAMPLE = readFileSync(new URL('examples/orders.yaml', PROJECT), 'utf8')

function reachable(): boolean {
  return process.env['KUBECONFIG'] !== undefined && spawnSync('kubectl', ['version']).status === 0
}

const runs = reachable()
if (!runs) console.log('test/kube/schema is skipped: it needs KUBECONFIG and kubectl')

const kubectl = (args: readonly string[], input?: unknown) => {
  const text = input === undefined ? '' : JSON.stringify(input)
  return spawnSync('kubectl', ['-n', NAMESPACE, ...args], { input: text, encoding: 'utf8', cwd: PROJECT })
}

/** The example with some fields of its spec, or its name, replaced. */
function example(spec: Fields, name?: string): Fields {
  const given = parse(EXAMPLE) as { metadata: Fields; spec: Fields }
  const metadata = name === undefined ? given.metadata : { ...given.metadata, name }
  return { ...given, metadata, spec: { ...given.spec, ...spec } }
}

const volumes = (wal: Fields, checkpoints: Fields = { size: '1Gi' }): Fields => ({ storage: { wal, checkpoints } })

describe.skipIf(!runs)('the schema of LokiCluster', () => {
  let installed = false

  beforeAll(() => {
    execFileSync('kubectl', ['create', 'namespace', NAMESPACE])
    // What a release of the chart has put there is left alone; a dry run shows that the text in crds/ is accepted.
    installed = spawnSync('kubectl', ['get', 'crd', 'lokiclusters.lokikv.dev']).status !== 0
    if (installed) execFileSync('kubectl', ['apply', '-f', 'crds/'], { cwd: PROJECT })
    execFileSync('kubectl', ['wait', '--for=condition=Established', 'crd/lokiclusters.lokikv.dev', '--timeout=60s'])
    // Paused: an operator that happens to be there must not start pods for it.
    const applied = kubectl(['apply', '-f', '-'], example({ paused: true }))
    if (applied.status !== 0) throw new Error(applied.stderr)
  })
  afterAll(() => {
    execFileSync('kubectl', ['delete', 'namespace', NAMESPACE, '--wait=false'])
    if (installed) execFileSync('kubectl', ['delete', 'crd', 'lokiclusters.lokikv.dev', '--wait=false'])
  })

  test('is accepted as a whole', () => {
    const dryRun = spawnSync(
      'kubectl',
      ['apply', '--server-side', '--force-conflicts', '--dry-run=server', '-f', 'crds/'],
      {
        encoding: 'utf8',
        cwd: PROJECT,
      },
    )
    expect(dryRun).toMatchObject({ status: 0 })
  })

  test('the example is taken, and defaults are filled in', () => {
    const answer = kubectl(['create', '--dry-run=server', '-o', 'json', '-f', '-'], example({}, 'other'))
    expect(JSON.parse(answer.stdout)).toMatchObject({
      spec: {
        replicas: 3,
        paused: false,
        storage: { retention: { whenScaled: 'Retain', whenDeleted: 'Retain' } },
        placement: { spread: 'Preferred', topologyKey: 'topology.kubernetes.io/zone' },
        service: { type: 'ClusterIP' },
      },
    })
  })

  test.each<[string, Fields, string]>([
    ['negative replicas', { replicas: -1 }, 'replicas is a number of nodes, so give 0 (hibernate, data stays) to 9'],
    ['too many replicas', { replicas: 10 }, 'replicas is a number of nodes'],
    ['ill-typed replicas', { replicas: 'three' }, 'must be of type integer'],
    ['an unknown setting', { config: { electionTimeout: 3 } }, 'unknown field "spec.config.electionTimeout"'],
    ['a setting out of range', { config: { maxClients: 0 } }, 'should be greater than or equal to 1'],
    ['a key without a Secret', { config: { encryptionKeyId: 'k1' } }, 'give encryption.secretName'],
    ['a compression that is none', { config: { walCompression: 'gzip' } }, 'spec.config.walCompression'],
    ['an unknown field', { replica: 3 }, 'unknown field "spec.replica"'],
    ['a size that is none', volumes({ size: 'large' }), 'size is a quantity of bytes above zero'],
    ['a size of nothing', volumes({ size: '0' }), 'size is a quantity of bytes above zero'],
    ['no size', volumes({}), 'Required value'],
    ['a variable of the operator', { pod: { env: [{ name: 'LOKIKV_SETTINGS' }] } }, 'use spec.config'],
    [
      'an unknown retention',
      { storage: { ...(volumes({ size: '1Gi' }).storage as Fields), retention: { whenScaled: 'Keep' } } },
      'supported values: "Retain", "Delete"',
    ],
  ])('refuses %s', (_what, spec, message) => {
    const answer = kubectl(['create', '--dry-run=server', '-f', '-'], example(spec, 'other'))
    expect(answer.status).toBe(1)
    expect(answer.stderr).toContain(message)
  })

  test.each([
    ['orders-peers', 'belong to the objects of other clusters'],
    ['0rders', 'lowercase letters, digits'],
    ['a'.repeat(47), 'at most 46 characters'],
  ])('refuses the name %s', (name, message) => {
    const answer = kubectl(['create', '--dry-run=server', '-f', '-'], example({}, name))
    expect(answer.stderr).toContain(message)
  })

  test.each<[string, Fields, string]>([
    ['a shrunken volume', volumes({ size: '512Mi' }), 'a volume cannot shrink; keep the size or give a larger one'],
    ['a shrunken volume in other units', volumes({ size: '1G' }), 'a volume cannot shrink'],
    ['another storage class', volumes({ size: '1Gi', storageClassName: 'fast' }), 'storageClassName cannot be changed'],
  ])('refuses %s', (_what, spec, message) => {
    const answer = kubectl(['apply', '--dry-run=server', '-f', '-'], example({ ...spec, paused: true }))
    expect(answer.status).toBe(1)
    expect(answer.stderr).toContain(message)
  })

  test('a grown volume is taken, in other units too', () => {
    const answer = kubectl(['apply', '--dry-run=server', '-f', '-'], example(volumes({ size: '1100M' })))
    expect(answer).toMatchObject({ status: 0, stderr: '' })
  })
})
