/**
 * One container as one process of this machine: started, probed, restarted with a growing pause when it ends,
 * stopped with a grace. Its output goes straight to a file, so that it neither stops nor gets lost when the
 * control plane does.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Prober, type Probes } from './prober.ts'

export interface Running {
  readonly kind: 'running'
  readonly pid: number
  readonly startedAt: string
}
export interface Ended {
  readonly kind: 'terminated'
  readonly exitCode: number
  readonly reason: string
  readonly startedAt: string
  readonly finishedAt: string
}
export interface Waiting {
  readonly kind: 'waiting'
  readonly reason: string
  readonly message: string
}
export type ContainerState = Running | Ended | Waiting

/** What a start needs; asked for anew at every start. */
export interface Launch {
  readonly executable: string
  readonly args: readonly string[]
  readonly folder: string
  readonly environment: Readonly<Record<string, string>>
  readonly portOf: (containerPort: number) => number
}

export interface ContainerOptions {
  /** Where its output goes, one file for each start. */
  readonly logs: string
  readonly probes: Probes
  readonly restart: 'Always' | 'OnFailure' | 'Never'
  readonly launch: () => Promise<Launch>
  /** Something that the status shows has changed. */
  readonly changed: () => void
  readonly started: (pid: number) => void
  readonly ended: () => void
  readonly tell: (type: 'Normal' | 'Warning', reason: string, message: string) => void
}

/** Pauses before a restart; the last one repeats. After a run of this long they begin again. */
const PAUSES_MILLISECONDS = [0, 1000, 2000, 4000, 8000, 16_000, 30_000] as const
const STABLE_MILLISECONDS = 60_000
/** How long a process that failed its liveness probe has to stop. */
const LIVENESS_GRACE_MILLISECONDS = 30_000
const LOGS_KEPT = 3

const time = (): string => new Date().toISOString().replace(/\.\d+Z$/, 'Z')

export class Container {
  readonly #options: ContainerOptions
  state: ContainerState = { kind: 'waiting', reason: 'ContainerCreating', message: '' }
  last: Ended | null = null
  restarts: number
  started = false
  ready = false
  #child: ChildProcess | null = null
  #prober: Prober | null = null
  #stopping = false
  #pause = 0
  #timer: NodeJS.Timeout | null = null
  readonly #idle: (() => void)[] = []

  /** `restarts`: how often it has been restarted by control planes before this one. */
  constructor(options: ContainerOptions, restarts: number) {
    this.#options = options
    this.restarts = restarts
    mkdirSync(options.logs, { recursive: true })
    void this.#start()
  }

  get pid(): number | null {
    return this.#child?.pid ?? null
  }

  /** The file of the current start, or of one before it. */
  logFile(previous = 0): string {
    return join(this.#options.logs, `${this.restarts - previous}.log`)
  }

  async #start(): Promise<void> {
    let launch: Launch
    try {
      launch = await this.#options.launch()
    } catch (error) {
      this.#wait('CreateContainerConfigError', (error as Error).message, 1000)
      return
    }
    if (this.#stopping) return
    rmSync(this.logFile(LOGS_KEPT), { force: true })
    const log = openSync(this.logFile(), 'a', 0o600)
    const startedAt = time()
    const child = spawn(launch.executable, launch.args, {
      cwd: launch.folder,
      env: launch.environment,
      stdio: ['ignore', log, log],
      // Of its own process group: Ctrl-C is for the control plane, which then stops its nodes in good order.
      detached: true,
    })
    closeSync(log)
    this.#child = child
    child.on('error', (error) => this.#ended(startedAt, 127, null, error.message))
    child.on('exit', (code, signal) => this.#ended(startedAt, code, signal, ''))
    if (child.pid === undefined) return
    this.state = { kind: 'running', pid: child.pid, startedAt }
    this.#options.started(child.pid)
    this.#options.tell('Normal', 'Started', 'Started container node')
    this.#prober = new Prober(this.#options.probes, launch.portOf, {
      started: () => this.#set({ started: true }),
      ready: (ready) => this.#set({ ready }),
      failed: (kind, why) => {
        this.#options.tell('Warning', 'Killing', `${kind} probe failed for good, the process will be restarted: ${why}`)
        this.#signal(LIVENESS_GRACE_MILLISECONDS)
      },
      unhealthy: (kind, why) => this.#options.tell('Warning', 'Unhealthy', `${kind} probe failed: ${why}`),
    })
    this.#options.changed()
  }

  #set(change: { started?: boolean; ready?: boolean }): void {
    Object.assign(this, change)
    this.#options.changed()
  }

  #ended(startedAt: string, code: number | null, signal: NodeJS.Signals | null, why: string): void {
    if (this.#child === null) return
    this.#child = null
    this.#prober?.stop()
    this.ready = false
    this.started = false
    const exitCode = code ?? 128 + (signal === 'SIGKILL' ? 9 : 15)
    const reason = exitCode === 0 ? 'Completed' : 'Error'
    this.last = { kind: 'terminated', exitCode, reason, startedAt, finishedAt: time() }
    this.state = this.last
    this.#options.ended()
    for (const resolve of this.#idle.splice(0)) resolve()
    const again = this.#options.restart === 'Always' || (this.#options.restart === 'OnFailure' && exitCode !== 0)
    if (this.#stopping || !again) {
      this.#options.changed()
      return
    }
    if (Date.now() - Date.parse(startedAt) > STABLE_MILLISECONDS) this.#pause = 0
    const pause = PAUSES_MILLISECONDS[Math.min(this.#pause++, PAUSES_MILLISECONDS.length - 1)]!
    const said = why === '' ? `exit code ${exitCode}` : why
    if (pause > 0) this.#options.tell('Warning', 'BackOff', `Back-off restarting failed container (${said})`)
    this.restarts++
    this.#wait('CrashLoopBackOff', `back-off ${pause / 1000}s restarting failed container (${said})`, pause)
  }

  #wait(reason: string, message: string, milliseconds: number): void {
    if (this.#stopping) return
    this.state = { kind: 'waiting', reason, message }
    this.#timer = setTimeout(() => void this.#start(), milliseconds)
    this.#options.changed()
  }

  #signal(graceMilliseconds: number): void {
    const child = this.#child
    if (child === null) return
    child.kill(graceMilliseconds === 0 ? 'SIGKILL' : 'SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), graceMilliseconds)
    child.once('exit', () => clearTimeout(timer))
  }

  /** Ends it for good: SIGTERM, and SIGKILL after the grace. Resolves when the process is gone. */
  stop(graceMilliseconds: number): Promise<void> {
    this.#stopping = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    if (this.#child === null) return Promise.resolve()
    const gone = new Promise<void>((resolve) => this.#idle.push(resolve))
    this.#signal(graceMilliseconds)
    return gone
  }
}
