/**
 * What is measured side by side, each on loopback and on the real disk with full durability: three nodes of ours, one
 * node of ours, and `redis-server --appendfsync always`. A peer that is not on the machine is skipped, and said so.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cluster, eventually } from '../test/cluster/harness.ts'
import { freePort } from '../test/cluster/process.ts'
import { RespConnection } from './resp-client.ts'

/** A system under measurement that runs. */
export interface Peer {
  readonly name: string
  readonly version: string
  /** Where writes and linearizable reads are answered without a detour: `host:port`. */
  readonly target: string
  /** CPU time that all its processes have used, in milliseconds. */
  cpuMilliseconds(): number
  /** Memory that all its processes hold, in bytes. */
  residentBytes(): number
  stop(): Promise<void>
}

export interface PeerKind {
  readonly name: string
  /** Null where the peer is not on this machine. */
  start(): Promise<Peer | null>
}

const CLOCK_TICKS_PER_SECOND = 100

/** utime + stime of /proc/<pid>/stat; the fields are counted from behind the name, which may hold anything. */
function cpuOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / CLOCK_TICKS_PER_SECOND
}

function residentOf(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
  return Number(match?.[1] ?? 0) * 1024
}

const sum = (pids: readonly number[], of: (pid: number) => number): number =>
  pids.reduce((total, pid) => total + of(pid), 0)

/** `size` nodes of ours with default settings; the target is the leader. */
export const lokikv = (size: number): PeerKind => {
  const name = size === 1 ? 'LokiKV, one node' : `LokiKV, ${size} nodes`
  return {
    name,
    async start() {
      const cluster = await Cluster.create({ settings: { walSegmentBytes: 67_108_864 }, watchesReadiness: false })
      try {
        await cluster.bootstrap(size)
        const { node, status } = await cluster.leader()
        const pids = cluster.running.map((each) => each.pid)
        return {
          name,
          version: status.version,
          target: `${node.client.host}:${node.client.port}`,
          cpuMilliseconds: () => sum(pids, cpuOf),
          residentBytes: () => sum(pids, residentOf),
          stop: () => cluster.dispose(),
        }
      } catch (error) {
        await cluster.dispose()
        throw error
      }
    },
  }
}

export const redis: PeerKind = {
  name: 'Redis, appendfsync always',
  async start() {
    let version: string
    try {
      version = /v=(\S+)/.exec(execFileSync('redis-server', ['--version'], { encoding: 'utf8' }))?.[1] ?? 'unknown'
    } catch {
      return null
    }
    const folder = await mkdtemp(join(tmpdir(), 'lokikv-bench-redis-'))
    const port = await freePort()
    const child = spawn(
      'redis-server',
      ['--port', String(port), '--dir', folder, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always'],
      { stdio: 'ignore' },
    )
    const killAtExit = (): void => void child.kill('SIGKILL')
    process.once('exit', killAtExit)
    await eventually('redis-server answers', async () => {
      const connection = await RespConnection.open('127.0.0.1', port)
      const reply = await connection.call('PING')
      connection.close()
      return reply === 'PONG'
    })
    const pid = child.pid ?? 0
    return {
      name: redis.name,
      version,
      target: `127.0.0.1:${port}`,
      cpuMilliseconds: () => cpuOf(pid),
      residentBytes: () => residentOf(pid),
      async stop() {
        await ended(child)
        process.off('exit', killAtExit)
        await rm(folder, { recursive: true, force: true })
      },
    }
  },
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}
