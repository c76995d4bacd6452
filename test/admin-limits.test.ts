/** What the admin port takes: the newest connections, so many, bodies of bounded size, one verification of the disk at a time. */
import { type AddressInfo, type Socket, connect } from 'node:net'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { LIMITS } from '../src/config.ts'
import { ADMIN_PATHS } from '../src/contract.ts'
import { type AdminActions, createAdmin } from '../src/edge/admin/server.ts'
import { createMetrics } from '../src/edge/admin/metrics.ts'

const TOKEN = 'a token of sixteen characters or more'

test('who holds many connections keeps no probe out: the oldest gives way; a body too large is refused', async () => {
  const admin = createAdmin(
    {} as AdminActions,
    TOKEN,
    createMetrics(() => ({}) as never),
  )
  await admin.listen({ port: 0, host: '127.0.0.1' })
  const { port } = admin.server.address() as AddressInfo
  const sockets: Socket[] = []
  const open = async (): Promise<void> => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    sockets.push(socket)
    await new Promise((resolve) => socket.once('connect', resolve))
  }
  const count = promisify(admin.server.getConnections.bind(admin.server))
  try {
    while (sockets.length < LIMITS.adminConnections) await open()
    for (let probe = 0; probe < 3; probe++) {
      const { status } = await fetch(`http://127.0.0.1:${port}${ADMIN_PATHS.livez}`)
      expect(status).toBe(200)
    }
    for (let more = 0; more < 40; more++) await open()
    await expect.poll(count, { timeout: 10_000 }).toBeLessThanOrEqual(LIMITS.adminConnections)
    expect(sockets.at(-1)!.destroyed).toBe(false)
  } finally {
    for (const socket of sockets) socket.destroy()
  }
  const answer = await admin.inject({
    method: 'POST',
    url: ADMIN_PATHS.transfer,
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    payload: JSON.stringify({ filler: 'x'.repeat(LIMITS.adminBodyBytes) }),
  })
  expect(answer.statusCode).toBe(413)
  expect(answer.json()).toMatchObject({ code: 'BAD_REQUEST' })
  await admin.close()
})
