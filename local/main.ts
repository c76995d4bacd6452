/**
 * `npm start`: the whole of LokiKV on this machine. Starts the embedded control plane and the operator, applies
 * the CustomResourceDefinition and a manifest, shows how volumes, nodes and the election come up, and says what
 * to type next. Ctrl-C stops everything in good order and leaves no process behind; the data stays.
 */
import { readdirSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { KIND, PLURAL } from '../src/contract.ts'
import { LokiError, explain } from '../src/errors.ts'
import { Console } from './console.ts'
import { ControlPlane } from './control-plane.ts'
import { applyManifest, readManifest } from './manifest.ts'
import { type Fields, at, text } from './objects.ts'
import { Operator } from './operator.ts'
import { kill } from './processes.ts'
import { Registry } from './registry.ts'
import { builtIn } from './resources.ts'
import { Store } from './store.ts'
import { type View, changes, clientPort, render, viewOf } from './view.ts'

const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)))
const DEFAULT_MANIFEST = join(PROJECT, 'examples', 'orders.yaml')
const LOOK_MILLISECONDS = 100
/** After this time without Ready, a hint where to look. */
const PATIENCE_MILLISECONDS = 60_000

const HELP = `npm start [-- [options] [manifest.yaml …]]

Runs LokiKV on this machine: an embedded Kubernetes API, the operator, and the nodes that the manifest asks for
(examples/orders.yaml where none is named). Ctrl-C stops everything; the data stays for the next start.

  --fresh         begin anew: forget all data and objects of earlier starts
  --port PORT     port of the Kubernetes API (default: the one of the last time, or any that is free)
  --folder PATH   where everything is kept (default: .lokikv in the project)
  --help          this text
`

interface Options {
  readonly manifests: readonly string[]
  readonly fresh: boolean
  readonly port: number | null
  readonly folder: string
}

/** LOCAL_USAGE for what is not understood; null where help was asked for. */
function parseOptions(argv: readonly string[]): Options | null {
  const parsed = (() => {
    try {
      return parseArgs({
        args: [...argv],
        allowPositionals: true,
        options: {
          fresh: { type: 'boolean' },
          port: { type: 'string' },
          folder: { type: 'string' },
          help: { type: 'boolean', short: 'h' },
        },
      })
    } catch (error) {
      throw new LokiError('LOCAL_USAGE', (error as Error).message, { cause: error })
    }
  })()
  const { values, positionals } = parsed
  if (values.help === true) return null
  const port = values.port === undefined ? null : Number(values.port)
  if (port !== null && (!Number.isInteger(port) || port < 1 || port > 65_535)) {
    throw new LokiError('LOCAL_USAGE', `--port: a port from 1 to 65535 expected, got '${values.port}'`)
  }
  return {
    manifests:
      positionals.length === 0
        ? [DEFAULT_MANIFEST]
        : positionals.map((file) => resolve(process.env.INIT_CWD ?? '', file)),
    fresh: values.fresh === true,
    port,
    folder: resolve(values.folder ?? join(PROJECT, '.lokikv')),
  }
}

interface Cluster {
  readonly namespace: string
  readonly name: string
}

type Wanted = readonly (readonly [file: string, manifest: Fields])[]

/** Everything that is to be applied, definitions first. */
function readAll(options: Options): Wanted {
  const folder = join(PROJECT, 'crds')
  const definitions = readdirSync(folder)
    .filter((file) => file.endsWith('.yaml'))
    .map((file) => join(folder, file))
  const from = process.env.INIT_CWD ?? process.cwd()
  return [...definitions, ...options.manifests].flatMap((file) => {
    const shown = relative(from, file)
    const name = shown === '' || shown.startsWith('..') ? file : shown
    return readManifest(file, name).map((manifest) => [name, manifest] as const)
  })
}

/** Tries everything on an empty state that nobody sees, so that a bad manifest costs nothing. */
function tryAll(wanted: Wanted): void {
  const store = new Store(':memory:')
  const registry = new Registry(store)
  const namespaces = new Set(['default', ...wanted.map(([, manifest]) => text(at(manifest, 'metadata', 'namespace')))])
  for (const name of namespaces) {
    if (name !== '') registry.add(builtIn('namespaces'), { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  for (const [file, manifest] of wanted) if (manifest.kind !== 'Namespace') applyManifest(registry, manifest, file)
  store.close()
}

/** Applies everything; all is tried against what there is before the first one is applied. */
function applyAll(plane: ControlPlane, wanted: Wanted, terminal: Console): Cluster[] {
  const clusters: Cluster[] = []
  for (const dryRun of [true, false]) {
    for (const [file, manifest] of wanted) {
      const definition = manifest.kind === 'CustomResourceDefinition'
      const { object, outcome } = applyManifest(plane.registry, manifest, file, dryRun && !definition)
      if (dryRun || definition) continue
      const { name, namespace } = object.metadata
      terminal.say(`${object.kind.toLowerCase()} ${name} ${outcome} ${terminal.paint(`(${file})`, 'dim')}`)
      if (object.kind === KIND) clusters.push({ namespace: namespace ?? '', name })
    }
  }
  return clusters
}

/** What a person types next. */
function nextSteps(view: View, kubeconfig: string, terminal: Console): string {
  const port = clientPort(view)
  const { paint } = terminal
  const line = (command: string, what: string): string => `  ${paint(command.padEnd(58), 'cyan')} ${paint(what, 'dim')}`
  return [
    '',
    line(`redis-cli -p ${port} SET hello world`, 'any Redis client, any node'),
    line(`node local/cli.mjs -p ${port} SET hello world`, 'the same without redis-cli'),
    line(`export KUBECONFIG="${kubeconfig}"`, 'then, with kubectl:'),
    line(`kubectl get ${PLURAL}`, ''),
    line(`kubectl scale lokicluster ${view.name} --replicas=5`, 'watch it here'),
    '',
    paint('Ctrl-C stops everything; the data stays for the next `npm start`.', 'dim'),
  ].join('\n')
}

/** Looks at the clusters and tells what has changed, until it is stopped. */
function follow(plane: ControlPlane, clusters: readonly Cluster[], terminal: Console): () => void {
  const started = Date.now()
  const seen = new Map<Cluster, View>()
  let [announced, hinted] = [false, false]
  const look = (): void => {
    const views: View[] = []
    for (const cluster of clusters) {
      const view = viewOf(plane.registry, plane.agent.ports, cluster.namespace, cluster.name)
      const before = seen.get(cluster) ?? null
      if (view === null) {
        if (before !== null) terminal.say(`${cluster.name}: deleted; its volumes follow its retention policy`)
        seen.delete(cluster)
        continue
      }
      views.push(view)
      // While the picture is drawn it tells by itself.
      if (announced || !terminal.live) for (const told of changes(before, view)) terminal.say(told)
      seen.set(cluster, view)
    }
    if (announced) return
    const seconds = performance.now() / 1000
    terminal.draw(views.flatMap((view) => render(view, seconds, terminal.paint)))
    const [first] = views
    if (first !== undefined && views.every((view) => view.ready)) {
      announced = true
      terminal.say(terminal.paint(`Ready in ${seconds.toFixed(1)} s.`, 'green'))
      terminal.say(nextSteps(first, plane.kubeconfig, terminal))
    } else if (!hinted && Date.now() - started > PATIENCE_MILLISECONDS) {
      hinted = true
      terminal.say(
        `Not ready yet. See kubectl describe lokicluster, and the logs: kubectl logs <pod>, ${join(dirname(plane.kubeconfig), 'operator.log')}`,
      )
    }
  }
  const timer = setInterval(look, LOOK_MILLISECONDS)
  look()
  return () => clearInterval(timer)
}

/** Waits for a signal, then stops everything; a second signal does it by force. */
function untilStopped(plane: ControlPlane, operator: Operator, quiet: () => void, terminal: Console): Promise<void> {
  return new Promise((resolve, reject) => {
    let stopping = false
    const stop = (): void => {
      if (stopping) {
        void plane.agent.stop(true)
        return
      }
      stopping = true
      quiet()
      terminal.say('\nStopping: nodes answer what they have read, hand over, and close. (Ctrl-C again: at once.)')
      operator
        .stop()
        .then(() => plane.stop())
        .then(resolve, reject)
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop)
  })
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2))
  if (options === null) {
    process.stdout.write(HELP)
    return
  }
  const terminal = new Console()
  const wanted = readAll(options)
  tryAll(wanted)
  const plane = await ControlPlane.open({ folder: options.folder, fresh: options.fresh })
  if (plane.leftovers > 0) terminal.say(`Ended ${plane.leftovers} processes that an earlier run had left behind.`)
  let clusters: Cluster[]
  try {
    clusters = applyAll(plane, wanted, terminal)
    await plane.serve(options.port)
  } catch (error) {
    await plane.stop(true)
    throw error
  }
  // Whatever ends this process, short of kill -9, its nodes do not outlive it.
  process.on('exit', () => {
    for (const pid of plane.processes.running().values()) kill(pid, 'SIGKILL')
  })
  const operator = new Operator({
    kubeconfig: plane.kubeconfig,
    addressBook: plane.agent.ports.book,
    logFile: join(options.folder, 'operator.log'),
    processes: plane.processes,
    tell: (message) => terminal.say(message),
  })
  const quiet = follow(plane, clusters, terminal)
  await untilStopped(plane, operator, quiet, terminal)
  terminal.say('Stopped.')
}

try {
  await main()
  process.exit(0)
} catch (error) {
  if (!(error instanceof LokiError)) throw error
  process.stderr.write(`${explain(error)}\n`)
  process.exit(text(error.code) === 'LOCAL_USAGE' ? 64 : 1)
}
