/** The storage bench works: it measures turns beside the bare loops, and says what of. No figure is asserted. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { measureAppends } from '../bench/storage-log.ts'

test('turns are measured beside the physical limit', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'bench-'))
  try {
    const rows = await measureAppends(folder, 25, 1, 5)
    expect(rows.map(({ what }) => Number(/turns of (\d+)/.exec(what)?.[1]))).toEqual([1, 4, 16, 64, 256])
    for (const { value, bar, better } of rows) {
      expect(value).toBeGreaterThan(0)
      expect([bar, better]).toEqual([0.8, 'larger'])
    }
  } finally {
    await rm(folder, { recursive: true })
  }
})
