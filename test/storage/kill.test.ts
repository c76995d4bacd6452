/**
 * kill -9 of a process that writes to the real disk, again and again on the same folder. What it said was durable
 * is there at the next start. `KILLS=1000` for a longer run.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { check } from '../../src/storage/fsck.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { openStorage } from '../../src/storage/storage.ts'
import * as sample from './samples.ts'

const kills = Number(process.env.KILLS ?? 24)

/** Lets a writer work for a while after its first acknowledgement; gives its last one. */
function writeAndKill(folder: string, milliseconds: number): Promise<{ index: number; promise: number }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['test/storage/writer.ts', folder, '65536'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    let armed = false
    child.stdout.on('data', (bytes: Buffer) => {
      text += bytes.toString()
      if (!armed) setTimeout(() => child.kill('SIGKILL'), milliseconds)
      armed = true
    })
    child.on('error', reject)
    child.on('close', () => {
      // A line without its end was being written when the process died.
      const line = text.split('\n').at(-2)
      if (line === undefined) reject(new Error('the writer acknowledged nothing'))
      const [index, promise] = (line ?? '').split(' ').map(Number)
      resolve({ index: index!, promise: promise! })
    })
  })
}

test(`${kills} kills of a writer`, { timeout: 60_000 + kills * 2000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kill-'))
  const disk = new RealDisk()
  try {
    for (let kill = 0; kill < kills; kill++) {
      const acknowledged = await writeAndKill(folder, Math.random() * 120)
      const findings = await check(disk, `${folder}/wal`, `${folder}/checkpoints`)
      expect(findings.filter(({ level }) => level !== 'good').map(({ text }) => text)).toEqual([])
      const storage = await openStorage(sample.options(disk, folder, { segmentBytes: 65536 }))
      const { entries, state, first } = storage.recovered
      expect(entries.map(({ index }) => index - first)).toEqual(entries.map((_, at) => at))
      expect(entries.at(-1)?.index ?? first - 1).toBeGreaterThanOrEqual(acknowledged.index)
      expect(state.promise.n).toBeGreaterThanOrEqual(acknowledged.promise)
      expect(first).toBeLessThanOrEqual((storage.checkpoint?.index ?? 0) + 1)
      await storage.close()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
