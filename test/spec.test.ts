/** docs/SPEC.md names the tests that enforce each line: every one of them must exist, by file and title. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')
const page = readFileSync(join(root, 'docs/SPEC.md'), 'utf8')
const named = [...page.matchAll(/`(test\/[\w./-]+\.test\.ts) › ([^`]+)`/g)].map(
  (match) => [match[1]!, match[2]!] as const,
)

it('names tests that exist', () => {
  expect(named.length).toBeGreaterThan(30)
  const missing = named.filter(
    ([file, title]) => !existsSync(join(root, file)) || !readFileSync(join(root, file), 'utf8').includes(title),
  )
  expect(missing).toEqual([])
})
