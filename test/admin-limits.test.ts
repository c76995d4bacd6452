/** What the admin port takes: so many connections, bodies of bounded size, one verification of the disk at a time. */
import { type AddressInfo, type Socket, connect } from 'node:net'
import { expect, test } from 'vitest'
import { LIMITS } from '../src/config.ts'
import { ADMIN_PATHS } from '../src/contract.ts'
import { type AdminActions, createAdmin } from '../src/edge/admin.ts'
import { createMetrics } from '../src/edge/metrics.ts'

const TOKEN = 'a token of sixteen characters or more'

test('one connection too many is closed, a body too large refused, and both take again what comes after', async () => {
  const admin = createAdmin(
    {} as AdminActions,
    TOKEN,
    createMetrics(() => ({}) as never),
  )
  await admin.listen({ port: 0, host: '127.0.0.1' })
  const { port } = admin.server.address() as AddressInfo
  const sockets: Socket[] = []
  const open = async (): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    await new Promise((resolve) => socket.once('connect', resolve))
    return socket
  }
  try {
    while (sockets.length < LIMITS.adminConnections) sockets.push(await open())
    const oneTooMany = await open()
    await new Promise((resolve) => oneTooMany.once('close', resolve).resume())
    const leaves = sockets.pop()!
    leaves.destroy()
    let alive = 0
    for (let tries = 0; alive !== 200 && tries < 1000; tries++) {
      alive = await fetch(`http://127.0.0.1:${port}${ADMIN_PATHS.livez}`).then(
        ({ status }) => status,
        () => 0,
      )
    }
    expect(alive).toBe(200)
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
