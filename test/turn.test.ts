/** The shell's turn with ports of glass: what a node says to others when things go wrong around it. */
import { describe, expect, it } from 'vitest'
import { parseConfigurationRequest } from '../src/contract.ts'
import { parseSettings } from '../src/settings.ts'
import type { Message } from '../src/consensus/messages.ts'
import { createReplica } from '../src/consensus/replica.ts'
import { ByteWriter } from '../src/bytes.ts'
import { decodeEntry, encodeCommand } from '../src/machine/entry.ts'
import { Machine } from '../src/machine/machine.ts'
import type { Reply } from '../src/machine/reply.ts'
import type { Member } from '../src/node/member.ts'
import { followSettings, reconfigure, withdraw } from '../src/node/membership.ts'
import { hasApplied } from '../src/node/status.ts'
import type { RelayMessage } from '../src/turn/relay-messages.ts'
import { Relay } from '../src/turn/relay.ts'
import type { PeerMessage, TurnLimits } from '../src/turn/ports.ts'
import { Turn } from '../src/turn/turn.ts'
import {
  type Ballot,
  type Configuration,
  type LogIndex,
  type LogRecord,
  type NodeId,
  ZERO_BALLOT,
  configurationId,
  logIndex,
  nodeId,
  volumeId,
} from '../src/vocabulary.ts'

const member = (id: number) => ({ id: nodeId(id), volume: volumeId(String(id).repeat(32)), address: `n${id}:1` })
const configuration = (id: number, voters: readonly number[]): Configuration => ({
  id: configurationId(id),
  voters: voters.map(member),
  learners: [],
  preferredLeader: nodeId(0),
})

/** A node whose sends are written down, whose clock is turned by hand, and whose disk is as quick as one wishes. */
class Bench {
  readonly turn: Turn
  now = 0
  wall = 1_700_000_000_000
  readonly sent: { to: NodeId; message: PeerMessage }[] = []
  readonly heardOf: Configuration[] = []
  readonly replies: [number, Reply][] = []
  readonly #done: (() => void)[] = []
  #woken = false
  /** Messages sent and not let go of yet. */
  waiting = 0
  /** Much of what it sends does not leave. */
  isBehind = false
  readonly origin = {
    reply: (tag: number, reply: Reply) => void this.replies.push([tag, reply]),
    flush: () => undefined,
  }

  constructor(self: number, known: Configuration, limits: Partial<TurnLimits> = {}) {
    const state = {
      promise: { ...ZERO_BALLOT, configuration: configurationId(1), n: 1, node: nodeId(1) },
      acceptedBallot: ZERO_BALLOT,
      decided: logIndex(0),
      configuration: known,
      configurationStart: logIndex(0),
    }
    const recovered = { state, first: logIndex(1), entries: [], doubtfulFrom: null }
    const relay = new Relay(
      { node: self, incarnation: 1 },
      {
        outstandingCommands: 1000,
        outstandingBytes: 1 << 20,
        blockBytes: 1 << 20,
        resendMilliseconds: 1000,
        resendMostMilliseconds: 8000,
      },
    )
    this.turn = new Turn(
      nodeId(self),
      createReplica({ self: nodeId(self), recovered, now: 0 }),
      new Machine({ maxMemoryBytes: 0 }),
      relay,
      { configuration: known, start: logIndex(0) },
      {
        now: () => this.now,
        wallClock: () => this.wall,
        persist: (_records: readonly LogRecord[], done: () => void) => void this.#done.push(done),
        send: (to, message) => {
          this.sent.push({ to, message })
          this.waiting++
        },
        isBehind: () => this.isBehind,
        flush: () => void (this.waiting = 0),
        wake: () => void (this.#woken = true),
        needCheckpoint: () => undefined,
        configurationChanged: () => undefined,
        leaderChanged: () => undefined,
        heardOf: (each) => void this.heardOf.push(each),
      },
      { entryBytes: 1 << 20, forwardedBytes: 1 << 20, ...limits },
    )
  }

  /** Runs until nothing is left to do; the disk has everything then. */
  settle(): void {
    while (this.#woken || this.#done.length > 0) this.once()
  }

  /** One turn, and the disk has what it gave. */
  once(): void {
    this.#woken = false
    this.turn.run()
    for (const done of this.#done.splice(0)) done()
  }

  get woken(): boolean {
    return this.#woken
  }

  pass(milliseconds: number): void {
    for (let passed = 0; passed < milliseconds; passed += 10) {
      this.now += 10
      this.turn.tick()
      this.settle()
    }
  }

  hear(from: number, message: RelayMessage): void {
    this.turn.receive(nodeId(from), { kind: 'relay', message })
    this.settle()
  }

  /** What was said about commands since the last call, and to whom. */
  said(kind: RelayMessage['kind']): [to: number, message: RelayMessage][] {
    return this.sent
      .splice(0)
      .flatMap(({ to, message }) =>
        message.kind === 'relay' && message.message.kind === kind ? [[to, message.message] as const] : [],
      )
      .map(([to, message]) => [to, message])
  }
}

const command = (...words: string[]) => words.map((word) => Buffer.from(word))

/** What a node sends to the leader for clients that increment `keys`; incarnation 9 was opened before. */
function incrementing(node: number, incarnation: number, first: number, ...keys: string[]): RelayMessage {
  const commands = keys.map((key) => {
    const writer = new ByteWriter(64)
    encodeCommand(writer, '', command('INCR', key))
    return Uint8Array.from(writer.since(0))
  })
  const block = { session: { node, incarnation }, acknowledged: 0, first, commands }
  return { kind: 'forward', opens: incarnation < 9, block }
}

describe('a voter', () => {
  it('answers the newest of many Prepares that stood in line, and once', () => {
    const bench = new Bench(2, configuration(1, [1, 2, 3]))
    const prepare = (from: number, n: number): void => {
      const ballot = { ...ZERO_BALLOT, configuration: configurationId(1), n, node: nodeId(from) }
      const nothing = { decided: logIndex(0), acceptedBallot: ZERO_BALLOT, accepted: logIndex(0) }
      bench.turn.receive(nodeId(from), { kind: 'consensus', message: { kind: 'prepare', ballot, ...nothing } })
    }
    const promises = (): [to: number, n: number][] =>
      bench.sent
        .splice(0)
        .flatMap(({ to, message }) =>
          message.kind === 'consensus' && message.message.kind === 'promise' ? [[to, message.message.ballot.n]] : [],
        )
    for (const n of [2, 3, 4]) for (let count = 0; count < 20; count++) prepare(n % 2 === 0 ? 3 : 1, n)
    bench.settle()
    expect(promises()).toEqual([[3, 4]])
    // It may have been lost: who asks again later is answered again.
    prepare(3, 4)
    bench.settle()
    expect(promises()).toEqual([])
    bench.now += bench.turn.replica.options.resendMilliseconds
    prepare(3, 4)
    bench.settle()
    expect(promises()).toEqual([[3, 4]])
  })
})

describe('a node that was removed', () => {
  it('finds the leader of a configuration that it never heard of, and its clients are answered', () => {
    const bench = new Bench(4, configuration(2, [1, 2, 3]))
    // It hears that node 9 leads: of a configuration that has come since, and that it is not connected to.
    const leader = { ...ZERO_BALLOT, configuration: configurationId(3), n: 1, node: nodeId(9) }
    bench.turn.receive(nodeId(1), {
      kind: 'consensus',
      message: { kind: 'decided-entries', from: logIndex(1), decided: logIndex(0), leader, entries: [] },
    })
    bench.settle()
    bench.turn.write(bench.origin, 7, command('SET', 'k', 'v'))
    bench.settle()
    expect(bench.said('forward').map(([to]) => to)).toEqual([9])

    // No answer: a voter that it knows is asked, and tells of today's members.
    bench.pass(1100)
    const asked = bench.said('forward').map(([to]) => to)
    expect(asked).toHaveLength(1)
    expect([1, 2, 3]).toContain(asked[0])
    const today = configuration(3, [1, 9])
    bench.hear(asked[0]!, { kind: 'redirect', leader: nodeId(9), configuration: today })
    expect(bench.heardOf).toEqual([today])
    bench.said('forward')
    bench.turn.reconnected(nodeId(9))
    bench.settle()
    expect(bench.said('forward').map(([to]) => to)).toEqual([9])
    const session = { node: 4, incarnation: 1 }
    bench.hear(9, { kind: 'replies', session, index: logIndex(5), replies: [{ sequence: 1, reply: 'OK' }] })
    expect(bench.replies).toEqual([[7, 'OK']])
  })

  it('asks every voter that it knows, one after the other, while none answers', () => {
    const bench = new Bench(4, configuration(2, [1, 2, 3]))
    bench.turn.read(bench.origin, 7, command('GET', 'k'))
    bench.settle()
    bench.pass(40_000)
    expect(new Set(bench.said('read').map(([to]) => to))).toEqual(new Set([1, 2, 3]))
  })
})

/** The node of `bench` follows node 1 from an empty log on. */
function follows(bench: Bench) {
  const ballot = { ...ZERO_BALLOT, configuration: configurationId(1), n: 2, node: nodeId(1) }
  const say = (message: Message): void => bench.turn.receive(nodeId(1), { kind: 'consensus', message })
  const zero = logIndex(0)
  say({ kind: 'prepare', ballot, decided: zero, acceptedBallot: ZERO_BALLOT, accepted: zero })
  bench.settle()
  say({ kind: 'accept-sync', ballot, decided: zero, base: logIndex(1), entries: [] })
  bench.settle()
  return { ballot, say }
}

it('a follower accepts as soon as its disk has the entries, without another turn', () => {
  const bench = new Bench(2, configuration(1, [1, 2, 3]))
  const { ballot, say } = follows(bench)
  bench.sent.length = 0
  const entries = [{ kind: 'commands' as const, index: logIndex(1), payload: new Uint8Array(0) }]
  say({ kind: 'accept-decide', ballot, decided: logIndex(0), entries })
  bench.once()
  expect(bench.sent.map(({ message }) => message.message)).toMatchObject([{ kind: 'accepted', index: 1 }])
  expect([bench.waiting, bench.woken]).toEqual([0, false])
})

it('a follower that applies more slowly than it is sent says so by accepting more slowly', () => {
  const bench = new Bench(2, configuration(1, [1, 2, 3]), { applyBytes: 1, unappliedEntries: 32 })
  const { ballot, say } = follows(bench)
  const accepted = (): number =>
    bench.sent.reduce((most, { message }) => {
      const said = message.kind === 'consensus' && message.message.kind === 'accepted' ? message.message.index : 0
      return Math.max(most, said)
    }, 0)
  let sent = 0
  let most = 0
  for (let turn = 0; turn < 2000; turn++) {
    // The leader's window: so much may be on its way.
    if (sent - accepted() < 40) {
      const entries = [1, 2, 3, 4].map((at) => {
        return { kind: 'commands', index: logIndex(sent + at), payload: new Uint8Array(0) } as const
      })
      sent += entries.length
      say({ kind: 'accept-decide', ballot, decided: logIndex(sent), entries })
    }
    bench.once()
    most = Math.max(most, sent - bench.turn.machine.applied)
  }
  expect(most).toBeLessThan(150)
  bench.settle()
  expect(bench.turn.machine.applied).toBe(sent)
  expect(accepted()).toBe(sent)
  expect(sent).toBeGreaterThan(1500)
})

it('a node has not caught up before it has applied what was decided when it rejoined', () => {
  const bench = new Bench(4, configuration(2, [1, 2, 3]), { applyBytes: 1 })
  const decided = logIndex(20)
  const entries = Array.from({ length: decided }, (_, at) => {
    return { kind: 'commands', index: logIndex(at + 1), payload: new Uint8Array(0) } as const
  })
  const message = { kind: 'decided-entries', from: logIndex(1), decided, leader: ZERO_BALLOT, entries } as const
  bench.turn.receive(nodeId(1), { kind: 'consensus', message })
  for (let turn = 0; turn < 3; turn++) bench.once()
  expect(bench.turn.status.caughtUp).toBe(true)
  expect(bench.turn.machine.applied).toBeLessThan(20)
  expect(hasApplied(bench.turn)).toBe(false)
  bench.settle()
  expect(hasApplied(bench.turn)).toBe(true)
})

describe('reads of the own state', () => {
  const value = Buffer.from('seen')

  /** A learner, and what its reads were sent as. */
  const learner = (limits: Partial<TurnLimits> = {}): Bench => {
    const bench = new Bench(4, configuration(2, [1, 2, 3]), limits)
    bench.pass(20)
    return bench
  }
  const ask = (bench: Bench): number => {
    bench.sent.splice(0)
    bench.turn.read(bench.origin, 7, command('GET', 'k'))
    bench.settle()
    const [, message] = bench.said('read')[0]!
    return (message as Extract<RelayMessage, { kind: 'read' }>).id
  }
  const answer = (bench: Bench, id: number, index: number): void =>
    bench.hear(1, { kind: 'read-replies', id, index: logIndex(index), replies: [value] })

  it('are answered at once without a bound, however old', () => {
    const bench = learner()
    bench.pass(10_000)
    expect(bench.turn.readStale(command('GET', 'k'))).toBeNull()
  })

  it('never go back behind what another path has shown', () => {
    const bench = learner()
    answer(bench, ask(bench), 5)
    expect(bench.turn.readStale(command('GET', 'k'))).toBeUndefined()
  })

  it('with a bound, only while a leader has confirmed the state lately, by the time of the question', () => {
    const bench = learner({ staleReadsMostMilliseconds: 1000 })
    expect(bench.turn.readStale(command('GET', 'k'))).toBeUndefined()
    const id = ask(bench)
    // The answer takes half a second: it may be as old as that when it comes.
    bench.pass(500)
    answer(bench, id, 0)
    expect(bench.turn.readStale(command('GET', 'k'))).toBeNull()
    bench.pass(490)
    expect(bench.turn.readStale(command('GET', 'k'))).toBeNull()
    bench.pass(20)
    expect(bench.turn.readStale(command('GET', 'k'))).toBeUndefined()
    // An answer to a question that was answered before shows nothing.
    answer(bench, id, 0)
    expect(bench.turn.readStale(command('GET', 'k'))).toBeUndefined()
  })
})

const EMPTY = { decided: logIndex(0), accepted: logIndex(0), acceptedBallot: ZERO_BALLOT }

/** Elected by node 2, whose log is empty or not ahead, the node of `bench` leads; what node 2 says to it. */
function elected(bench: Bench, holds = EMPTY) {
  const hear = (message: Message, from = 2): void => {
    bench.turn.receive(nodeId(from), { kind: 'consensus', message })
    bench.settle()
  }
  const zero = logIndex(0)
  const reply = { kind: 'heartbeat-reply', configuration: configurationId(1), happy: false } as const
  const isCandidate = (): boolean => bench.turn.replica.leadership?.phase === 'prepare'
  for (let round = 1; !isCandidate() && round < 10; round++) {
    bench.pass(310)
    const { round: asked } = bench.turn.replica.election
    hear({ ...reply, round: asked, ballot: bench.turn.replica.promise, leader: bench.turn.replica.promise })
  }
  const { ballot } = bench.turn.replica.leadership!
  const base = logIndex(holds.accepted + 1)
  hear({ kind: 'promise', ballot, ...holds, doubtfulFrom: zero, base, entries: [] })
  expect(bench.turn.status.role).toBe('leader')
  return { ballot, hear }
}

it('a leader that has lost its quorum keeps a read that is asked again and again once, for however long', () => {
  const bench = new Bench(1, configuration(1, [1, 2, 3]))
  elected(bench)
  for (let second = 0; second < 600; second++) {
    if (second % 8 === 0) bench.hear(3, { kind: 'read', id: 7, commands: [command('GET', 'k')] })
    if (second === 3) bench.turn.read(bench.origin, 1, command('GET', 'k'))
    bench.pass(1000)
  }
  expect(bench.turn.replica.reads.length).toBe(2)
})

it('a read behind an expiry that is lost from the log is answered by the next leadership of the same node', () => {
  const bench = new Bench(1, configuration(1, [1, 2, 3]))
  const { ballot: first, hear } = elected(bench)
  const end = (): LogIndex => logIndex(bench.turn.replica.log.entries.length)
  bench.turn.write(bench.origin, 1, command('SET', 'k', 'v', 'PX', '100'))
  bench.settle()
  hear({ kind: 'accepted', ballot: first, index: end() })
  const decided = end()
  bench.wall += 200
  const asks = (): void => {
    for (const id of [7, 8]) bench.hear(3, { kind: 'read', id, commands: [command('GET', 'k')] })
  }
  asks()
  expect(end()).toBe(decided + 2)
  // A quorum is still promised to this ballot; that the key expires was not decided, and node 2 has not got it.
  hear({ kind: 'read-ack', ballot: first, id: bench.turn.replica.reads.at(-1)!.id })
  const ballot = { ...first, n: first.n + 1, node: nodeId(2) }
  const own = bench.turn.replica.acceptedBallot
  hear({ kind: 'prepare', ballot, decided, acceptedBallot: own, accepted: decided })
  hear({ kind: 'accept-sync', ballot, decided, base: logIndex(decided + 1), entries: [] })
  expect(end()).toBe(decided)
  bench.sent.splice(0)
  const { ballot: again } = elected(bench, { decided, accepted: decided, acceptedBallot: ballot })
  asks()
  hear({ kind: 'accepted', ballot: again, index: end() })
  hear({ kind: 'read-ack', ballot: again, id: bench.turn.replica.reads.at(-1)?.id ?? 0 })
  const answered = [7, 8].map((id) => [3, { id, replies: [null] }])
  expect(bench.said('read-replies')).toMatchObject(answered)
})

describe('a leader', () => {
  const alone = (limits: Partial<TurnLimits> = {}): Bench => {
    const bench = new Bench(1, configuration(1, [1]), limits)
    bench.pass(1000)
    expect(bench.turn.status.role).toBe('leader')
    return bench
  }

  it('takes orders at once, so that whoever gave one can be told the truth', () => {
    const bench = alone()
    const member_ = {
      turn: bench.turn,
      isLeader: true,
      settings: parseSettings({}),
      expect: () => undefined,
    } as unknown as Member
    const request = (...ids: number[]) => ({
      expectedConfigurationId: 1,
      voters: ids.map((id) => ({ id, volumeId: member(id).volume, address: member(id).address })),
      learners: [],
    })
    for (const id of [2, 3]) bench.turn.propose({ kind: 'allot-id', volume: member(id).volume })
    bench.settle()
    expect(() => reconfigure(member_, parseConfigurationRequest({ ...request(1, 2, 2) }))).toThrow('every node once')
    reconfigure(member_, parseConfigurationRequest(request(1, 2, 3)))
    expect(bench.turn.status.reconfiguration).toEqual({ voters: [1, 2, 3], state: 'catching-up' })
    reconfigure(member_, parseConfigurationRequest(request(1, 2, 3)))
    expect(() => reconfigure(member_, parseConfigurationRequest(request(1, 2)))).toThrow('RECONFIGURATION_RUNNING')
    withdraw(member_)
    expect(bench.turn.status.reconfiguration).toBeNull()
    reconfigure(member_, parseConfigurationRequest(request(1)))
    expect(bench.turn.status.reconfiguration).toEqual({ voters: [1], state: 'proposed' })
    expect(() => withdraw(member_)).toThrow('RECONFIGURATION_RUNNING')
    bench.pass(1000)
    expect(bench.turn.status.configuration.id).toBe(2)
  })

  it('brings into force what its settings say and the configuration does not', () => {
    const proposed: Configuration[] = []
    let withdrawn = 0
    let running: object | null = null
    const leader = (
      settings: object,
      inForce: Configuration,
      isComplete = true,
      away: readonly number[] = [],
    ): Member =>
      ({
        isLeader: true,
        settings: parseSettings(settings),
        turn: {
          status: {
            configuration: inForce,
            configurationComplete: isComplete,
            reconfiguration: running,
            transferTo: null,
            progress: inForce.voters.map(({ id }) => ({ id, connected: !away.includes(id) })),
          },
          reconfigure: (next: Configuration) => void proposed.push(next),
          withdraw: () => void withdrawn++,
        },
      }) as unknown as Member
    const five = configuration(4, [1, 2, 3, 4, 5])
    const settings = { acceptQuorum: 2, leaseMilliseconds: 200 }
    followSettings(leader(settings, five))
    const next = { ...configuration(5, [1, 2, 3, 4, 5]), acceptQuorum: 2, leaseMilliseconds: 200 }
    expect(proposed.splice(0)).toEqual([next])
    followSettings(leader(settings, next))
    followSettings(leader({}, five))
    followSettings(leader({ acceptQuorum: 3 }, five))
    followSettings(leader(settings, configuration(1, [1])))
    followSettings(leader(settings, five, false))
    expect(proposed).toEqual([])
    followSettings(leader({}, next))
    expect(proposed.splice(0)).toEqual([configuration(6, [1, 2, 3, 4, 5])])
    // Four elect where two of five accept: with two away it would wait for them, and keep out who replaces them.
    followSettings(leader(settings, five, true, [4, 5]))
    expect(proposed).toEqual([])
    followSettings(leader(settings, five, true, [5]))
    expect(proposed.splice(0)).toEqual([next])
    running = { voters: five.voters.map(({ id }) => id), state: 'catching-up' }
    followSettings(leader(settings, five, true, [5]))
    expect(withdrawn).toBe(0)
    followSettings(leader(settings, five, true, [4, 5]))
    expect(withdrawn).toBe(1)
    running = { voters: [nodeId(1), nodeId(2), nodeId(9)], state: 'catching-up' }
    followSettings(leader(settings, five, true, [4, 5]))
    expect(withdrawn).toBe(1)
    running = null
    // Too many for so few voters: told, and nothing changes.
    expect(() => followSettings(leader({ acceptQuorum: 3 }, configuration(1, [1, 2, 3])))).toThrow('QUORUM_INVALID')
    expect(() => parseSettings({ acceptQuorum: 1 })).toThrow('CONFIGURATION_INVALID')
    expect(() => parseSettings({ leaseMilliseconds: 301 })).toThrow('at most electionTimeoutMilliseconds (300)')
  })

  it('tells a node outside the configuration that its session has ended, behind the replies that it is owed', () => {
    const bench = alone()
    const block = (incarnation: number, ...keys: string[]) => incrementing(7, incarnation, 1, ...keys)
    bench.turn.receive(nodeId(7), { kind: 'relay', message: block(1, 'a', 'a') })
    bench.settle()
    bench.sent.splice(0)
    bench.wall += 50_000_000
    bench.turn.wantTime()
    bench.pass(70_000)
    bench.sent.splice(0)
    bench.hear(7, block(1, 'a', 'a', 'b'))
    expect(bench.said('session-ended')).toEqual([
      [7, { kind: 'session-ended', session: { node: 7, incarnation: 1 }, next: 3 }],
    ])
    expect(bench.turn.machine.read(command('GET', 'a'))).toEqual(Buffer.from('2'))
    bench.hear(7, block(9, 'b'))
    expect(bench.said('session-ended')).toEqual([
      [7, { kind: 'session-ended', session: { node: 7, incarnation: 9 }, next: 0 }],
    ])
  })

  it('refuses reads that wait for an expiry which there is no room for, and answers them when there is', () => {
    const bench = alone()
    bench.turn.write(bench.origin, 1, command('SET', 'k', 'v', 'PX', '100'))
    bench.settle()
    bench.turn.room('none')
    // The disk does not finish this one, and without room not much more is proposed.
    bench.turn.write(bench.origin, 2, command('SET', 'large', 'x'.repeat(20_000)))
    bench.turn.run()
    const passes = (milliseconds: number): void => {
      for (let passed = 0; passed < milliseconds; passed += 50) {
        bench.now += 50
        bench.wall += 50
        bench.turn.tick()
        bench.turn.run()
      }
    }
    passes(200)
    bench.turn.read(bench.origin, 3, command('GET', 'k'))
    const asked: RelayMessage = { kind: 'read', id: 1, commands: [command('GET', 'k')] }
    bench.turn.receive(nodeId(7), { kind: 'relay', message: asked })
    passes(2000)
    expect(bench.replies.filter(([tag]) => tag === 3)).toEqual([])
    passes(2000)
    const refusal = { kind: 'error', prefix: 'LOKI', message: expect.stringMatching(/^DISK_FULL: /) as string }
    expect(bench.replies.filter(([tag]) => tag === 3)).toEqual([[3, refusal]])
    expect(bench.said('read-replies')).toMatchObject([[7, { id: 1, replies: [refusal] }]])
    bench.settle()
    bench.turn.read(bench.origin, 4, command('GET', 'k'))
    bench.settle()
    expect(bench.replies.at(-1)).toEqual([4, null])
  })

  it('takes in no more than it can apply, however much comes', () => {
    const bench = alone({ entryBytes: 1, applyBytes: 1, unappliedEntries: 32, forwardedBytes: 10_000 })
    const session = { node: 7, incarnation: 1 }
    let most = 0
    let next = 1
    for (let turn = 0; turn < 3000; turn++) {
      // What did not fit is sent again.
      if (turn % 100 === 0) next = bench.turn.machine.nextSequence(session) ?? 1
      for (let each = 0; each < 4; each++) {
        bench.turn.receive(nodeId(7), { kind: 'relay', message: incrementing(7, 1, next++, 'a') })
      }
      bench.once()
      most = Math.max(most, bench.turn.decided - bench.turn.machine.applied)
    }
    // As much as waited for the next entry at a time.
    expect(most).toBeLessThan(400)
    bench.settle()
    const applied = bench.turn.machine.nextSequence(session)! - 1
    expect(applied).toBeGreaterThan(1000)
    expect(bench.turn.machine.read(command('GET', 'a'))).toEqual(Buffer.from(String(applied)))
  })

  it('answers reads of other nodes in messages of bounded size', () => {
    const bench = alone({ repliesBytes: 1500 })
    for (const key of ['a', 'b', 'c', 'd']) bench.turn.write(bench.origin, 0, command('SET', key, key.repeat(1000)))
    bench.settle()
    bench.sent.splice(0)
    const commands = ['a', 'b', 'c', 'd'].map((key) => command('GET', key))
    bench.hear(2, { kind: 'read', id: 1, commands })
    const [first] = bench.said('read-replies')
    expect(first).toMatchObject([2, { kind: 'read-replies', id: 1 }])
    const { replies } = first![1] as Extract<RelayMessage, { kind: 'read-replies' }>
    expect(replies.map(String)).toEqual(['a', 'b'].map((key) => key.repeat(1000)))
  })

  it('answers at least one read, however large', () => {
    const bench = alone({ repliesBytes: 100 })
    bench.turn.write(bench.origin, 0, command('SET', 'a', 'x'.repeat(1000)))
    bench.settle()
    bench.sent.splice(0)
    bench.hear(2, { kind: 'read', id: 1, commands: [command('GET', 'a'), command('GET', 'a')] })
    const [, message] = bench.said('read-replies')[0]!
    expect((message as Extract<RelayMessage, { kind: 'read-replies' }>).replies).toHaveLength(1)
  })
})

describe('commands that are sent again', () => {
  const three = configuration(1, [1, 2, 3])
  /** How often each command is in the log: by its number. */
  const inLog = (bench: Bench): number[] => {
    const times: number[] = []
    for (const entry of bench.turn.replica.log.entries) {
      if (entry.kind !== 'commands') continue
      for (const { first, commands } of decodeEntry(entry.payload).blocks) {
        for (let at = 0; at < commands.length; at++) times[first + at] = (times[first + at] ?? 0) + 1
      }
    }
    return times.slice(1)
  }
  const accepted = (bench: Bench, ballot: Ballot): Message => {
    return { kind: 'accepted', ballot, index: logIndex(bench.turn.replica.log.entries.length) }
  }

  it('go into the log of a leader that cannot decide once, for however long, and its own too', () => {
    const bench = new Bench(1, three)
    const { ballot, hear } = elected(bench)
    for (const key of ['x', 'y']) bench.turn.write(bench.origin, 1, command('INCR', key))
    for (let second = 0; second < 100; second++) {
      bench.hear(3, incrementing(3, 1, 1, 'a', 'b', 'c'))
      bench.hear(3, incrementing(3, 1, 3, 'c', 'd'))
      bench.pass(1000)
    }
    // Two of its own, and four of the other.
    expect(inLog(bench)).toEqual([2, 2, 1, 1])
    hear(accepted(bench, ballot))
    expect(bench.turn.machine.nextSequence({ node: 3, incarnation: 1 })).toBe(5)
    expect(bench.replies).toHaveLength(2)
  })

  it('are answered from memory when they were applied, also to a voter, and are in the log no more often', () => {
    const bench = new Bench(1, three)
    const { ballot, hear } = elected(bench)
    bench.hear(3, incrementing(3, 1, 1, 'a', 'a'))
    hear(accepted(bench, ballot))
    // The voter answers its clients itself, when it applies.
    expect(bench.said('replies')).toEqual([])
    bench.hear(3, incrementing(3, 1, 1, 'a', 'a', 'a'))
    const session = { node: 3, incarnation: 1 }
    const replies = [1, 2].map((sequence) => ({ sequence, reply: sequence }))
    expect(bench.said('replies')).toMatchObject([[3, { session, replies }]])
    expect(inLog(bench)).toEqual([1, 1, 1])
    hear(accepted(bench, ballot))
    expect(bench.turn.machine.read(command('GET', 'a'))).toEqual(Buffer.from('3'))
  })

  it('are proposed again by a leader that was deposed, lost them from its log, and leads again', () => {
    const bench = new Bench(1, three)
    const { ballot: first, hear } = elected(bench)
    const block = incrementing(3, 1, 1, 'a', 'b')
    bench.hear(3, block)
    expect(inLog(bench)).toEqual([1, 1])
    const zero = logIndex(0)
    const ballot = { ...first, n: first.n + 1, node: nodeId(2) }
    hear({ kind: 'prepare', ballot, decided: zero, acceptedBallot: ZERO_BALLOT, accepted: zero })
    hear({ kind: 'accept-sync', ballot, decided: zero, base: logIndex(1), entries: [] })
    expect(inLog(bench)).toEqual([])
    const { ballot: again } = elected(bench)
    bench.hear(3, block)
    expect(inLog(bench)).toEqual([1, 1])
    hear(accepted(bench, again))
    expect(bench.turn.machine.nextSequence({ node: 3, incarnation: 1 })).toBe(3)
  })

  it('have left before: what stands in line on a slow link is not lost', () => {
    const bench = new Bench(4, three)
    bench.isBehind = true
    bench.turn.write(bench.origin, 1, command('SET', 'k', 'large'))
    bench.turn.read(bench.origin, 2, command('GET', 'k'))
    bench.settle()
    const said = () => bench.sent.splice(0).map(({ message }) => message.message.kind)
    expect(said().filter((kind) => kind === 'forward' || kind === 'read')).toEqual(['forward', 'read'])
    bench.pass(60_000)
    expect(said().filter((kind) => kind === 'forward' || kind === 'read')).toEqual([])
    bench.isBehind = false
    bench.pass(1100)
    expect(said().filter((kind) => kind === 'forward' || kind === 'read')).toEqual(['read', 'forward'])
  })

  it('wait while nothing can be proposed, and are proposed once when it can', () => {
    const bench = new Bench(1, three)
    const { ballot, hear } = elected(bench)
    hear(accepted(bench, ballot), 3)
    hear(accepted(bench, ballot))
    bench.turn.transfer(nodeId(3))
    for (let times = 0; times < 5; times++) bench.hear(3, incrementing(3, 1, 1, 'a', 'b'))
    expect(inLog(bench)).toEqual([])
    bench.turn.disconnected(nodeId(3))
    bench.settle()
    for (let times = 0; times < 5; times++) bench.hear(3, incrementing(3, 1, 1, 'a', 'b'))
    expect(inLog(bench)).toEqual([1, 1])
  })
})
