/**
 * docs/ERRORS.md and the table of errors say the same: one heading a code, none forgotten, none invented.
 * `UPDATE=1` writes the page from the table.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ERRORS, type ErrorCode, LokiError, explain } from '../src/errors.ts'

const path = join(import.meta.dirname, '../docs/ERRORS.md')

const INTRODUCTION = `# Errors

Every error a person or a client can meet has a code. Codes are never reused and never change their meaning. On the admin port an error is \`{"code": …, "message": …}\` with the HTTP status below; on the Redis port the text begins with it (\`-LOKI DISK_FULL: …\`, \`-CLUSTERDOWN NO_LEADER: …\`), and what Redis knows too has the text of Redis (too long, wrong type, out of memory); a node that refuses to start tells its code in \`/v1/status\` and in its log.

This page is the table in [src/errors.ts](../src/errors.ts); \`UPDATE=1 npx vitest run test/errors.test.ts\` writes it.
`

const section = ([code, row]: [string, (typeof ERRORS)[ErrorCode]]): string =>
  `### \`${code}\`\n\n**What it means:** ${row.what}.\n\n**What to do:** ${row.todo}.\n\nHTTP status ${row.http}.\n`

if (process.env.UPDATE === '1') {
  writeFileSync(path, [INTRODUCTION, ...Object.entries(ERRORS).map(section)].join('\n'))
}
const page = readFileSync(path, 'utf8')
const headings = [...page.matchAll(/^### `?([A-Z_]+)`?$/gm)].map((match) => match[1]!)

it('every code has its heading in docs/ERRORS.md, and every heading its code', () => {
  expect(headings.toSorted()).toEqual(Object.keys(ERRORS).toSorted())
})

it('the page says what each code means and what to do, in the words of the table', () => {
  for (const [code, row] of Object.entries(ERRORS)) {
    const section = page.split(`### \`${code}\``)[1]?.split('\n### ')[0] ?? ''
    const text = section.replaceAll(/\s+/g, ' ')
    for (const sentence of [row.what, row.todo]) expect(text).toContain(sentence.replaceAll(/\s+/g, ' '))
  }
})

it('an explained error names its code, its meaning and the next step', () => {
  const text = explain(new LokiError('OVERLOADED' satisfies ErrorCode, '100 commands wait'))
  expect(text).toContain('OVERLOADED: 100 commands wait')
  expect(text).toContain(ERRORS.OVERLOADED.todo)
})
