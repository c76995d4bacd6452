/**
 * Random trouble for as long as wanted: `node test/cluster/soak.ts --seconds 120 --seed 7`. Kills, stops, freezes,
 * leadership transfers and changes of size hit a cluster one after the other, under load; in the end the history is
 * checked. The seed decides the trouble, not the timing: it is a way to find faults, not to repeat them.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Cluster, withCluster } from './harness.ts'
import type { NodeProcess } from './process.ts'
import { Recorder } from './recorder.ts'
import { figuresOf, finish, problemsOf, untilAnswered } from './verify.ts'

const { values } = parseArgs({
  options: { minutes: { type: 'string' }, seconds: { type: 'string' }, seed: { type: 'string' } },
})
const seconds = values.minutes === undefined ? Number(values.seconds ?? 60) : 60 * Number(values.minutes)
let state = Number(values.seed ?? Date.now() % 100_000)
console.log(`seed ${state}, ${seconds} seconds`)

/** mulberry32. */
function random(below: number): number {
  state = (state + 0x6d2b79f5) | 0
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((mixed ^ (mixed >>> 14)) >>> 0) % below
}

type Trouble = (cluster: Cluster, killed: Set<string>) => Promise<string>

const pick = (cluster: Cluster): NodeProcess => cluster.running[random(cluster.running.length)]!

const TROUBLES: readonly Trouble[] = [
  async (cluster, killed) => {
    const node = random(2) === 0 ? (await cluster.leader()).node : pick(cluster)
    killed.add(node.name)
    await node.kill9()
    await sleep(random(1500))
    await node.start()
    await cluster.waitUntilCaughtUp(node)
    return `kill -9 of ${node.name}`
  },
  async (cluster, killed) => {
    const nodes = cluster.running
    for (const node of nodes) killed.add(node.name)
    await Promise.all(nodes.map((node) => node.kill9()))
    await Promise.all(nodes.map((node) => node.start()))
    await Promise.all(nodes.map((node) => cluster.waitUntilCaughtUp(node)))
    return 'kill -9 of all'
  },
  async (cluster) => {
    const node = pick(cluster)
    await node.stop()
    await node.start()
    await cluster.waitUntilCaughtUp(node)
    return `restart of ${node.name}`
  },
  async (cluster) => {
    const node = random(2) === 0 ? (await cluster.leader()).node : pick(cluster)
    node.pause()
    await sleep(random(2500))
    node.resume()
    await cluster.waitUntilCaughtUp(node)
    return `freeze of ${node.name}`
  },
  async (cluster) => {
    const hub = pick(cluster)
    const others = cluster.running.filter((node) => node !== hub)
    cluster.links.only(...others.map((node) => [hub.ordinal, node.ordinal] as const))
    await sleep(random(2000))
    cluster.links.heal()
    return `only ${hub.name} reaches the others`
  },
  async (cluster) => {
    const node = random(2) === 0 ? (await cluster.leader()).node : pick(cluster)
    for (const other of cluster.running) if (other !== node) cluster.links.stall(node.ordinal, other.ordinal)
    await sleep(random(2000))
    cluster.links.heal()
    return `nobody hears ${node.name}`
  },
  async (cluster) => {
    for (let left = 10; left > 0; left--) {
      const [a, b] = [random(3), random(3)]
      if (a !== b) cluster.links.delay(a, b, random(40))
      if (a !== b) cluster.links.reset(a, b)
      await sleep(random(150))
    }
    cluster.links.heal()
    return 'slow links that break'
  },
  async (cluster) => {
    const node = pick(cluster)
    await cluster.transfer(node)
    return `transfer to ${node.name}`
  },
  async (cluster) => {
    const before = cluster.running.length
    await cluster.scale(5)
    await cluster.scale(3)
    // A removed node comes back as a new one, on empty volumes.
    for (const ordinal of [3, 4]) await cluster.node(ordinal).emptyVolumes('both')
    return `scale ${before} -> 5 -> 3`
  },
]

const SETTINGS = { checkpointIntervalSeconds: 3, checkpointLogBytes: 1_048_576 }

/** A history is checked this often, on keys of its own: commands without an answer make a long one hard to check. */
const ROUND_SECONDS = 60

await withCluster(3, { settings: SETTINGS, linked: 5 }, async (cluster) => {
  const end = performance.now() + seconds * 1000
  for (let round = 1; performance.now() < end; round++) {
    const options = { valueBytes: 300, connectionsPerTarget: 4, prefix: `round${round}` }
    const recorder = new Recorder(cluster.targets(0, 1, 2), options)
    const killed = new Set<string>()
    const roundEnd = Math.min(end, performance.now() + ROUND_SECONDS * 1000)
    while (performance.now() < roundEnd) {
      await untilAnswered(recorder, 200)
      const what = await TROUBLES[random(TROUBLES.length)]!(cluster, killed)
      console.log(`${new Date().toISOString()} ${what}; ${recorder.answered} answered`)
    }
    await untilAnswered(recorder, 200)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    const problems = problemsOf(recording, [...killed])
    if (problems.length > 0) throw new Error(`${figuresOf(recording)}\n${problems.join('\n')}`)
    console.log(`round ${round}: no problems`)
  }
})
