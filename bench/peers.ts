/**
 * What is measured side by side, each on loopback and on the real disk with full durability: three nodes of ours, one
 * node of ours, three nodes of etcd, `redis-server --appendfsync always` alone, and with two replicas and WAIT 1. A
 * peer that is not on the machine is skipped, and said so.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Cluster, eventually } from '../test/cluster/harness.ts'
import { freePort } from '../test/cluster/process.ts'
import type { LoadOptions } from './load.ts'
import { RespConnection, type RespReply, textOf } from './resp-client.ts'

/** A system under measurement that runs. */
export interface Peer {
  readonly name: string
  readonly version: string
  /** Where writes and linearizable reads are answered without a detour: `host:port`. */
  readonly target: string
  /** Where all its nodes answer, if clients may be spread. */
  readonly allTargets: readonly string[]
  /** What the load generator must do differently for it. */
  readonly load: Partial<LoadOptions>
  /** CPU time that all its processes have used, in milliseconds. */
  cpuMilliseconds(): number
  /** Memory that each of its processes holds, in bytes. */
  residentBytes(): readonly number[]
  /** All its processes stand still: they use nothing of the machine while another one is measured. */
  freeze(): void
  /** They go on; done when it answers again. The leader may be another one. */
  thaw(): Promise<void>
  /** kill -9 of all its processes, and starts them again on what they left; does not wait until they answer. */
  restart(): Promise<void>
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

function signal(pids: readonly number[], name: 'SIGSTOP' | 'SIGCONT'): void {
  for (const pid of pids) process.kill(pid, name)
}

const sum = (pids: readonly number[], of: (pid: number) => number): number =>
  pids.reduce((total, pid) => total + of(pid), 0)

/** `size` nodes of ours with default settings but those given; the target is the leader. */
export const lokikv = (
  size: number,
  special: { readonly suffix?: string; readonly settings?: object } = {},
): PeerKind => {
  const name = (size === 1 ? 'LokiKV, one node' : `LokiKV, ${size} nodes`) + (special.suffix ?? '')
  return {
    name,
    async start() {
      const cluster = await Cluster.create({
        settings: { walSegmentBytes: 67_108_864, ...special.settings },
        watchesReadiness: false,
      })
      try {
        await cluster.bootstrap(size)
        let { node: leader, status } = await cluster.leader()
        const { running } = cluster
        const pids = (): number[] => running.map((each) => each.pid)
        return {
          name,
          version: status.version,
          get target() {
            return `${leader.client.host}:${leader.client.port}`
          },
          allTargets: running.map((each) => `${each.client.host}:${each.client.port}`),
          load: {},
          cpuMilliseconds: () => sum(pids(), cpuOf),
          residentBytes: () => pids().map(residentOf),
          freeze: () => signal(pids(), 'SIGSTOP'),
          thaw: async () => {
            signal(pids(), 'SIGCONT')
            leader = (await cluster.leader()).node
          },
          restart: async () => {
            await Promise.all(running.map((each) => each.kill9()))
            await Promise.all(running.map((each) => each.start()))
          },
          stop: () => cluster.dispose(),
        }
      } catch (error) {
        await cluster.dispose()
        throw error
      }
    },
  }
}

/** Three nodes whose leader answers reads alone while it has a lease; the same for writes. */
export const lokikvWithLeases = lokikv(3, { suffix: ' with leases', settings: { leaseMilliseconds: 200 } })

/** Daemons in folders of their own, killed with this process at the latest. */
class Daemons {
  readonly folder: string
  #children: ChildProcess[] = []
  readonly #commands: (readonly [string, readonly string[]])[] = []
  readonly #killAtExit = (): void => {
    for (const child of this.#children) child.kill('SIGKILL')
  }

  private constructor(folder: string) {
    this.folder = folder
    process.once('exit', this.#killAtExit)
  }

  static async create(name: string): Promise<Daemons> {
    return new Daemons(await mkdtemp(join(tmpdir(), `lokikv-bench-${name}-`)))
  }

  start(binary: string, args: readonly string[]): void {
    this.#commands.push([binary, args])
    this.#children.push(spawn(binary, args, { stdio: 'ignore' }))
  }

  async restart(): Promise<void> {
    await Promise.all(this.#children.map(ended))
    this.#children = this.#commands.map(([binary, args]) => spawn(binary, args, { stdio: 'ignore' }))
  }

  get pids(): number[] {
    return this.#children.map((child) => child.pid ?? 0)
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.map(ended))
    this.#children = []
    process.off('exit', this.#killAtExit)
    await rm(this.folder, { recursive: true, force: true })
  }

  /** The peer that these are; `findTarget` gives its target, also after it stood still. */
  async peer(name: string, version: string, findTarget: () => Promise<string>, load: Peer['load']): Promise<Peer> {
    let target = await findTarget()
    return {
      name,
      version,
      get target() {
        return target
      },
      allTargets: [],
      load,
      cpuMilliseconds: () => sum(this.pids, cpuOf),
      residentBytes: () => this.pids.map(residentOf),
      freeze: () => signal(this.pids, 'SIGSTOP'),
      thaw: async () => {
        signal(this.pids, 'SIGCONT')
        target = await findTarget()
      },
      restart: () => this.restart(),
      stop: () => this.stop(),
    }
  }
}

/** First line of `binary --version` and a part of it, or null where there is no such binary. */
function versionOf(binary: string, pattern: RegExp): string | null {
  try {
    return pattern.exec(execFileSync(binary, ['--version'], { encoding: 'utf8' }))?.[1] ?? 'unknown'
  } catch {
    return null
  }
}

async function startRedis(daemons: Daemons, ...more: string[]): Promise<number> {
  const port = await freePort()
  const folder = join(daemons.folder, String(port))
  await mkdir(folder)
  const durable = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'always']
  daemons.start('redis-server', ['--port', String(port), '--dir', folder, ...durable, ...more])
  await eventually('redis-server answers', async () => (await ask(port, 'PING')) === 'PONG')
  return port
}

async function ask(port: number, ...command: string[]): Promise<RespReply> {
  const connection = await RespConnection.open('127.0.0.1', port)
  try {
    return await connection.call(...command)
  } finally {
    connection.close()
  }
}

/** `redis-server --appendfsync always`, alone, or with replicas for one of which every write waits. */
const redisWith = (replicas: number): PeerKind => {
  const name = replicas === 0 ? 'Redis, appendfsync always' : `Redis with ${replicas} replicas, WAIT 1`
  return {
    name,
    async start() {
      const version = versionOf('redis-server', /v=(\S+)/)
      if (version === null) return null
      const daemons = await Daemons.create('redis')
      const port = await startRedis(daemons)
      for (let left = replicas; left > 0; left--) await startRedis(daemons, '--replicaof', '127.0.0.1', String(port))
      const findTarget = (): Promise<string> =>
        eventually('the replicas are there', async () => {
          const info = textOf(await ask(port, 'INFO', 'replication')) ?? ''
          return info.split('state=online').length - 1 === replicas ? `127.0.0.1:${port}` : null
        })
      return daemons.peer(name, version, findTarget, replicas === 0 ? {} : { waitReplicas: 1 })
    },
  }
}

export const redis = redisWith(0)
export const redisWait = redisWith(2)

/** Three nodes of etcd; `binary` from the command line, the PATH or the cache of the end-to-end tests. */
export const etcd = (given: string | undefined): PeerKind => ({
  name: 'etcd, 3 nodes',
  async start() {
    const candidates = given === undefined ? ['etcd', join(homedir(), '.cache/kube/bin/etcd')] : [given]
    const binary = candidates.find((one) => versionOf(one, /(\S+)/) !== null)
    if (binary === undefined) return null
    const daemons = await Daemons.create('etcd')
    const ports: { readonly client: string; readonly peer: string }[] = []
    for (let at = 0; at < 3; at++) {
      ports.push({ client: `http://127.0.0.1:${await freePort()}`, peer: `http://127.0.0.1:${await freePort()}` })
    }
    const cluster = ports.map(({ peer }, at) => `n${at}=${peer}`).join(',')
    for (const [at, { client, peer }] of ports.entries()) {
      const urls = ['--listen-client-urls', client, '--advertise-client-urls', client]
      urls.push('--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', cluster)
      daemons.start(binary, ['--name', `n${at}`, '--data-dir', join(daemons.folder, `n${at}`), ...urls])
    }
    const findTarget = (): Promise<string> =>
      eventually('etcd has a leader', async () => {
        for (const { client } of ports) {
          const answer = await fetch(`${client}/v3/maintenance/status`, { method: 'POST', body: '{}' })
          const status = (await answer.json()) as { header?: { member_id?: string }; leader?: string }
          const isLeader = status.leader !== undefined && status.leader === status.header?.member_id
          if (isLeader) return client.slice('http://'.length)
        }
        return null
      })
    const version = versionOf(binary, /Version: (\S+)/) ?? 'unknown'
    return daemons.peer('etcd, 3 nodes', version, findTarget, { protocol: 'etcd' })
  },
})

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill('SIGKILL')
  })
}
