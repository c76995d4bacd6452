/**
 * `npm run bench -- migration`: three nodes with data; one is replaced, then all three at once, in one step each. Who
 * is there sends what the new ones lack, all in parallel: how many bytes each sent, and the leader's share of them.
 */
import { Cluster, eventually } from '../test/cluster/harness.ts'
import type { NodeProcess } from '../test/cluster/process.ts'

const VALUES = 400
const VALUE = 'x'.repeat(40_000)

export interface MigrationReport {
  readonly what: string
  readonly leader: string
  /** By name of the node: what it sent of the log and of checkpoints. */
  readonly sentBytes: ReadonlyMap<string, number>
  readonly leaderShare: number
  readonly seconds: number
}

/** From the voters that are there to `wanted`. */
async function measureStep(cluster: Cluster, what: string, wanted: readonly NodeProcess[]): Promise<MigrationReport> {
  const { node: leader } = await cluster.leader()
  const before = new Map<NodeProcess, number>()
  const sentBytes = new Map<string, number>()
  const sentBy = async (node: NodeProcess): Promise<number> => (await node.admin.status()).migration?.sentBytes ?? 0
  const note = async (node: NodeProcess): Promise<void> => {
    sentBytes.set(node.name, (await sentBy(node)) - (before.get(node) ?? 0))
  }
  for (const node of cluster.running) before.set(node, await sentBy(node))
  const began = performance.now()
  await cluster.become(wanted, note)
  await eventually('everybody has caught up', async () =>
    (await cluster.statuses()).every(({ status }) => status.caughtUp),
  )
  const seconds = (performance.now() - began) / 1000
  for (const node of cluster.running) await note(node)
  const all = [...sentBytes.values()].reduce((sum, bytes) => sum + bytes, 0)
  return { what, leader: leader.name, sentBytes, leaderShare: (sentBytes.get(leader.name) ?? 0) / all, seconds }
}

/** Nothing in it ends before the new nodes have everything: the time includes their start. */
export async function measureMigration(): Promise<MigrationReport[]> {
  const cluster = await Cluster.create({})
  try {
    await cluster.bootstrap(3)
    const { node } = await cluster.leader()
    for (let at = 0; at < VALUES; at++) await cluster.command(node, 'SET', `key ${at}`, VALUE)
    const leaving = cluster.nodes.slice(0, 3).find((one) => one !== node)!
    const one = [...cluster.nodes.slice(0, 3).filter((each) => each !== leaving), cluster.node(3)]
    const reports = [await measureStep(cluster, 'one of three is replaced', one)]
    await leaving.emptyVolumes('both')
    const others = [leaving, ...cluster.nodes.slice(4)].slice(0, 3)
    reports.push(await measureStep(cluster, 'all three are replaced at once', others))
    return reports
  } finally {
    await cluster.dispose()
  }
}

export function describeMigration({ what, leader, sentBytes, leaderShare, seconds }: MigrationReport): string {
  const shares = [...sentBytes].map(([name, bytes]) => {
    const role = name === leader ? ' (leader)' : ''
    return `${name}${role} ${(bytes / 1e6).toFixed(1)} MB`
  })
  return `${what}: the leader sent ${Math.round(100 * leaderShare)} % of the bytes; ${shares.join(', ')}; ${seconds.toFixed(1)} s`
}
