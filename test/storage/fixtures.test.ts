/**
 * Data folders of every released version, kept under test/fixtures, open with this one and hold what they held.
 * A folder that cannot be opened any more is a broken promise: change the program, never the folder.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { KeyRing } from '../../src/storage/keys.ts'
import { type Keys, readCheckpoint, readIndexOf, readLog } from './format-reader.ts'
import { contentsOf, settingsOf } from './write-fixture.ts'

interface Wanted {
  readonly volume: string
  readonly first: number
  readonly state: { readonly decided: number }
  readonly entries: readonly string[]
}

const FIXTURES = join(import.meta.dirname, '../fixtures')

const names = readdirSync(FIXTURES).filter((name) => name.startsWith('data-'))

test('there is a folder of every kind', () => {
  expect(names).toEqual(expect.arrayContaining(['data-0.1.0', 'data-indexed', 'data-compressed', 'data-encrypted']))
})

test.each(names)('%s opens and holds what it held, at the second start too', async (name) => {
  const folder = await mkdtemp(join(tmpdir(), 'fixture-'))
  try {
    await cp(join(FIXTURES, name, 'data'), folder, { recursive: true })
    const wanted = JSON.parse(await readFile(join(FIXTURES, name, 'contains.json'), 'utf8')) as { timeline: number }
    const [, then] = settingsOf(join(FIXTURES, name))
    expect(await contentsOf(folder, then)).toEqual(wanted)
    expect(await contentsOf(folder, then)).toEqual({ ...wanted, timeline: wanted.timeline + 1 })
    // Compression and keys come and go.
    const keys = { keys: new KeyRing(join(FIXTURES, name, 'keys')) }
    expect(await contentsOf(folder, keys)).toEqual({ ...wanted, timeline: wanted.timeline + 2 })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})

test.each(names)('%s is what docs/FORMAT.md says: a reader written from the page alone reads it', async (name) => {
  const data = join(FIXTURES, name, 'data')
  const wanted = JSON.parse(await readFile(join(FIXTURES, name, 'contains.json'), 'utf8')) as Wanted
  const encrypted = name.endsWith('encrypted')
  const keys: Keys = encrypted
    ? {
        old: Buffer.from(readFileSync(join(FIXTURES, name, 'keys/old'), 'latin1').trim(), 'hex'),
        new: readFileSync(join(FIXTURES, name, 'keys/new')),
      }
    : {}
  const log = readLog(join(data, 'wal'), keys)
  expect(log).toMatchObject({ volume: wanted.volume, first: wanted.first, decided: wanted.state.decided })
  expect([...log.entries.keys()]).toEqual(wanted.entries.map((entry) => Number.parseInt(entry, 10)))
  for (const index of ['0000000000000025', '0000000000000045']) {
    const checkpoint = readCheckpoint(join(data, 'checkpoints', index), keys)
    expect(checkpoint).toMatchObject({ index: Number(index), sealed: encrypted })
    expect(createHash('sha256').update(Buffer.concat(checkpoint.slices)).digest('hex')).toBe(checkpoint.hash)
  }
  if (name === 'data-0.1.0') return
  for (const folder of ['wal', 'wal/archive']) {
    const files = readdirSync(join(data, folder)).filter((file) => file.endsWith('.wal'))
    const sealed = files.map((file) => readIndexOf(readFileSync(join(data, folder, file))))
    expect(sealed.filter((index) => index === null)).toHaveLength(folder === 'wal' ? 1 : 0)
  }
})
