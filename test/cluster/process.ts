/**
 * One node of a test cluster: its folders, ports and process. The folders outlive the process; the process never
 * outlives the test.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { ENVIRONMENT, PORTS, type PortName, RUNTIME_ENVIRONMENT, names } from '../../src/contract.ts'
import { Admin } from './admin.ts'
import type { Target } from './recorder.ts'

export const CLUSTER = 'orders'
const NAMESPACE = 'default'
const PROJECT = new URL('../../', import.meta.url).pathname
/** The pinned Node of the project, whatever runs the tests. */
export const NODE = join(PROJECT, 'node_modules/.bin/node')

/** Every process that was started and has not ended; killed when the test process ends, however it ends. */
const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export class NodeProcess {
  readonly ordinal: number
  readonly name: string
  /** `host:port` of the peer port, as configurations know it. */
  readonly address: string
  readonly ports: Readonly<Record<PortName, number>>
  readonly folder: string
  readonly admin: Admin
  readonly client: Target
  /** What the last look at /readyz said; see `Cluster.create`. */
  isReady = false
  /** Whether it was told to stand still: it answers nobody. */
  isFrozen = false
  readonly #environment: Record<string, string>
  readonly #nodeArguments: readonly string[]
  #child: ChildProcess | null = null
  #exited: Promise<Exit> = Promise.resolve({ code: 0, signal: null })

  constructor(
    root: string,
    ordinal: number,
    ports: Record<PortName, number>,
    options: {
      readonly token: string
      readonly settings: Readonly<Record<string, number>>
      readonly nodeArguments: readonly string[]
    },
  ) {
    this.#nodeArguments = options.nodeArguments
    this.ordinal = ordinal
    this.name = names.pod(CLUSTER, ordinal)
    this.address = `${names.host(CLUSTER, ordinal, NAMESPACE)}:${PORTS.peer}`
    this.ports = ports
    this.folder = join(root, this.name)
    this.admin = new Admin(ports.admin, options.token)
    this.client = { name: this.name, host: '127.0.0.1', port: ports.client, isReady: () => this.isReady }
    this.#environment = {
      PATH: process.env['PATH'] ?? '',
      HOME: this.folder,
      ...RUNTIME_ENVIRONMENT,
      // Compiled once, started often: a start takes a third of the CPU time.
      NODE_COMPILE_CACHE: join(PROJECT, 'node_modules/.cache/compile'),
      [ENVIRONMENT.address]: this.address,
      [ENVIRONMENT.walDirectory]: this.walFolder,
      [ENVIRONMENT.checkpointDirectory]: this.checkpointFolder,
      [ENVIRONMENT.tokenFile]: join(root, 'token'),
      [ENVIRONMENT.addressBook]: this.addressBook,
      [ENVIRONMENT.settings]: JSON.stringify(options.settings),
    }
  }

  /** Where this node finds the others. */
  get addressBook(): string {
    return `${this.folder}-addresses.json`
  }

  get walFolder(): string {
    return join(this.folder, 'wal')
  }

  get checkpointFolder(): string {
    return join(this.folder, 'checkpoints')
  }

  get logFile(): string {
    return join(this.folder, 'node.log')
  }

  get isRunning(): boolean {
    return this.#child !== null
  }

  /** Process id, 0 when it does not run. */
  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** How the last process ended; resolves when it has. */
  get exited(): Promise<Exit> {
    return this.#exited
  }

  /** Entries of this node in the address book: every port of its host. */
  addresses(): Record<string, string> {
    const host = names.host(CLUSTER, this.ordinal, NAMESPACE)
    return Object.fromEntries(
      (Object.keys(PORTS) as PortName[]).map((port) => [`${host}:${PORTS[port]}`, `127.0.0.1:${this.ports[port]}`]),
    )
  }

  /** Variables of the process, from its next start on. */
  setEnvironment(change: Readonly<Record<string, string>>): void {
    Object.assign(this.#environment, change)
  }

  /** Starts the process; does not wait for it to answer. */
  async start(): Promise<void> {
    if (this.#child) throw new Error(`${this.name} runs already`)
    this.isFrozen = false
    await mkdir(this.walFolder, { recursive: true })
    await mkdir(this.checkpointFolder, { recursive: true })
    const log = createWriteStream(this.logFile, { flags: 'a' })
    const child = spawn(NODE, [...this.#nodeArguments, join(PROJECT, 'src/main.ts'), 'node'], {
      cwd: PROJECT,
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    running.add(child)
    this.#child = child
    child.stdout.pipe(log, { end: false })
    child.stderr.pipe(log, { end: false })
    this.#exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        running.delete(child)
        if (this.#child === child) this.#child = null
        log.end(`--- ended: code ${code}, signal ${signal}\n`)
        resolve({ code, signal })
      })
    })
  }

  /** kill -9: at once, and whatever it was doing. */
  async kill9(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#exited
  }

  /** SIGTERM, and waits until the process has ended by itself; after `limitSeconds` it is killed and this throws. */
  async stop(limitSeconds = 60): Promise<Exit> {
    const child = this.#child
    if (!child) return this.#exited
    child.kill('SIGTERM')
    // Second by second: what passes while the whole machine stands still is no time that the process had.
    let left = limitSeconds
    const timer = setInterval(() => {
      if (--left === 0) child.kill('SIGKILL')
    }, 1000)
    const exit = await this.#exited
    clearInterval(timer)
    if (exit.signal === 'SIGKILL') throw new Error(`${this.name} did not end ${limitSeconds} s after SIGTERM`)
    return exit
  }

  /** Freezes the process: its connections stay, nothing moves. */
  pause(): void {
    this.isFrozen = true
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.isFrozen = false
    this.#child?.kill('SIGCONT')
  }

  async logs(): Promise<string> {
    return readFile(this.logFile, 'utf8').catch(() => '')
  }

  /** What a lost claim leaves: an empty volume. */
  async emptyVolumes(which: 'wal' | 'both'): Promise<void> {
    await rm(this.walFolder, { recursive: true, force: true })
    if (which === 'both') await rm(this.checkpointFolder, { recursive: true, force: true })
  }
}

/** Ports below the range that outgoing connections take theirs from, so that a restart finds its port free. */
export async function freePorts(): Promise<Record<PortName, number>> {
  const ports: Partial<Record<PortName, number>> = {}
  for (const name of Object.keys(PORTS) as PortName[]) ports[name] = await freePort()
  return ports as Record<PortName, number>
}

const taken = new Set<number>()

export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000)
    if (!taken.has(port) && (await canListen(port))) {
      taken.add(port)
      return port
    }
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
