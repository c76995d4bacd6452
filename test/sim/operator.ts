/**
 * The operator of a simulation: changes the members at random (any set after any set, nodes joining, learners), changes
 * its mind (withdraws), disagrees with itself (orders two changes at once), hands leadership over, and deletes nodes as
 * soon as it may. It knows what a real one can know: the status of nodes, and that members are not to be deleted.
 */
import { isLearner, isVoter } from '../../src/consensus/quorum.ts'
import { statusOf } from '../../src/consensus/replica.ts'
import { type Configuration, type NodeId, configurationId, nodeId } from '../../src/vocabulary.ts'
import { configurationRules } from './plan.ts'
import { type Cluster, isWanted } from './settling.ts'
import type { World, WorldNode } from './world.ts'

/** Nodes that may be deleted in one run: some must be left. */
const DELETED_MOST = 2

const isNamed = (configuration: Configuration, id: NodeId): boolean =>
  isVoter(configuration, id) || isLearner(configuration, id)

export class Operator<N extends WorldNode> {
  readonly #world: World<N>
  /** A paused leader may come to one of these much later. */
  readonly #ordered: Configuration[] = []

  constructor(world: World<N>) {
    this.#world = world
  }

  reconfigure(): void {
    const { random, schedule } = this.#world
    this.#delete()
    const leader = random.pick(this.#world.leaders)
    if (leader === undefined) return
    this.#order(leader)
    // Another one, of this leader or of one that has not noticed that it leads no more.
    if (random.chance(0.15)) this.#order(random.pick(this.#world.leaders) ?? leader)
    if (!random.chance(0.2)) return
    const { incarnation } = leader
    schedule.after(random.next() * 200, () => {
      if (leader.up && leader.incarnation === incarnation) this.#world.order(leader, { kind: 'withdraw' })
    })
  }

  #order(leader: N): void {
    const world = this.#world
    const { random } = world
    const { configuration } = statusOf(leader.replica!)
    const ids = random.shuffle(world.pool(leader).filter((id) => !world.gone.has(id)))
    const voters = ids.slice(0, random.integer(1, 5))
    const learners = ids.slice(voters.length, voters.length + (random.chance(0.3) ? random.integer(1, 2) : 0))
    if (voters.length === 0) return
    for (const id of [...voters, ...learners]) world.bring(id, configuration)
    const next: Configuration = {
      id: configurationId(configuration.id + 1),
      voters: voters.map((id) => world.memberOf(id)),
      learners: learners.map((id) => world.memberOf(id)),
      preferredLeader: random.chance(0.5) ? voters[0]! : nodeId(0),
      ...configurationRules(world.plan, voters.length),
    }
    const aside = learners.length > 0 ? ` learners ${learners.join(' ')}` : ''
    world.say(`operator: ${next.id} = {${voters.join(' ')}}${aside} preferred ${next.preferredLeader}`)
    this.#ordered.push(next)
    world.order(leader, { kind: 'reconfigure', next })
  }

  transfer(): void {
    const { random } = this.#world
    const leader = random.pick(this.#world.leaders)
    const to = leader && random.pick(leader.replica!.configuration.voters)
    if (leader && to) this.#world.order(leader, { kind: 'transfer', to: to.id })
  }

  /** Once a configuration is complete, nodes outside of it may be gone for good. */
  #delete(): void {
    const { random, gone, nodes } = this.#world
    for (const other of nodes.values()) {
      if (gone.has(other.id) || !isDispensable(this.#world, this.#ordered, other.id)) continue
      if (gone.size >= DELETED_MOST || !random.chance(0.25)) continue
      this.#world.say(`operator: node ${other.id} is deleted`)
      if (other.up) this.#world.end(other)
      gone.add(other.id)
    }
  }
}

/**
 * Whether a member says that its configuration is complete, and the node is named neither there nor in a later one, nor
 * in any that was ordered.
 */
export function isDispensable(cluster: Cluster, ordered: readonly Configuration[], id: NodeId): boolean {
  const { nodes, checker } = cluster
  const told = [...nodes.values()].flatMap(({ replica }) => (replica === null ? [] : [statusOf(replica)]))
  const complete = told.find((one) => one.phase === 'member' && one.configurationComplete && one.configuration.id > 1)
  if (complete === undefined) return false
  const later = checker.configurations.slice(complete.configuration.id - 1)
  if (later.some(({ configuration }) => isNamed(configuration, id))) return false
  if (ordered.some((one) => one.id > complete.configuration.id && isNamed(one, id))) return false
  return !isWanted(cluster, id)
}
