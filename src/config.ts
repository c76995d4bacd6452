/**
 * Environment -> one frozen `Config`, with every limit of the node named. Nothing else of the node reads the
 * environment. Errors: CONFIGURATION_INVALID, which names the variable.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ENVIRONMENT, PATHS, PORTS, type PortName, parseAddressBook, resolveAddress, splitAddress } from './contract.ts'
import { LokiError } from './errors.ts'
import { type Settings, parseSettings } from './settings.ts'

/** Bounds that no manifest changes. Units are last in the names. */
export const LIMITS = {
  /** Commands that a node has taken in and not yet answered; more are refused with OVERLOADED. */
  outstandingCommands: 100_000,
  /** Their bytes. */
  outstandingBytes: 64 * 1024 * 1024,
  /** Bytes of them that are on their way to the leader: so many are sent again when it changes. */
  inFlightBytes: 4 * 1024 * 1024,
  /** Commands of other nodes that wait at the leader for the next entry. */
  forwardedBytes: 64 * 1024 * 1024,
  /** Largest entry that a turn of the leader makes of several commands; what is left goes into the next one. */
  entryBytes: 1024 * 1024,
  /** Entries that one turn applies; what is left waits for the next one. Some tens of milliseconds of small commands. */
  applyBytes: 1024 * 1024,
  /** Entries that may be left behind these before no more are taken in. */
  unappliedEntries: 32,
  /** Replies to reads in one turn of a leader; the rest waits for the next one. One reply always fits … */
  repliesBytes: 16 * 1024 * 1024,
  /** … unless it is larger than this and for another node: then it is an error, the leader itself can answer the client. */
  replyMostBytes: 512 * 1024 * 1024,
  /** Bytes sent to a peer that its socket has not taken; above, replies to its reads wait, which can … */
  peerBehindBytes: 1024 * 1024,
  /** … and above this the connection is dropped and made anew. */
  peerQueueBytes: 64 * 1024 * 1024,
  /** Largest frame on the peer port. A value travels in one entry, an entry in one frame. */
  peerFrameBytes: 640 * 1024 * 1024,
  /** Largest first frame of a peer that has not proved the token. */
  peerHandshakeBytes: 1024,
  peerHandshakeMilliseconds: 5000,
  /** Connections on the admin port, one more ends the oldest of them; and the body of a request to it. */
  adminConnections: 256,
  adminBodyBytes: 256 * 1024,
  /** Connections to the peer port that have not proved the token; one more ends the oldest of them. */
  peerStrangers: 64,
  /** Applied entries in memory, kept for peers that lag a little … */
  keepEntriesBytes: 16 * 1024 * 1024,
  /** … and read back from the log at a time, for those that lag more. */
  readBackBytes: 4 * 1024 * 1024,
  /** Sealed segments behind the checkpoints that stay in `archive/`, for whoever backs them up. */
  archiveSegments: 4,
  /** What lies still on the disk is verified at this rate, again and again, with a rest after each time. */
  scrubBytesPerSecond: 8 * 1024 * 1024,
  scrubRestMilliseconds: 600_000,
  /** A command that got no answer is sent again after this time, then twice as long, up to the most. */
  resendMilliseconds: 1000,
  resendMostMilliseconds: 8000,
  /** An idle session says that it lives. */
  sessionKeepAliveMilliseconds: 60_000,
  commandsInFlightPerConnection: 10_000,
  /** Commands of all clients that are coming in and not whole, if more than 64 KiB of one are here; above, they are skipped … */
  incomingBytes: 256 * 1024 * 1024,
  /** … and who has sent nothing more for so long is cut off. */
  incomingStallMilliseconds: 10_000,
  /** Commands between MULTI and EXEC, keys of WATCH, and the bytes of each: they become one entry of the log … */
  transactionCommands: 100_000,
  transactionBytes: 64 * 1024 * 1024,
  /** … and of all connections of a node. */
  transactionBytesOfAll: 256 * 1024 * 1024,
  /** Replies that a client has not taken; above, its reads wait and nothing more is taken in … */
  outputBytesPerConnection: 16 * 1024 * 1024,
  /** … and those of all clients of a node; above twice as much clients are cut off … */
  outputBytes: 128 * 1024 * 1024,
  /** … and, above once as much, who has taken nothing for so long. */
  outputStallMilliseconds: 10_000,
  /** Replies that a connection's commands in the log are expected to bring; one such command always fits. */
  largeInLogBytes: 1024 * 1024,
} as const

export interface Config {
  /** `host:port` under which peers know this node. */
  readonly address: string
  /** Undefined: every address of this machine. */
  readonly listenHost: string | undefined
  readonly ports: Readonly<Record<PortName, number>>
  readonly walDirectory: string
  readonly checkpointDirectory: string
  readonly controlFile: string
  /** Null: there are no keys. */
  readonly keysDirectory: string | null
  readonly token: string
  readonly addressBookPath: string | null
  readonly settings: Settings
}

type Environment = Readonly<Record<string, string | undefined>>

function required(environment: Environment, name: string): string {
  const value = environment[name]
  if (value === undefined || value === '') throw new LokiError('CONFIGURATION_INVALID', `${name} is not set`)
  return value
}

function readFile(path: string, variable: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new LokiError('CONFIGURATION_INVALID', `${variable}: cannot read ${path}: ${(error as Error).message}`)
  }
}

/** The address book as it is now; it changes while pods come and go, so it is read at every dial. */
export function lookUp(addressBookPath: string | null, address: string): string {
  if (addressBookPath === null) return address
  return resolveAddress(parseAddressBook(readFile(addressBookPath, ENVIRONMENT.addressBook)), address)
}

export function readConfig(environment: Environment): Config {
  const address = required(environment, ENVIRONMENT.address)
  const { host } = splitAddress(address)
  const addressBookPath = environment[ENVIRONMENT.addressBook] ?? null
  const port = (name: PortName): number => splitAddress(lookUp(addressBookPath, `${host}:${PORTS[name]}`)).port
  const token = readFile(environment[ENVIRONMENT.tokenFile] ?? PATHS.token, ENVIRONMENT.tokenFile).trim()
  if (token.length < 16) {
    throw new LokiError('CONFIGURATION_INVALID', `${ENVIRONMENT.tokenFile}: a token of 16 characters or more expected`)
  }
  const walDirectory = environment[ENVIRONMENT.walDirectory] ?? PATHS.wal
  return Object.freeze({
    address,
    listenHost: addressBookPath === null ? undefined : '127.0.0.1',
    ports: { client: port('client'), http: port('http'), admin: port('admin'), peer: port('peer') },
    walDirectory,
    checkpointDirectory: environment[ENVIRONMENT.checkpointDirectory] ?? PATHS.checkpoints,
    controlFile: environment[ENVIRONMENT.controlFile] ?? join(walDirectory, PATHS.controlFile),
    keysDirectory:
      environment[ENVIRONMENT.keysDirectory] === '' ? null : (environment[ENVIRONMENT.keysDirectory] ?? null),
    token,
    addressBookPath,
    settings: parseSettings(parseSettingsText(environment[ENVIRONMENT.settings])),
  })
}

function parseSettingsText(text: string | undefined): unknown {
  if (text === undefined || text === '') return {}
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw new LokiError('CONFIGURATION_INVALID', `${ENVIRONMENT.settings} is not JSON: ${(error as Error).message}`)
  }
}
