/**
 * How long the main thread of this process was ready to run and had no processor, as the scheduler of Linux counts it:
 * the second number of /proc/self/schedstat, in nanoseconds. Where there is no such file, nothing is known: 0.
 */
import * as fs from 'node:fs'

const PATH = '/proc/self/schedstat'
const text = Buffer.alloc(96)
/** Open as long as the process; null where there is none. */
let descriptor: number | null | undefined

function open(): number | null {
  try {
    return fs.openSync(PATH, 'r')
  } catch {
    return null
  }
}

/** Milliseconds since the process began. One system call. It never throws: it is asked beside writes of the log. */
export function processorWaitMilliseconds(): number {
  if (descriptor === undefined) descriptor = open()
  if (descriptor === null) return 0
  try {
    return parseWait(text.toString('latin1', 0, fs.readSync(descriptor, text, 0, text.length, 0)))
  } catch {
    return 0
  }
}

/** `<nanoseconds on a processor> <nanoseconds waited for one> <times on one>` */
export function parseWait(schedstat: string): number {
  const nanoseconds = Number(schedstat.split(' ')[1])
  return Number.isFinite(nanoseconds) ? nanoseconds / 1e6 : 0
}
