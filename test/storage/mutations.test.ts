/**
 * Do the sweeps bite? Each of these safety lines is taken out of a copy of the storage, and the sweeps must fail.
 * (What a missing frame held is missed a second time by the index that the next segment begins with: the line that
 * compares a segment's end alone is not on the list.)
 *
 * A sample runs with the other tests; `MUTATIONS=all npx vitest run test/storage/mutations.test.ts` runs them all.
 */
import { spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'

interface Mutation {
  readonly name: string
  readonly file: string
  readonly from: string
  readonly to: string
}

const MUTATIONS: readonly Mutation[] = [
  {
    name: 'the CRC of a payload is not checked',
    file: 'frames.ts',
    from: 'if (crc32(padded, frameSeed(segmentSeed, header.offset)) !== header.crc) return null',
    to: '',
  },
  {
    name: 'the check of a frame header is not checked',
    file: 'frames.ts',
    from: 'if (crc32(bytes.subarray(offset, offset + 28), frameSeed(segmentSeed, offset)) !== check) return null',
    to: '',
  },
  {
    name: 'the chain of frames is not checked',
    file: 'segment.ts',
    from: "if (header.previous !== check) yield { kind: 'foreign', end: offset }",
    to: '',
  },
  {
    name: 'the chain of segments is not checked',
    file: 'segment.ts',
    from: 'offset === known.end && check !== known.check',
    to: 'false',
  },
  {
    name: 'a sealed segment may have a torn tail',
    file: 'segment.ts',
    from: 'const wasDurable = known !== null || (offset === size && decoded.header.bornWithFrame)',
    to: 'const wasDurable = false',
  },
  {
    name: 'a torn tail is taken for rot',
    file: 'frames.ts',
    from: "if (isBlank(bytes, offset, sectorEnd)) return { kind: 'torn' }",
    to: '',
  },
  {
    name: 'rot in a header is taken for a torn tail',
    file: 'frames.ts',
    from: "if (isBlank(bytes, offset, sectorEnd)) return { kind: 'torn' }",
    to: "if (sectorEnd > 0) return { kind: 'torn' }",
  },
  {
    name: 'rot in a payload is taken for a torn tail',
    file: 'frames.ts',
    from: "if (isBlank(bytes, from, Math.min(from + SECTOR_BYTES, header.end))) return { kind: 'torn' }",
    to: "return { kind: 'torn' }",
  },
  {
    name: 'a later frame is no proof that the one before was durable',
    file: 'frames.ts',
    from: 'if (laterWrite(bytes, behind, segmentSeed)) {',
    to: 'if (behind < 0) {',
  },
  {
    name: 'frames may have sectors of zeros',
    file: 'frames.ts',
    from: 'if (!zeros) return 0',
    to: 'if (zeros || !zeros) return 0',
  },
  {
    name: 'a promise is written once only',
    file: 'wal.ts',
    from: 'if (!taken.vital) return\n',
    to: 'if (taken) return\n',
  },
  {
    name: 'an append is not waited for',
    file: 'wal.ts',
    from: 'await segment.file.write(bytes, segment.offset)',
    to: 'void segment.file.write(bytes, segment.offset).catch(() => {})',
  },
  {
    name: 'a segment is not synced',
    file: 'wal.ts',
    from: "disk.open(`${directory}/${temporary}`, 'create-durable')",
    to: "disk.open(`${directory}/${temporary}`, 'create')",
  },
  {
    name: 'the directory is not synced for a new segment',
    file: 'wal.ts',
    from: 'await disk.syncDirectory(directory)\n    this.#segment = segment',
    to: 'this.#segment = segment',
  },
  {
    name: 'doubt is forgotten at the next start',
    file: 'wal.ts',
    from: 'doubtfulFrom: position.doubtfulFrom,',
    to: 'doubtfulFrom: null,',
  },
  {
    name: 'meta is not synced',
    file: 'meta.ts',
    from: 'await this.#file.sync()',
    to: '',
  },
  {
    name: 'a published file is not synced before its rename',
    file: 'disk.ts',
    from: 'await file.sync()',
    to: '',
  },
  {
    name: 'a published file is renamed without a directory sync',
    file: 'disk.ts',
    from: 'await disk.syncDirectory(directory)',
    to: '',
  },
  {
    name: 'the data of a checkpoint is not synced',
    file: 'checkpoint.ts',
    from: 'if (writer.length > 0) await flush()\n    await file.sync()',
    to: 'if (writer.length > 0) await flush()',
  },
  {
    name: 'the directory is not synced for a checkpoint',
    file: 'checkpoint.ts',
    from: '`${directory}/${id}`)\n  await disk.syncDirectory(directory)',
    to: '`${directory}/${id}`)',
  },
  {
    name: 'the chunks of a checkpoint are not checked',
    file: 'checkpoint.ts',
    from: 'if (bytes.length !== chunk.bytes || crc32(bytes) !== chunk.crc) {',
    to: 'if (bytes.length !== chunk.bytes) {',
  },
  {
    name: 'segments go before meta says so',
    file: 'storage.ts',
    from: 'await this.#meta.update({ first, timeline: this.timeline })\n    await this.moveHead(first)',
    to: 'await this.moveHead(first)\n    await this.#meta.update({ first, timeline: this.timeline })',
  },
  {
    name: 'the log is cut to the newest checkpoint, not to the one before',
    file: 'storage.ts',
    from: 'logIndex(Math.min(index, fallback) + 1)',
    to: 'logIndex(index + 1 + fallback * 0)',
  },
  {
    name: 'a first start reads the checkpoints of another life',
    file: 'storage.ts',
    from: 'volumes.fresh ? { good: [], damage: [] } :',
    to: '',
  },
]

async function outcome(mutation: Mutation): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mutant-'))
  try {
    await cp('src', join(folder, 'src'), { recursive: true, filter: (path) => !/consensus|machine|edge/.test(path) })
    await cp('test/storage', join(folder, 'test/storage'), { recursive: true })
    const path = join(folder, 'src/storage', mutation.file)
    const source = await readFile(path, 'utf8')
    expect(source).toContain(mutation.from)
    await writeFile(path, source.replaceAll(mutation.from, mutation.to))
    await writeFile(join(folder, 'package.json'), '{"type":"module"}')
    return await new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [join(folder, 'test/storage/mutant.ts')], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      let text = ''
      child.stdout.on('data', (bytes: Buffer) => (text += bytes.toString()))
      child.stderr.on('data', (bytes: Buffer) => (text += bytes.toString()))
      child.on('error', reject)
      child.on('close', () => resolve(text))
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const SAMPLE = new Set([0, 3, 8, 12, 13, 21])
const chosen = MUTATIONS.filter((_, at) => process.env.MUTATIONS === 'all' || SAMPLE.has(at))
for (const mutation of chosen) {
  test(`caught: ${mutation.name}`, async () => {
    expect(await outcome(mutation)).toMatch(/^caught: /)
  })
}
