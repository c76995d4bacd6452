#!/usr/bin/env node
/** argv, signals, start and stop of a node; nothing else. */
import { flushCompileCache } from 'node:module'
import pino from 'pino'
import { tuneCollector } from './node/collector.ts'
import { readConfig } from './config.ts'
import { LokiError, explain } from './errors.ts'
import { Node, VERSION } from './node/node.ts'

const USAGE = `lokikv ${VERSION}: a durable, strongly consistent key-value store

usage: lokikv <command>

  node                         run a node; it is configured by its environment (see docs/OPERATIONS.md)
  init <admin address> …       make a cluster of nodes that wait: give each its identity, once
  waldump <folder>             show the write-ahead log in a folder
  checkpoint inspect <folder>  show and verify the checkpoints in a folder
  fsck <folder> [<folder>]     verify log, meta and checkpoints of a node that does not run; the exit code tells
  help                         this text; each tool has --help
`

const EXIT = { ok: 0, failure: 1, usage: 64, fatal: 70 } as const

/** A port that is taken is the world's doing: the one error of the system that a node meets before it has a code. */
function coded(error: unknown): unknown {
  if (!(error instanceof Error) || (error as NodeJS.ErrnoException).syscall !== 'listen') return error
  return new LokiError('PORT_UNAVAILABLE', error.message, { cause: error })
}

async function runNode(): Promise<number> {
  tuneCollector()
  const logger = pino({ name: 'lokikv', base: null, timestamp: pino.stdTimeFunctions.isoTime })
  const log = (message: string, fields: Record<string, unknown>): void => logger.info(fields, message)
  const fatal = (thrown: unknown): void => {
    const error = coded(thrown)
    if (error instanceof LokiError) logger.fatal({ code: error.code }, explain(error))
    else logger.fatal({ err: error }, 'a bug: the node ends before it does harm')
    logger.flush()
    process.exit(EXIT.fatal)
  }
  process.on('uncaughtException', fatal)
  process.on('unhandledRejection', fatal)
  const node = new Node({ config: readConfig(process.env), log, fatal })
  return new Promise((resolve) => {
    let started = false
    const stop = (): void => {
      // Nothing is served before the start is over, and nothing is half done that a crash would not leave as well.
      if (started) node.stop().then(() => resolve(EXIT.ok), fatal)
      else resolve(EXIT.ok)
    }
    // From the first moment on: the first process of a container that has no handler never hears of a signal.
    process.on('SIGTERM', stop)
    process.on('SIGINT', stop)
    node.start().then(() => {
      started = true
      // Otherwise Node.js keeps what it compiled when the process ends in good order, and a killed one compiles again.
      flushCompileCache()
    }, fatal)
  })
}

async function main(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv
  switch (command) {
    case 'node':
      return runNode()
    case 'init':
      return (await import('./node/init.ts')).initialise(rest)
    case 'waldump':
      return (await import('./storage/waldump.ts')).waldump(rest)
    case 'checkpoint':
      return (await import('./node/checkpoint-inspect.ts')).checkpointTool(rest)
    case 'fsck':
      return (await import('./storage/fsck.ts')).fsck(rest)
    case 'help':
    case '--help':
    case '-h':
      process.stdout.write(USAGE)
      return EXIT.ok
    case '--version':
      process.stdout.write(`${VERSION}\n`)
      return EXIT.ok
    default:
      process.stderr.write(command === undefined ? USAGE : `lokikv: unknown command '${command}'\n\n${USAGE}`)
      return EXIT.usage
  }
}

// `lokikv waldump … | head`: who reads has had enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.failure),
)

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof LokiError)) throw error
  process.stderr.write(`lokikv: ${explain(error)}\n`)
  process.exitCode = EXIT.failure
}
process.exit()
