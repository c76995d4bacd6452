/**
 * `npm run soak [-- --minutes 30] [--seed 7] [--only storage|cluster]`: kill -9 of a process that writes to the real
 * disk, then random trouble for clusters of real processes under load; half of the time each. Without a time: 2000
 * kills, and two minutes of trouble. Exit code 1 where anything was lost, made up, stale or refused.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

const USAGE = `npm run soak [-- options]: kill -9 of a writer, then random trouble for clusters under load

  --minutes n              half of it for each (without: 2000 kills, and two minutes of trouble)
  --only storage|cluster   one of them
  --seed n                 the same trouble again`

const options = {
  minutes: { type: 'string' },
  seed: { type: 'string' },
  only: { type: 'string' },
  help: { type: 'boolean', default: false },
} as const

/** Exit code of a soak that runs in a process of its own. */
function run(file: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [join(import.meta.dirname, file), ...args], { stdio: 'inherit' })
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

async function main(): Promise<number> {
  const { minutes, seed, only, help } = parseArgs({ options }).values
  if (help) {
    console.log(USAGE)
    return 0
  }
  if (minutes !== undefined && !(Number(minutes) > 0)) {
    console.error(`--minutes ${minutes}: a number above zero expected`)
    return 2
  }
  const parts = only === undefined ? ['storage', 'cluster'] : [only]
  const seeded = seed === undefined ? [] : ['--seed', seed]
  for (const part of parts) {
    if (part !== 'storage' && part !== 'cluster') {
      console.error(`--only ${part}: storage or cluster expected`)
      return 2
    }
    const otherwise = part === 'storage' ? ['--kills', '2000'] : ['--minutes', '2']
    const time = minutes === undefined ? otherwise : ['--minutes', String(Number(minutes) / parts.length)]
    const code = await run(`${part}/soak.ts`, [...time, ...seeded])
    if (code !== 0) return code
  }
  return 0
}

process.exitCode = await main()
