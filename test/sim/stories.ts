/**
 * `node test/sim/stories.ts`: tells every golden story of test/scripts/consensus and prints those that are broken (what
 * they expect does not happen, or an invariant fails) and those that only go another way than they did. For the
 * mutations; test/stories.test.ts is the test.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { tell } from './story.ts'

const folder = join(import.meta.dirname, '../scripts/consensus')

function whatIsWrong(text: string): string | null {
  try {
    const told = tell(text).split('\n')
    const at = text.split('\n').findIndex((line, at) => line !== told[at])
    return at < 0 ? null : `goes another way: ${told[at] ?? 'it ends early'}`
  } catch (error) {
    return `is broken: ${(error as Error).message.split('\n').slice(0, 2).join(' ')}`
  }
}

for (const name of readdirSync(folder).toSorted()) {
  const wrong = whatIsWrong(readFileSync(join(folder, name), 'utf8'))
  if (wrong === null) continue
  console.log(`${name.replace('.txt', '')} ${wrong}`)
  process.exitCode = 1
}
