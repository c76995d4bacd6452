/**
 * Clusters of real node processes on loopback, without Kubernetes: starts them, gives them their genesis, kills,
 * stops and freezes them, changes their membership as the operator does, and cleans everything up.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { RespConnection, type RespReply } from '../../bench/resp-client.ts'
import { ADMIN_PATHS, type MemberJson, type NodeStatus } from '../../src/contract.ts'
import { AdminError } from './admin.ts'
import { Links } from './links.ts'
import { NodeProcess, freePorts } from './process.ts'
import type { Target } from './recorder.ts'

export interface ClusterOptions {
  /** `spec.config` of the manifest. */
  readonly settings: Readonly<Record<string, number>>
  /** Options for Node.js itself, such as `--inspect`. */
  readonly nodeArguments: readonly string[]
  /** Whether readiness is looked at all the time, which costs the nodes CPU time; a measurement goes without. */
  readonly watchesReadiness: boolean
  /** So many nodes, the first ones, reach each other through `links`; 0: all of them directly. */
  readonly linked: number
}

/** Small segments, because zeros are written to them before use; stops that do not wait for endpoints of Kubernetes. */
const SETTINGS = { walSegmentBytes: 1_048_576, shutdownForwardMilliseconds: 200 }
const MOST_NODES = 9
const LEADS_ON_TRIES = 3
/** Long: a busy machine may keep a process waiting for seconds, more than once. */
const PATIENCE_MILLISECONDS = 60_000
/**
 * So much of it a single look may use up, and so long a node may take to say how it is where others are asked, too: it
 * may be frozen. A machine that stood still, all of it, has taken nobody's time.
 */
const LOOK_MOST_MILLISECONDS = 2000
/** How often readiness is looked at: the part of a Service, whose clients connect to ready nodes only. */
const READINESS_MILLISECONDS = 50

/** Polls until `probe` gives something; throws with the last thing it met after a generous time. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | null | false | undefined>,
  patienceMilliseconds = PATIENCE_MILLISECONDS,
): Promise<T> {
  let last: unknown = 'nothing'
  for (let waited = 0; ;) {
    const began = performance.now()
    try {
      const found = await probe()
      if (found !== null && found !== false && found !== undefined) return found
    } catch (error) {
      last = error
    }
    if (waited > patienceMilliseconds) {
      throw new Error(`waited ${patienceMilliseconds} ms in vain until ${what}; last error: ${String(last)}`)
    }
    await sleep(25)
    waited += Math.min(performance.now() - began, LOOK_MOST_MILLISECONDS)
  }
}

/**
 * That somebody leads on through `act`. A machine that keeps a leader waiting has it replaced, and rightly so: what holds
 * in one of a few tries holds, and what never does is the doing of `act`.
 */
export async function leadsOn(cluster: Cluster, act: () => Promise<void>): Promise<boolean> {
  for (let left = LEADS_ON_TRIES; left > 0; left--) {
    const before = await cluster.leader()
    await act()
    const after = await cluster.leader()
    if (after.node === before.node) return true
  }
  return false
}

/** Runs `body` with a cluster of `size` nodes; a failure carries the logs of the nodes; nothing is left behind. */
export async function withCluster(
  size: number,
  options: Partial<ClusterOptions>,
  body: (cluster: Cluster) => Promise<void>,
): Promise<void> {
  const cluster = await Cluster.create(options)
  try {
    if (size > 0) await cluster.bootstrap(size)
    await body(cluster)
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
    throw new Error(`${message}\n${await cluster.describe()}`, { cause: error })
  } finally {
    await cluster.dispose()
  }
}

/** The addresses under which a node finds those that it is linked to. */
function linksOf(node: NodeProcess, nodes: readonly NodeProcess[], links: Links): Record<string, string> {
  if (node.ordinal >= links.size) return {}
  const others = nodes.slice(0, links.size).filter((other) => other !== node)
  return Object.fromEntries(
    others.map((other) => [other.address, `127.0.0.1:${links.port(node.ordinal, other.ordinal)}`]),
  )
}

export class Cluster {
  readonly root: string
  readonly clusterId = randomBytes(16).toString('hex')
  readonly token: string
  /** All nodes that could run, by ordinal; the first of them are started by `bootstrap`. */
  readonly nodes: readonly NodeProcess[]
  /** The network between the nodes that are linked. */
  readonly links: Links
  #disposed = false
  readonly #readiness: Promise<void>

  private constructor(
    root: string,
    token: string,
    nodes: readonly NodeProcess[],
    links: Links,
    watchesReadiness: boolean,
  ) {
    this.root = root
    this.token = token
    this.nodes = nodes
    this.links = links
    this.#readiness = watchesReadiness ? this.#watchReadiness() : Promise.resolve()
  }

  async #watchReadiness(): Promise<void> {
    // Each by itself: one that is frozen keeps nobody from seeing the others.
    const watch = async (node: NodeProcess): Promise<void> => {
      while (!this.#disposed) {
        const status = node.isRunning ? await node.admin.probe(ADMIN_PATHS.readyz).catch(() => 0) : 0
        node.isReady = status === 200
        await sleep(READINESS_MILLISECONDS)
      }
    }
    await Promise.all(this.nodes.map(watch))
  }

  static async create(options: Partial<ClusterOptions> = {}): Promise<Cluster> {
    const root = await mkdtemp(join(tmpdir(), 'lokikv-cluster-'))
    const token = randomBytes(24).toString('hex')
    const settings = { ...SETTINGS, ...options.settings }
    const nodes: NodeProcess[] = []
    for (let ordinal = 0; ordinal < MOST_NODES; ordinal++) {
      const { nodeArguments = [] } = options
      nodes.push(new NodeProcess(root, ordinal, await freePorts(), { token, settings, nodeArguments }))
    }
    await writeFile(join(root, 'token'), token)
    const links = await Links.create(options.linked ?? 0, (ordinal) => nodes[ordinal]!.ports.peer)
    const book = Object.assign({}, ...nodes.map((node) => node.addresses())) as Record<string, string>
    for (const node of nodes)
      await writeFile(node.addressBook, JSON.stringify({ ...book, ...linksOf(node, nodes, links) }))
    return new Cluster(root, token, nodes, links, options.watchesReadiness ?? true)
  }

  node(ordinal: number): NodeProcess {
    const node = this.nodes[ordinal]
    if (!node) throw new Error(`there is no node ${ordinal}`)
    return node
  }

  targets(...ordinals: number[]): Target[] {
    return ordinals.map((ordinal) => this.node(ordinal).client)
  }

  get running(): NodeProcess[] {
    return this.nodes.filter((node) => node.isRunning)
  }

  /** Starts the founders, waits until they wait, posts genesis to each, waits for a leader. */
  async bootstrap(size: number): Promise<void> {
    const founders = this.nodes.slice(0, size)
    await Promise.all(founders.map((node) => node.start()))
    const members = await Promise.all(
      founders.map(async (node): Promise<MemberJson> => {
        const status = await this.waitForPhase(node, 'waiting')
        return { id: node.ordinal + 1, volumeId: status.volumeId ?? '', address: node.address }
      }),
    )
    for (const node of founders) {
      await node.admin.genesis({ clusterId: this.clusterId, self: node.ordinal + 1, founders: members })
    }
    await this.leader()
    await Promise.all(founders.map((node) => this.waitUntilCaughtUp(node)))
  }

  async waitForPhase(node: NodeProcess, ...phases: NodeStatus['phase'][]): Promise<NodeStatus> {
    return eventually(`${node.name} is ${phases.join(' or ')}`, async () => {
      const status = await node.admin.status()
      return phases.includes(status.phase) && status
    })
  }

  /** Waits until a node has rejoined and holds what was decided when it did. */
  async waitUntilCaughtUp(node: NodeProcess): Promise<NodeStatus> {
    return eventually(`${node.name} has caught up`, async () => {
      const status = await node.admin.status()
      return status.ready && status.caughtUp && status.phase === 'member' && status
    })
  }

  /** Statuses of the running nodes that answer. */
  async statuses(): Promise<{ node: NodeProcess; status: NodeStatus }[]> {
    const asked = this.running.filter((node) => !node.isFrozen)
    const answers = await Promise.allSettled(
      asked.map(async (node) => ({ node, status: await node.admin.status(LOOK_MOST_MILLISECONDS) })),
    )
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
  }

  /** The node that says that it leads and of which a majority of the voters says the same. */
  async leader(): Promise<{ node: NodeProcess; status: NodeStatus }> {
    return eventually('a majority names one leader', async () => {
      const statuses = await this.statuses()
      return statuses.find(({ status }) => {
        if (status.role !== 'leader' || !status.configuration) return false
        const believers = statuses.filter((other) => other.status.leaderId === status.nodeId)
        return believers.length > status.configuration.voters.length / 2
      })
    })
  }

  /** A running voter that does not lead, the highest ordinal first. */
  async follower(): Promise<NodeProcess> {
    const leader = await this.leader()
    const voters = new Set(leader.status.configuration?.voters.map((voter) => voter.address))
    const found = this.running.toReversed().find((node) => node !== leader.node && voters.has(node.address))
    if (!found) throw new Error('no follower runs')
    return found
  }

  /** Hands leadership to a node and waits until it leads. */
  async transfer(to: NodeProcess): Promise<void> {
    const target = await to.admin.status()
    await eventually(`${to.name} leads`, async () => {
      const { node, status } = await this.leader()
      if (node === to) return true
      await node.admin.transfer({ expectedConfigurationId: status.configuration?.id ?? 0, to: target.nodeId ?? 0 })
      await sleep(100)
      return false
    })
  }

  /** Changes the voters to the nodes 0 … size - 1. */
  scale(size: number, beforeLeaving?: (node: NodeProcess) => Promise<void>): Promise<void> {
    return this.become(this.nodes.slice(0, size), beforeLeaving)
  }

  /**
   * Changes the voters to these nodes, as the operator does: new nodes start, get ids from the leader, join as
   * learners, then one reconfiguration; nodes that leave are stopped when the new configuration is complete.
   * `beforeLeaving` is called before a node that has left is stopped.
   */
  async become(wanted: readonly NodeProcess[], beforeLeaving?: (node: NodeProcess) => Promise<void>): Promise<void> {
    const { status } = await this.leader()
    const voters: MemberJson[] = []
    for (const node of wanted) {
      const known = status.configuration?.voters.find((voter) => voter.address === node.address)
      voters.push(known ?? (await this.#join(node)))
    }
    await this.#configure(voters)
    for (const node of this.running.filter((each) => !wanted.includes(each))) {
      await this.waitForPhase(node, 'removed')
      await beforeLeaving?.(node)
      await node.stop()
    }
  }

  /** Starts a node on an empty volume and makes it a learner under an id that the cluster gives. */
  async #join(node: NodeProcess): Promise<MemberJson> {
    if (!node.isRunning) await node.start()
    const { volumeId } = await this.waitForPhase(node, 'waiting')
    if (volumeId === null) throw new Error(`${node.name} has no volume id`)
    return eventually(`${node.name} joined`, async () => {
      const leader = await this.leader()
      const id = await leader.node.admin.allotId(volumeId)
      const self = { id, volumeId, address: node.address }
      if (!leader.status.configuration) return false
      await node.admin.join({ clusterId: this.clusterId, self, configuration: leader.status.configuration })
      return self
    })
  }

  async #configure(voters: readonly MemberJson[]): Promise<void> {
    const wanted = voters.map((voter) => voter.id).toSorted((a, b) => a - b)
    await eventually(`the voters are ${wanted.join(', ')}`, async () => {
      const { node, status } = await this.leader()
      const current = status.configuration
      if (!current) return false
      const now = current.voters.map((voter) => voter.id).toSorted((a, b) => a - b)
      if (now.join() === wanted.join()) return status.configurationComplete
      const stays = wanted.includes(status.nodeId ?? 0)
      try {
        await node.admin.configure({
          expectedConfigurationId: current.id,
          voters,
          learners: [],
          preferredLeader: stays ? status.nodeId : (wanted[0] ?? null),
        })
      } catch (error) {
        // The state moved on between reading and asking: read again.
        const again = ['CONFIGURATION_CHANGED', 'RECONFIGURATION_RUNNING', 'NOT_LEADER', 'NO_LEADER']
        if (!(error instanceof AdminError && again.includes(error.code))) throw error
      }
      await sleep(50)
      return false
    })
  }

  /** One command over a connection of its own. */
  async command(node: NodeProcess, ...args: string[]): Promise<RespReply> {
    const connection = await RespConnection.open(node.client.host, node.client.port)
    try {
      return await connection.call(...args)
    } finally {
      connection.close()
    }
  }

  /** Statuses and the ends of the logs, for a failed test. */
  async describe(): Promise<string> {
    const lines: string[] = []
    const statuses = await this.statuses()
    for (const { node, status } of statuses) lines.push(`${node.name}: ${JSON.stringify(status)}`)
    for (const node of this.nodes) {
      const log = await node.logs()
      if (log !== '') lines.push(`--- ${node.name}`, ...log.trimEnd().split('\n').slice(-25))
    }
    return lines.join('\n')
  }

  async dispose(): Promise<void> {
    this.#disposed = true
    for (const node of this.nodes) node.resume()
    await Promise.all(this.nodes.map((node) => node.kill9()))
    await this.#readiness
    await this.links.close()
    await rm(this.root, { recursive: true, force: true })
  }
}
