/**
 * Far more than three nodes can take: what is too much is refused early with a coded error and nothing else goes
 * wrong, memory keeps within its bounds, and afterwards everything is as before. For an hour, with a line a minute
 * about the memory of each node, which must not grow: `OVERLOAD_SECONDS=3600 vitest run test/cluster/overload.test.ts`.
 */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { runLoad } from '../../bench/load.ts'
import { LIMITS } from '../../src/config.ts'
import { type Cluster, eventually, withCluster } from './harness.ts'

const SECONDS = Number(process.env['OVERLOAD_SECONDS'] ?? 6)
/** The leader and a follower take turns. */
const ROUND_SECONDS = Math.min(30, SECONDS / 2)
/** Twice as many commands in flight as a node takes (LIMITS.outstandingCommands). */
const LOAD = { clients: 200, pipeline: 1000, valueBytes: 200, keys: 1000, mix: 'set', warmUpSeconds: 0 }
/** A machine that is busy with other things needs more than one try to answer anything. */
const TRIES = 10
/** The process, and four times what its queues may hold: what has left them is garbage that a starved process is late to collect. */
const QUEUES_BYTES = LIMITS.outstandingBytes + LIMITS.forwardedBytes + 2 * LIMITS.peerQueueBytes
const MOST_MEBIBYTES = 150 + (4 * QUEUES_BYTES) / 2 ** 20
/** From so many rounds on, the second half of them is compared with the first. */
const ROUNDS_THAT_TELL = 20
const MOST_GROWTH = 1.25

/** Null where the machine does not tell. */
function residentMebibytes(pid: number): number | null {
  try {
    const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
    return match === null ? null : Number(match[1]) / 1024
  } catch {
    return null
  }
}

/** The most memory of each node since the last call. */
function watchMemory(cluster: Cluster): { take: () => number[]; end: () => void } {
  let most: number[] = []
  const look = (): void => {
    for (const [at, { pid }] of cluster.running.entries())
      most[at] = Math.max(most[at] ?? 0, residentMebibytes(pid) ?? 0)
  }
  const timer = setInterval(look, 200)
  const take = (): number[] => {
    look()
    const taken = most
    most = []
    return taken
  }
  return { take, end: () => clearInterval(timer) }
}

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? 0

/** The memory of no node in the later rounds is beyond that in the earlier ones; the first ones fill the queues. */
function expectFlat(rounds: readonly (readonly number[])[]): void {
  const half = rounds.length >> 1
  for (const at of rounds[0]!.keys()) {
    const of = (some: readonly (readonly number[])[]): number => median(some.map((round) => round[at]!))
    expect(of(rounds.slice(half))).toBeLessThan(of(rounds.slice(4, half)) * MOST_GROWTH)
  }
}

test(
  'more than the nodes can take is refused, and costs no more memory than the limits say',
  { timeout: 2000 * SECONDS + 180_000 },
  async () => {
    await withCluster(3, { watchesReadiness: false }, async (cluster) => {
      const targets = [(await cluster.leader()).node, await cluster.follower()].map((node) => ({
        ...node.client,
        answered: 0,
        refused: 0,
      }))
      const memory = watchMemory(cluster)
      const rounds: number[][] = []
      const end = performance.now() + SECONDS * 1000
      const isDone = (): boolean =>
        performance.now() > end && targets.every(({ answered, refused }) => answered > 0 && refused > 0)
      for (let round = 0; !isDone(); round++) {
        expect(round).toBeLessThan(2 * (SECONDS / ROUND_SECONDS + TRIES))
        const target = targets[round % targets.length]!
        const where = [`${target.host}:${target.port}`]
        const report = await runLoad({ ...LOAD, targets: where, seconds: ROUND_SECONDS })
        target.answered += report.operations
        for (const [kind, count] of Object.entries(report.errors)) {
          expect(kind).toMatch(/^LOKI OVERLOADED: /)
          target.refused += count
        }
        expect(report.reconnects).toBe(0)
        rounds.push(memory.take())
        if (SECONDS >= 60) tell(target.name, report, rounds)
      }
      memory.end()
      expect(Math.max(...rounds.flat())).toBeLessThan(MOST_MEBIBYTES)
      if (rounds.length >= ROUNDS_THAT_TELL) expectFlat(rounds)
      for (const node of cluster.running) {
        await eventually(`${node.name} takes commands`, async () => {
          const reply = await cluster.command(node, 'SET', 'after', node.name)
          return reply === 'OK'
        })
      }
    })
  },
)

/** A line for whoever watches. */
function tell(
  name: string,
  report: { operations: number; errors: Readonly<Record<string, number>> },
  rounds: readonly (readonly number[])[],
): void {
  const refused = Object.values(report.errors).reduce((sum, count) => sum + count, 0)
  const memory = rounds
    .at(-1)!
    .map((mebibytes) => mebibytes.toFixed(0))
    .join(' ')
  console.log(
    `${rounds.length * ROUND_SECONDS} s: MiB ${memory}; ${name} answered ${report.operations}, refused ${refused}`,
  )
}
