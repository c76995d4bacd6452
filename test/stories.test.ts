/**
 * The golden stories of the consensus core (test/scripts): each file is its own snapshot. Those in `found` were found by
 * variations on those in `consensus`, or by a simulator, and are not varied again: which variation a seed makes must stay
 * as it is.
 * `UPDATE=1 npx vitest run test/stories.test.ts` writes them anew; read the difference before you keep it.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { tell } from './sim/story.ts'

const stories = ['consensus', 'found'].flatMap((kind) => {
  const folder = join(import.meta.dirname, 'scripts', kind)
  return readdirSync(folder).map((name) => ({
    path: join(folder, name),
    title: name.replace('.txt', '').replaceAll('-', ' '),
  }))
})

describe('consensus stories', () => {
  it.each(stories)('$title', ({ path }) => {
    const text = readFileSync(path, 'utf8')
    const told = tell(text)
    if (process.env.UPDATE !== undefined) writeFileSync(path, told)
    expect(told).toBe(process.env.UPDATE === undefined ? text : told)
  })
})
