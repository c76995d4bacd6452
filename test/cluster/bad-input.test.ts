/**
 * Promise 7 on real processes: bad input gets a coded refusal, nothing is lost, and nobody else is disturbed. All
 * the while clients of the other nodes record what they see.
 */
import { createHash, randomBytes } from 'node:crypto'
import { open, readFile, readdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { RespConnection, RespError, textOf } from '../../bench/resp-client.ts'
import { ADMIN_PATHS } from '../../src/contract.ts'
import { AdminError } from './admin.ts'
import { type Cluster, eventually, leadsOn, withCluster } from './harness.ts'
import type { NodeProcess } from './process.ts'
import { Recorder } from './recorder.ts'
import { finish, problemsOf, untilAnswered } from './verify.ts'

/** Names and contents of everything under a folder, as one hash. */
async function fingerprint(...folders: string[]): Promise<string> {
  const hash = createHash('sha256')
  for (const folder of folders) {
    const files = await readdir(folder, { recursive: true, withFileTypes: true })
    for (const file of files.map((each) => join(each.parentPath, each.name)).toSorted()) {
      hash.update(file)
      hash.update(await readFile(file).catch(() => 'a folder'))
    }
  }
  return hash.digest('hex')
}

/** The segment of the log that was opened last. */
async function newestSegment(node: NodeProcess): Promise<string> {
  const names = (await readdir(node.walFolder)).filter((name) => /^\d+-\d+\.wal$/.test(name))
  const newest = names.toSorted((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10)).at(-1)
  if (newest === undefined) throw new Error(`${node.name} has no segment`)
  return join(node.walFolder, newest)
}

/** Changes bytes of a file in place. */
async function damage(path: string, change: (bytes: Buffer) => void): Promise<void> {
  const bytes = await readFile(path)
  change(bytes)
  await writeFile(path, bytes)
}

/** Starts a node that must be refused: it stays alive, tells the code, and leaves its volumes as they were. */
async function expectRefused(node: NodeProcess, codes: readonly string[]): Promise<void> {
  const before = await fingerprint(node.walFolder, node.checkpointFolder)
  await node.start()
  const code = await eventually(`${node.name} is refused`, async () => (await node.admin.status()).refusal?.code)
  expect(codes).toContain(code)
  expect(await node.admin.probe(ADMIN_PATHS.livez)).toBe(200)
  expect(await node.admin.probe(ADMIN_PATHS.readyz)).toBe(503)
  await node.stop()
  expect(await fingerprint(node.walFolder, node.checkpointFolder)).toBe(before)
}

async function rejection(promise: Promise<unknown>): Promise<AdminError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  )
  if (!(error instanceof AdminError)) throw new Error(`an AdminError was expected, not ${String(error)}`)
  return error
}

/** Writes bytes to a port and waits until the other side has closed, or has been silent for a second. */
function throwAt(port: number, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.setTimeout(1000, () => socket.destroy())
    socket.on('error', () => socket.destroy())
    socket.on('close', () => resolve())
    socket.resume()
    socket.write(bytes)
  })
}

test('garbage on the peer port and wrong requests on the admin port disturb nobody', async () => {
  await withCluster(3, {}, async (cluster) => {
    const recorder = new Recorder(cluster.targets(0, 1, 2))
    const { status } = await cluster.leader()
    const huge = Buffer.alloc(8, 0xff)
    const halfFrame = Buffer.from([200, 0, 0, 0, 1, 2, 3, 4, 1])
    const http = Buffer.from('GET / HTTP/1.1\r\n\r\n')
    const throwAll = async (): Promise<void> => {
      for (const bytes of [randomBytes(4096), huge, halfFrame, http, Buffer.alloc(65_536)]) {
        await Promise.all(cluster.running.map((node) => throwAt(node.ports.peer, bytes)))
      }
    }
    expect(await leadsOn(cluster, throwAll)).toBe(true)
    await expectAdminRefusals(cluster, (await cluster.leader()).node)
    await untilAnswered(recorder, 300)
    const after = await cluster.leader()
    expect(after.status.configuration).toEqual(status.configuration)
    const recording = await finish(cluster, recorder, [0, 1, 2])
    expect(problemsOf(recording)).toEqual([])
  })
})

async function expectAdminRefusals(cluster: Cluster, leader: NodeProcess): Promise<void> {
  const { admin } = leader
  const status = await admin.status()
  for (const token of ['', 'wrong', `${cluster.token}x`, cluster.token.slice(1)]) {
    for (const [method, path] of [
      ['GET', ADMIN_PATHS.status],
      ['POST', ADMIN_PATHS.genesis],
      ['PUT', ADMIN_PATHS.configuration],
      ['POST', ADMIN_PATHS.transfer],
    ] as const) {
      const body = method === 'GET' ? undefined : {}
      expect(await rejection(admin.request(method, path, body, token))).toMatchObject({
        status: 401,
        code: 'UNAUTHORIZED',
      })
    }
  }
  expect(await admin.probe(ADMIN_PATHS.livez)).toBe(200)
  expect(await rejection(admin.request('GET', '/v1/nothing'))).toMatchObject({ status: 404, code: 'NOT_FOUND' })
  expect(await rejection(admin.request('POST', ADMIN_PATHS.genesis, { clusterId: 7 }))).toMatchObject({
    status: 400,
    code: 'BAD_REQUEST',
  })
  const founders = status.configuration?.voters ?? []
  const self = status.nodeId ?? 0
  // The same genesis again is nothing new; another one is refused.
  await admin.genesis({ clusterId: cluster.clusterId, self, founders })
  const other = 'f'.repeat(32)
  expect(await rejection(admin.genesis({ clusterId: other, self, founders }))).toMatchObject({
    status: 409,
    code: 'IDENTITY_CONFLICT',
  })
  const stale = { expectedConfigurationId: 77, voters: founders, learners: [], preferredLeader: null }
  // Who does not lead any more says so.
  await eventually('the leader refuses what expects another configuration', async () => {
    const { code } = await rejection((await cluster.leader()).node.admin.configure(stale))
    return code === 'CONFIGURATION_CHANGED'
  })
  await eventually('a follower refuses what is for the leader', async () => {
    const follower = await cluster.follower()
    const to = (await follower.admin.status()).nodeId ?? 0
    return (await rejection(follower.admin.transfer({ expectedConfigurationId: 1, to }))).code === 'NOT_LEADER'
  })
}

test('bad commands are answered with an error, and the connection goes on where Redis goes on', async () => {
  await withCluster(1, { settings: { maxValueBytes: 4096 } }, async (cluster) => {
    const { host, port } = cluster.node(0).client
    const connection = await RespConnection.open(host, port)
    const errorOf = async (...args: string[]): Promise<string> => {
      const reply = await connection.call(...args)
      return reply instanceof RespError ? reply.text : `no error: ${textOf(reply)}`
    }
    expect(await errorOf('NOSUCHCOMMAND', 'x')).toMatch(/^ERR unknown command 'NOSUCHCOMMAND'/)
    expect(await errorOf('GET')).toBe("ERR wrong number of arguments for 'get' command")
    expect(await errorOf('SET', 'k', 'v', 'NX', 'XX')).toBe('ERR syntax error')
    expect(await connection.call('SET', 'text', 'abc')).toBe('OK')
    expect(await errorOf('INCR', 'text')).toBe('ERR value is not an integer or out of range')
    expect(textOf(await connection.call('GET', 'text'))).toBe('abc')
    connection.close()

    for (const bytes of ['*1\r\n$5000\r\n', `${'x'.repeat(70_000)}\r\n`, '*-7\r\n', '*1\r\n!3\r\n', '*99999999\r\n']) {
      await throwAt(port, Buffer.from(bytes))
    }
    expect(textOf(await cluster.command(cluster.node(0), 'GET', 'text'))).toBe('abc')
  })
})

describe('a node with a damaged or foreign volume is refused, with a code, and the others go on', () => {
  test('control file, meta, log', async () => {
    await withCluster(3, {}, async (cluster) => {
      const node = cluster.node(2)
      const recorder = new Recorder(cluster.targets(0, 1))
      await cluster.transfer(cluster.node(0))
      await untilAnswered(recorder, 200)
      await node.stop()

      const control = join(node.walFolder, 'control.toml')
      const original = await readFile(control, 'utf8')
      await writeFile(
        control,
        original.replace(/cluster_id = "./, (text) => `${text.slice(0, -1)}${text.endsWith('0') ? 1 : 0}`),
      )
      await expectRefused(node, ['IDENTITY_CONFLICT', 'CONTROL_FILE_INVALID'])
      await writeFile(control, original.replace('self_identifier = 3', 'self_identifier = 2'))
      await expectRefused(node, ['IDENTITY_CONFLICT', 'CONTROL_FILE_INVALID'])
      await writeFile(control, 'self_identifier = = 3')
      await expectRefused(node, ['CONTROL_FILE_INVALID'])
      await writeFile(control, original)

      // One bad slot of the meta file costs nothing, two stop the node.
      const meta = await readFile(join(node.walFolder, 'meta'))
      await damage(join(node.walFolder, 'meta'), (bytes) => bytes.fill(0xaa, 100, 200))
      await node.start()
      await cluster.waitUntilCaughtUp(node)
      await node.stop()
      await damage(join(node.walFolder, 'meta'), (bytes) => bytes.fill(0xaa, 100, 200).fill(0xbb, 4200, 4300))
      await expectRefused(node, ['META_DAMAGED'])
      expect(meta.length).toBe(8192)
      const recording = await finish(cluster, recorder, [0, 1])
      expect(problemsOf(recording)).toEqual([])
    })
  })

  test('a torn tail is cut, rot in what was decided is repaired from the peers', async () => {
    await withCluster(3, {}, async (cluster) => {
      const node = cluster.node(2)
      await cluster.transfer(cluster.node(0))
      const before = new Recorder(cluster.targets(0, 1), { prefix: 'before' })
      await untilAnswered(before, 200)
      // Everybody has everything: what this node is robbed of, it had acknowledged, and the others must not rest on it.
      expect(problemsOf(await finish(cluster, before, [0, 1, 2]))).toEqual([])
      await eventually('all hold the same', async () => {
        const statuses = await cluster.statuses()
        return new Set(statuses.map(({ status }) => status.decidedIndex)).size === 1
      })

      // What a crash in the middle of a write leaves: the last sectors are still the zeros that were there before.
      await node.kill9()
      const torn = await newestSegment(node)
      await damage(torn, (bytes) => {
        const end = bytes.findLastIndex((byte) => byte !== 0)
        bytes.fill(0, end - (end % 512))
      })
      await node.start()
      await cluster.waitUntilCaughtUp(node)
      const recorder = new Recorder(cluster.targets(0, 1))
      await untilAnswered(recorder, 200)
      await node.stop()

      const rotten = await newestSegment(node)
      await damage(rotten, (bytes) => {
        const end = bytes.findLastIndex((byte) => byte !== 0)
        const middle = Math.floor((Math.max(512, end - 20_000) + end) / 2)
        bytes[middle] = bytes[middle]! ^ 0x5a
      })
      await node.start()
      await cluster.waitUntilCaughtUp(node)
      expect(await node.logs()).toContain('entries were lost to rot')
      await untilAnswered(recorder, 200)
      const recording = await finish(cluster, recorder, [0, 1])
      expect(problemsOf(recording)).toEqual([])
      expect(recording.reconnects).toBe(0)
    })
  })

  test('volumes of two nodes mixed up', async () => {
    await withCluster(3, {}, async (cluster) => {
      const node = cluster.node(2)
      const recorder = new Recorder(cluster.targets(0, 1))
      await untilAnswered(recorder, 100)
      await node.stop()
      const foreign = await readFile(join(cluster.node(1).checkpointFolder, 'stamp'))
      const file = await open(join(node.checkpointFolder, 'stamp'), 'w')
      await file.writeFile(foreign)
      await file.close()
      await expectRefused(node, ['VOLUME_MISMATCH'])
      const recording = await finish(cluster, recorder, [0, 1])
      expect(problemsOf(recording)).toEqual([])
      expect(recording.reconnects).toBe(0)
    })
  })
})
