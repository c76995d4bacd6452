/**
 * `node bench/storage.ts [--only appends,replay,checkpoint,load] [--turns 500] [--rounds 5] [--no-save] [folder]`: the
 * storage beside its physical limits, measured in the same run, each line with its bar and whether it is met. Results
 * go to bench/results/ with machine and commit. Exit code 1 where a bar is missed.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { commit, machine } from './main.ts'
import { measureCheckpoint, measureLoad } from './storage-checkpoint.ts'
import { type Row, measureAppends, measureReplay } from './storage-log.ts'

const isMet = ({ value, bar, better }: Row): boolean | null =>
  value === null ? null : better === 'larger' ? value >= bar : value <= bar

function line(row: Row): string {
  const verdict = { true: 'yes', false: 'NO', null: 'skipped' }[String(isMet(row)) as 'true' | 'false' | 'null']
  const bar = `${row.better === 'larger' ? '≥' : '≤'} ${row.bar}`
  return `| ${row.what} | ${row.measured} | ${row.beside} | ${row.value?.toFixed(2) ?? '–'} | ${bar} | ${verdict} |`
}

function save(text: string, rows: readonly Row[]): void {
  const folder = join(import.meta.dirname, 'results')
  mkdirSync(folder, { recursive: true })
  const name = `${new Date().toISOString().slice(0, 16).replaceAll(':', '')}-storage`
  writeFileSync(join(folder, `${name}.md`), text)
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(rows, null, 1)}\n`)
  console.log(`written: bench/results/${name}.md and .json`)
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    allowNegative: true,
    options: {
      only: { type: 'string', default: 'appends,replay,checkpoint,load' },
      turns: { type: 'string', default: '500' },
      rounds: { type: 'string', default: '5' },
      save: { type: 'boolean', default: true },
    },
  })
  const folder = mkdtempSync(join(positionals[0] ?? tmpdir(), 'bench-storage-'))
  const rounds = Number(values.rounds)
  const parts: Readonly<Record<string, () => Promise<Row[]>>> = {
    appends: () => measureAppends(folder, Number(values.turns), rounds),
    replay: () => measureReplay(folder, rounds),
    checkpoint: () => measureCheckpoint(folder, rounds),
    load: () => measureLoad(folder, rounds),
  }
  const text = [
    `# Storage, ${new Date().toISOString()}`,
    '',
    `commit ${commit()}; ${machine()}; ${rounds} interleaved rounds; of rates and times the undisturbed ones`,
    '',
    '| what | measured | beside | compared | bar | met |',
    '|---|---|---|---|---|---|',
  ]
  console.log(text.join('\n'))
  const rows: Row[] = []
  try {
    for (const [name, measure] of Object.entries(parts)) {
      if (!values.only.split(',').includes(name)) continue
      for (const row of await measure()) {
        rows.push(row)
        text.push(line(row))
        console.log(line(row))
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  if (values.save) save(`${text.join('\n')}\n`, rows)
  return rows.some((row) => isMet(row) === false) ? 1 : 0
}

if (import.meta.main) process.exitCode = await main()
