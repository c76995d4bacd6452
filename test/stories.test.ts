/**
 * The golden stories of the consensus core (test/scripts/consensus): each file is its own snapshot.
 * `UPDATE=1 npx vitest run test/stories.test.ts` writes them anew; read the difference before you keep it.
 */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { tell } from './sim/story.ts'

const folder = join(import.meta.dirname, 'scripts/consensus')

const stories = readdirSync(folder).map((name) => ({ name, title: name.replace('.txt', '').replaceAll('-', ' ') }))

describe('consensus stories', () => {
  it.each(stories)('$title', ({ name }) => {
    const path = join(folder, name)
    const text = readFileSync(path, 'utf8')
    const told = tell(text)
    if (process.env.UPDATE !== undefined) writeFileSync(path, told)
    expect(told).toBe(process.env.UPDATE === undefined ? text : told)
  })
})
