/**
 * Processes that outlive the one that started them: a file for each says which process it is, so that the next
 * control plane finds and ends those that a killed one has left behind. A process id alone is no name, it is
 * used again; together with the time of its start it is one.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { replaceFile } from './tls.ts'

/** When the process started, in the words of the system; null where there is no such process. */
export function startOf(pid: number): string | null {
  try {
    if (process.platform === 'linux') {
      // Field 22, counted after the name in parentheses, which may hold anything.
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
      const after = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return after[0] === 'Z' ? null : (after[19] ?? null)
    }
    return (
      execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim() || null
    )
  } catch {
    return null
  }
}

interface Noted {
  readonly pid: number
  readonly start: string
}

/** A folder with a file for each process that runs. */
export class Processes {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
    mkdirSync(folder, { recursive: true })
  }

  note(name: string, pid: number): void {
    const start = startOf(pid)
    if (start !== null) replaceFile(join(this.#folder, `${name}.json`), JSON.stringify({ pid, start }))
  }

  forget(name: string): void {
    rmSync(join(this.#folder, `${name}.json`), { force: true })
  }

  /** Names and ids of processes that are noted and still run. */
  running(): Map<string, number> {
    const found = new Map<string, number>()
    for (const file of existsSync(this.#folder) ? readdirSync(this.#folder) : []) {
      if (!file.endsWith('.json')) continue
      const name = file.slice(0, -'.json'.length)
      const noted = readNoted(join(this.#folder, file))
      if (noted !== null && startOf(noted.pid) === noted.start) found.set(name, noted.pid)
      else this.forget(name)
    }
    return found
  }

  /** Ends what is noted and still runs: in good order at first, then by force. Gives how many there were. */
  async endAll(graceMilliseconds: number): Promise<number> {
    const left = this.running()
    for (const pid of left.values()) kill(pid, 'SIGTERM')
    const due = Date.now() + graceMilliseconds
    while (this.running().size > 0 && Date.now() < due) await sleep(50)
    for (const pid of this.running().values()) kill(pid, 'SIGKILL')
    while (this.running().size > 0) await sleep(20)
    return left.size
  }
}

function readNoted(file: string): Noted | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Noted
  } catch {
    return null
  }
}

/** A signal to a process that may be gone. */
export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It is gone.
  }
}
