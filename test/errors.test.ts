/** docs/ERRORS.md and the table of errors say the same: one heading a code, none forgotten, none invented. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ERRORS, type ErrorCode, LokiError, explain } from '../src/errors.ts'

const page = readFileSync(join(import.meta.dirname, '../docs/ERRORS.md'), 'utf8')
const headings = [...page.matchAll(/^### `?([A-Z_]+)`?$/gm)].map((match) => match[1]!)

it('every code has its heading in docs/ERRORS.md, and every heading its code', () => {
  expect(headings.toSorted()).toEqual(Object.keys(ERRORS).toSorted())
})

it('the page says what each code means and what to do, in the words of the table', () => {
  for (const [code, row] of Object.entries(ERRORS)) {
    const section = page.split(`### \`${code}\``)[1]?.split('\n### ')[0] ?? ''
    expect(section.replaceAll(/\s+/g, ' '), code).toContain(row.what.replaceAll(/\s+/g, ' '))
    expect(section.replaceAll(/\s+/g, ' '), code).toContain(row.todo.replaceAll(/\s+/g, ' '))
  }
})

it('an explained error names its code, its meaning and the next step', () => {
  const text = explain(new LokiError('OVERLOADED' satisfies ErrorCode, '100 commands wait'))
  expect(text).toContain('OVERLOADED: 100 commands wait')
  expect(text).toContain(ERRORS.OVERLOADED.todo)
})
