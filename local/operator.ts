/**
 * The operator as a child process: the very one that runs in Kubernetes, told of the API by a kubeconfig and of
 * the nodes by the address book. It is started again when it ends, and ended with the control plane.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ENVIRONMENT } from '../src/contract.ts'
import type { Processes } from './processes.ts'

const PROJECT = dirname(dirname(fileURLToPath(import.meta.url)))
const RESTART_MILLISECONDS = 1000
const GRACE_MILLISECONDS = 3000
const NAME = 'operator'

export interface OperatorOptions {
  readonly kubeconfig: string
  readonly addressBook: string
  readonly logFile: string
  readonly processes: Processes
  readonly tell: (message: string) => void
}

export class Operator {
  readonly #options: OperatorOptions
  #child: ChildProcess | null = null
  #timer: NodeJS.Timeout | null = null
  #stopping = false

  constructor(options: OperatorOptions) {
    this.#options = options
    this.#start()
  }

  #start(): void {
    const { kubeconfig, addressBook, logFile, processes, tell } = this.#options
    const log = openSync(logFile, 'a', 0o600)
    const child = spawn(
      process.execPath,
      [
        '--disable-warning=ExperimentalWarning',
        join(PROJECT, 'operator', 'main.ts'),
        '--kubeconfig',
        kubeconfig,
        // There is one, and its processes are noted: a Lease would only make the next start wait for its end.
        '--no-election',
        '--metrics-port',
        '0',
      ],
      {
        cwd: PROJECT,
        env: { ...process.env, KUBECONFIG: kubeconfig, [ENVIRONMENT.addressBook]: addressBook },
        stdio: ['ignore', log, log],
        detached: true,
      },
    )
    closeSync(log)
    this.#child = child
    if (child.pid !== undefined) processes.note(NAME, child.pid)
    child.on('error', (error) => tell(`the operator could not be started: ${error.message}`))
    child.on('exit', (code, signal) => {
      processes.forget(NAME)
      this.#child = null
      if (this.#stopping) return
      tell(`the operator has ended (${signal ?? `exit code ${code}`}) and is started again; its log: ${logFile}`)
      this.#timer = setTimeout(() => this.#start(), RESTART_MILLISECONDS)
    })
  }

  /** Resolves when it is gone. */
  stop(): Promise<void> {
    this.#stopping = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    const child = this.#child
    if (child === null) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), GRACE_MILLISECONDS)
      child.once('exit', () => {
        clearTimeout(timer)
        resolve()
      })
      child.kill('SIGTERM')
    })
  }
}
