/**
 * The whole control plane on one folder: store, API server, controllers and node agent. Everything that must
 * survive a restart is in the folder. Only one control plane may use a folder at a time.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Agent } from './agent.ts'
import { Api } from './api.ts'
import { startBudgets } from './budgets.ts'
import { startCollector } from './collector.ts'
import { podLogs } from './logs.ts'
import type { Loop } from './loop.ts'
import { Registry } from './registry.ts'
import { builtIn } from './resources.ts'
import { startServices } from './services.ts'
import { startStatefulSets } from './statefulsets.ts'
import { Store } from './store.ts'
import { credentials, writeKubeconfig } from './tls.ts'
import { startVolumes } from './volumes.ts'

export interface ControlPlaneOptions {
  readonly folder: string
  /** 0: any free one. */
  readonly port: number
  readonly entryPoint?: string
}

export class ControlPlane {
  readonly registry: Registry
  readonly agent: Agent
  readonly kubeconfig: string
  /** Processes of a control plane that was killed, ended at this start. */
  readonly leftovers: number
  readonly #store: Store
  readonly #api: Api
  readonly #loops: readonly Loop[]

  private constructor(parts: {
    registry: Registry
    agent: Agent
    kubeconfig: string
    leftovers: number
    store: Store
    api: Api
    loops: Loop[]
  }) {
    this.registry = parts.registry
    this.agent = parts.agent
    this.kubeconfig = parts.kubeconfig
    this.leftovers = parts.leftovers
    this.#store = parts.store
    this.#api = parts.api
    this.#loops = parts.loops
  }

  /** Starts everything; when it resolves, the kubeconfig works. Rejects where the port is taken. */
  static async start(options: ControlPlaneOptions): Promise<ControlPlane> {
    const { folder } = options
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const store = new Store(join(folder, 'state.db'))
    const registry = new Registry(store)
    for (const name of ['default', 'kube-system']) ensureNamespace(registry, name)
    const agent = new Agent(
      registry,
      options.entryPoint === undefined ? { folder } : { folder, entryPoint: options.entryPoint },
    )
    const keys = await credentials(folder)
    const api = new Api(registry, { ...keys, port: options.port, logs: podLogs(agent) })
    const port = await api.listen()
    const leftovers = await agent.start()
    const kubeconfig = join(folder, 'kubeconfig')
    writeKubeconfig(kubeconfig, port, keys)
    const loops = [
      startVolumes(registry, join(folder, 'volumes')),
      startStatefulSets(registry),
      startServices(registry, agent.ports),
      startBudgets(registry),
      startCollector(registry),
    ]
    return new ControlPlane({ registry, agent, kubeconfig, leftovers, store, api, loops })
  }

  /** Stops everything in good order, processes first; `force` kills them. */
  async stop(force = false): Promise<void> {
    for (const loop of this.#loops) loop.stop()
    await this.agent.stop(force)
    await this.#api.close()
    this.#store.close()
  }
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
