/** kubectl and helm as the tests call them: the ones on the PATH, with the KUBECONFIG of the environment. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { eventually } from '../cluster/harness.ts'

const run = promisify(execFile)
const LARGEST_OUTPUT_BYTES = 256 * 1024 * 1024

/** What stands on stdout; throws with stderr in the message. */
export async function kubectl(...args: string[]): Promise<string> {
  const { stdout } = await run('kubectl', args, { maxBuffer: LARGEST_OUTPUT_BYTES })
  return stdout
}

export async function helm(...args: string[]): Promise<string> {
  const { stdout } = await run('helm', args, { maxBuffer: LARGEST_OUTPUT_BYTES })
  return stdout
}

/** Objects as JSON: only the fields that the tests look at. */
export interface KubeObject {
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly uid: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
    readonly deletionTimestamp?: string
  }
}

export interface Pod extends KubeObject {
  readonly spec: { readonly nodeName?: string; readonly containers: readonly { readonly image: string }[] }
  readonly status: {
    readonly phase?: string
    readonly podIP?: string
    readonly conditions?: readonly { readonly type: string; readonly status: string }[]
    readonly containerStatuses?: readonly {
      readonly containerID?: string
      readonly restartCount: number
      readonly ready: boolean
    }[]
  }
}

export interface LokiClusterObject extends KubeObject {
  readonly spec: { readonly replicas: number }
  readonly status?: {
    readonly observedGeneration?: number
    readonly replicas?: number
    readonly readyReplicas?: number
    readonly leader?: string
    readonly configurationId?: number
    readonly clusterId?: string
    readonly members?: readonly {
      readonly pod: string
      readonly id: number
      readonly volumeId: string
      readonly role: string
      readonly state: string
      readonly decidedIndex: string
    }[]
    readonly conditions?: readonly {
      readonly type: string
      readonly status: string
      readonly reason: string
      readonly message: string
    }[]
  }
}

export async function get<T extends KubeObject>(namespace: string, kind: string, name: string): Promise<T | null> {
  const text = await kubectl('get', kind, name, '-n', namespace, '-o', 'json', '--ignore-not-found')
  return text.trim() === '' ? null : (JSON.parse(text) as T)
}

export async function list<T extends KubeObject>(namespace: string, kind: string, selector = ''): Promise<T[]> {
  const filter = selector === '' ? [] : ['-l', selector]
  const text = await kubectl('get', kind, '-n', namespace, '-o', 'json', ...filter)
  return (JSON.parse(text) as { items: T[] }).items
}

/** Applies an object given as data. */
export async function apply(namespace: string, object: unknown): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const child = execFile('kubectl', ['apply', '-n', namespace, '-f', '-'], (error) => {
      if (error) reject(error)
      else resolve()
    })
    child.stdin?.end(JSON.stringify(object))
  })
}

export const isReady = (pod: Pod): boolean =>
  pod.metadata.deletionTimestamp === undefined &&
  (pod.status.conditions ?? []).some((condition) => condition.type === 'Ready' && condition.status === 'True')

/** Waits for a pod to be Ready, and gives it. */
export async function readyPod(namespace: string, name: string, patienceMilliseconds = 60_000): Promise<Pod> {
  return eventually(
    `pod ${name} is Ready`,
    async () => {
      const pod = await get<Pod>(namespace, 'pod', name)
      return pod && isReady(pod) && pod
    },
    patienceMilliseconds,
  )
}
