/**
 * kill -9 of a process that writes to the real disk, again and again on the same folder: a short soak (soak.ts). The
 * long one is `npm run soak`.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Soak } from './soak.ts'

const KILLS = 20
const SEED = 7

test(`${KILLS} kills of a writer, seed ${SEED}`, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kill-'))
  const soak = new Soak(folder, SEED)
  try {
    // More of them on a machine so busy that hardly a life comes to write.
    const isEnough = (): boolean => soak.summary.kills >= KILLS && soak.summary.acknowledged > KILLS
    while (!isEnough() && soak.summary.kills < 5 * KILLS) await soak.kill()
    expect(soak.summary.acknowledged).toBeGreaterThan(KILLS)
    expect(soak.summary.inStart).toBeLessThan(soak.summary.kills / 2)
  } finally {
    soak.close()
    await rm(folder, { recursive: true, force: true })
  }
})
