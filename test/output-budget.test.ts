/** Whom the bound on answers that are not taken cuts off: connections with sockets that take what the test says. */
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { expect, it } from 'vitest'
import { OutputBudget } from '../src/edge/resp/output-budget.ts'
import { Answers } from '../src/edge/resp/answers.ts'
import { RespEncoder } from '../src/edge/resp/encoder.ts'

const MOST = 100_000
const STALL = 200

class World {
  readonly all: Answers[] = []
  readonly budget = new OutputBudget(
    { mostBytes: MOST, stallMilliseconds: STALL },
    () => this.all,
    () => undefined,
  )
  readonly #encoder = new RespEncoder()

  /** A connection whose client takes what it is given when `take` is called. */
  client(): { readonly answers: Answers; readonly socket: Duplex; take(): void } {
    const taken: (() => void)[] = []
    const socket = new Duplex({
      highWaterMark: 65_536,
      read: () => undefined,
      write: (_chunk, _encoding, done) => void taken.push(done),
      writev: (_chunks, done) => void taken.push(done),
    })
    const shared = { encoder: this.#encoder, budget: this.budget, limits: { maxOutputBytes: 10 * MOST } }
    const answers = new Answers(socket as unknown as Socket, shared, () => undefined)
    this.all.push(answers)
    return { answers, socket, take: () => taken.splice(0).forEach((done) => done()) }
  }

  /** A client that takes nothing of what makes it too much for all. */
  slow(): Duplex {
    const { answers, socket } = this.client()
    answer(answers, MOST + 1)
    return socket
  }
}

function answer(answers: Answers, bytes: number): void {
  answers.queue.answer(Buffer.alloc(bytes))
  answers.writeOut(null)
}

it('not who has taken everything, although nobody told of the last of it', async () => {
  const world = new World()
  const idle = world.client()
  // Too little for a `drain`.
  answer(idle.answers, 30_000)
  expect(world.budget.heldBytes).toBeGreaterThan(30_000)
  idle.take()
  expect(idle.socket.writableLength).toBe(0)
  const slow = world.slow()
  await expect.poll(() => world.budget.cutOff, { timeout: 10_000 }).toBe(1)
  expect({ idle: idle.socket.destroyed, slow: slow.destroyed }).toEqual({ idle: false, slow: true })
  expect(world.budget.heldBytes).toBe(0)
})

it('not who has answers that wait for one that is not there', async () => {
  const world = new World()
  const waits = world.client()
  waits.answers.queue.open('write')
  answer(waits.answers, 30_000)
  expect(world.budget.heldBytes).toBeGreaterThanOrEqual(30_000)
  const slow = world.slow()
  await expect.poll(() => world.budget.cutOff, { timeout: 10_000 }).toBe(1)
  expect({ waits: waits.socket.destroyed, slow: slow.destroyed }).toEqual({ waits: false, slow: true })
})
