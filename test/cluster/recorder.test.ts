/**
 * Recorder and checker together: against a store of a few lines that is honest they find nothing, and against one
 * that loses a write, reads from the past, applies a command twice, answers with errors or drops connections they
 * say so. The cluster tests rest on this.
 */
import { type AddressInfo, type Socket, createServer } from 'node:net'
import { expect, test } from 'vitest'
import { RespDecoder } from '../../bench/resp-client.ts'
import { Recorder, type Recording } from './recorder.ts'
import { problemsOf, untilAnswered } from './verify.ts'

/** How a store lies, at every twentieth command. */
type Lie = 'none' | 'lost write' | 'old read' | 'twice' | 'error' | 'drop' | 'late close'

class Store {
  readonly #values = new Map<string, string>()
  readonly #older = new Map<string, string>()
  readonly #lie: Lie
  #count = 0

  constructor(lie: Lie) {
    this.#lie = lie
  }

  /** The reply, or null to drop the connection without one. */
  answer(command: string, key: string, value: string | undefined, option: string | undefined): string | null {
    const lies = ++this.#count % 20 === 0
    if (lies && this.#lie === 'error') return '-LOADING not yet\r\n'
    if (lies && this.#lie === 'drop') return null
    const old = this.#values.get(key)
    switch (command) {
      case 'GET':
        return bulk(lies && this.#lie === 'old read' ? this.#older.get(key) : old)
      case 'SET':
        if (option === 'NX' && old !== undefined) return '$-1\r\n'
        if (lies && this.#lie === 'lost write') return '+OK\r\n'
        this.#older.set(key, old ?? '')
        this.#values.set(key, value ?? '')
        return '+OK\r\n'
      case 'DEL':
        return `:${this.#values.delete(key) ? 1 : 0}\r\n`
      default: {
        const number = Number(old ?? 0) + 1
        this.#values.set(key, String(lies && this.#lie === 'twice' ? number + 1 : number))
        return `:${number}\r\n`
      }
    }
  }
}

const bulk = (value: string | undefined): string =>
  value === undefined ? '$-1\r\n' : `$${Buffer.byteLength(value)}\r\n${value}\r\n`

/** Records clients of a store that lies, until they have got a good number of replies. */
async function record(lie: Lie): Promise<Recording> {
  const store = new Store(lie)
  const sockets = new Set<Socket>()
  let answered = 0
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    const decoder = new RespDecoder((command) => {
      const [name = '', key = '', value, option] = (command as Buffer[]).map(String)
      const reply = store.answer(name, key, value, option)
      if (reply === null) socket.destroy()
      // An orderly close comes right behind a reply: nothing is unanswered.
      else if (lie === 'late close' && ++answered % 100 === 0) socket.end(reply)
      else socket.write(reply)
    })
    socket.on('data', (chunk) => decoder.push(chunk))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const targets = ['a', 'b'].map((name) => ({ name, host: '127.0.0.1', port }))
  const recorder = new Recorder(targets, { registers: 2, counters: 1, connectionsPerTarget: 12 })
  try {
    await untilAnswered(recorder, 3000)
    return await recorder.stop()
  } finally {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  }
}

test('an honest store has no problems', async () => {
  expect(problemsOf(await record('none'))).toEqual([])
})

test.each(['lost write', 'old read', 'twice'] as const)('a store that lies is found out: %s', async (lie) => {
  expect(problemsOf(await record(lie))).toEqual([expect.stringMatching(/^not linearizable/)])
})

test('an error reply is a problem wherever it comes from', async () => {
  expect(problemsOf(await record('error'), ['a', 'b'])).toContainEqual(expect.stringMatching(/error-reply LOADING/))
})

test('a dropped connection is a problem, unless its node was killed', async () => {
  const recording = await record('drop')
  expect(problemsOf(recording)).toContainEqual(expect.stringMatching(/unanswered/))
  expect(problemsOf(recording, ['a', 'b'])).toEqual([])
})

test('an orderly close behind a reply is no problem: clients connect anew and go on', async () => {
  const recording = await record('late close')
  expect(recording.reconnects).toBeGreaterThan(10)
  expect(problemsOf(recording)).toEqual([])
})
