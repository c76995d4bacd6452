/**
 * What the command line tools of the storage share: arguments, folders, colours on a terminal. Wrong use is a coded
 * error (`TOOL_USAGE`) and exit code 64.
 */
import { LokiError, explain } from '../errors.ts'
import type { Disk } from './disk.ts'
import { KeyRing } from './keys.ts'

export const EXIT_USAGE = 64

const paint = (colour: number, text: string): string =>
  process.stdout.isTTY ? `\u001B[${colour}m${text}\u001B[0m` : text
export const red = (text: string): string => paint(31, text)
export const green = (text: string): string => paint(32, text)
export const bold = (text: string): string => paint(1, text)

export interface ToolArguments {
  readonly folders: readonly string[]
  readonly flags: ReadonlySet<string>
  /** Of the options that take a value. */
  readonly values: ReadonlyMap<string, string>
}

/** `flags` and `values` are what is known, with the dashes: `--json`. Throws `TOOL_USAGE`. */
export function parseArguments(
  argv: readonly string[],
  flags: readonly string[],
  values: readonly string[],
): ToolArguments {
  const found: { folders: string[]; flags: Set<string>; values: Map<string, string> } = {
    folders: [],
    flags: new Set(),
    values: new Map(),
  }
  for (let at = 0; at < argv.length; at++) {
    const [name, joined] = argv[at]!.split(/=(.*)/s) as [string, string | undefined]
    if (!name.startsWith('-')) found.folders.push(argv[at]!)
    else if (flags.includes(name) && joined === undefined) found.flags.add(name)
    else if (values.includes(name)) {
      const value = joined ?? argv[++at]
      if (value === undefined) throw new LokiError('TOOL_USAGE', `${name} needs a value`)
      found.values.set(name, value)
    } else {
      throw new LokiError('TOOL_USAGE', `unknown option ${name}; known: ${[...flags, ...values].join(', ')}`)
    }
  }
  return found
}

/** The value of an option that is an index of the log, or null. Throws `TOOL_USAGE`. */
export function indexOption(given: ToolArguments, name: string): number | null {
  const text = given.values.get(name)
  if (text === undefined) return null
  if (!/^\d{1,15}$/.test(text)) throw new LokiError('TOOL_USAGE', `${name}: an index expected, got '${text}'`)
  return Number(text)
}

/** The keys in the folder that `--keys` names, or those that a node would use; null: none are known. */
export function keysOf(given: ToolArguments): KeyRing | null {
  const folder = given.values.get('--keys') ?? process.env.LOKIKV_KEYS_DIRECTORY
  return folder === undefined ? null : new KeyRing(folder)
}

/** `folder` itself, or its `name` where it has one. */
export async function volumeIn(disk: Disk, folder: string, name: string): Promise<string> {
  const path = folder.replace(/(?<=.)\/+$/, '')
  const names = await disk.list(path)
  if (names === null) throw new LokiError('NOT_FOUND', `there is no folder ${path}`)
  return names.includes(name) ? `${path}/${name}` : path
}

/** Runs a tool: `--help` prints `usage`; a coded error is explained on stderr. Gives the exit code. */
export async function runTool(argv: readonly string[], usage: string, act: () => Promise<number>): Promise<number> {
  if (argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(usage)
    return 0
  }
  try {
    return await act()
  } catch (error) {
    if (!(error instanceof LokiError)) throw error
    process.stderr.write(`${explain(error)}\n`)
    if (error.code === 'TOOL_USAGE') process.stderr.write(`\n${usage}`)
    return EXIT_USAGE
  }
}
