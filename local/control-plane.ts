/**
 * The whole control plane on one folder: store, API server, controllers and node agent. Everything that must
 * survive a restart is in the folder. It guarantees that only one control plane uses a folder at a time, and
 * that after `stop` no process of it is left.
 */
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { LokiError } from '../src/errors.ts'
import { Agent } from './agent.ts'
import { Api } from './api.ts'
import { startBudgets } from './budgets.ts'
import { startCollector } from './collector.ts'
import { podLogs } from './logs.ts'
import type { Loop } from './loop.ts'
import type { PodPorts } from './ports.ts'
import { Processes } from './processes.ts'
import { Registry } from './registry.ts'
import { builtIn } from './resources.ts'
import { startServices } from './services.ts'
import { startStatefulSets } from './statefulsets.ts'
import { Store } from './store.ts'
import { credentials, writeKubeconfig } from './tls.ts'
import { startVolumes } from './volumes.ts'

export interface ControlPlaneOptions {
  readonly folder: string
  /** Forget what the folder holds. */
  readonly fresh?: boolean
  /** What runs in place of src/main.ts; for tests. */
  readonly entryPoint?: string
  /** As in `AgentOptions`; for tests. */
  readonly firstPorts?: PodPorts
}

/** How long processes of a control plane that was killed have to stop; nodes survive being killed, too. */
const LEFTOVER_GRACE_MILLISECONDS = 1000
/** What a control plane keeps in its folder. Nothing else there is ever touched. */
const KEPT = [
  'state.db',
  'state.db-wal',
  'state.db-shm',
  'volumes',
  'pods',
  'run',
  'instance',
  'ports.json',
  'address-book.json',
  'credentials.json',
  'kubeconfig',
  'operator.log',
] as const
const INSTANCE = 'control-plane'

/** LOCAL_FOLDER where `act` meets an error of the system, or a state that cannot be read. */
function inFolder<T>(folder: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw new LokiError('LOCAL_FOLDER', `${folder}: ${(error as Error).message}`, { cause: error })
  }
}

export class ControlPlane {
  readonly registry: Registry
  readonly agent: Agent
  /** The file that names the API and its token; it works once `serve` has resolved. */
  readonly kubeconfig: string
  /** Of this control plane: nodes and the operator. What is noted here is ended at the next start, too. */
  readonly processes: Processes
  /** How many processes a killed control plane had left behind. */
  readonly leftovers: number
  readonly #folder: string
  readonly #store: Store
  readonly #instance: Processes
  #api: Api | null = null
  readonly #loops: Loop[] = []

  private constructor(instance: Processes, processes: Processes, leftovers: number, options: ControlPlaneOptions) {
    const { folder } = options
    this.#folder = folder
    this.#instance = instance
    this.processes = processes
    this.leftovers = leftovers
    this.kubeconfig = join(folder, 'kubeconfig')
    this.#store = new Store(join(folder, 'state.db'))
    this.registry = new Registry(this.#store)
    this.agent = new Agent(this.registry, { ...options, processes })
  }

  /**
   * Takes the folder and reads the state; nothing runs yet. LOCAL_RUNNING where another one has the folder,
   * LOCAL_FOLDER where it cannot be used.
   */
  static async open(options: ControlPlaneOptions): Promise<ControlPlane> {
    const { folder } = options
    const instance = inFolder(folder, () => {
      mkdirSync(folder, { recursive: true, mode: 0o700 })
      accessSync(folder, constants.R_OK | constants.W_OK)
      return new Processes(join(folder, 'instance'))
    })
    const other = instance.running().get(INSTANCE)
    if (other !== undefined) {
      throw new LokiError(
        'LOCAL_RUNNING',
        `process ${other} uses ${folder}; talk to it with: export KUBECONFIG=${join(folder, 'kubeconfig')}`,
      )
    }
    const processes = new Processes(join(folder, 'run'))
    const leftovers = await processes.endAll(LEFTOVER_GRACE_MILLISECONDS)
    if (options.fresh === true) {
      for (const name of KEPT) rmSync(join(folder, name), { recursive: true, force: true })
      return ControlPlane.open({ ...options, fresh: false })
    }
    instance.note(INSTANCE, process.pid)
    const plane = inFolder(folder, () => new ControlPlane(instance, processes, leftovers, options))
    for (const name of ['default', 'kube-system']) ensureNamespace(plane.registry, name)
    return plane
  }

  /**
   * Starts the API, the controllers and the agent. `port`: null for the one it had, or any that is free.
   * LOCAL_PORT where a port that was asked for is taken.
   */
  async serve(port: number | null): Promise<void> {
    this.agent.reset()
    const keys = await credentials(this.#folder)
    const logs = podLogs(this.agent)
    const listen = async (on: number): Promise<number> => {
      this.#api = new Api(this.registry, { ...keys, port: on, logs })
      return this.#api.listen()
    }
    let chosen: number
    try {
      chosen = await listen(port ?? previousPort(this.kubeconfig))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
      if (port !== null) throw new LokiError('LOCAL_PORT', `port ${port} of 127.0.0.1 is in use`, { cause: error })
      chosen = await listen(0)
    }
    this.agent.start()
    writeKubeconfig(this.kubeconfig, chosen, keys)
    this.#loops.push(
      startVolumes(this.registry, join(this.#folder, 'volumes')),
      startStatefulSets(this.registry),
      startServices(this.registry, this.agent.ports),
      startBudgets(this.registry),
      startCollector(this.registry),
    )
  }

  /** Stops everything in good order, processes first; `force` kills them. */
  async stop(force = false): Promise<void> {
    for (const loop of this.#loops.splice(0)) loop.stop()
    await this.agent.stop(force)
    await this.#api?.close()
    this.#store.close()
    this.#instance.forget(INSTANCE)
  }
}

/** The port of the last time, so that a kubeconfig that somebody has open goes on working; 0 where there is none. */
function previousPort(kubeconfig: string): number {
  if (!existsSync(kubeconfig)) return 0
  return Number(/https:\/\/127\.0\.0\.1:(\d+)/.exec(readFileSync(kubeconfig, 'utf8'))?.[1] ?? 0)
}

function ensureNamespace(registry: Registry, name: string): void {
  const namespaces = builtIn('namespaces')
  if (registry.store.get(namespaces.key, '', name) !== null) return
  registry.add(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  registry.add(builtIn('serviceaccounts'), {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: 'default', namespace: name },
  })
}
