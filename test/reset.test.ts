/** A node that gives its volumes back: everything is moved aside, one generation is kept, and again and again. */
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RealDisk } from '../src/storage/real-disk.ts'
import { finishReset, moveAside } from '../src/storage/reset.ts'

let folder: string
const disk = new RealDisk()

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lokikv-reset-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function fill(generation: string): { wal: string; checkpoints: string } {
  const [wal, checkpoints] = [join(folder, 'wal'), join(folder, 'checkpoints')]
  for (const path of [join(wal, 'archive'), join(checkpoints, '3')]) mkdirSync(path, { recursive: true })
  for (const path of [join(wal, '1.wal'), join(wal, 'archive', '0.wal'), join(checkpoints, '3', 'manifest')]) {
    writeFileSync(path, generation)
  }
  return { wal, checkpoints }
}

test('the second reset takes the place of the first', async () => {
  for (const generation of ['first', 'second', 'third']) {
    const { wal, checkpoints } = fill(generation)
    await moveAside(disk, wal, checkpoints)
    expect(readdirSync(wal)).toEqual(['removed'])
    expect(readdirSync(checkpoints)).toEqual(['removed'])
    expect(readFileSync(join(wal, 'removed', 'archive', '0.wal'), 'utf8')).toBe(generation)
    expect(readFileSync(join(checkpoints, 'removed', '3', 'manifest'), 'utf8')).toBe(generation)
  }
})

test('a reset that a crash interrupted is finished by the next start', async () => {
  const { wal, checkpoints } = fill('first')
  writeFileSync(join(wal, 'reset'), '')
  await finishReset(disk, wal, checkpoints)
  expect(readdirSync(wal)).toEqual(['removed'])
  await finishReset(disk, wal, checkpoints)
  expect(readdirSync(join(wal, 'removed')).sort()).toEqual(['1.wal', 'archive'])
})
