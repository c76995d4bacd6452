/** A start that takes long says how far it is: in the log, to the startup probe, and in the status. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Config } from '../src/config.ts'
import { type NodeStatus, type StartProgressJson, parseNodeStatus } from '../src/contract.ts'
import { type AdminActions, createAdmin } from '../src/edge/admin/server.ts'
import { createMetrics } from '../src/edge/admin/metrics.ts'
import { waitingStatus } from '../src/node/status.ts'
import { StartWatch, openNodeStorage } from '../src/node/storage.ts'
import { parseSettings } from '../src/settings.ts'
import { RealDisk } from '../src/storage/real-disk.ts'
import { openStorage } from '../src/storage/storage.ts'
import * as sample from './storage/samples.ts'

const progress = (percent: number): StartProgressJson => ({ part: 'log', entries: percent * 10, bytes: 7, percent })

test('a line of log at most every second', () => {
  const lines: string[] = []
  let now = 5000
  const watch = new StartWatch(
    (message, fields) => lines.push(`${message} ${JSON.stringify(fields)}`),
    () => now,
  )
  for (let percent = 0; percent <= 100; percent++) {
    now += 40
    watch.report(progress(percent))
    expect(watch.current).toEqual(progress(percent))
  }
  expect(lines).toEqual([24, 49, 74, 99].map((percent) => `starting ${JSON.stringify(progress(percent))}`))
  watch.over()
  expect(watch.current).toBeNull()
})

test('the startup probe and the status show it', async () => {
  const config = { address: 'node:7400' } as Config
  let starting: StartProgressJson | null = null
  const status = (): NodeStatus => ({
    ...waitingStatus(config, null, null, 'test'),
    ...(starting ? { starting } : {}),
  })
  const actions = { status, started: () => false, readiness: () => ({ ready: false, reason: '' }) }
  const metrics = createMetrics(() => ({}) as never)
  const admin = createAdmin(actions as unknown as AdminActions, 'token '.repeat(4), metrics)
  const probe = async (): Promise<string> => {
    const { statusCode, body } = await admin.inject('/startupz')
    return `${statusCode} ${body}`
  }
  expect(await probe()).toBe('503 recovering\n')
  expect(parseNodeStatus(status()).starting).toBeUndefined()
  starting = progress(40)
  expect(await probe()).toBe('503 recovering: log 40 %, 400 entries, 7 bytes\n')
  const answer = await admin.inject({ url: '/v1/status', headers: { authorization: `Bearer ${'token '.repeat(4)}` } })
  expect(parseNodeStatus(answer.json()).starting).toEqual(progress(40))
  await admin.close()
})

test('a node reports what it reads', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'start-'))
  try {
    const storage = await openStorage(sample.options(new RealDisk(), folder))
    await sample.written(storage, sample.genesis(3), sample.appended(1, 50))
    await storage.close()
    const config = {
      walDirectory: join(folder, 'wal'),
      checkpointDirectory: join(folder, 'checkpoints'),
      controlFile: join(folder, 'wal/control.toml'),
      keysDirectory: null,
      settings: parseSettings({}),
    } as Config
    const watch = new StartWatch(() => {})
    const fatal = (error: unknown): void => {
      throw error
    }
    const again = await openNodeStorage(config, new RealDisk(), () => {}, fatal, watch)
    expect(watch.current).toMatchObject({ part: 'log', entries: 50 })
    await again.close()
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
