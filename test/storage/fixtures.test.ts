/**
 * Data folders of every released version, kept under test/fixtures, open with this one and hold what they held.
 * A folder that cannot be opened any more is a broken promise: change the program, never the folder.
 */
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { contentsOf } from './write-fixture.ts'

const FIXTURES = join(import.meta.dirname, '../fixtures')

test.each(['data-0.1.0'])('%s opens and holds what it held, at the second start too', async (name) => {
  const folder = await mkdtemp(join(tmpdir(), 'fixture-'))
  try {
    await cp(join(FIXTURES, name, 'data'), folder, { recursive: true })
    const wanted = JSON.parse(await readFile(join(FIXTURES, name, 'contains.json'), 'utf8')) as { timeline: number }
    expect(await contentsOf(folder)).toEqual(wanted)
    expect(await contentsOf(folder)).toEqual({ ...wanted, timeline: wanted.timeline + 1 })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
