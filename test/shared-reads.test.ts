/** Sockets with one buffer for all behave as sockets do. */
import { once } from 'node:events'
import { type Socket, createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { acceptSharing, connectSharing } from '../src/edge/shared-reads.ts'

interface Pair {
  readonly client: Socket
  readonly server: Socket
  readonly isMoved: boolean
}

/** Two ends of a connection; the server's may stay open when the client's has ended. */
async function withPair(work: (pair: Pair) => Promise<void>): Promise<void> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const client = connectSharing({ host: '127.0.0.1', port })
  const [accepted] = (await once(server, 'connection')) as [Socket]
  const socket = acceptSharing(accepted, { allowHalfOpen: true })
  try {
    await work({ client, server: socket, isMoved: socket !== accepted })
  } finally {
    client.destroy()
    socket.destroy()
    // It counts its connections: without this the last one would never have gone.
    await new Promise((resolve) => server.close(resolve))
  }
}

/** All that comes until the end. */
async function whole(socket: Socket): Promise<string> {
  let text = ''
  socket.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
  await once(socket, 'end')
  return text
}

test('what is said arrives, in both directions, whatever its size', async () => {
  await withPair(async ({ client, server, isMoved }) => {
    expect(isMoved).toBe(true)
    const large = 'x'.repeat(3_000_000)
    const [up, down] = [whole(server), whole(client)]
    client.write('a')
    client.end(large)
    expect(await up).toBe(`a${large}`)
    // The client has ended; it is answered all the same.
    server.end(large)
    expect(await down).toBe(large)
  })
})

test('the bytes are one buffer for all, so whoever keeps them copies them', async () => {
  await withPair(async ({ client, server }) => {
    client.write('first')
    const [first] = (await once(server, 'data')) as [Buffer]
    client.write('second')
    const [second] = (await once(server, 'data')) as [Buffer]
    expect(first.buffer).toBe(second.buffer)
    expect(second.toString()).toBe('second')
  })
})

test('a paused socket reads nothing, and goes on where it was', async () => {
  await withPair(async ({ client, server }) => {
    let bytes = 0
    server.on('data', (chunk: Buffer) => (bytes += chunk.length))
    server.pause()
    expect(server.isPaused()).toBe(true)
    const all = 20_000_000
    client.write(Buffer.alloc(all))
    await sleep(100)
    const before = bytes
    await sleep(100)
    expect(bytes).toBe(before)
    expect(bytes).toBeLessThan(all)
    server.resume()
    await vi.waitFor(() => expect(bytes).toBe(all), 10_000)
  })
})

test('an error of the connection is told, and ends it', async () => {
  await withPair(async ({ client, server }) => {
    server.on('error', () => undefined)
    const closed = new Promise((resolve) => server.once('close', resolve))
    client.resetAndDestroy()
    await closed
    expect(server.destroyed).toBe(true)
  })
})

test('a socket without what this needs is used as it is', () => {
  const bare = { _handle: null, resume: () => undefined } as unknown as Socket
  expect(acceptSharing(bare, { allowHalfOpen: false })).toBe(bare)
})
