/**
 * The node agent: gives pods to the one Node there is, runs each as a process of this machine (our node's entry
 * point and nothing else), and tells the API how they are. It guarantees that a pod never runs beside an earlier
 * pod of its name, and that no process is left when it has stopped.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PORTS, RUNTIME_ENVIRONMENT, type PortName } from '../src/contract.ts'
import { Container, type Launch } from './container.ts'
import { erase } from './delete.ts'
import { record } from './events.ts'
import { Loop } from './loop.ts'
import { type Fields, type KubeObject, at, fields, hasCondition, list, number, same, text } from './objects.ts'
import { type PodPorts, Ports } from './ports.ts'
import { COMMAND, type Mounts, environmentOf, isOurs, probeOf } from './podspec.ts'
import { podStatus } from './podstatus.ts'
import type { Processes } from './processes.ts'
import { type Registry, now } from './registry.ts'
import { builtIn } from './resources.ts'
import { folderOf } from './volumes.ts'

const PODS = builtIn('pods')
const NODES = builtIn('nodes')
const CLAIMS = builtIn('persistentvolumeclaims')
const SECRETS = builtIn('secrets')
const CONFIG_MAPS = builtIn('configmaps')
const COMPONENT = 'local-agent'
export const NODE_NAME = 'local'

const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)))
/**
 * A pod that is deleted is there for at least this long: kubectl begins to watch a moment after its DELETE, and
 * would wait for ever for a pod whose successor of the same name is there already.
 */
const LEAST_DELETION_MILLISECONDS = 500

export interface AgentOptions {
  /** Where everything is that must survive a restart. */
  readonly folder: string
  /** Where the processes it starts are noted. */
  readonly processes: Processes
  /** What runs in place of src/main.ts; for tests. */
  readonly entryPoint?: string
  /** Where the search for free ports begins in place of `FIRST_PORTS`; for tests that run beside each other. */
  readonly firstPorts?: PodPorts
}

interface Run {
  readonly pod: KubeObject
  readonly container: Container
  stopping: boolean
}

export class Agent {
  readonly #registry: Registry
  readonly #folder: string
  readonly #entryPoint: string
  readonly #processes: Processes
  readonly ports: Ports
  readonly #runs = new Map<string, Run>()
  #loop: Loop | null = null
  #beat: NodeJS.Timeout | null = null
  #stopped = false

  constructor(registry: Registry, options: AgentOptions) {
    this.#registry = registry
    this.#folder = options.folder
    this.#entryPoint = options.entryPoint ?? join(PROJECT, 'src', 'main.ts')
    this.#processes = options.processes
    this.ports = new Ports(options.folder, options.firstPorts)
  }

  /** Takes back what the pods of an earlier run said of themselves: none of them runs. To be called first. */
  reset(): void {
    for (const pod of this.#registry.list(PODS)) {
      const status = pod.status ?? {}
      const unready = (each: unknown): Fields =>
        ['Ready', 'ContainersReady'].includes(text(at(each, 'type'))) && at(each, 'status') === 'True'
          ? { ...fields(each), status: 'False', reason: 'ContainersNotReady', lastTransitionTime: now() }
          : fields(each)
      if (!hasCondition(pod, 'Ready')) continue
      const statuses = list(status.containerStatuses).map((each) => ({ ...fields(each), ready: false, started: false }))
      const conditions = list(status.conditions).map(unready)
      this.#registry.change(PODS, pod.metadata.namespace ?? '', pod.metadata.name, 'status', (object) => {
        object.status = { ...status, conditions, containerStatuses: statuses }
      })
    }
  }

  /** Runs what the API says, from now on. */
  start(): void {
    this.#registerNode()
    this.#loop = new Loop(this.#registry, [PODS.key, CLAIMS.key, SECRETS.key, CONFIG_MAPS.key, NODES.key], () =>
      this.#turn(),
    )
    this.#beat = setInterval(() => this.#heartbeat(), 60_000)
  }

  /** Stops every process, with the grace of its pod or, when `force`, at once. The pods stay for the next start. */
  async stop(force = false): Promise<void> {
    this.#stopped = true
    this.#loop?.stop()
    if (this.#beat !== null) clearInterval(this.#beat)
    await Promise.all(
      [...this.#runs.values()].map(({ container, pod }) => container.stop(force ? 0 : graceOf(pod) * 1000)),
    )
    for (const { pod } of this.#runs.values()) this.#writeStatus(pod)
  }

  /** The container of a pod, for its logs. */
  containerOf(pod: KubeObject): Container | null {
    return this.#runs.get(pod.metadata.uid)?.container ?? null
  }

  #registerNode(): void {
    if (this.#registry.store.get(NODES.key, '', NODE_NAME) === null) {
      const labels = {
        'kubernetes.io/hostname': NODE_NAME,
        'kubernetes.io/os': process.platform,
        'kubernetes.io/arch': process.arch,
      }
      this.#registry.add(NODES, { apiVersion: 'v1', kind: 'Node', metadata: { name: NODE_NAME, labels }, spec: {} })
    }
    this.#heartbeat()
  }

  #heartbeat(): void {
    this.#registry.change(NODES, '', NODE_NAME, 'status', (node) => {
      node.status = {
        conditions: [
          {
            type: 'Ready',
            status: 'True',
            reason: 'LocalAgentReady',
            message: 'local agent runs',
            lastHeartbeatTime: now(),
            lastTransitionTime: node.metadata.creationTimestamp,
          },
        ],
        addresses: [
          { type: 'InternalIP', address: '127.0.0.1' },
          { type: 'Hostname', address: hostname() },
        ],
        nodeInfo: {
          kubeletVersion: 'v1.35.0+lokikv',
          operatingSystem: process.platform,
          architecture: process.arch,
          osImage: process.platform,
          kernelVersion: '',
          containerRuntimeVersion: `node://${process.version}`,
          kubeProxyVersion: '',
          machineID: '',
          systemUUID: '',
          bootID: '',
        },
      }
    })
  }

  #turn(): void {
    const pods = this.#registry.list(PODS)
    const known = new Set(pods.map((pod) => pod.metadata.uid))
    for (const run of this.#runs.values()) {
      // A pod that was deleted by force leaves a process without an object.
      if (!known.has(run.pod.metadata.uid)) this.#end(run, 0)
    }
    const cordoned = at(this.#registry.store.get(NODES.key, '', NODE_NAME), 'spec', 'unschedulable') === true
    for (const pod of pods) {
      if (text(at(pod, 'spec', 'nodeName')) === '') {
        const mine = at(pod, 'spec', 'schedulerName') === 'default-scheduler'
        if (mine && !cordoned && pod.metadata.deletionTimestamp === undefined) this.#schedule(pod)
      } else if (pod.metadata.deletionTimestamp !== undefined) this.#remove(pod)
      else if (!this.#runs.has(pod.metadata.uid)) this.#run(pod)
    }
  }

  #schedule(pod: KubeObject): void {
    const { name, namespace } = pod.metadata
    this.#registry.change(PODS, namespace ?? '', name, 'main', (object) => {
      object.spec = { ...object.spec, nodeName: NODE_NAME }
    })
    this.#tell(pod, 'Normal', 'Scheduled', `Successfully assigned ${namespace}/${name} to ${NODE_NAME}`)
  }

  #tell(pod: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): void {
    record(this.#registry, COMPONENT, pod, type, reason, message)
  }

  #remove(pod: KubeObject): void {
    const run = this.#runs.get(pod.metadata.uid)
    if (run === undefined) erase(this.#registry, PODS, pod)
    else if (!run.stopping) {
      this.#tell(pod, 'Normal', 'Killing', 'Stopping container node')
      this.#end(run, (pod.metadata.deletionGracePeriodSeconds ?? graceOf(pod)) * 1000)
    }
  }

  #end(run: Run, graceMilliseconds: number): void {
    if (run.stopping && graceMilliseconds > 0) return
    run.stopping = true
    const { uid } = run.pod.metadata
    const begun = Date.now()
    const gone = (): void => {
      this.#runs.delete(uid)
      // After the end of the agent the next one goes on from here.
      if (this.#stopped) return
      rmSync(this.#podFolder(run.pod), { recursive: true, force: true })
      erase(this.#registry, PODS, run.pod)
      this.#loop?.wake()
    }
    void run.container.stop(graceMilliseconds).then(() => {
      const rest = graceMilliseconds === 0 ? 0 : LEAST_DELETION_MILLISECONDS - (Date.now() - begun)
      setTimeout(gone, Math.max(0, rest))
    })
  }

  #podFolder(pod: KubeObject): string {
    return join(this.#folder, 'pods', pod.metadata.uid)
  }

  #run(pod: KubeObject): void {
    const { name, namespace } = pod.metadata
    const sameName = [...this.#runs.values()].some(
      ({ pod: other }) => other.metadata.name === name && other.metadata.namespace === namespace,
    )
    if (sameName) return
    const [container] = list(at(pod, 'spec', 'containers')).map(fields)
    if (container === undefined || !isOurs(container) || list(at(pod, 'spec', 'containers')).length > 1) {
      this.#refuse(pod, container ?? {})
      return
    }
    const mounts = this.#mount(pod, container)
    if (mounts === null) return
    const restarts = number(at(pod, 'status', 'containerStatuses', 0, 'restartCount'), -1) + 1
    const probes = {
      startup: probeOf(container, 'startupProbe'),
      readiness: probeOf(container, 'readinessProbe'),
      liveness: probeOf(container, 'livenessProbe'),
    }
    const run: Run = {
      pod,
      stopping: false,
      container: new Container(
        {
          logs: join(this.#podFolder(pod), 'logs'),
          probes,
          restart: (text(at(pod, 'spec', 'restartPolicy')) || 'Always') as 'Always',
          launch: () => this.#launch(pod, container, mounts),
          changed: () => this.#writeStatus(pod),
          started: (pid) => this.#processes.note(pod.metadata.uid, pid),
          ended: () => this.#processes.forget(pod.metadata.uid),
          tell: (type, reason, message) => this.#tell(pod, type, reason, message),
        },
        restarts,
      ),
    }
    this.#runs.set(pod.metadata.uid, run)
    this.#writeStatus(pod)
  }

  #refuse(pod: KubeObject, container: Fields): void {
    const message = `only '${COMMAND.join(' ')}' runs here, one container a pod; for other containers use a real Kubernetes`
    const { name, namespace } = pod.metadata
    const waiting = { waiting: { reason: 'CreateContainerError', message } }
    const status = {
      name: text(container.name),
      image: text(container.image),
      imageID: '',
      ready: false,
      started: false,
      restartCount: 0,
      state: waiting,
      lastState: {},
    }
    if (at(pod, 'status', 'containerStatuses', 0, 'state', 'waiting', 'message') === message) return
    this.#tell(pod, 'Warning', 'Failed', message)
    this.#registry.change(PODS, namespace ?? '', name, 'status', (object) => {
      object.status = { ...object.status, phase: 'Pending', containerStatuses: [status] }
    })
  }

  async #launch(pod: KubeObject, container: Fields, mounts: Mounts): Promise<Launch> {
    const ports = await this.ports.allot(this.#hostOf(pod))
    const lookup = (kind: 'configMap' | 'secret', name: string, key: string): string | null => {
      const resource = kind === 'secret' ? SECRETS : CONFIG_MAPS
      const value = at(this.#registry.store.get(resource.key, pod.metadata.namespace ?? '', name), 'data', key)
      return value === undefined
        ? null
        : kind === 'secret'
          ? Buffer.from(text(value), 'base64').toString()
          : text(value)
    }
    const given = environmentOf(pod, container, mounts, lookup, this.ports.book)
    const inherited = Object.fromEntries(
      ['PATH', 'HOME', 'LANG', 'TZ', 'TMPDIR'].flatMap((name) =>
        process.env[name] === undefined ? [] : [[name, process.env[name]]],
      ),
    ) as Record<string, string>
    return {
      executable: process.execPath,
      args: ['--disable-warning=ExperimentalWarning', this.#entryPoint, 'node'],
      folder: PROJECT,
      environment: { ...inherited, ...RUNTIME_ENVIRONMENT, ...given },
      portOf: (containerPort) => portOf(ports, containerPort),
    }
  }

  #hostOf(pod: KubeObject): string {
    const { name, namespace } = pod.metadata
    return `${text(at(pod, 'spec', 'hostname')) || name}.${text(at(pod, 'spec', 'subdomain'))}.${namespace}.svc`
  }

  /** Folders for all mounts of the container; null while something is not there yet. */
  #mount(pod: KubeObject, container: Fields): Mounts | null {
    const folders = new Map<string, string>()
    for (const volume of list(at(pod, 'spec', 'volumes')).map(fields)) {
      const folder = this.#volume(pod, volume)
      if (folder === null) {
        this.#loop?.wakeAfter(200)
        return null
      }
      folders.set(text(volume.name), folder)
    }
    return new Map(
      list(container.volumeMounts)
        .map(fields)
        .flatMap((mount) => {
          const folder = folders.get(text(mount.name))
          return folder === undefined ? [] : [[text(mount.mountPath), join(folder, text(mount.subPath))] as const]
        }),
    )
  }

  #volume(pod: KubeObject, volume: Fields): string | null {
    const namespace = pod.metadata.namespace ?? ''
    const claim = text(at(volume, 'persistentVolumeClaim', 'claimName'))
    if (claim !== '') return folderOf(this.#registry, namespace, claim)
    const folder = join(this.#podFolder(pod), 'volumes', text(volume.name))
    const secret = text(at(volume, 'secret', 'secretName'))
    const map = text(at(volume, 'configMap', 'name'))
    if (secret === '' && map === '') {
      mkdirSync(folder, { recursive: true })
      return folder
    }
    const source = this.#registry.store.get((secret === '' ? CONFIG_MAPS : SECRETS).key, namespace, secret || map)
    const optional = at(volume, secret === '' ? 'configMap' : 'secret', 'optional') === true
    if (source === null && !optional) return null
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    for (const [key, value] of Object.entries(fields(source?.data))) {
      const bytes = Buffer.from(text(value), secret === '' ? 'utf8' : 'base64')
      writeFileSync(join(folder, key), bytes, { mode: 0o600 })
    }
    return folder
  }

  #writeStatus(pod: KubeObject): void {
    const run = this.#runs.get(pod.metadata.uid)
    const { name, namespace, uid } = pod.metadata
    const current = this.#registry.store.get(PODS.key, namespace ?? '', name)
    if (run === undefined || current === null || current.metadata.uid !== uid) return
    const status = podStatus(current, run.container, now())
    if (same(status, current.status)) return
    this.#registry.change(PODS, namespace ?? '', name, 'status', (object) => {
      object.status = status
    })
  }
}

const graceOf = (pod: KubeObject): number => number(at(pod, 'spec', 'terminationGracePeriodSeconds'), 30)

/** The port of this machine that stands for a port of the container. */
function portOf(ports: PodPorts, containerPort: number): number {
  const name = (Object.keys(PORTS) as PortName[]).find((each) => PORTS[each] === containerPort)
  return name === undefined ? containerPort : ports[name]
}
