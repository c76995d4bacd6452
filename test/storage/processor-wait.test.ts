/** Waiting for a processor is told from waiting for a disk. */
import { spawn } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { expect, test } from 'vitest'
import { parseWait, processorWaitMilliseconds } from '../../src/storage/processor-wait.ts'

test('the second number is nanoseconds', () => {
  expect(parseWait('69140 2500000 12\n')).toBe(2.5)
  expect(parseWait('')).toBe(0)
  expect(parseWait('1 x 2')).toBe(0)
})

test.runIf(process.platform === 'linux')('it grows while others keep the processors busy', () => {
  const spin = 'const end = Date.now() + 5000; while (Date.now() < end);'
  const others = Array.from({ length: 2 * availableParallelism() }, () => spawn(process.execPath, ['-e', spin]))
  try {
    const before = processorWaitMilliseconds()
    const end = Date.now() + 10_000
    while (processorWaitMilliseconds() - before < 5) expect(Date.now(), 'no wait in ten seconds').toBeLessThan(end)
  } finally {
    for (const other of others) other.kill('SIGKILL')
  }
})
