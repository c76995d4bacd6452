/** A connection sees its own writes, through any node: SET and GET in one packet, to a follower. */
import { createConnection } from 'node:net'
import { expect, test } from 'vitest'
import { withCluster } from './harness.ts'

const ROUNDS = 200

test('SET and GET pipelined on one connection through a follower: every read sees the write before it', async () => {
  await withCluster(3, {}, async (cluster) => {
    const { client } = await cluster.follower()
    const socket = createConnection(client.port, client.host).setNoDelay(true)
    let received = ''
    let wake = (): void => undefined
    socket.on('data', (bytes) => {
      received += bytes.toString()
      wake()
    })
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const value = String(1000 + round)
        // Every other round begins with a read, so that a write behind an unanswered read is there too.
        const isReadFirst = round % 2 === 1
        const expected = `${isReadFirst ? `$4\r\n${999 + round}\r\n` : ''}+OK\r\n$4\r\n${value}\r\n`
        received = ''
        socket.write(`${isReadFirst ? 'GET k\r\n' : ''}SET k ${value}\r\nGET k\r\n`)
        while (received.length < expected.length) await new Promise<void>((resolve) => (wake = resolve))
        expect(received).toBe(expected)
      }
    } finally {
      socket.destroy()
    }
  })
})
