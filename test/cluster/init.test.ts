/** `lokikv init`, on real processes: one cluster of the nodes that are named, once, or nothing at all. */
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { initialise } from '../../src/node/init.ts'
import { Cluster } from './harness.ts'
import type { NodeProcess } from './process.ts'

async function withNodes(size: number, act: (nodes: NodeProcess[], init: Init) => Promise<void>): Promise<void> {
  const cluster = await Cluster.create({ watchesReadiness: false })
  const quiet = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  try {
    const nodes = cluster.nodes.slice(0, size)
    await Promise.all(nodes.map((node) => node.start()))
    for (const node of nodes) await cluster.waitForPhase(node, 'waiting')
    const addresses = (of: readonly NodeProcess[]): string[] => of.map(({ ports }) => `127.0.0.1:${ports.admin}`)
    await act(nodes, (...of) => initialise(['--token-file', join(cluster.root, 'token'), ...addresses(of)]))
  } finally {
    quiet.mockRestore()
    await cluster.dispose()
  }
}

type Init = (...nodes: NodeProcess[]) => Promise<number>

const phases = (...nodes: NodeProcess[]): Promise<string[]> =>
  Promise.all(nodes.map(async ({ admin }) => (await admin.status()).phase))

test('the same list again is nothing new; a longer one, or another order, is refused and changes nothing', async () => {
  await withNodes(3, async ([a, b, c], init) => {
    expect(await init(a!)).toBe(0)
    expect(await init(a!)).toBe(0)
    // Node 1 decides alone: two more that took it for one of three would be a second cluster beside it.
    await expect(init(a!, b!, c!)).rejects.toThrow(/genesis/)
    await expect(init(b!, a!)).rejects.toThrow(/is node 1/)
    expect(await phases(a!, b!, c!)).toEqual(['member', 'waiting', 'waiting'])
  })
}, 120_000)

test('nodes of two clusters are not put together, and those that wait go on waiting', async () => {
  await withNodes(3, async ([a, b, c], init) => {
    expect(await init(b!)).toBe(0)
    expect(await init(c!)).toBe(0)
    await expect(init(a!, b!)).rejects.toThrow(/is node 1/)
    await expect(init(a!, a!)).rejects.toThrow(/a volume of its own/)
    await expect(init(b!, a!, c!)).rejects.toThrow(/cluster/)
    expect(await phases(a!, b!, c!)).toEqual(['waiting', 'member', 'member'])
  })
}, 120_000)
