/**
 * The simulated disk is only worth something if it does what a real disk may do: all of it, and nothing else. Small
 * programs with everything that a crash may leave of them; disks that are kinder, each of which would be noticed;
 * and random programs without a crash, where it must answer as the real file system does.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Disk, DiskFile, OpenMode } from '../../src/storage/disk.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { type Choose, SimulatedDisk } from './simulated-disk.ts'

const SECTOR = 512
/** One letter a sector. */
const sectors = (letters: string): Buffer =>
  Buffer.concat(letters.split('').map((letter) => Buffer.alloc(SECTOR, letter)))
const letters = (bytes: Buffer): string =>
  Array.from({ length: Math.ceil(bytes.length / SECTOR) }, (_, at) => bytes[at * SECTOR]! || 0)
    .map((code) => (code === 0 ? '.' : String.fromCharCode(code)))
    .join('')

/** Opens, acts, closes. */
async function on(disk: Disk, path: string, mode: OpenMode, act: (file: DiskFile) => Promise<void>): Promise<void> {
  const file = await disk.open(path, mode)
  await act(file)
  await file.close()
}

interface Program {
  /** Files that are durable before it begins. */
  readonly files?: Readonly<Record<string, string>>
  readonly run: (disk: SimulatedDisk) => Promise<void>
  /** Everything that a crash behind it may leave: `name=letters` of every file. */
  readonly leaves: readonly string[]
}

const PROGRAMS: Readonly<Record<string, Program>> = {
  'a write is torn at any sector': {
    files: { a: 'oo' },
    run: (disk) => on(disk, '/d/a', 'write', (file) => file.write(sectors('nn'), 0)),
    leaves: ['a=oo', 'a=on', 'a=no', 'a=nn'],
  },
  'writes of two files come in any order': {
    files: { a: 'o', b: 'o' },
    run: async (disk) => {
      await on(disk, '/d/a', 'write', (file) => file.write(sectors('n'), 0))
      await on(disk, '/d/b', 'write', (file) => file.write(sectors('n'), 0))
    },
    leaves: ['a=o b=o', 'a=n b=o', 'a=o b=n', 'a=n b=n'],
  },
  'a file grows with or without its contents': {
    files: { a: 'o' },
    run: (disk) => on(disk, '/d/a', 'write', (file) => file.write(sectors('n'), SECTOR)),
    leaves: ['a=o', 'a=o.', 'a=on'],
  },
  'what is synced stays': {
    files: { a: 'oo' },
    run: (disk) =>
      on(disk, '/d/a', 'write', async (file) => {
        await file.write(sectors('nn'), 0)
        await file.sync()
      }),
    leaves: ['a=nn'],
  },
  'a durable write stays, its name need not': {
    run: (disk) => on(disk, '/d/a', 'create-durable', (file) => file.write(sectors('n'), 0)),
    leaves: ['', 'a=n'],
  },
  'a sync of the directory keeps names, not contents': {
    run: async (disk) => {
      await on(disk, '/d/a', 'create', (file) => file.write(sectors('n'), 0))
      await disk.syncDirectory('/d')
    },
    leaves: ['a=', 'a=.', 'a=n'],
  },
  'a rename of what was not synced loses the contents of both': {
    files: { a: 'o' },
    run: async (disk) => {
      await on(disk, '/d/b', 'create', (file) => file.write(sectors('n'), 0))
      await disk.syncDirectory('/d')
      await disk.rename('/d/b', '/d/a')
    },
    leaves: ['a=o b=', 'a=o b=.', 'a=o b=n', 'a=', 'a=.', 'a=n'],
  },
  'a file is cut short, or not, with or without what was written': {
    files: { a: 'oo' },
    run: (disk) =>
      on(disk, '/d/a', 'write', async (file) => {
        await file.write(sectors('n'), 0)
        await file.truncate(SECTOR)
      }),
    leaves: ['a=oo', 'a=no', 'a=o', 'a=n'],
  },
  'a rename is one of the file, whatever has its old name': {
    files: { a: 'o' },
    run: async (disk) => {
      await disk.unlink('/d/a')
      await on(disk, '/d/a', 'create-durable', (file) => file.write(sectors('n'), 0))
      await disk.rename('/d/a', '/d/b')
    },
    leaves: ['a=o', '', 'a=n', 'b=n'],
  },
  'names are lost one by one, in any order': {
    files: { a: 'o', b: 'o' },
    run: async (disk) => {
      await disk.unlink('/d/a')
      await disk.rename('/d/b', '/d/c')
    },
    leaves: ['a=o b=o', 'b=o', 'a=o c=o', 'c=o'],
  },
  'what happens in a directory happens whatever its name': {
    files: { 'x/a': 'o', 'x/b': 'o' },
    run: async (disk) => {
      await disk.rename('/d/x', '/d/y')
      await disk.unlink('/d/y/a')
    },
    leaves: ['x/a=o x/b=o', 'x/b=o', 'y/a=o y/b=o', 'y/b=o'],
  },
  'a directory goes file by file': {
    files: { 'x/a': 'o', 'x/b': 'o' },
    run: (disk) => disk.removeDirectory('/d/x'),
    leaves: ['x/a=o x/b=o', 'x/a=o', 'x/b=o', ''],
  },
  'a move between directories needs both of them': {
    files: { 'x/a': 'o', 'y/b': 'o' },
    run: async (disk) => {
      await disk.rename('/d/x/a', '/d/y/a')
      await disk.syncDirectory('/d/y')
    },
    leaves: ['x/a=o y/b=o', 'y/a=o y/b=o'],
  },
  'what a failed sync has lost is not brought back by the next': {
    files: { a: 'o' },
    run: (disk) =>
      on(disk, '/d/a', 'write', async (file) => {
        await file.write(sectors('n'), 0)
        disk.failAt = disk.steps + 1
        await expect(file.sync()).rejects.toThrow('EIO')
        expect(letters(await file.read(0, SECTOR))).toBe('n')
        await file.sync()
      }),
    leaves: ['a=o'],
  },
}

/** What every choice of what survives leaves behind. */
async function left(program: Program, make: () => SimulatedDisk): Promise<string[]> {
  const disk = make()
  disk.poke('/d/.', Buffer.alloc(0))
  for (const [name, content] of Object.entries(program.files ?? {})) disk.poke(`/d/${name}`, sectors(content))
  await program.run(disk)
  const units = disk.units()
  const seen = new Set<string>()
  for (let bits = 0; bits < 2 ** units.length; bits++) {
    const survivor = disk.survivor((unit) => (bits >> units.indexOf(unit)) & 1)
    const paths = survivor.paths().filter((path) => path !== '/d/.')
    seen.add(paths.map((path) => `${path.slice(3)}=${letters(survivor.peek(path)!)}`).join(' '))
  }
  return [...seen].sort()
}

describe('a crash leaves all of what it may, and nothing else', () => {
  for (const [name, program] of Object.entries(PROGRAMS)) {
    test(`disk: ${name}`, async () => {
      expect(await left(program, () => new SimulatedDisk())).toEqual([...program.leaves].sort())
    })
  }
})

describe('a disk that is too kind is noticed', () => {
  const kind = (change: (choose: Choose) => Choose) => (): SimulatedDisk =>
    new (class extends SimulatedDisk {
      override survivor(choose: Choose): SimulatedDisk {
        return super.survivor(change(choose))
      }
    })()
  const KIND: Readonly<Record<string, () => SimulatedDisk>> = {
    'nothing is ever lost': kind(() => () => 1),
    'everything that was not synced is lost': kind(() => () => 0),
    'names are never lost': kind((choose) => (unit) => (unit.startsWith('change') ? 1 : choose(unit))),
    'contents are never lost': kind((choose) => (unit) => (unit.startsWith('sector') ? 1 : choose(unit))),
    'writes are never torn': kind((choose) => (unit) => choose(unit.replace(/\/\d+$/, '/0'))),
    'files grow with their contents only': kind((choose) => (unit) => (unit.startsWith('size') ? 0 : choose(unit))),
    'names change in the order of the calls': kind((choose) => (unit) => {
      const at = Number(/^change (\d+)$/.exec(unit)?.[1] ?? -1)
      for (let before = 0; before < at; before++) if (choose(`change ${before}`) === 0) return 0
      return choose(unit)
    }),
  }
  for (const [name, make] of Object.entries(KIND)) {
    test(`disk: ${name}`, async () => {
      let noticed = 0
      for (const program of Object.values(PROGRAMS)) {
        const leaves = (await left(program, make)).join()
        if (leaves !== [...program.leaves].sort().join()) noticed++
      }
      expect(noticed).toBeGreaterThan(0)
    })
  }
})

interface Call {
  readonly what: string
  readonly act: (disk: Disk, root: string) => Promise<unknown>
}

const call = (what: string, act: Call['act']): Call => ({ what, act })
const path = fc.constantFrom('a', 'b', 'x/a', 'x/b', 'y/a', 'x/z/a')
const directory = fc.constantFrom('x', 'y', 'x/z')
const mode = fc.constantFrom<OpenMode>('create', 'create-durable', 'write')
const bytes = fc.uint8Array({ minLength: 1, maxLength: 1200 })

const calls: fc.Arbitrary<Call> = fc.oneof(
  fc.tuple(path, mode, fc.oneof(fc.constant(0), fc.nat(2000)), bytes).map(([at, how, offset, content]) =>
    call(`${how} ${at} ${content.length}@${offset}`, (disk, root) =>
      on(disk, `${root}/${at}`, how, async (file) => {
        await file.write(content, offset)
        await file.sync()
      }),
    ),
  ),
  fc.tuple(path, fc.nat(2000)).map(([at, offset]) =>
    call(`read ${at}@${offset}`, async (disk, root) => {
      const file = await disk.open(`${root}/${at}`, 'read')
      const found = [await file.size(), (await file.read(offset, 700)).toString('hex')]
      await file.close()
      return found
    }),
  ),
  fc
    .oneof(fc.tuple(path, path), fc.constantFrom(['x', 'y'] as const, ['y', 'x'] as const))
    .map(([from, to]) => call(`rename ${from} ${to}`, (disk, root) => disk.rename(`${root}/${from}`, `${root}/${to}`))),
  fc
    .tuple(path, fc.nat(2000))
    .map(([at, size]) =>
      call(`truncate ${at} ${size}`, (disk, root) => on(disk, `${root}/${at}`, 'write', (file) => file.truncate(size))),
    ),
  path.map((at) => call(`unlink ${at}`, (disk, root) => disk.unlink(`${root}/${at}`))),
  directory.map((at) => call(`mkdir ${at}`, (disk, root) => disk.makeDirectory(`${root}/${at}`))),
  directory.map((at) => call(`rmdir ${at}`, (disk, root) => disk.removeDirectory(`${root}/${at}`))),
  directory.map((at) => call(`list ${at}`, (disk, root) => disk.list(`${root}/${at}`))),
)

test('without a crash it answers as the real file system', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'disk-'))
  let runs = 0
  const probe = await new RealDisk().open(join(folder, 'probe'), 'create-durable')
  await probe.write(Buffer.from('header'), 0)
  const writesBlocks = probe.isDirect === true
  await probe.close()
  try {
    await fc.assert(
      fc.asyncProperty(fc.array(calls, { maxLength: 30 }), async (program) => {
        const root = `${folder}/${runs++}`
        const [real, simulated] = [new RealDisk(), new SimulatedDisk()]
        simulated.writesBlocks = writesBlocks
        for (const disk of [real, simulated]) await disk.makeDirectory(root)
        for (const { what, act } of program) {
          const [wanted, found] = await Promise.all(
            [real, simulated].map((disk) =>
              act(disk, root).then(
                (value) => ({ value }),
                (error: NodeJS.ErrnoException) => ({ code: error.code }),
              ),
            ),
          )
          expect({ what, found }).toEqual({ what, found: wanted })
        }
      }),
      { numRuns: 150, seed: 11 },
    )
  } finally {
    await rm(folder, { recursive: true })
  }
})

test('a directory that is made is durable, with all that had to be made above it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'disk-'))
  const synced: string[] = []
  class Watched extends RealDisk {
    override syncDirectory(path: string): Promise<void> {
      synced.push(path.slice(folder.length))
      return super.syncDirectory(path)
    }
  }
  await new Watched().makeDirectory(`${folder}/one/two/three`)
  expect(synced.sort()).toEqual(['', '/one', '/one/two'])
  await rm(folder, { recursive: true })
})
