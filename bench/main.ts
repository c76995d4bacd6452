/**
 * `npm run bench`: side-by-side measurements. Runs are interleaved (every peer once, then every peer again), so that
 * what else happens on the machine hits all of them; medians and spread are reported, and how many times as fast the
 * first peer (three nodes of ours) is. Results go to bench/results/ with machine, versions and commit.
 */
import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { measureKeys } from './keys.ts'
import { type LoadOptions, runLoad } from './load.ts'
import { describeMigration, measureMigration } from './migration.ts'
import { measurePath } from './path.ts'
import { measureOpenLoop } from './open.ts'
import { type Peer, type PeerKind, etcd, lokikv, lokikvWithLeases, redis, redisWait } from './peers.ts'
import { drawBars } from './picture.ts'
import { profileCluster } from './profile.ts'

interface Case {
  readonly name: string
  readonly load: Partial<LoadOptions>
  /** READONLY, and clients of all nodes; three nodes of ours only. */
  readonly spread?: true
}

const CASES: readonly Case[] = [
  { name: 'SET, 1 client', load: { clients: 1, mix: 'set' } },
  { name: 'SET, 16 clients', load: { clients: 16, mix: 'set' } },
  { name: 'SET, 64 clients', load: { clients: 64, mix: 'set' } },
  { name: 'SET, 256 clients', load: { clients: 256, mix: 'set' } },
  { name: 'SET, 64 clients, pipeline 16', load: { clients: 64, pipeline: 16, mix: 'set' } },
  { name: 'GET, 64 clients', load: { clients: 64, mix: 'get' } },
  { name: 'GET READONLY, 64 clients of all nodes', load: { clients: 64, mix: 'get', readOnly: true }, spread: true },
  { name: 'GET, 64 clients, pipeline 16', load: { clients: 64, pipeline: 16, mix: 'get' } },
]

/** One run of one case on one peer. */
interface Run {
  readonly case: string
  readonly peer: string
  readonly perSecond: number
  readonly p50Milliseconds: number
  readonly p99Milliseconds: number
  readonly longestGapMilliseconds: number
  readonly cpuMicrosecondsPerOperation: number
  readonly errors: Readonly<Record<string, number>>
}

async function measure(peer: Peer, one: Case, seconds: number): Promise<Run> {
  const cpuBefore = peer.cpuMilliseconds()
  const warmUpSeconds = Math.min(1, seconds / 4)
  const special = { ...peer.load, ...(one.load.mix === 'set' ? {} : { waitReplicas: 0 }) }
  const targets = one.spread ? peer.allTargets : [peer.target]
  const report = await runLoad({ targets, seconds, warmUpSeconds, ...one.load, ...special })
  // The warm-up used CPU as well: its share is taken off by time.
  const cpu = (peer.cpuMilliseconds() - cpuBefore) * (seconds / (seconds + warmUpSeconds))
  return {
    case: one.name,
    peer: peer.name,
    perSecond: report.perSecond,
    p50Milliseconds: report.latencyMilliseconds.p50,
    p99Milliseconds: report.latencyMilliseconds.p99,
    longestGapMilliseconds: report.longestGapMilliseconds,
    cpuMicrosecondsPerOperation: report.operations === 0 ? 0 : Math.round((cpu * 10_000) / report.operations) / 10,
    errors: report.errors,
  }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}

/** Whether the case says anything of the peer. */
function isFor(one: Case, peer: Peer): boolean {
  if (peer.name === lokikvWithLeases.name && (one.load.mix !== 'get' || one.spread)) return false
  if (one.spread) return peer.allTargets.length > 1
  // One stream of HTTP/2 for each command in flight: etcd knows no pipeline.
  return peer.load.protocol !== 'etcd' || (one.load.pipeline ?? 1) === 1
}

/** A Markdown table: one line a case and peer; how many times as fast as it `reference` is. */
function table(runs: readonly Run[], peers: readonly Peer[], reference: string): string {
  const lines = [
    '| what | peer | a second (least … most) | three nodes of ours are × as fast | p50 ms | p99 ms | longest gap ms | CPU µs an operation | errors |',
    '|---|---|---|---|---|---|---|---|---|',
  ]
  for (const name of new Set(runs.map((run) => run.case))) {
    const of = (peer: string): Run[] => runs.filter((run) => run.case === name && run.peer === peer)
    const base = median(of(reference).map((run) => run.perSecond))
    for (const peer of peers) {
      const mine = of(peer.name)
      if (mine.length === 0) continue
      const at = (pick: (run: Run) => number): number => median(mine.map(pick))
      const rates = mine.map((run) => run.perSecond)
      const errors = mine.reduce((all, run) => all + Object.values(run.errors).reduce((a, b) => a + b, 0), 0)
      lines.push(
        `| ${name} | ${peer.name} | ${at((run) => run.perSecond)} (${Math.min(...rates)} … ${Math.max(...rates)}) ` +
          `| ${base > 0 ? (base / at((run) => run.perSecond)).toFixed(2) : '–'} ` +
          `| ${at((run) => run.p50Milliseconds)} | ${at((run) => run.p99Milliseconds)} ` +
          `| ${at((run) => run.longestGapMilliseconds)} | ${at((run) => run.cpuMicrosecondsPerOperation)} | ${errors} |`,
      )
    }
  }
  return lines.join('\n')
}

const QUIETLY = { encoding: 'utf8', stdio: 'pipe' } as const

export function commit(): string {
  try {
    const head = execFileSync('git', ['rev-parse', '--short', 'HEAD'], QUIETLY).trim()
    const changed = execFileSync('git', ['status', '--porcelain'], QUIETLY) !== ''
    return changed ? `${head} with changes` : head
  } catch {
    return 'unknown'
  }
}

export function machine(): string {
  const all = cpus()
  return `${all.length} × ${all[0]?.model ?? 'unknown CPU'}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${process.platform}, Node.js ${process.version}`
}

interface BenchOptions {
  readonly seconds: number
  readonly rounds: number
  /** Only cases whose name contains this. */
  readonly only: string
  /** Only peers whose name contains one of these. */
  readonly peers: readonly string[]
  readonly warmUpSeconds: number
  readonly save: boolean
  /** Binary of etcd. */
  readonly etcd: string | undefined
}

/**
 * All peers, one after the other in each round. All are there all the time, and all but the one that is measured stand
 * still: ten idle processes with heartbeats and timers take a part of two processors, and of their caches.
 */
async function comparePeers(options: BenchOptions): Promise<number> {
  const all: readonly PeerKind[] = [lokikv(3), lokikvWithLeases, lokikv(1), etcd(options.etcd), redisWait, redis]
  const kinds = all.filter(({ name }) => options.peers.some((part) => name.includes(part)))
  const cases = CASES.filter((one) => one.name.includes(options.only))
  const peers: Peer[] = []
  const runs: Run[] = []
  try {
    for (const kind of kinds) {
      const peer = await kind.start()
      if (peer) peers.push(peer)
      else console.log(`skipped: ${kind.name} is not on this machine`)
    }
    // Caches and files are warm before anything counts, and every key is there.
    for (const peer of peers) {
      const { load } = peer
      await runLoad({
        targets: [peer.target],
        clients: 64,
        pipeline: 16,
        seconds: options.warmUpSeconds,
        warmUpSeconds: 0,
        ...load,
      })
      peer.freeze()
    }
    for (const one of cases) {
      // Compilers look at each case anew, and take seconds of it to come to an end.
      for (const peer of peers.filter((each) => isFor(one, each))) {
        await peer.thaw()
        await measure(peer, one, options.warmUpSeconds)
        peer.freeze()
      }
      for (let round = 1; round <= options.rounds; round++) {
        for (const peer of peers.filter((each) => isFor(one, each))) {
          await peer.thaw()
          const run = await measure(peer, one, options.seconds)
          peer.freeze()
          runs.push(run)
          const errors = Object.keys(run.errors).length === 0 ? '' : `  ERRORS ${JSON.stringify(run.errors)}`
          console.log(`${one.name}, round ${round}: ${peer.name}: ${run.perSecond} a second${errors}`)
        }
      }
    }
    const text = [
      `# Side by side, ${new Date().toISOString()}`,
      '',
      `commit ${commit()}; ${machine()}; ${options.rounds} rounds of ${options.seconds} s; 100-byte values, 100 000 keys`,
      ...peers.map((peer) => `- ${peer.name}: ${peer.version}`),
      '',
      table(runs, peers, kinds[0]!.name),
      '',
    ].join('\n')
    console.log(`\n${text}`)
    if (options.save) await save(text, runs)
  } finally {
    for (const peer of peers) await peer.stop()
  }
  return runs.length > 0 && runs.every((run) => Object.keys(run.errors).length === 0) ? 0 : 1
}

async function save(text: string, runs: readonly Run[]): Promise<void> {
  const folder = join(import.meta.dirname, 'results')
  await mkdir(folder, { recursive: true })
  const name = new Date().toISOString().slice(0, 16).replaceAll(':', '')
  await writeFile(join(folder, `${name}.md`), text)
  const groups = [...new Set(runs.map((run) => run.case))].map((one) => {
    const mine = runs.filter((run) => run.case === one)
    const bars = [...new Set(mine.map((run) => run.peer))].map((peer) => {
      const rates = mine.filter((run) => run.peer === peer).map((run) => run.perSecond)
      return { peer, median: median(rates), least: Math.min(...rates), most: Math.max(...rates) }
    })
    return { name: one, bars }
  })
  await writeFile(join(folder, `${name}.svg`), drawBars(`operations a second, ${commit()}`, groups))
  await writeFile(join(folder, `${name}.json`), `${JSON.stringify(runs, null, 1)}\n`)
  console.log(`written: bench/results/${name}.md, .svg and .json`)
}

const PATH_CASES = [
  ['set', 1, 1, 20_000],
  ['set', 16, 1, 80_000],
  ['set', 64, 1, 100_000],
  ['set', 256, 1, 200_000],
  ['set', 64, 16, 300_000],
  ['get', 64, 1, 200_000],
  ['get', 64, 16, 300_000],
] as const

/** The CPU time of our own code; see path.ts. */
async function showPath(): Promise<number> {
  for (const [kind, clients, pipeline, operations] of PATH_CASES) {
    const { microsecondsPerOperation } = await measurePath(kind, clients, pipeline, operations)
    const what = `${kind.toUpperCase()}, ${clients} clients, pipeline ${pipeline}`
    console.log(`${what}: ${microsecondsPerOperation.toFixed(2)} µs of CPU time on three nodes`)
  }
  return 0
}

async function showMigration(): Promise<number> {
  for (const report of await measureMigration()) console.log(describeMigration(report))
  return 0
}

async function showOpenLoop(seconds: number): Promise<number> {
  const report = await measureOpenLoop(seconds)
  const ratio = (report.p999Milliseconds / report.p50Milliseconds).toFixed(1)
  console.log(
    `peak ${report.peakPerSecond} a second; at ${report.perSecond} a second for ${seconds} s, a checkpoint every 10 s: ` +
      `p50 ${report.p50Milliseconds} ms, p99.9 ${report.p999Milliseconds} ms (${ratio} times), errors ${JSON.stringify(report.errors)}`,
  )
  return Object.keys(report.errors).length === 0 ? 0 : 1
}

async function showProfiles(options: BenchOptions): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'lokikv-profiles-'))
  const load = { clients: 64, mix: 'set', seconds: options.seconds }
  await profileCluster({ size: 3, load, folder, lines: 25 })
  return 0
}

const HELP = `npm run bench [-- peers] [options]: three nodes, one node, etcd and Redis side by side
npm run bench -- keys: memory with a million keys, and how long a start with them takes, beside Redis
npm run bench -- open: latencies at half of the peak rate for a minute, with checkpoints
npm run bench -- migration: who sends what new nodes lack, when one node and when all are replaced
npm run bench -- path: CPU time of our own code, in one process; means something on a busy machine, too
npm run bench -- profile: CPU profiles and flame graphs of leader and follower under SET with 64 clients

  --seconds n     of each run (3; 'open': 60)
  --rounds n      runs of each case and peer, interleaved (3)
  --only text     only cases whose name contains the text
  --peers a,b     only systems whose name contains one of these
  --warm-up n     seconds of load of each system, and of each case, before anything counts (3)
  --keys n        of 'bench -- keys' (1000000)
  --etcd file     binary of etcd; otherwise one from the PATH or ~/.cache/kube/bin
  --no-save       do not write bench/results/`

async function main(argv: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    allowNegative: true,
    options: {
      seconds: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      only: { type: 'string', default: '' },
      save: { type: 'boolean', default: true },
      keys: { type: 'string', default: '1000000' },
      peers: { type: 'string', default: '' },
      'warm-up': { type: 'string', default: '3' },
      etcd: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  const what = positionals[0] ?? 'peers'
  const { only, save } = values
  const options = {
    seconds: Number(values.seconds ?? 3),
    rounds: Number(values.rounds),
    only,
    peers: values.peers.split(','),
    warmUpSeconds: Number(values['warm-up']),
    save,
    etcd: values.etcd,
  }
  if (!values.help) {
    if (what === 'peers') return comparePeers(options)
    if (what === 'keys') return (await measureKeys(Number(values.keys))).length > 0 ? 0 : 1
    if (what === 'open') return showOpenLoop(values.seconds === undefined ? 60 : Number(values.seconds))
    if (what === 'migration') return showMigration()
    if (what === 'path') return showPath()
    if (what === 'profile') return showProfiles(options)
  }
  console.log(HELP)
  return values.help ? 0 : 2
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
