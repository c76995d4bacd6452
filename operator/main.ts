/** The operator's entry point: arguments, signals, election, watches, queue; start and stop, nothing else. */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { parseArgs } from 'node:util'
import pino from 'pino'
import { ENVIRONMENT, LABELS } from '../src/contract.ts'
import { Applied } from './applied.ts'
import type { Context } from './context.ts'
import { acquire, hold, release } from './election.ts'
import type { ElectionOptions } from './election.ts'
import { Kube, pathOf, sleep } from './kube.ts'
import type { Kind, WatchEvent } from './kube.ts'
import { nodes } from './nodes.ts'
import { createMetrics, serveMetrics } from './metrics.ts'
import { WorkQueue } from './queue.ts'
import { reconcile } from './reconcile.ts'
import { keyOf } from './resource.ts'

const LEASE = 'lokikv-operator'
/** How long a turn that is under way may take to end. */
const STOP_MILLISECONDS = 10_000
const DEFAULT_IMAGE = 'lokikv:dev'

const HELP = `lokikv-operator: turns LokiCluster objects into running clusters

  --namespace NAME      look after this namespace only (default: all)
  --kubeconfig FILE     (default: KUBECONFIG, the pod's service account, ~/.kube/config)
  --image IMAGE         image of new clusters whose manifest names none (default: $LOKIKV_IMAGE, ${DEFAULT_IMAGE})
  --metrics-port PORT   /metrics, /livez and /readyz (default 8082; 0: none)
  --log-level LEVEL     debug, info, warn, error (default info)
  --no-election         work without a Lease: where no second operator can be
  --help
`

interface Options {
  readonly namespace: string | null
  readonly kubeconfig: string | null
  readonly image: string
  readonly metricsPort: number
  readonly logLevel: string
  readonly election: boolean
}

/** Exits with a message for arguments that are not understood. */
function parseOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        namespace: { type: 'string' },
        kubeconfig: { type: 'string' },
        image: { type: 'string' },
        'metrics-port': { type: 'string' },
        'log-level': { type: 'string' },
        'no-election': { type: 'boolean' },
        help: { type: 'boolean' },
      },
    })
    if (values.help) {
      process.stdout.write(HELP)
      process.exit(0)
    }
    const metricsPort = Number(values['metrics-port'] ?? 8082)
    if (!Number.isInteger(metricsPort) || metricsPort < 0 || metricsPort > 65_535) {
      throw new Error('--metrics-port: a port from 0 to 65535 expected')
    }
    const logLevel = values['log-level'] ?? 'info'
    if (!['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'].includes(logLevel)) {
      throw new Error(`--log-level: '${logLevel}' is not known`)
    }
    return {
      namespace: values.namespace ?? null,
      kubeconfig: values.kubeconfig ?? null,
      image: values.image ?? process.env.LOKIKV_IMAGE ?? DEFAULT_IMAGE,
      metricsPort,
      logLevel,
      election: !values['no-election'],
    }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${HELP}`)
    return process.exit(2)
  }
}

async function main(): Promise<void> {
  const options = parseOptions()
  const log = pino({ level: options.logLevel, base: {} })
  const kube = new Kube(options.kubeconfig)
  const metrics = createMetrics()
  const context: Context = {
    kube,
    nodes,
    log,
    metrics,
    image: options.image,
    addressBook: process.env[ENVIRONMENT.addressBook] ?? null,
    applied: new Applied(),
    tokens: new Map(),
    recent: new Map(),
  }
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort())
  const server =
    options.metricsPort === 0 ? null : await serveMetrics(metrics, options.metricsPort, () => !stop.signal.aborted)
  log.info({ server: kube.server, namespace: options.namespace ?? 'all', pid: process.pid }, 'the operator starts')

  const election: ElectionOptions = {
    kube,
    name: options.namespace === null ? LEASE : `${LEASE}-${options.namespace}`,
    identity: `${hostname()}-${randomBytes(4).toString('hex')}`,
    onError: (error) => log.warn({ err: error }, 'lease'),
  }
  const lost = await serve(context, kube, options, election, stop)
  server?.close()
  server?.closeAllConnections()
  log.info('the operator has stopped')
  process.exitCode = lost ? 1 : 0
}

/** Works from the moment the lease is ours until `stop`; true if the lease was lost. */
async function serve(
  context: Context,
  kube: Kube,
  options: Options,
  election: ElectionOptions,
  stop: AbortController,
): Promise<boolean> {
  if (options.election) {
    try {
      await acquire(election, stop.signal)
    } catch {
      return false
    }
  }
  context.metrics.isLeader.set(1)
  context.log.info({ identity: election.identity }, 'this operator leads')
  const queue = createQueue(context)
  const watches = startWatches(context, kube, queue, options.namespace, stop.signal)
  let lost = false
  if (options.election) lost = !(await hold(election, stop.signal))
  else await new Promise<void>((resolve) => stop.signal.addEventListener('abort', () => resolve()))
  if (lost) context.log.error('the lease is lost; another operator takes over')
  stop.abort()
  context.metrics.isLeader.set(0)
  const patience = new AbortController()
  await Promise.race([Promise.all([queue.stop(), ...watches]), sleep(STOP_MILLISECONDS, patience.signal)])
  patience.abort()
  if (options.election && !lost) await release(election).catch((error: unknown) => election.onError(error))
  return lost
}

function createQueue(context: Context): WorkQueue {
  return new WorkQueue(
    async (key) => {
      const end = context.metrics.reconcileSeconds.startTimer()
      try {
        const next = await reconcile(context, key)
        context.metrics.reconciles.inc({ result: 'ok' })
        return next
      } finally {
        end()
      }
    },
    (key, error) => {
      context.metrics.reconciles.inc({ result: 'error' })
      context.log.warn({ cluster: key, err: error }, 'the turn has failed and will be repeated')
    },
  )
}

/** Every event only names the cluster that should be looked at. */
function startWatches(context: Context, kube: Kube, queue: WorkQueue, namespace: string | null, signal: AbortSignal) {
  const owned = (kind: Kind, watched: boolean) => (event: WatchEvent) => {
    const { metadata } = event.object
    const cluster = metadata.labels?.[LABELS.cluster]
    if (cluster === undefined) return
    const seen = event.type === 'DELETED' ? null : metadata
    const changed = watched && context.applied.seen(pathOf(kind, metadata.namespace, metadata.name), seen)
    if (changed || !watched) queue.add(`${metadata.namespace}/${cluster}`)
  }
  const start = (kind: Kind, selector: string, onEvent: (event: WatchEvent) => void) => {
    const onError = (error: unknown) => {
      context.metrics.watchRestarts.inc({ kind })
      context.log.warn({ kind, err: error }, 'the watch begins anew')
    }
    return kube.watch(kind, namespace, selector, onEvent, onError, signal)
  }
  return [
    start('LokiCluster', '', ({ object }) => queue.add(keyOf(object.metadata))),
    start('Pod', LABELS.cluster, owned('Pod', false)),
    start('StatefulSet', LABELS.cluster, owned('StatefulSet', false)),
    start('Service', LABELS.cluster, owned('Service', true)),
    start('PodDisruptionBudget', LABELS.cluster, owned('PodDisruptionBudget', true)),
  ]
}

await main()
