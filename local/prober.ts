/**
 * Probes of one container: startup first, then readiness and liveness. Failures are counted once a period, as
 * the manifest says; while something is awaited (the start, readiness) it is asked for more often, so that what
 * takes a tenth of a second is not seen a second later.
 */
import { get } from 'node:http'
import type { Probe } from './podspec.ts'

export interface Probes {
  readonly startup: Probe | null
  readonly readiness: Probe | null
  readonly liveness: Probe | null
}

export interface Verdicts {
  started(): void
  ready(ready: boolean): void
  /** Startup or liveness failed for good. */
  failed(kind: 'Startup' | 'Liveness', why: string): void
  unhealthy(kind: 'Startup' | 'Readiness' | 'Liveness', why: string): void
}

const EAGER_MILLISECONDS = 100

/** Null: the probe succeeded; otherwise why it did not. */
function ask(probe: Probe, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const timeout = probe.timeoutSeconds * 1000
    const request = get({ host: '127.0.0.1', port, path: probe.path, agent: false, timeout }, (response) => {
      response.resume()
      const code = response.statusCode ?? 0
      resolve(code >= 200 && code < 400 ? null : `HTTP probe failed with statuscode: ${code}`)
    })
    request.on('timeout', () => request.destroy(new Error(`no answer within ${probe.timeoutSeconds} s`)))
    request.on('error', (error) => resolve(`Get "http://127.0.0.1:${port}${probe.path}": ${error.message}`))
  })
}

export class Prober {
  readonly #verdicts: Verdicts
  readonly #portOf: (containerPort: number) => number
  readonly #timers = new Set<NodeJS.Timeout>()
  #stopped = false

  constructor(probes: Probes, portOf: (containerPort: number) => number, verdicts: Verdicts) {
    this.#verdicts = verdicts
    this.#portOf = portOf
    const begin = (): void => {
      verdicts.started()
      if (probes.readiness === null) verdicts.ready(true)
      else this.#readiness(probes.readiness)
      if (probes.liveness !== null) this.#liveness(probes.liveness)
    }
    if (probes.startup === null) begin()
    else this.#startup(probes.startup, begin)
  }

  /** Asks again and again; `next` says after how many milliseconds, or null to end. */
  #poll(probe: Probe, next: (why: string | null, periodOver: boolean) => number | null): void {
    let periodEnds = Date.now() + probe.initialDelaySeconds * 1000
    const turn = async (): Promise<void> => {
      const why = await ask(probe, this.#portOf(probe.port))
      if (this.#stopped) return
      const over = Date.now() >= periodEnds
      if (over) periodEnds = Date.now() + probe.periodSeconds * 1000
      const wait = next(why, over)
      if (wait !== null) later(wait)
    }
    const later = (milliseconds: number): void => {
      const timer = setTimeout(() => {
        this.#timers.delete(timer)
        void turn()
      }, milliseconds)
      this.#timers.add(timer)
    }
    later(probe.initialDelaySeconds * 1000)
  }

  #startup(probe: Probe, begin: () => void): void {
    let failures = 0
    this.#poll(probe, (why, over) => {
      if (why === null) {
        begin()
        return null
      }
      if (over && ++failures >= probe.failureThreshold) {
        this.#verdicts.failed('Startup', why)
        return null
      }
      return EAGER_MILLISECONDS
    })
  }

  #readiness(probe: Probe): void {
    let [ready, failures, successes] = [false, 0, 0]
    this.#poll(probe, (why, over) => {
      if (why === null) {
        failures = 0
        if (!ready && ++successes >= probe.successThreshold) this.#verdicts.ready((ready = true))
      } else {
        successes = 0
        if (over) this.#verdicts.unhealthy('Readiness', why)
        if (ready && ++failures >= probe.failureThreshold) this.#verdicts.ready((ready = false))
      }
      return ready ? probe.periodSeconds * 1000 : EAGER_MILLISECONDS
    })
  }

  #liveness(probe: Probe): void {
    let failures = 0
    this.#poll(probe, (why) => {
      if (why === null) failures = 0
      else {
        this.#verdicts.unhealthy('Liveness', why)
        if (++failures >= probe.failureThreshold) {
          this.#verdicts.failed('Liveness', why)
          return null
        }
      }
      return probe.periodSeconds * 1000
    })
  }

  stop(): void {
    this.#stopped = true
    for (const timer of this.#timers) clearTimeout(timer)
  }
}
