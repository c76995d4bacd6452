/**
 * A sweep of starts: one node with the real storage (start-node.ts) beside one or two that are healthy (node.ts), killed
 * at any step of its disk, damaged, and started again, several times in a row, so that what one start made of the volume
 * is the ground of the next. Members, leaders and links change meanwhile, and the others let go of their logs.
 *
 * After every start what was recovered is compared with what was called durable. In the end there is peace: the node
 * comes back, votes, and its doubt is over, or it was refused with a code. Everything follows from the seed.
 */
import './inline-zstd.ts'
import assert from 'node:assert/strict'
import { isVoter } from '../../src/consensus/quorum.ts'
import type { LokiError } from '../../src/errors.ts'
import type { SimulatedDisk } from '../storage/simulated-disk.ts'
import { Violation } from './checker.ts'
import { isLeftToAPerson, mayLack } from './settling.ts'
import { damageStart } from './start-damage.ts'
import type { StartNode } from './start-node.ts'
import { ELECTION_MILLISECONDS, SELF, StartWorld } from './start-world.ts'

const SETTLE_MILLISECONDS = 300 * ELECTION_MILLISECONDS

const isSelf = ({ id }: { readonly id: number }): boolean => id === SELF

export class Starts extends StartWorld {
  /** It came back: a further start has nothing to doubt. */
  #isHealed = false

  // ---- the life of the node --------------------------------------------------------------------------------------

  started(node: StartNode): void {
    const { core } = node
    this.note(core.id, `START ${this.pictureOf(core)}`)
    this.count('starts')
    if (core.replica!.doubtfulFrom !== null) this.count('starts in doubt')
    if (core.replica!.promiseLost) this.count('starts with promises lost')
    if (core.replica!.doubtfulFrom !== null && this.damaged === null)
      throw new Violation('it has lost what nothing took')
    if (core.replica!.doubtfulFrom !== null && this.#isHealed) throw new Violation('it came back and is in doubt again')
    this.checker.starts(core)
    this.tick(core)
  }

  refused(node: StartNode, error: LokiError): void {
    this.note(node.core.id, `is REFUSED: ${error.message}`)
    this.count(`refused: ${error.code}`)
    const isOfOneAlone = error.code === 'LOG_DAMAGED_ALONE' || error.code === 'CHECKPOINT_DAMAGED'
    const wasAlone = this.checker.configurations.some(({ configuration: { voters } }) => voters.every(isSelf))
    if (!node.isDamaged || (isOfOneAlone && !wasAlone)) {
      this.fail(new Violation(`a start is refused: ${error.message}`))
    }
    node.kill(null)
    node.phase = 'refused'
  }

  died(node: StartNode, why: string): void {
    this.note(node.core.id, `its disk fails: ${why}`)
    this.#end()
  }

  /** The process of the node ends. */
  #end(): void {
    const node = this.subject!
    const { random } = this
    if (node.phase === 'refused' || node.phase === 'down') return
    const { platter } = node
    const isKilled = !platter.crashed && random.chance(0.3)
    const kept = random.next()
    node.kill(isKilled ? null : () => (random.chance(0.2) ? random.next() : random.chance(kept) ? 1 : 0))
    this.note(SELF, isKilled ? 'KILLED' : 'CRASH')
    this.count('ends')
    if (!isKilled && !this.peace && random.chance(this.damageChance)) {
      const what = damageStart(random, node.platter, node.written)
      if (what !== null) {
        this.note(SELF, `ROT ${what}`)
        this.count('damages')
        node.isDamaged = true
        this.damaged = SELF
        this.checker.damaged = true
      }
    }
    const { life } = node
    this.schedule.after(random.next() * random.pick([5, 80])!, () => {
      if (life === node.life && node.phase === 'down') this.begin()
    })
  }

  /** Its process begins; it may not come far. */
  begin(): void {
    const node = this.subject!
    node.start()
    if (this.peace) return
    const { random } = this
    const { platter } = node
    const far = platter.steps + random.integer(1, random.pick([12, 40, 120])!)
    if (random.chance(0.3)) platter.crashAt = far
    else if (random.chance(0.1)) platter.failAt = far
    this.#lieInWait(platter)
  }

  /** The end comes a few steps behind one that something else on the disk has to follow. */
  #lieInWait(platter: SimulatedDisk): void {
    const { random } = this
    platter.onStep = (step) => {
      const isNear = step.startsWith('rename') && random.chance(step.includes('receiving') ? 0.6 : 0.05)
      if (isNear) platter.crashAt = Math.min(platter.crashAt, platter.steps + random.integer(1, 6))
    }
  }

  #cut(): void {
    const { random, network } = this
    if (this.peace) return
    network.heal()
    const ids = [...this.nodes.keys()]
    const alone = random.chance(0.4) ? null : random.chance(0.6) ? SELF : random.pick(ids)!
    const kind = random.integer(0, 3)
    for (const id of ids) {
      if (alone === null || id === alone) continue
      if (kind !== 1) network.block(alone, id)
      if (kind !== 2) network.block(id, alone)
      if (alone === SELF) this.subject?.lost(id)
    }
    this.schedule.after(30 + random.next() * random.pick([100, 500])!, () => this.#cut())
  }

  // ---- the run ---------------------------------------------------------------------------------------------------

  async run(): Promise<void> {
    const { random } = this
    this.found()
    this.schedule.after(100, () => this.#cut())
    const lives = random.integer(2, 9)
    for (let life = 0; life < lives; life++) {
      await this.until(this.now + random.integer(40, 400))
      if (this.subject === null) continue
      if (this.subject.phase === 'refused') return
      // The last one may go on: what it was told while others were out of reach must do it no harm, either.
      if (life < lives - 1 || random.chance(0.6)) this.#end()
    }
    await this.until(this.now + 1)
    await this.#makePeace()
  }

  async #makePeace(): Promise<void> {
    this.peace = true
    this.trace.add({ kind: 'world', at: this.now, what: 'PEACE' })
    this.network.heal()
    this.network.options = { ...this.network.options, doubleChance: 0, slowChance: 0 }
    const node = this.subject
    if (node !== null) {
      node.platter.crashAt = node.platter.failAt = Infinity
      node.platter.onStep = () => {}
      if (node.platter.crashed && node.phase !== 'down') this.#end()
    }
    const isWhole = this.damaged === null || this.#isWell
    for (const peer of this.nodes.values()) {
      if (peer.id === SELF) continue
      // Where nothing is lost, or no more, one voter may be away that the others do not need.
      const isSpare = isVoter(this.checker.configuration, peer.id) && mayLack(this, peer.id, new Set())
      if (isWhole && this.away === null && this.random.chance(0.4) && isSpare) {
        this.away = peer.id
        if (peer.up) peer.crash(peer.disk.unsynced)
        this.settling.missing = peer.id
      } else this.startPeer(peer)
    }
    if (!(await this.#comesBack())) return
    this.count('came back')
    // What has come back is on its disk.
    if (node === null || !isVoter(this.checker.configuration, SELF)) return
    this.#isHealed = true
    this.#end()
    await this.until(this.now + 1)
    assert(await this.#comesBack(), 'it came back once')
    this.count('came back again')
  }

  /** False: it is refused, or left to a person. */
  async #comesBack(): Promise<boolean> {
    const bound = this.now + SETTLE_MILLISECONDS
    while (!this.#isBack()) {
      if (this.subject?.phase === 'refused') return false
      if (this.now > bound) throw new Violation('it does not come back')
      await this.until(this.now + 15)
      if (this.now > bound - SETTLE_MILLISECONDS / 2 && this.#isStuck()) {
        this.count('left to a person')
        return false
      }
    }
    return true
  }

  /** What docs/SPEC.md leaves to a person: what only voters of a configuration have lost, above all. */
  #isStuck(): boolean {
    if (isLeftToAPerson(this, this.damaged)) return true
    const { voters } = this.checker.configuration
    return voters.every(isSelf) && this.damaged !== null && (this.subject?.core.replica?.doubtfulFrom ?? null) !== null
  }

  /** It is there, and in no doubt, nor is its disk. */
  get #isWell(): boolean {
    const { replica, disk } = this.subject!.core
    return replica !== null && replica.doubtfulFrom === null && replica.recall === null && disk.doubtfulFrom === null
  }

  #isBack(): boolean {
    const node = this.subject
    if (this.away !== null && !mayLack(this, this.away, new Set())) {
      // A change under way may need it after all.
      const peer = this.nodes.get(this.away)!
      this.away = this.settling.missing = null
      this.startPeer(peer)
    }
    if (node !== null && node.phase !== 'up') return false
    if (!this.settling.isDone) return false
    if (node === null || !isVoter(this.checker.configuration, SELF)) return true
    return this.#isWell
  }
}

export interface StartsOutcome {
  readonly counts: Readonly<Record<string, number>>
  readonly decided: number
  readonly trace: string
  readonly violation: string | null
}

/** Runs one seed. */
export async function runStarts(seed: number, traceLines = 80): Promise<StartsOutcome> {
  const starts = new Starts(seed)
  let violation: string | null = null
  try {
    await starts.run()
  } catch (error) {
    violation = error instanceof Violation ? error.message : ((error as Error).stack ?? String(error))
  }
  const { counts, checker } = starts
  return { counts, decided: checker.decided.length, trace: starts.ending(traceLines), violation }
}
