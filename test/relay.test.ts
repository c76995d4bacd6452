/** The relay's promises: order, numbers without gaps, everything unanswered again after a change of leader. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Origin } from '../src/front.ts'
import { type Block, type SystemCommand, encodeEntry } from '../src/machine/entry.ts'
import { Machine } from '../src/machine/machine.ts'
import type { Reply } from '../src/machine/reply.ts'
import { Relay, firstIncarnation } from '../src/turn/relay.ts'
import { configurationId, logIndex, nodeId } from '../src/vocabulary.ts'

const limits = {
  outstandingCommands: 100,
  outstandingBytes: 1 << 20,
  blockBytes: 200,
  resendMilliseconds: 1000,
  resendMostMilliseconds: 4000,
}
const command = (text: string) => [Buffer.from('SET'), Buffer.from('k'), Buffer.from(text)]

class Recorder implements Origin {
  readonly replies: [number, Reply][] = []
  flushes = 0
  reply(tag: number, reply: Reply): void {
    this.replies.push([tag, reply])
  }
  flush(): void {
    this.flushes++
  }
}

function blocks(relay: Relay): Block[] {
  const all: Block[] = []
  for (let next = relay.nextBlock(0); next; next = relay.nextBlock(0)) all.push(next.block)
  return all
}

const numbers = (list: readonly Block[]): number[] =>
  list.flatMap((block) => block.commands.map((_, position) => block.first + position))

describe('relay', () => {
  it('numbers commands without gaps and sends each once', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    const origin = new Recorder()
    for (let tag = 0; tag < 20; tag++) expect(relay.takeWrite(origin, tag, command(`value ${tag}`))).toBe(true)
    expect(numbers(blocks(relay))).toEqual(Array.from({ length: 20 }, (_, position) => position + 1))
    expect(blocks(relay)).toEqual([])
  })

  it('opens its session until the first answer', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    const origin = new Recorder()
    relay.takeWrite(origin, 0, command('a'))
    expect(relay.nextBlock(0)?.opens).toBe(true)
    relay.answer(1, 'OK')
    relay.takeWrite(origin, 1, command('b'))
    expect(relay.nextBlock(0)).toMatchObject({ opens: false, block: { acknowledged: 1, first: 2 } })
  })

  it('a refusal tells nothing of how new a state is, although all that was asked is given back', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    const full = Object.assign(new Recorder(), { defers: () => true })
    const asked = (): number => {
      relay.takeRead(full, 1, command('a'))
      return relay.nextReads(7)!.id
    }
    const refusal = { kind: 'error', prefix: 'LOKI', message: 'DISK_FULL: no room' } as const
    expect(relay.readHere(asked(), () => 'value')).toBe(7)
    expect(relay.readHere(asked(), () => refusal, true)).toBe(null)
    expect(relay.answerReads(asked(), ['value'])).toBe(7)
    expect(relay.answerReads(asked(), [refusal])).toBe(null)
  })

  it('gives back reads that their origin has no room for, and asks anew what was not read', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    const full = Object.assign(new Recorder(), {
      deferred: [] as number[],
      defers(tag: number): boolean {
        if (tag >= 2) this.deferred.push(tag)
        return tag >= 2
      },
    })
    const origin = new Recorder()
    for (let tag = 0; tag < 4; tag++) relay.takeRead(full, tag, command('a'))
    for (let tag = 0; tag < 3; tag++) relay.takeRead(origin, tag, command('b'))
    let reads = 0
    relay.readHere(relay.nextReads(0)!.id, () => (++reads <= 3 ? 'value' : undefined))
    expect(full).toMatchObject({
      replies: [
        [0, 'value'],
        [1, 'value'],
      ],
      deferred: [2, 3],
    })
    expect(origin.replies).toEqual([[0, 'value']])
    expect(relay.outstanding).toBe(2)
    // What comes from elsewhere, and for whom there is no room, is dropped.
    relay.takeRead(full, 4, command('c'))
    const again = relay.nextReads(0)!
    expect(again.commands).toHaveLength(3)
    relay.answerReads(again.id, ['x', 'y', 'z'])
    expect(origin.replies).toEqual([
      [0, 'value'],
      [1, 'x'],
      [2, 'y'],
    ])
    expect(full.deferred).toEqual([2, 3, 4])
    expect(relay.outstanding).toBe(0)
  })

  it('does not take a refusal for word that the state was read', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    const origin = new Recorder()
    const refusal: Reply = { kind: 'error', prefix: 'LOKI', message: 'DISK_FULL: …' }
    for (const reply of ['value', refusal, null]) {
      relay.takeRead(origin, 0, command('a'))
      const askedAt = relay.answerReads(relay.nextReads(5)!.id, [reply])
      expect(askedAt).toBe(reply === refusal ? null : 5)
    }
    expect(origin.replies.map(([, reply]) => reply)).toEqual(['value', refusal, null])
  })

  it('keeps of a large command what it takes, and small ones together', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, { ...limits, outstandingBytes: 1 << 24, blockBytes: 1 << 24 })
    const value = 'x'.repeat(100_000)
    const origin = new Recorder()
    for (const text of ['a', value, 'b', value, value, 'c']) relay.takeWrite(origin, 0, command(text))
    const { commands } = relay.nextBlock(0)!.block
    const memory = commands.map(({ buffer }) => buffer)
    expect(memory[0]).toBe(memory[2])
    expect(memory[0]).toBe(memory[5])
    for (const at of [1, 3, 4]) expect(memory[at]!.byteLength).toBeLessThan(value.length + 100)
    expect(commands.map((bytes) => bytes.length)).toEqual([0, 1, 0, 1, 1, 0].map((is) => 10 + is * (value.length + 1)))
  })

  it('refuses above its bound and takes again when there is room', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, { ...limits, outstandingCommands: 2 })
    const origin = new Recorder()
    expect(relay.takeWrite(origin, 0, command('a'))).toBe(true)
    expect(relay.takeRead(origin, 1, [Buffer.from('GET')])).toBe(true)
    expect(relay.takeWrite(origin, 2, command('c'))).toBe(false)
    blocks(relay)
    relay.answer(1, 'OK')
    expect(relay.takeWrite(origin, 2, command('c'))).toBe(true)
  })

  it('bounds the bytes of reads, too, while they wait, and lets them go with their answers', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, { ...limits, outstandingBytes: 1000 })
    const origin = new Recorder()
    const large = [Buffer.from('GET'), Buffer.alloc(400)]
    const take = (tag: number): boolean => relay.takeRead(origin, tag, large)
    expect([take(0), take(1), take(2), take(3)]).toEqual([true, true, true, false])
    const { id } = relay.nextReads(0)!
    expect(take(3)).toBe(false)
    expect(relay.takeWrite(origin, 4, command('x'))).toBe(false)
    // Only the first was answered: the others wait as before, once under another id.
    relay.answerReads(id, ['a'])
    expect([take(5), take(6)]).toEqual([true, false])
    const again = relay.nextReads(0)!
    expect(again.commands).toHaveLength(3)
    relay.answerReads(again.id, ['b', 'c', 'd'])
    expect(relay.outstanding).toBe(0)
    expect([take(7), take(8), take(9), take(10)]).toEqual([true, true, true, false])
  })

  it('keeps a window of bytes on their way, also after a change of leader, and goes on as answers make room', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, { ...limits, blockBytes: 30, inFlightBytes: 60 })
    const origin = new Recorder()
    for (let tag = 0; tag < 50; tag++) relay.takeWrite(origin, tag, command('ten bytes!'))
    const first = numbers(blocks(relay))
    expect(first.length).toBeGreaterThan(1)
    expect(first.length).toBeLessThan(10)
    expect(relay.hasMoreToSend).toBe(false)
    relay.restart(0)
    expect(relay.hasMoreToSend).toBe(true)
    expect(numbers(blocks(relay))).toEqual(first)
    let answered = 0
    for (let seen = first; answered < 50; seen = numbers(blocks(relay))) {
      expect(seen.length).toBeGreaterThan(0)
      for (const sequence of seen) relay.answer(sequence, 'OK')
      answered += seen.length
    }
    expect(origin.replies.map(([tag]) => tag)).toEqual(Array.from({ length: 50 }, (_, tag) => tag))
    expect(relay.hasMoreToSend).toBe(false)
  })

  it('answers each command once, and flushes each connection once a turn', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    const origin = new Recorder()
    for (let tag = 0; tag < 3; tag++) relay.takeWrite(origin, tag, command('x'))
    blocks(relay)
    for (const sequence of [1, 1, 2, 3, 3]) relay.answer(sequence, sequence)
    relay.flush()
    relay.flush()
    expect(origin.replies).toEqual([
      [0, 1],
      [1, 2],
      [2, 3],
    ])
    expect(origin.flushes).toBe(1)
    expect(relay.outstanding).toBe(0)
  })

  it('asks reads again of the next leader under the same id, and takes the first answer only', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    const origin = new Recorder()
    relay.takeRead(origin, 7, [Buffer.from('GET'), Buffer.from('k')])
    const batch = relay.nextReads(0)!
    expect(relay.restart(1)).toEqual([batch])
    relay.answerReads(batch.id, ['a'])
    relay.answerReads(batch.id, ['b'])
    expect(origin.replies).toEqual([[7, 'a']])
    expect(relay.restart(2)).toEqual([])
  })

  it('says that its session lives after a long silence, and only then', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, { ...limits, sessionKeepAliveMilliseconds: 60_000 })
    expect(relay.keepAlive(100_000)).toBeNull()
    relay.takeWrite(new Recorder(), 0, command('x'))
    relay.nextBlock(100_000)
    relay.answer(1, 'OK')
    expect(relay.keepAlive(159_999)).toBeNull()
    expect(relay.keepAlive(160_000)).toMatchObject({ acknowledged: 1, first: 2, commands: [] })
    expect(relay.keepAlive(160_001)).toBeNull()
  })

  it('waits longer after every repetition', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    relay.takeWrite(new Recorder(), 0, command('x'))
    relay.nextBlock(0)
    expect(
      [999, 1000, 2999, 3000, 6999, 7000].map((now) => {
        const due = relay.overdue(now)
        if (due) {
          relay.restart(now)
          relay.nextBlock(now)
        }
        return due
      }),
    ).toEqual([false, true, false, true, false, true])
  })

  it('notices a block that was lost although newer commands leave all the time', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    const origin = new Recorder()
    let resent = 0
    for (let now = 0; now <= 1500; now += 10) {
      relay.takeWrite(origin, now, command('x'))
      if (relay.overdue(now)) {
        resent++
        relay.restart(now)
      }
      // The first of them is lost; those behind it are out of order at the leader, and refused.
      while (relay.nextBlock(now)) continue
    }
    expect(resent).toBe(1)
  })

  it('does not take a slow leader for a lost message while answers come', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, { ...limits, outstandingCommands: 100_000 })
    const origin = new Recorder()
    for (let now = 0, sequence = 1; now <= 20_000; now += 100) {
      for (let each = 0; each < 10; each++) relay.takeWrite(origin, 0, command('x'))
      while (relay.nextBlock(now)) continue
      expect(relay.overdue(now)).toBe(false)
      relay.answer(sequence++, 'OK')
    }
  })

  it('does not count the time without a leader', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    relay.takeWrite(new Recorder(), 0, command('x'))
    for (let now = 0; now <= 60_000; now += 100) expect(relay.overdue(now)).toBe(false)
    relay.nextBlock(60_100)
    expect([61_000, 61_200].map((now) => relay.overdue(now))).toEqual([false, true])
  })

  it('waits for an answer from when its question has left: on a slow link that takes long', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    relay.takeWrite(new Recorder(), 0, command('x'))
    relay.takeRead(new Recorder(), 1, command('y'))
    relay.nextBlock(0)
    relay.nextReads(0)
    for (let now = 100; now <= 60_000; now += 100) expect(relay.overdue(now, true)).toBe(false)
    expect([60_100, 60_900, 61_000].map((now) => relay.overdue(now))).toEqual([false, false, true])
  })

  it('does not take the answer to a read of an earlier start for its own', () => {
    const before = new Relay({ node: 1, incarnation: firstIncarnation(4) }, limits)
    const after = new Relay({ node: 1, incarnation: firstIncarnation(5) }, limits)
    const origin = new Recorder()
    before.takeRead(origin, 0, [Buffer.from('GET'), Buffer.from('a')])
    after.takeRead(origin, 1, [Buffer.from('GET'), Buffer.from('b')])
    const old = before.nextReads(0)!
    const own = after.nextReads(0)!
    after.answerReads(old.id, ['value of a'])
    expect(origin.replies).toEqual([])
    after.answerReads(own.id, ['value of b'])
    expect(origin.replies).toEqual([[1, 'value of b']])
  })

  it('asks anew for reads that were left out of an answer, before newer ones', () => {
    const relay = new Relay({ node: 1, incarnation: 1 }, limits)
    const origin = new Recorder()
    const get = (key: string) => [Buffer.from('GET'), Buffer.from(key)]
    for (const [tag, key] of ['a', 'b', 'c'].entries()) relay.takeRead(origin, tag, get(key))
    const batch = relay.nextReads(0)!
    relay.takeRead(origin, 3, get('d'))
    relay.answerReads(batch.id, ['of a'])
    expect(relay.outstanding).toBe(3)
    const rest = relay.nextReads(1)!
    expect(rest.commands).toEqual(['b', 'c', 'd'].map(get))
    relay.answerReads(rest.id, ['of b', 'of c', 'of d'])
    expect(origin.replies).toEqual([
      [0, 'of a'],
      [1, 'of b'],
      [2, 'of c'],
      [3, 'of d'],
    ])
    expect(relay.outstanding).toBe(0)
  })

  it('after any mixture of answers and restarts, what is sent again is what is unanswered, in order', () => {
    const step = fc.oneof(
      fc.constant('take' as const),
      fc.constant('send' as const),
      fc.constant('restart' as const),
      fc.nat(30).map((sequence) => ({ answer: sequence + 1 })),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const relay = new Relay({ node: 1, incarnation: 1 }, limits)
        const origin = new Recorder()
        let taken = 0
        const answered = new Set<number>()
        for (const each of steps) {
          if (each === 'take') {
            if (relay.takeWrite(origin, taken + 1, command(`v${taken}`))) taken++
          } else if (each === 'send') blocks(relay)
          else if (each === 'restart') relay.restart(0)
          else if (each.answer <= taken) {
            relay.answer(each.answer, 'OK')
            answered.add(each.answer)
          }
        }
        relay.restart(0)
        const unanswered = Array.from({ length: taken }, (_, position) => position + 1).filter((n) => !answered.has(n))
        expect(numbers(blocks(relay))).toEqual(unanswered)
        expect(origin.replies.map(([tag]) => tag).toSorted((a, b) => a - b)).toEqual(
          [...answered].toSorted((a, b) => a - b),
        )
      }),
    )
  })
})

/** A machine that is fed by one relay over a line that loses, doubles and delays, in a log whose time leaps. */
class Line {
  readonly machine = new Machine({ maxMemoryBytes: 0 })
  readonly relay = new Relay({ node: 9, incarnation: firstIncarnation(3) }, limits)
  readonly origin = new Recorder()
  taken = 0
  readonly #blocks: { opens: boolean; block: Block }[] = []
  readonly #answers: (() => void)[] = []
  #time = 1_700_000_000_000

  constructor() {
    // Node 9, whose relay this is, is no member: its session may end.
    const nobody = { id: configurationId(1), voters: [], learners: [], preferredLeader: nodeId(0) }
    this.#enter([{ kind: 'adopt-members', configuration: nobody }], [])
  }

  take(): void {
    if (this.relay.takeWrite(this.origin, this.taken, [Buffer.from('INCR'), Buffer.from('n')])) this.taken++
  }

  send(): void {
    for (let next = this.relay.nextBlock(0); next; next = this.relay.nextBlock(0)) this.#blocks.push(next)
  }

  /** A block reaches the log: `which` of those that were ever sent, so that it may come late and again. */
  apply(which: number): void {
    const sent = this.#blocks[which % Math.max(1, this.#blocks.length)]
    if (!sent) return
    const { opens, block } = sent
    this.#enter(opens ? [{ kind: 'open-session', session: block.session }] : [], [block])
  }

  leap(): void {
    this.#time += 700_000
    this.#enter([], [])
  }

  hear(which: number): void {
    this.#answers[which % Math.max(1, this.#answers.length)]?.()
  }

  #enter(system: readonly SystemCommand[], blocks: readonly Block[]): void {
    const index = logIndex(this.machine.applied + 1)
    const payload = encodeEntry(this.#time, system, blocks)
    this.machine.apply(
      { kind: 'commands', index, payload },
      {
        reply: (session, sequence, reply) =>
          this.#answers.push(() => {
            if (session.incarnation === this.relay.session.incarnation) this.relay.answer(sequence, reply)
          }),
        refused: (session, next) => this.#answers.push(() => this.relay.renew(session, next)),
      },
    )
  }

  /** In the end nothing is lost any more. */
  settle(): void {
    for (let round = 0; this.relay.outstanding > 0 && round < 10; round++) {
      this.relay.restart(0)
      const from = this.#blocks.length
      this.send()
      const heard = this.#answers.length
      for (let at = from; at < this.#blocks.length; at++) this.apply(at)
      for (let at = heard; at < this.#answers.length; at++) this.hear(at)
    }
  }

  get count(): number {
    return Number(this.machine.read([Buffer.from('GET'), Buffer.from('n')]) ?? 0)
  }
}

const isUnknown = ([, reply]: readonly [number, Reply]): boolean =>
  typeof reply === 'object' && reply !== null && 'message' in reply && reply.message.startsWith('OUTCOME_UNKNOWN')

describe('a session that the log has ended', () => {
  it('an INCR whose reply is lost is told so, is never applied again, and what was not applied goes on', () => {
    const line = new Line()
    for (let count = 0; count < 3; count++) line.take()
    line.send()
    line.apply(0)
    line.take()
    line.leap()
    // The first three were applied and their replies lost; the fourth meets the end of the session.
    line.settle()
    expect(line.origin.replies.filter(isUnknown).map(([tag]) => tag)).toEqual([0, 1, 2])
    expect(line.origin.replies.filter((one) => !isUnknown(one))).toEqual([[3, 4]])
    expect(line.count).toBe(4)
  })

  it('any mixture of losses, repetitions and leaps of time: every INCR counts once, and is told the truth', () => {
    const act = fc.tuple(fc.constantFrom('take', 'send', 'restart', 'apply', 'hear', 'leap'), fc.nat({ max: 50 }))
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const line = new Line()
        for (const [what, which] of acts) {
          if (what === 'take') line.take()
          else if (what === 'send') line.send()
          else if (what === 'restart') line.relay.restart(0)
          else if (what === 'apply') line.apply(which)
          else if (what === 'hear') line.hear(which)
          else line.leap()
        }
        line.settle()
        const { replies } = line.origin
        expect(new Set(replies.map(([tag]) => tag)).size).toBe(line.taken)
        expect(replies).toHaveLength(line.taken)
        // Those of unknown outcome were applied: what was not is never given up.
        expect(line.count).toBe(line.taken)
        const known = replies.filter((one) => !isUnknown(one)).map(([, reply]) => reply)
        expect(new Set(known).size).toBe(known.length)
      }),
      { numRuns: 300 },
    )
  })
})
