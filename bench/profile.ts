/**
 * `npm run bench -- profile`: CPU profiles of a leader and of a follower under load, and where their time goes as
 * text and as flame graphs. The profiles themselves are written, too, for the developer tools of a browser. Times are self times: what a function spent in its own code, not in what it called.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Cluster, eventually } from '../test/cluster/harness.ts'
import type { NodeProcess } from '../test/cluster/process.ts'
import { type CpuProfile, drawFlames, placeOf } from './flame.ts'
import { type LoadOptions, runLoad } from './load.ts'

export interface SelfTime {
  readonly where: string
  readonly milliseconds: number
}

/** Where the time went, the most first; idle time is among it. */
export function selfTimes(profile: CpuProfile): SelfTime[] {
  const places = new Map(profile.nodes.map((node) => [node.id, placeOf(node.callFrame)]))
  const total = new Map<string, number>()
  for (const [at, id] of profile.samples.entries()) {
    const where = places.get(id) ?? 'unknown'
    total.set(where, (total.get(where) ?? 0) + (profile.timeDeltas[at] ?? 0) / 1000)
  }
  return [...total]
    .map(([where, milliseconds]) => ({ where, milliseconds }))
    .toSorted((a, b) => b.milliseconds - a.milliseconds)
}

/** One conversation with the inspector of a process that was started with `--inspect`. */
class Inspector {
  readonly #socket: WebSocket
  readonly #waiting = new Map<number, (result: unknown) => void>()
  #nextId = 1

  private constructor(socket: WebSocket) {
    this.#socket = socket
    socket.addEventListener('message', ({ data }) => {
      const { id, result } = JSON.parse(String(data)) as { id?: number; result: unknown }
      if (id === undefined) return
      this.#waiting.get(id)?.(result)
      this.#waiting.delete(id)
    })
  }

  static async attach(node: NodeProcess): Promise<Inspector> {
    const url = await eventually('the inspector listens', async () => /ws:\/\/\S+/.exec(await node.logs())?.[0])
    const socket = new WebSocket(url)
    await new Promise<void>((resolve, reject) => {
      socket.addEventListener('open', () => resolve(), { once: true })
      socket.addEventListener('error', () => reject(new Error(`no inspector at ${url}`)), { once: true })
    })
    return new Inspector(socket)
  }

  ask(method: string, params: object = {}): Promise<unknown> {
    const id = this.#nextId++
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve)
      this.#socket.send(JSON.stringify({ id, method, params }))
    })
  }

  close(): void {
    this.#socket.close()
  }
}

export interface ProfileOptions {
  readonly size: number
  readonly load: Partial<LoadOptions>
  readonly folder: string
  /** Lines of text a node. */
  readonly lines: number
}

/** Runs the load against a cluster and profiles the leader and, where there is one, a follower. */
export async function profileCluster(options: ProfileOptions): Promise<void> {
  const { size, folder, lines } = options
  const nodeArguments = ['--inspect=127.0.0.1:0']
  const cluster = await Cluster.create({
    settings: { walSegmentBytes: 67_108_864 },
    nodeArguments,
    watchesReadiness: false,
  })
  try {
    await cluster.bootstrap(size)
    const { node: leader } = await cluster.leader()
    const nodes = new Map([['leader', leader]])
    if (size > 1) nodes.set('follower', await cluster.follower())
    const targets = [`${leader.client.host}:${leader.client.port}`]
    await runLoad({ targets, ...options.load, seconds: 2 })
    const inspectors = new Map<string, Inspector>()
    for (const [name, node] of nodes) inspectors.set(name, await Inspector.attach(node))
    for (const inspector of inspectors.values()) {
      await inspector.ask('Profiler.enable')
      await inspector.ask('Profiler.setSamplingInterval', { interval: 200 })
      await inspector.ask('Profiler.start')
    }
    const report = await runLoad({ targets, warmUpSeconds: 0, ...options.load })
    console.log(`${report.perSecond} operations a second, p50 ${report.latencyMilliseconds.p50} ms`)
    for (const [name, inspector] of inspectors) {
      const { profile } = (await inspector.ask('Profiler.stop')) as { profile: CpuProfile }
      inspector.close()
      const file = join(folder, `${name}.cpuprofile`)
      await writeFile(file, JSON.stringify(profile))
      await writeFile(join(folder, `${name}.svg`), drawFlames(`CPU time of a ${name}`, profile))
      console.log(
        `\n${name} (${file}, flame graph: ${name}.svg)\n${describe(selfTimes(profile), report.operations, lines)}`,
      )
    }
  } finally {
    await cluster.dispose()
  }
}

function describe(times: readonly SelfTime[], operations: number, lines: number): string {
  const busy = times.filter(({ where }) => where !== '(idle)')
  const all = busy.reduce((sum, { milliseconds }) => sum + milliseconds, 0)
  const line = ({ where, milliseconds }: SelfTime): string => {
    const part = ((100 * milliseconds) / all).toFixed(1).padStart(5)
    return `${part} %  ${((1000 * milliseconds) / operations).toFixed(2).padStart(6)} µs an operation  ${where}`
  }
  return [
    `busy ${Math.round(all)} ms, ${((1000 * all) / operations).toFixed(1)} µs an operation`,
    ...busy.slice(0, lines).map(line),
  ].join('\n')
}
