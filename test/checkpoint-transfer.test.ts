/** Checkpoints from peer to peer: one source at a time, and what is asked of it ends with the attempt. */
import { expect, it } from 'vitest'
import { CheckpointTransfer } from '../src/node/checkpoint-transfer.ts'
import { LokiError } from '../src/errors.ts'
import type { RelayMessage } from '../src/turn/relay-messages.ts'
import type { Storage } from '../src/storage/storage.ts'
import { type NodeId, logIndex, nodeId } from '../src/vocabulary.ts'

const INDEX = logIndex(9)
const CHUNKS = 20

it('a source that sends a damaged chunk is left before the next one is asked', async () => {
  const puts: string[] = []
  const asked: string[] = []
  const open: { to: NodeId; message: RelayMessage }[] = []
  let attempt = 0
  const storage = {
    checkpoint: null,
    receive: () => {
      const name = `attempt ${++attempt}`
      return Promise.resolve({
        info: { chunks: Array.from({ length: CHUNKS }, () => ({ bytes: 1 })) },
        missing: () => Array.from({ length: CHUNKS }, (_, chunk) => chunk),
        put: (chunk: number) => {
          puts.push(name)
          if (attempt === 1 && chunk === 0) return Promise.reject(new LokiError('CHUNK_DAMAGED', 'chunk 0'))
          return Promise.resolve()
        },
        commit: () => Promise.resolve(),
      })
    },
  } as unknown as Storage
  const transfer = new CheckpointTransfer({
    storage,
    log: () => undefined,
    send: (to, message) => {
      asked.push(`${message.kind} of ${to}`)
      open.push({ to, message })
    },
    after: () => () => undefined,
  })
  const found = transfer.fetch(INDEX, [nodeId(2), nodeId(3)], () => true)
  for (let round = 0; round < 200; round++) {
    for (const { to, message } of open.splice(0)) {
      if (message.kind === 'fetch-manifest') {
        await transfer.receive(to, { kind: 'manifest', index: INDEX, manifest: new Uint8Array() })
      } else if (message.kind === 'fetch-chunk') {
        const { index, chunk } = message
        await transfer.receive(to, { kind: 'chunk', index, chunk, bytes: new Uint8Array(1) })
      }
    }
    await new Promise(setImmediate)
  }
  expect(await found).toBe(INDEX)
  const of = (node: number) => asked.filter((each) => each === `fetch-chunk of ${node}`).length
  expect(of(3)).toBe(CHUNKS)
  // As many as were on their way.
  expect(of(2)).toBeLessThanOrEqual(8)
  expect(puts.lastIndexOf('attempt 1')).toBeLessThan(puts.indexOf('attempt 2'))
})

it('a chunk has time according to its size, and a source that is lost is left at once', async () => {
  const patience: number[] = []
  const storage = {
    checkpoint: null,
    receive: () =>
      Promise.resolve({
        info: { chunks: [{ bytes: 1024 }, { bytes: 512 * 1024 * 1024 }] },
        missing: () => [0, 1],
        put: () => Promise.resolve(),
        commit: () => Promise.resolve(),
      }),
  } as unknown as Storage
  const asked: string[] = []
  const transfer: CheckpointTransfer = new CheckpointTransfer({
    storage,
    log: () => undefined,
    send: (to, message) => {
      asked.push(`${message.kind} of ${to}`)
      const manifest = { kind: 'manifest', index: INDEX, manifest: new Uint8Array() } as const
      if (message.kind === 'fetch-manifest') setImmediate(() => void transfer.receive(to, manifest))
      if (message.kind === 'fetch-chunk' && to === 2) setImmediate(() => transfer.lost(to))
      if (message.kind !== 'fetch-chunk' || to === 2) return
      const { index, chunk } = message
      setImmediate(() => void transfer.receive(to, { kind: 'chunk', index, chunk, bytes: new Uint8Array(1) }))
    },
    after: (milliseconds) => {
      patience.push(milliseconds)
      return () => undefined
    },
  })
  expect(await transfer.fetch(INDEX, [nodeId(2), nodeId(3)], () => true)).toBe(INDEX)
  expect(asked.filter((each) => each === 'fetch-manifest of 3')).toHaveLength(1)
  // Ten minutes for half a gigabyte, four at a time, are less than a slow network needs.
  expect(Math.max(...patience)).toBeGreaterThan(600_000)
  expect(Math.min(...patience)).toBeLessThan(10_000)
})

it('what was fetched waits until it may be taken, is not fetched again, and is given up in the end', async () => {
  const asked: string[] = []
  let commits = 0
  const storage: { checkpoint: unknown; receive: unknown } = {
    checkpoint: null,
    receive: () => Promise.resolve({ info: {}, missing: () => [], commit: () => Promise.resolve(commits++) }),
  }
  const transfer: CheckpointTransfer = new CheckpointTransfer({
    storage: storage as Storage,
    log: () => undefined,
    send: (to, message) => {
      asked.push(`${message.kind} of ${to}`)
      const manifest = { kind: 'manifest', index: INDEX, manifest: new Uint8Array() } as const
      setImmediate(() => void transfer.receive(to, manifest))
    },
    after: (milliseconds, act) => {
      // An answer has seconds, and comes; a pause is over at once.
      if (milliseconds < 1000) setImmediate(act)
      return () => undefined
    },
  })
  let refusals = 3
  expect(await transfer.fetch(INDEX, [nodeId(2)], () => refusals-- === 0)).toBe(INDEX)
  expect({ asked, commits }).toEqual({ asked: ['fetch-manifest of 2'], commits: 1 })
  expect(await transfer.fetch(INDEX, [nodeId(2)], () => false)).toBeNull()
  expect(commits).toBe(1)
  // Published, and not taken: a newer one that a peer has by now would be fetched from its beginning.
  storage.checkpoint = { index: INDEX }
  asked.length = 0
  expect(await transfer.fetch(logIndex(INDEX - 1), [nodeId(2)], () => false)).toBe(INDEX)
  expect(asked).toEqual([])
})
