/**
 * A closed-loop load generator for any server that speaks RESP: `node bench/load.ts --help`. Workers in threads of
 * their own (load-worker.ts) keep a fixed number of commands in flight on every connection; the report has rates,
 * an HDR histogram of latencies, the longest time without any completion, and errors by kind. It never sends a
 * command twice: what was in flight when a connection ended counts as an error with unknown outcome.
 */
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { build, decodeFromCompressedBase64 } from 'hdr-histogram-js'
import type { WorkerOrder, WorkerReport } from './timing.ts'

export interface LoadOptions {
  /** `host:port`, used in turn by the clients. */
  readonly targets: readonly string[]
  /** Connections, all targets together. */
  readonly clients: number
  readonly seconds: number
  readonly warmUpSeconds: number
  /** Commands in flight on each connection. */
  readonly pipeline: number
  /** `set`, `get`, `incr`, or weights: `set=1,get=9`. */
  readonly mix: string
  readonly valueBytes: number
  readonly keys: number
  /** Open loop: so many commands a second, whatever is unanswered; 0: closed loop. */
  readonly perSecond: number
  readonly threads: number
  /** Sends READONLY first, so that GETs are answered from the node's own state. */
  readonly readOnly: boolean
  /** Redis: each batch of a connection ends with WAIT for so many replicas, and counts when that is answered. */
  readonly waitReplicas: number
  readonly protocol: 'resp' | 'etcd'
}

export const LOAD_DEFAULTS: LoadOptions = {
  targets: ['127.0.0.1:6379'],
  clients: 64,
  seconds: 5,
  warmUpSeconds: 0.5,
  pipeline: 1,
  mix: 'set',
  valueBytes: 100,
  keys: 100_000,
  perSecond: 0,
  threads: 1,
  readOnly: false,
  waitReplicas: 0,
  protocol: 'resp',
}

/** Latencies in milliseconds, from the write of a batch to each reply of it. */
export interface LoadReport {
  readonly operations: number
  readonly perSecond: number
  readonly latencyMilliseconds: {
    readonly mean: number
    readonly p50: number
    readonly p90: number
    readonly p99: number
    readonly p999: number
    readonly max: number
  }
  /** Longest time in which no client of any worker got a reply. */
  readonly longestGapMilliseconds: number
  readonly errors: Readonly<Record<string, number>>
  readonly reconnects: number
}

/** Runs the load; resolves when the time is over. Throws for options that make no sense. */
export async function runLoad(given: Partial<LoadOptions>): Promise<LoadReport> {
  const options = { ...LOAD_DEFAULTS, ...given }
  const targets = options.targets.map(parseTarget)
  const mix = parseMix(options.mix)
  const threads = Math.min(options.threads, options.clients)
  if (targets.length === 0 || !(options.clients >= 1) || !(options.pipeline >= 1) || !(options.keys >= 1)) {
    throw new Error('at least one target, client, command in flight and key are needed')
  }
  const runs: Promise<WorkerReport>[] = []
  for (let thread = 0, firstClient = 0; thread < threads; thread++) {
    const clients = Math.floor(options.clients / threads) + (thread < options.clients % threads ? 1 : 0)
    runs.push(
      runWorker(options.protocol === 'etcd' ? './etcd-worker.ts' : './load-worker.ts', {
        targets,
        clients,
        firstClient,
        pipeline: options.pipeline,
        mix,
        valueBytes: options.valueBytes,
        keys: options.keys,
        perSecond: options.perSecond / threads,
        warmUpMilliseconds: options.warmUpSeconds * 1000,
        milliseconds: options.seconds * 1000,
        readOnly: options.readOnly,
        waitReplicas: options.waitReplicas,
      }),
    )
    firstClient += clients
  }
  return merge(await Promise.all(runs))
}

/** Workers without a load, by their file: see timing.ts. */
const idle = new Map<string, Worker[]>()

function runWorker(file: string, order: WorkerOrder): Promise<WorkerReport> {
  const waiting = idle.get(file) ?? []
  idle.set(file, waiting)
  const worker = waiting.pop() ?? new Worker(new URL(file, import.meta.url))
  return new Promise((resolve, reject) => {
    const fail = (code: number | Error): void =>
      reject(code instanceof Error ? code : new Error(`a load worker ended with code ${code} and without a report`))
    worker.once('message', (report: WorkerReport) => {
      worker.off('error', fail).off('exit', fail)
      worker.unref()
      waiting.push(worker)
      resolve(report)
    })
    worker.once('error', fail)
    worker.once('exit', fail)
    worker.ref()
    worker.postMessage(order, [])
  })
}

function parseTarget(target: string): { host: string; port: number } {
  const colon = target.lastIndexOf(':')
  const port = Number(target.slice(colon + 1))
  if (colon < 1 || !Number.isInteger(port) || port < 1 || port > 65_535) throw new Error(`'${target}' is not host:port`)
  return { host: target.slice(0, colon), port }
}

function parseMix(text: string): WorkerOrder['mix'] {
  const mix = { set: 0, get: 0, incr: 0 }
  for (const part of text.split(',')) {
    const [kind = '', weight = '1'] = part.split('=')
    if (!(kind in mix) || !(Number(weight) >= 0)) {
      throw new Error(`'${part}' is no part of a mix: set, get or incr, with a weight after '=' if wanted`)
    }
    mix[kind as keyof typeof mix] = Number(weight)
  }
  if (mix.set + mix.get + mix.incr === 0) throw new Error('the mix is empty')
  return mix
}

function merge(reports: readonly WorkerReport[]): LoadReport {
  const histogram = build({ lowestDiscernibleValue: 1, highestTrackableValue: 600_000_000, autoResize: false })
  const errors: Record<string, number> = {}
  let operations = 0
  let perSecond = 0
  let reconnects = 0
  for (const report of reports) {
    histogram.add(decodeFromCompressedBase64(report.histogram))
    operations += report.operations
    perSecond += report.operations / report.seconds
    reconnects += report.reconnects
    for (const [kind, count] of Object.entries(report.errors)) errors[kind] = (errors[kind] ?? 0) + count
  }
  const at = (percentile: number): number => histogram.getValueAtPercentile(percentile) / 1000
  return {
    operations,
    perSecond: Math.round(perSecond),
    latencyMilliseconds: {
      mean: Math.round(histogram.mean) / 1000,
      p50: at(50),
      p90: at(90),
      p99: at(99),
      p999: at(99.9),
      max: histogram.maxValue / 1000,
    },
    longestGapMilliseconds: longestCommonGap(reports.map((report) => report.gaps)),
    errors,
    reconnects,
  }
}

/** The longest stretch of time that lies in a gap of every worker. */
function longestCommonGap(gapsOfWorkers: readonly WorkerReport['gaps'][]): number {
  const [first = [], ...others] = gapsOfWorkers
  let common: readonly (readonly [number, number])[] = first
  for (const gaps of others) {
    common = common.flatMap(([from, to]) =>
      gaps
        .map(([start, end]): [number, number] => [Math.max(from, start), Math.min(to, end)])
        .filter(([start, end]) => end > start),
    )
  }
  return Math.round(common.reduce((longest, [from, to]) => Math.max(longest, to - from), 0) * 1000) / 1000
}

const HELP = `node bench/load.ts [options]: load for a server that speaks RESP

  --targets host:port,…   where to (127.0.0.1:6379)
  --clients n             connections, all targets together (64)
  --seconds n             how long to measure (5), after --warm-up-seconds (0.5)
  --pipeline n            commands in flight on a connection (1)
  --mix set|get|incr      or weights: set=1,get=9 (set)
  --value-bytes n         (100)
  --keys n                (100000)
  --threads n             worker threads (1)
  --per-second n          open loop: so many commands a second, whatever is unanswered (0: closed loop)
  --readonly              send READONLY first: GETs from the node's own state
  --json                  print the report as JSON`

/** The command line; gives the exit code. */
async function main(argv: string[]): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      targets: { type: 'string' },
      clients: { type: 'string' },
      seconds: { type: 'string' },
      'warm-up-seconds': { type: 'string' },
      pipeline: { type: 'string' },
      mix: { type: 'string' },
      'value-bytes': { type: 'string' },
      keys: { type: 'string' },
      threads: { type: 'string' },
      'per-second': { type: 'string' },
      readonly: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(HELP)
    return 0
  }
  const number = (text: string | undefined, otherwise: number): number =>
    text === undefined ? otherwise : Number(text)
  const report = await runLoad({
    targets: values.targets?.split(',') ?? LOAD_DEFAULTS.targets,
    clients: number(values.clients, LOAD_DEFAULTS.clients),
    seconds: number(values.seconds, LOAD_DEFAULTS.seconds),
    warmUpSeconds: number(values['warm-up-seconds'], LOAD_DEFAULTS.warmUpSeconds),
    pipeline: number(values.pipeline, LOAD_DEFAULTS.pipeline),
    mix: values.mix ?? LOAD_DEFAULTS.mix,
    valueBytes: number(values['value-bytes'], LOAD_DEFAULTS.valueBytes),
    keys: number(values.keys, LOAD_DEFAULTS.keys),
    threads: number(values.threads, LOAD_DEFAULTS.threads),
    perSecond: number(values['per-second'], LOAD_DEFAULTS.perSecond),
    readOnly: values.readonly,
  })
  console.log(values.json ? JSON.stringify(report, null, 2) : describe(report))
  return 0
}

function describe(report: LoadReport): string {
  const { latencyMilliseconds: latency } = report
  const errors = Object.entries(report.errors).map(([kind, count]) => `  ${count} × ${kind}`)
  return [
    `${report.perSecond} operations a second (${report.operations} in all), longest gap ${report.longestGapMilliseconds} ms`,
    `latency in ms: p50 ${latency.p50}, p90 ${latency.p90}, p99 ${latency.p99}, p99.9 ${latency.p999}, max ${latency.max}`,
    errors.length === 0 ? `no errors, ${report.reconnects} reconnects` : ['errors:', ...errors].join('\n'),
  ].join('\n')
}

if (import.meta.main) {
  main(process.argv.slice(2)).then(
    (code) => {
      process.exitCode = code
    },
    (error: unknown) => {
      console.error(error instanceof Error ? error.message : error)
      process.exitCode = 2
    },
  )
}
