/**
 * Golden stories: a small language in which a cluster of replicas is told what happens to it, one act after
 * the other. The file is its own snapshot: a line that begins with `> ` is a command, the lines below it up
 * to the next empty line are what came of it. `UPDATE=1` writes them anew; a command that expects something
 * fails whatever the snapshot says. What the world is in which they happen: story-world.ts.
 *
 *   start 1 2 3            genesis with these voters        join 4 5       learners to be, told the newest configuration
 *   (start and reconfigure take options: `accept 2`, an accept quorum; `lease 200`, leases of that many ms)
 *   tick 300               time passes, messages arrive     until leader 2 within 600 | until decided 3 5 within 100
 *   propose 1 x            read 1                           transfer 1 3    reconfigure 1 to 1 2 3 prefer 2 (learners 4)    withdraw 1
 *   crash 2 | restart 2    hold 2 | release 2 (its disk)    crash 2 with 1  (pieces that were not synced and stay)
 *   cut 1-2 | cut 1>2      isolate 3 | mend                 lose accept-decide 1>2   (the next one of that kind; or … 1>2 5)
 *   late promise 2>1       (the next one of that kind waits)   arrive 2>1   (what is late there)
 *   double promise 2>1     (the next one of that kind arrives, and waits to arrive once more)
 *   kill 3 (a crash whose connections are closed)           close 1-2 | open 1-2 (their connection; it may blip)
 *   clock 1 0.95           (its rate from now on)            pause 1 | wake 1 | wake 1 then read 1   (before what waits for it)
 *   (start takes `name=value` and `1.name=value`, options of the core)   fill 1 200      show flight | show migration
 *   rot 2 3 | rot 2 entries (a crash; the last three records are lost, or what came with the last AcceptSync and later)
 *   rot 2 log 1            (all but the first entry is)
 *   trim 2                 (what it has applied leaves its memory; it reads its log: `readsLog=1`)
 *   checkpoint 1           delete 2                         show            messages on | messages off | decided off
 *   loss 10 seed 3         (of 100 messages so many are lost, on every link)   disorder 3 (they overtake each other)
 *   peace                  (nothing is in the way of anybody any more: all that is to be done must be done)
 *   peace without 2        (but for that node, which is gone)
 *   expect progress within 100   (some leader, and it decides)
 *   expect stale read 1    (a read that the checker refuses: this world is worse than promised)
 *   expect leader 1 | expect no leader | expect configuration 2 1 2 3 | expect complete 1 | expect read 1 is 5
 *   expect caught-up 1
 */
import assert from 'node:assert/strict'
import { type Options, acceptsProposals, isLeader, position, statusOf } from '../../src/consensus/replica.ts'
import {
  type Configuration,
  type NodeId,
  EMPTY_STATE,
  compareBallots,
  configurationId,
  logIndex,
  nodeId,
} from '../../src/vocabulary.ts'
import { Checker, Violation } from './checker.ts'
import { lastIndex } from '../../src/consensus/log.ts'
import { DurableLog } from './durable-log.ts'
import { SimNode } from './node.ts'
import { Random } from './random.ts'
import { show, showMore } from './story-show.ts'
import { Settling, configurationsOf, isLeftToAPerson, mayLack } from './settling.ts'
import { StoryWorld, can } from './story-world.ts'
import type { Trace } from './trace.ts'
import { member } from './world.ts'

const PEACE_PERIODS = 100
const PEACE_PERIOD_MILLISECONDS = 300

const numbers = (words: readonly string[]): NodeId[] => words.map((word) => nodeId(Number(word)))

/** The nodes up to the first word that is none. */
function members(words: readonly string[]): NodeId[] {
  const end = words.findIndex((word) => !/^\d+$/.test(word))
  return numbers(words.slice(0, end < 0 ? undefined : end))
}

function options(words: readonly string[]): Pick<Configuration, 'acceptQuorum' | 'leaseMilliseconds'> {
  const after = (name: string): number => (words.includes(name) ? Number(words[words.indexOf(name) + 1]) : 0)
  const [acceptQuorum, leaseMilliseconds] = [after('accept'), after('lease')]
  return { ...(acceptQuorum > 0 ? { acceptQuorum } : {}), ...(leaseMilliseconds > 0 ? { leaseMilliseconds } : {}) }
}

export class Story extends StoryWorld {
  /** Of one node, or (null) of all. */
  readonly #settings: { readonly id: number | null; readonly name: string; readonly value: number }[] = []
  #read = 0

  // ---- commands ----

  run(line: string): string[] {
    this.lines = []
    this.trace.add({ kind: 'world', at: this.moment(), what: line })
    const words = line.trim().split(/\s+/)
    this.#do(words[0]!, words.slice(1))
    this.flow()
    return this.lines
  }

  #node(word: string | undefined): SimNode {
    const node = this.nodes.get(nodeId(Number(word)))
    can(node, `there is no node ${word}`)
    return node
  }

  #do(command: string, words: string[]): void {
    const node = this.nodes.get(nodeId(Number(words[0])))
    const now = node ? this.at(node) : this.now
    switch (command) {
      case 'start':
        return this.#start(words)
      case 'join':
        for (const id of numbers(words)) this.#add(id, this.#newest())
        return
      case 'tick':
        this.pass(Number(words[0]))
        return
      case 'until':
        return this.#until(words)
      case 'propose':
        return this.#propose(this.#node(words[0]), words.slice(1).join(' '))
      case 'fill':
        return this.#fill(this.#node(words[0]), Number(words[1]))
      case 'read':
        return this.#ask(this.#node(words[0]))
      case 'transfer':
        return this.#node(words[0]).step({ kind: 'transfer', now, to: nodeId(Number(words[1])) })
      case 'withdraw':
        this.#node(words[0]).step({ kind: 'withdraw', now })
        return this.checker!.withdraws(this.#node(words[0]))
      case 'reconfigure':
        return this.#reconfigure(words)
      case 'expect':
        return this.#expect(words)
      case 'show':
        for (const node of this.nodes.values()) {
          if (words[0] === undefined) this.lines.push(show(node))
          else if (node.replica !== null) this.lines.push(showMore(node, words[0]))
        }
        return
      case 'loss':
        this.loss = { chance: Number(words[0]) / 100, random: new Random(Number(words[2])) }
        return
      case 'disorder':
        this.disorder = new Random(Number(words[0]))
        return
      case 'peace':
        return this.#peace(words[0] === 'without' ? this.#node(words[1]).id : null)
      case 'decided':
        this.showsDecided = words[0] === 'on'
        return
      case 'messages':
        this.loud = words[0] === 'on'
        return
      default:
        return this.#inflict(command, words)
    }
  }

  #inflict(command: string, words: string[]): void {
    switch (command) {
      case 'crash':
      case 'delete': {
        const node = this.#node(words[0])
        node.crash(Number(words[2] ?? 0))
        this.note(node, 'crash', command.toUpperCase())
        this.syncs = this.syncs.filter((one) => one.node !== node)
        if (command !== 'delete') return
        this.nodes.delete(node.id)
        this.gone.add(node.id)
        return
      }
      case 'rot': {
        this.#inflict('crash', words)
        const { disk } = this.#node(words[0])
        const [, what, count] = words
        const isLost =
          what === 'log' ? disk.loseLog(Number(count)) : disk.loseEnd(Number(what) || 1, what === 'entries')
        can(isLost, 'nothing is there to rot')
        this.checker!.damaged = true
        this.damaged = this.#node(words[0]).id
        this.lines.push(`${words[0]} has lost what it had from ${disk.doubtfulFrom}`)
        return
      }
      case 'kill': {
        const { id } = this.#node(words[0])
        this.#inflict('crash', words)
        for (const other of this.nodes.values()) other.step({ kind: 'disconnected', now: this.at(other), peer: id })
        return
      }
      case 'close':
        return this.#connection(words[0]!, 'disconnected')
      case 'open':
        return this.#connection(words[0]!, 'reconnected')
      case 'restart':
        can(!this.#node(words[0]).up, `node ${words[0]} is up`)
        return this.#begin(this.#node(words[0]))
      case 'clock': {
        const node = this.#node(words[0])
        this.clocks.set(node.id, { rate: Number(words[1]), since: this.now, shows: this.at(node) })
        return
      }
      case 'pause':
        this.note(this.#node(words[0]), 'pause', 'PAUSE')
        this.paused.set(this.#node(words[0]).id, [])
        return
      case 'wake':
        this.note(this.#node(words[0]), 'resume', 'WAKE')
        if (words[1] === 'then') this.#do(words[2]!, words.slice(3))
        this.flying.push(...(this.paused.get(this.#node(words[0]).id) ?? []))
        this.paused.delete(this.#node(words[0]).id)
        return
      case 'hold':
        this.held.add(this.#node(words[0]).id)
        return
      case 'release':
        this.held.delete(this.#node(words[0]).id)
        return
      case 'cut':
        for (const word of words) this.#cutLink(word)
        return
      case 'isolate':
        for (const id of this.nodes.keys()) this.#cutLink(`${words[0]}-${id}`)
        return
      case 'mend':
        this.cut.clear()
        return
      case 'lose':
        for (let left = Number(words[2] ?? 1); left > 0; left--) this.lose.push({ kind: words[0]!, link: words[1]! })
        return
      case 'late':
        this.late.push({ kind: words[0]!, link: words[1]! })
        return
      case 'double':
        this.double.push({ kind: words[0]!, link: words[1]! })
        return
      case 'arrive':
        return this.arrive(words[0]!)
      case 'checkpoint':
        return this.#checkpoint(this.#node(words[0]))
      case 'trim':
        return this.#trim(this.#node(words[0]))
      default:
        assert.fail(`no such command: ${command}`)
    }
  }

  #checkpoint(node: SimNode): void {
    const { log } = node.disk.image
    const isInLog = log.first <= node.applied && lastIndex(log) >= node.applied
    can(node.up && isInLog && node.applied > (node.disk.checkpoint?.index ?? 0), 'nothing is there for a checkpoint')
    const since = this.checker!.configurations.findLast((one) => one.start <= node.applied)!
    const index = logIndex(node.applied)
    node.disk.truncateHead({ index, configuration: since.configuration, start: logIndex(since.start) })
    node.step({ kind: 'trim', now: this.at(node), index })
  }

  /** After a start, too, before anything else: the shell applies by itself what the log says is decided. */
  #trim(node: SimNode): void {
    can(node.up && node.replica!.options.readsLog, `node ${node.id} does not read its log`)
    this.replay(node)
    node.step({ kind: 'trim', now: this.at(node), index: logIndex(node.applied) })
  }

  /** Both ends of a connection are told; messages go on, over another one or the next. */
  #connection(word: string, kind: 'disconnected' | 'reconnected'): void {
    const [a, b] = word.split('-').map((id) => this.#node(id))
    a!.step({ kind, now: this.at(a!), peer: b!.id })
    b!.step({ kind, now: this.at(b!), peer: a!.id })
  }

  #cutLink(word: string): void {
    const [from, to] = word.split(/[->]/)
    this.cut.add(`${from}>${to}`)
    if (word.includes('-')) this.cut.add(`${to}>${from}`)
  }

  #propose(node: SimNode, text: string): void {
    can(node.up && acceptsProposals(node.replica!), `node ${node.id} takes no proposals`)
    node.step({ kind: 'propose', now: this.at(node), payload: Buffer.from(text) })
  }

  #ask(node: SimNode): void {
    this.checker!.asks(node, ++this.#read)
    node.step({ kind: 'read', now: this.at(node), id: this.#read })
  }

  /** Proposes as long as it is allowed to, and says how many that were; the followers' answers come in between. */
  #fill(node: SimNode, count: number): void {
    can(node.up, `node ${node.id} is down`)
    let taken = 0
    for (; taken < count && acceptsProposals(node.replica!); taken++) {
      node.step({ kind: 'propose', now: this.at(node), payload: Buffer.alloc(84, taken) })
      if (taken % 8 === 7) this.flow()
    }
    this.flow()
    this.lines.push(`${node.id} took ${taken} proposals`)
  }

  #start(words: string[]): void {
    const ids = members(words)
    const voters = ids.map(member)
    for (const word of words) {
      const [, id, name, value] = /^(?:(\d+)\.)?(\w+)=(\d+)$/.exec(word) ?? []
      if (name !== undefined)
        this.#settings.push({ id: id === undefined ? null : Number(id), name, value: Number(value) })
    }
    const genesis = { id: configurationId(1), voters, learners: [], preferredLeader: nodeId(0), ...options(words) }
    this.checker = new Checker(genesis)
    for (const id of ids) this.#add(id, genesis)
  }

  #add(id: NodeId, configuration: Configuration): void {
    can(!this.nodes.has(id) && !this.gone.has(id), `node ${id} was there before`)
    const disk = new DurableLog({ ...EMPTY_STATE, configuration })
    const node = new SimNode(id, disk, this, this.#optionsOf(id))
    this.nodes.set(id, node)
    this.#begin(node)
  }

  #begin(node: SimNode): void {
    this.note(node, 'start', 'START')
    node.start(this.at(node))
    this.checker!.starts(node)
  }

  #optionsOf(node: NodeId): Partial<Options> {
    const wanted = this.#settings.filter(({ id }) => id === null || id === node).map(({ name, value }) => [name, value])
    return { keepEntriesBytes: 0, resendMilliseconds: 50, ...Object.fromEntries(wanted) }
  }

  #newest(): Configuration {
    return this.checker!.configuration
  }

  #reconfigure(words: string[]): void {
    const node = this.#node(words[0])
    const prefer = words.indexOf('prefer')
    const ids = members(words.slice(2))
    const id = configurationId(node.replica!.configuration.id + 1)
    const preferredLeader = nodeId(prefer < 0 ? 0 : Number(words[prefer + 1]))
    const learners = words.includes('learners') ? members(words.slice(words.indexOf('learners') + 1)) : []
    const next = {
      id,
      voters: ids.map(member),
      learners: learners.map(member),
      preferredLeader,
      ...options(words),
    }
    node.step({ kind: 'reconfigure', now: this.at(node), next })
  }

  #leads(id: number): boolean {
    const node = this.nodes.get(nodeId(id))
    return node !== undefined && node.up && isLeader(node.replica!)
  }

  #until(words: string[]): void {
    const [what, id] = words
    const within = Number(words.at(-1))
    const done = (): boolean =>
      what === 'leader'
        ? this.#leads(Number(id)) && this.#node(id).replica!.configuration.id === this.#newest().id
        : this.#node(id).up && this.#node(id).applied >= Number(words[2])
    can(this.pass(within, done) >= 0, `${words.join(' ')}: it does not happen`)
  }

  /** Whether everything must go on without the node. */
  mayLack(id: NodeId): boolean {
    return this.damaged === null && mayLack({ nodes: this.nodes, checker: this.checker! }, id, this.gone)
  }

  /** All faults are over, and late messages arrive; who is to be there is, but for one perhaps. */
  #peace(missing: NodeId | null): void {
    this.cut.clear()
    this.held.clear()
    this.lose = []
    this.late = []
    this.double = []
    this.loss = null
    this.flying.push(...this.waiting.splice(0), ...[...this.paused.values()].flat())
    this.paused.clear()
    if (missing !== null) this.#inflict('crash', [String(missing)])
    const cluster = { nodes: this.nodes, checker: this.checker! }
    const settling = new Settling<SimNode>(cluster, (leader) => this.#propose(leader, 'in peace'), missing)
    for (let periods = 0; !settling.isDone; periods++) {
      if (missing !== null && !this.mayLack(missing)) return
      if (periods >= 20 && isLeftToAPerson(cluster, this.damaged)) {
        this.lines.push('it is left to a person')
        return
      }
      if (periods === PEACE_PERIODS) throw new Violation(`settles: not in ${PEACE_PERIODS} election timeouts of peace`)
      for (const { voters, learners } of configurationsOf(cluster)) {
        for (const { id } of [...voters, ...learners]) {
          if (!this.nodes.has(id) && !this.gone.has(id)) this.#add(id, this.#newest())
        }
      }
      for (const node of this.nodes.values()) if (!node.up && node.id !== missing) this.#begin(node)
      this.pass(PEACE_PERIOD_MILLISECONDS)
    }
  }

  /** The leader of the largest ballot has a proposal decided in time; says who that is. */
  #expectProgress(within: number): void {
    const leaders = [...this.nodes.values()].filter((node) => node.up && isLeader(node.replica!))
    leaders.sort((a, b) => compareBallots(b.replica!.promise, a.replica!.promise))
    const leader = leaders[0]
    assert(leader && acceptsProposals(leader.replica!), 'nobody leads')
    leader.step({ kind: 'propose', now: this.at(leader), payload: Buffer.from('progress') })
    const index = position(leader.replica!).index
    assert(this.pass(within, () => leader.applied >= index) >= 0, `node ${leader.id} leads and decides nothing`)
    this.lines.push(`node ${leader.id} leads and decides`)
  }

  #expect(words: string[]): void {
    const [what, ...rest] = words
    const ids = rest.map(Number)
    if (what === 'leader') assert(this.#leads(ids[0]!), `node ${rest[0]} does not lead`)
    else if (what === 'no') for (const id of this.nodes.keys()) assert(!this.#leads(id), `node ${id} leads`)
    else if (what === 'progress') this.#expectProgress(Number(words.at(-1)))
    else if (what === 'stale') assert.throws(() => this.#ask(this.#node(rest[1])), /linearizability/)
    else if (what === 'follower') assert(!this.#leads(ids[0]!), `node ${rest[0]} leads`)
    else if (what === 'complete') assert(statusOf(this.#node(rest[0]).replica!).configurationComplete, 'not complete')
    else if (what === 'incomplete') {
      assert(!statusOf(this.#node(rest[0]).replica!).configurationComplete, 'complete')
    } else if (what === 'read') assert.equal(this.reads.get(nodeId(ids[0]!)), rest[2])
    else if (what === 'caught-up') assert(statusOf(this.#node(rest[0]).replica!).caughtUp, 'it waits')
    else if (what === 'phase') assert.equal(statusOf(this.#node(rest[0]).replica!).phase, rest[1])
    else if (what === 'configuration') {
      const { id, voters } = this.#newest()
      assert.deepEqual([id, ...voters.map((one) => one.id)], ids)
    } else assert.fail(`cannot expect '${what}'`)
  }
}

/** What happened in a story, to be drawn. */
export function traceOf(text: string): Trace {
  const story = new Story()
  for (const line of text.split('\n')) if (line.startsWith('> ')) story.run(line.slice(2))
  return story.trace
}

/** Runs the commands of a story and gives its text with what came of them. */
export function tell(text: string): string {
  const story = new Story()
  const told: string[] = []
  let skipping = false
  for (const [at, line] of text.split('\n').entries()) {
    if (line.startsWith('> ')) {
      skipping = true
      told.push(line)
      try {
        told.push(...story.run(line.slice(2)))
      } catch (error) {
        throw new Error(
          `line ${at + 1}: ${line}\n${(error as Error).message}\nso far:\n${told.slice(-30).join('\n')}`,
          {
            cause: error,
          },
        )
      }
    } else if (line === '' || line.startsWith('#')) {
      skipping = false
      told.push(line)
    } else if (!skipping) told.push(line)
  }
  return told.join('\n')
}
