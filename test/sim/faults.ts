/**
 * What is done to the world of a simulation, at random times by the rates of its plan, and in ambush: when a node is
 * about to matter (it leads, accepts a leader's log, hands over, installs a checkpoint, comes back), because that is
 * when a crash, a cut or a pause costs most. Storage of one node is damaged at a time: more is not promised to be borne.
 */
import { type Fault } from './plan.ts'
import { chooseCut } from './network.ts'
import type { World, WorldNode } from './world.ts'
import type { NodeId } from '../../src/vocabulary.ts'

export class Faults<N extends WorldNode> {
  readonly #world: World<N>
  /** The node whose storage was damaged. */
  damaged: NodeId | null = null

  constructor(world: World<N>) {
    this.#world = world
  }

  begin(): void {
    for (const fault of Object.keys(this.#world.plan.rates) as Fault[]) this.#again(fault)
    this.#blip()
    this.#large()
  }

  #again(fault: Fault): void {
    const { plan, random, schedule } = this.#world
    const rate = plan.rates[fault]
    if (rate === 0) return
    schedule.after((random.next() * 2000) / rate, () => {
      if (this.#world.peace) return
      const node = random.pick([...this.#world.nodes.values()].filter(({ id }) => !this.#world.gone.has(id)))
      if (node) this.inflict(fault, node)
      this.#again(fault)
    })
  }

  inflict(fault: Fault, node: N): void {
    const world = this.#world
    const { random } = world
    if (world.peace) return
    switch (fault) {
      case 'crash':
        this.#crash(node, random.next() * random.next() * 500)
        // A crash loop begins with a second one, which often comes while the node recovers.
        if (random.chance(0.3)) world.schedule.after(random.next() * 150, () => this.inflict('crash', node))
        return
      case 'crashAll':
        for (const one of world.nodes.values()) this.#crash(one, random.next() * 400)
        return
      case 'partition':
        return this.#cut(chooseCut(random, [...world.nodes.keys()]), random.next() * 800)
      case 'pause':
        return world.pause(node, random.next() * 500)
      case 'slowDisk':
        return world.slowDisk(node, random.next() * 500)
      case 'rot':
        return this.#rot(node)
      case 'checkpoint':
        if (node.up) world.checkpoint(node)
        return
      case 'reconfigure':
        return world.operator.reconfigure()
      case 'transfer':
        return world.operator.transfer()
      case 'silence':
        return this.#silence()
      case 'clock':
      case 'crashInDisk':
      case 'diskError':
      case 'fullDisk':
        return world.inflictMore(fault, node)
    }
  }

  /** Something happens to the node that an adversary would wait for. */
  happens(node: N): void {
    const { plan, random, schedule, peace } = this.#world
    if (peace || plan.ambushChance === 0 || !random.chance(plan.ambushChance)) return
    const { incarnation } = node
    const patience = plan.network.delayMilliseconds + plan.syncMilliseconds
    schedule.after(random.next() * patience * random.pick([0.1, 1, 3])!, () => {
      if (node.up && node.incarnation === incarnation && !this.#world.peace) this.#ambush(node)
    })
  }

  #ambush(node: N): void {
    const world = this.#world
    const { random } = world
    world.count('ambushes')
    // Long enough, at times, for the others to go on without it.
    const milliseconds = random.next() * random.pick([100, 400, 1200])!
    switch (random.integer(0, 4)) {
      case 0:
        return this.#crash(node, milliseconds / 2)
      case 1:
        return world.pause(node, milliseconds)
      case 2:
        return world.slowDisk(node, milliseconds)
      case 3: {
        // It hears everybody and nobody hears it, or the other way round, or both.
        const others = [...world.nodes.keys()].filter((id) => id !== node.id)
        const kind = random.integer(0, 2)
        const links: [NodeId, NodeId][] = []
        for (const id of others) {
          if (kind !== 1) links.push([node.id, id])
          if (kind !== 0) links.push([id, node.id])
        }
        return this.#cut(links, milliseconds)
      }
      default: {
        // It keeps one friend.
        const others = random.shuffle([...world.nodes.keys()].filter((id) => id !== node.id)).slice(1)
        const links = others.flatMap((id): [NodeId, NodeId][] => [
          [node.id, id],
          [id, node.id],
        ])
        return this.#cut(links, milliseconds)
      }
    }
  }

  #crash(node: N, downMilliseconds: number): void {
    const world = this.#world
    world.crash(node)
    world.schedule.after(downMilliseconds, () => world.restart(node))
  }

  /** The storage of one node is damaged; of those that could stand in for it some are out of reach meanwhile. */
  #rot(node: N): void {
    const world = this.#world
    const { random } = world
    // Again and again, and another one only when the first has everything again.
    if (this.damaged !== null && this.damaged !== node.id && !world.isHealed(this.damaged)) return
    world.crash(node)
    const what = world.damage(node)
    if (what !== null) {
      world.note(node.id, 'other', `ROT ${what}`)
      world.count('rot')
      this.damaged = node.id
      world.checker.damaged = true
      const { voters } = world.checker.configuration
      const others = random.shuffle(voters.filter(({ id }) => id !== node.id)).slice(0, (voters.length - 1) / 2)
      if (random.chance(0.6)) for (const { id } of others) this.#crash(world.nodes.get(id)!, 300 + random.next() * 900)
    }
    world.schedule.after(random.next() * 400, () => world.restart(node))
  }

  /**
   * A node outside the configuration hears nobody any more, and then nobody hears it, for longer than its session may
   * live: what it said last was applied, and it does not know.
   */
  #silence(): void {
    const { nodes, random, checker, gone, plan, schedule } = this.#world
    const { voters, learners } = checker.configuration
    const named = new Set([...voters, ...learners].map(({ id }) => id))
    const node = random.pick([...nodes.values()].filter(({ id, up }) => up && !named.has(id) && !gone.has(id)))
    if (node === undefined) return
    this.#world.count('silences')
    const { id } = node
    const others = [...nodes.keys()].filter((other) => other !== id)
    const milliseconds = plan.silenceMilliseconds * (1 + random.next())
    const deaf = random.next() * 100
    const toIt = others.map((other) => [other, id] as const)
    const ofIt = others.map((other) => [id, other] as const)
    this.#cut(toIt, deaf + milliseconds)
    schedule.after(deaf, () => {
      if (!this.#world.peace) this.#cut(ofIt, milliseconds)
    })
  }

  #cut(links: readonly (readonly [NodeId, NodeId])[], milliseconds: number): void {
    const world = this.#world
    const names = links.map(([from, to]) => `${from}>${to}`).join(' ')
    world.say(`CUT ${names}`)
    for (const [from, to] of links) world.network.block(from, to)
    for (const [from, to] of links) world.close(to, from)
    world.schedule.after(milliseconds, () => {
      if (!world.peace) world.say(`MEND ${names}`)
      for (const [from, to] of links) world.network.unblock(from, to)
      for (const [from, to] of links) world.reconnect(from, to)
    })
  }

  /** A connection closes at one end or both, without a reason, and is made anew. */
  #blip(): void {
    const world = this.#world
    const { connections, schedule } = world
    const { blipRate } = world.plan
    if (blipRate === 0 || world.peace) return
    schedule.after((connections.next() * 2000) / blipRate, () => {
      const [a, b] = connections.shuffle([...world.nodes.keys()])
      if (a !== undefined && b !== undefined && !world.peace) {
        world.say(`BLIP ${a}-${b}`)
        world.disconnect(a, b)
        if (connections.chance(0.5)) world.disconnect(b, a)
        schedule.after(connections.next() * 30, () => world.reconnect(a, b))
      }
      this.#blip()
    })
  }

  /** Frames that are large for their link, most of them a leader's; of some all that follows stands behind them. */
  #large(): void {
    const world = this.#world
    const { largeFrames, schedule } = world
    const { largeFrameRate } = world.plan
    if (largeFrameRate === 0 || world.peace) return
    schedule.after((largeFrames.next() * 2000) / largeFrameRate, () => {
      const [a, b] = largeFrames.shuffle([...world.nodes.values()])
      const leader = largeFrames.chance(0.5) ? largeFrames.pick(world.leaders) : undefined
      const from = leader ?? a
      const to = from === b ? a : b
      if (from?.up && to?.up && !world.peace) {
        world.sendLarge(from.id, to.id, largeFrames.next() * largeFrames.pick([100, 500, 2000])!)
      }
      this.#large()
    })
  }
}
