/**
 * All that node, operator and local share: ports, labels, paths, environment, the address book, and the JSON
 * of the admin port with its parsers. Everything on the wire is plain JSON; integers that can pass 2^53 are
 * strings. Imports errors and settings at most.
 */
import { LokiError } from './errors.ts'

export const GROUP = 'lokikv.dev'
export const API_VERSION = 'v1alpha1'
export const KIND = 'LokiCluster'
export const PLURAL = 'lokiclusters'

/** Ports inside a pod. Where pods share one address (local), the address book maps them; see `resolveAddress`. */
export const PORTS = { client: 6379, http: 8080, admin: 8081, peer: 7400 } as const
export type PortName = keyof typeof PORTS

export const LABELS = {
  cluster: 'lokikv.dev/cluster',
  role: 'lokikv.dev/role',
  volume: 'lokikv.dev/volume',
  nodeId: 'lokikv.dev/node-id',
} as const

export const ANNOTATIONS = {
  restartedAt: 'lokikv.dev/restartedAt',
  /** On pods: hash of the normalised inputs of the spec that the pod was made from. */
  inputsHash: 'lokikv.dev/inputs-hash',
} as const

/** Where things are inside a pod. */
export const PATHS = {
  wal: '/var/lib/lokikv/wal',
  checkpoints: '/var/lib/lokikv/checkpoints',
  keys: '/var/run/secrets/lokikv-keys',
  token: '/var/run/secrets/lokikv/token',
  controlFile: 'control.toml',
} as const

/** Environment of a node. Values are strings; `settings` is the JSON of the manifest's `spec.config`. */
export const ENVIRONMENT = {
  /** `host:port` under which peers reach this node: `<pod>.<peers service>.<namespace>.svc:7400`. */
  address: 'LOKIKV_ADDRESS',
  walDirectory: 'LOKIKV_WAL_DIRECTORY',
  checkpointDirectory: 'LOKIKV_CHECKPOINT_DIRECTORY',
  tokenFile: 'LOKIKV_TOKEN_FILE',
  /** A folder with one file for each key of the encryption at rest; its name is the id of the key. */
  keysDirectory: 'LOKIKV_KEYS_DIRECTORY',
  settings: 'LOKIKV_SETTINGS',
  addressBook: 'LOKIKV_ADDRESS_BOOK',
  controlFile: 'CONTROL_FILE_PATH',
} as const

/** As in the Dockerfile. By itself the young generation grows to 128 MiB, and glibc gives hardly any memory back. */
export const RUNTIME_ENVIRONMENT = {
  NODE_OPTIONS: '--max-semi-space-size=16',
  MALLOC_ARENA_MAX: '2',
  MALLOC_MMAP_THRESHOLD_: '131072',
  MALLOC_TRIM_THRESHOLD_: '1048576',
} as const

/**
 * A JSON file `{"host:port": "127.0.0.1:port"}` that takes the place of DNS and of fixed ports where all pods
 * share one address. A name that is not in the book is used as it is.
 */
export type AddressBook = Readonly<Record<string, string>>

export const resolveAddress = (book: AddressBook | null, address: string): string => book?.[address] ?? address

export function parseAddressBook(text: string): AddressBook {
  const value = object(parseJson(text, 'address book'), 'address book')
  const book: Record<string, string> = {}
  for (const [name, address] of Object.entries(value)) book[name] = string(address, `address book.${name}`)
  return book
}

/** `host:port` -> both; throws `BAD_REQUEST`. */
export function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':')
  const port = Number(address.slice(colon + 1))
  if (colon < 1 || !Number.isInteger(port) || port < 1 || port > 65535) {
    throw new LokiError('BAD_REQUEST', `'${address}' is not host:port`)
  }
  return { host: address.slice(0, colon), port }
}

// ---- names of a cluster's objects (namespaced with the LokiCluster) -------------------------------------------

export const names = {
  statefulSet: (cluster: string): string => cluster,
  pod: (cluster: string, ordinal: number): string => `${cluster}-${ordinal}`,
  peersService: (cluster: string): string => `${cluster}-peers`,
  clientService: (cluster: string): string => cluster,
  leaderService: (cluster: string): string => `${cluster}-leader`,
  tokenSecret: (cluster: string): string => `${cluster}-token`,
  genesis: (cluster: string): string => `${cluster}-genesis`,
  disruptionBudget: (cluster: string): string => cluster,
  serviceAccount: (cluster: string): string => cluster,
  walClaim: (cluster: string, ordinal: number): string => `wal-${cluster}-${ordinal}`,
  checkpointsClaim: (cluster: string, ordinal: number): string => `checkpoints-${cluster}-${ordinal}`,
  /** What `LOKIKV_ADDRESS` is made of, and the key of the address book. */
  host: (cluster: string, ordinal: number, namespace: string): string =>
    `${cluster}-${ordinal}.${cluster}-peers.${namespace}.svc`,
}

// ---- admin port -----------------------------------------------------------------------------------------------

export const ADMIN_PATHS = {
  livez: '/livez',
  readyz: '/readyz',
  startupz: '/startupz',
  metrics: '/metrics',
  status: '/v1/status',
  /** POST GenesisRequest to each founder. Idempotent; 409 IDENTITY_CONFLICT for another identity. */
  genesis: '/v1/genesis',
  /** POST JoinRequest to a node without identity, which becomes a learner. Idempotent as genesis. */
  join: '/v1/join',
  /** POST MemberRequest to the leader -> MemberResponse. Allots a node id to a volume id; idempotent by volume id. */
  members: '/v1/members',
  /** PUT ConfigurationRequest to the leader -> 202. Idempotent. DELETE withdraws what was not yet proposed. */
  configuration: '/v1/configuration',
  /** POST TransferRequest to the leader -> 202; watch `status.leaderId`. */
  transfer: '/v1/transfer',
  /** POST -> CheckpointResponse, when the checkpoint is durable. */
  checkpoint: '/v1/checkpoint',
  /** POST -> ScrubResponse, when everything that lies still on the disk was verified. */
  scrub: '/v1/scrub',
  /**
   * POST ResetRequest to a node whose phase is `removed` -> 202: it moves its data aside, stamps both volumes
   * with a new volume id and is `waiting` again (it may restart for that). Idempotent: a node that already waits
   * under another volume id answers 202. 409 IDENTITY_CONFLICT for another id, or for a node that is a member.
   */
  reset: '/v1/reset',
} as const

export type MemberRole = 'voter' | 'learner'

export interface MemberJson {
  readonly id: number
  readonly volumeId: string
  readonly address: string
}

export interface ConfigurationJson {
  readonly id: number
  readonly voters: readonly MemberJson[]
  readonly learners: readonly MemberJson[]
  /** How many voters must accept; absent: a majority. */
  readonly acceptQuorum?: number
  /** Absent: no leases. */
  readonly leaseMilliseconds?: number
}

/**
 * `waiting`: no identity yet. `recovering`: replaying. `member`: a voter of the current configuration.
 * `learner`: has an identity and fetches. `removed`: no longer in the configuration; still forwards.
 * `refused`: alive, takes no part; `refusal` says why.
 */
export type NodePhase = 'waiting' | 'recovering' | 'member' | 'learner' | 'removed' | 'refused'

/** Since the start of the process, the start included. `open`: this node does not have everything whole again. */
export interface RotJson {
  readonly found: number
  readonly last: string | null
  readonly open: boolean
  /** Entries from here on were lost, and the leader has not sent them again yet; null: none. */
  readonly doubtfulFrom: string | null
}

export interface ScrubResponse {
  readonly verifiedBytes: number
  readonly rot: readonly string[]
}

/** How far a start is: it reads the log, loads the checkpoint, and applies the log to it; each part from 0 on. */
export interface StartProgressJson {
  readonly part: 'log' | 'checkpoint' | 'state'
  readonly entries: number
  readonly bytes: number
  /** Of this part. */
  readonly percent: number
}

export interface MigrationJson {
  readonly sentBytes: number
  readonly received: readonly { readonly id: number; readonly bytes: number }[]
}

export interface NodeStatus {
  readonly phase: NodePhase
  readonly version: string
  readonly ready: boolean
  readonly volumeId: string | null
  readonly clusterId: string | null
  readonly nodeId: number | null
  readonly address: string
  /** Number of this start of the node on its volume; rises with every start. */
  readonly timeline: number
  readonly role: 'leader' | 'follower' | 'learner' | 'none'
  readonly leaderId: number | null
  readonly configuration: ConfigurationJson | null
  /** A quorum of `configuration` holds the whole prefix and it has decided its first entry. */
  readonly configurationComplete: boolean
  readonly decidedIndex: string
  readonly appliedIndex: string
  readonly acceptedIndex: string
  /** Since its start the node has rejoined and caught up with what was decided when it rejoined. */
  readonly caughtUp: boolean
  /** On the leader: the change of membership that is under way, or null. */
  readonly reconfiguration: {
    readonly voters: readonly number[]
    readonly state: 'catching-up' | 'proposed'
  } | null
  /** On the leader: how far each member and learner is, as far as the leader knows. */
  readonly progress: readonly { readonly id: number; readonly acceptedIndex: string; readonly connected: boolean }[]
  readonly refusal: { readonly code: string; readonly message: string } | null
  readonly lastCheckpointIndex: string
  /** The disk is nearly full: commands that grow the data are refused here. Ends by itself when space returns. */
  readonly readOnly?: boolean
  /** What was found rotten on the disk, and whether something of it is not repaired yet. */
  readonly rot?: RotJson
  /** Why the last checkpoint could not be written; null: it could. */
  readonly checkpointFailure?: string | null
  /** Bytes of log and checkpoints that went to nodes which catch up, and that came from others, since the start. */
  readonly migration?: MigrationJson
  /** While the node starts; absent afterwards. */
  readonly starting?: StartProgressJson
}

export interface GenesisRequest {
  readonly clusterId: string
  /** The id of the node that is addressed. Its volume id and address must be those of `founders`. */
  readonly self: number
  readonly founders: readonly MemberJson[]
}

export interface JoinRequest {
  readonly clusterId: string
  readonly self: MemberJson
  /** The current configuration: whom to fetch from. */
  readonly configuration: ConfigurationJson
}

export interface MemberRequest {
  readonly volumeId: string
}

export interface MemberResponse {
  readonly id: number
}

export interface ConfigurationRequest {
  readonly expectedConfigurationId: number
  readonly voters: readonly MemberJson[]
  readonly learners: readonly MemberJson[]
  readonly preferredLeader: number | null
}

export interface TransferRequest {
  readonly expectedConfigurationId: number
  readonly to: number
}

/** The identity that is given up, as the asker knows it. */
export interface ResetRequest {
  readonly nodeId: number
  readonly volumeId: string
}

export interface CheckpointResponse {
  readonly index: string
}

/** The body of every answer that is not 2xx. */
export interface ErrorJson {
  readonly code: string
  readonly message: string
}

// ---- parsers: BAD_REQUEST names the field ---------------------------------------------------------------------

function bad(path: string, expected: string): never {
  throw new LokiError('BAD_REQUEST', `${path}: ${expected} expected`)
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return bad(path, 'JSON')
  }
}

function object(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return bad(path, 'an object')
  return value as Record<string, unknown>
}

function string(value: unknown, path: string): string {
  return typeof value === 'string' ? value : bad(path, 'a string')
}

function boolean(value: unknown, path: string): boolean {
  return typeof value === 'boolean' ? value : bad(path, 'true or false')
}

function integer(value: unknown, path: string, least = 0): number {
  return Number.isSafeInteger(value) && (value as number) >= least
    ? (value as number)
    : bad(path, `an integer from ${least}`)
}

function array<T>(value: unknown, path: string, item: (value: unknown, path: string) => T): T[] {
  if (!Array.isArray(value)) return bad(path, 'a list')
  return value.map((element, position) => item(element, `${path}[${position}]`))
}

const nullable =
  <T>(parse: (value: unknown, path: string) => T) =>
  (value: unknown, path: string): T | null =>
    value === null || value === undefined ? null : parse(value, path)

function oneOf<T extends string>(value: unknown, path: string, allowed: readonly T[]): T {
  return allowed.includes(value as T) ? (value as T) : bad(path, allowed.join(', '))
}

const hexId = (value: unknown, path: string): string =>
  /^[0-9a-f]{32}$/.test(string(value, path)) ? (value as string) : bad(path, '32 hexadecimal digits')

const index = (value: unknown, path: string): string =>
  /^\d{1,16}$/.test(string(value, path)) ? (value as string) : bad(path, 'an index as a string')

function member(value: unknown, path: string): MemberJson {
  const fields = object(value, path)
  const address = string(fields.address, `${path}.address`)
  splitAddress(address)
  return { id: integer(fields.id, `${path}.id`, 1), volumeId: hexId(fields.volumeId, `${path}.volumeId`), address }
}

function configuration(value: unknown, path: string): ConfigurationJson {
  const fields = object(value, path)
  return {
    id: integer(fields.id, `${path}.id`, 1),
    voters: array(fields.voters, `${path}.voters`, member),
    learners: array(fields.learners, `${path}.learners`, member),
    ...optionally(fields, path, 'acceptQuorum'),
    ...optionally(fields, path, 'leaseMilliseconds'),
  }
}

function optionally(fields: Record<string, unknown>, path: string, name: 'acceptQuorum' | 'leaseMilliseconds') {
  if (fields[name] === undefined || fields[name] === null) return {}
  return { [name]: integer(fields[name], `${path}.${name}`, 1) }
}

export function parseGenesisRequest(value: unknown): GenesisRequest {
  const fields = object(value, 'body')
  const founders = array(fields.founders, 'founders', member)
  const isOnce = (of: (founder: MemberJson) => unknown): boolean => new Set(founders.map(of)).size === founders.length
  if (founders.length === 0 || !isOnce(({ id }) => id) || !isOnce(({ volumeId }) => volumeId)) {
    bad('founders', 'at least one founder, each with an id and a volume of its own,')
  }
  return { clusterId: hexId(fields.clusterId, 'clusterId'), self: integer(fields.self, 'self', 1), founders }
}

export function parseJoinRequest(value: unknown): JoinRequest {
  const fields = object(value, 'body')
  return {
    clusterId: hexId(fields.clusterId, 'clusterId'),
    self: member(fields.self, 'self'),
    configuration: configuration(fields.configuration, 'configuration'),
  }
}

export function parseMemberRequest(value: unknown): MemberRequest {
  return { volumeId: hexId(object(value, 'body').volumeId, 'volumeId') }
}

export function parseMemberResponse(value: unknown): MemberResponse {
  return { id: integer(object(value, 'body').id, 'id', 1) }
}

export function parseConfigurationRequest(value: unknown): ConfigurationRequest {
  const fields = object(value, 'body')
  const voters = array(fields.voters, 'voters', member)
  if (voters.length === 0) bad('voters', 'at least one voter')
  const learners = array(fields.learners ?? [], 'learners', member)
  const ids = [...voters, ...learners].map(({ id }) => id)
  if (new Set(ids).size !== ids.length) bad('voters', 'every node once, as a voter or a learner,')
  return {
    expectedConfigurationId: integer(fields.expectedConfigurationId, 'expectedConfigurationId', 1),
    voters,
    learners,
    preferredLeader: nullable((id, path) => integer(id, path, 1))(fields.preferredLeader, 'preferredLeader'),
  }
}

export function parseTransferRequest(value: unknown): TransferRequest {
  const fields = object(value, 'body')
  return {
    expectedConfigurationId: integer(fields.expectedConfigurationId, 'expectedConfigurationId', 1),
    to: integer(fields.to, 'to', 1),
  }
}

export function parseResetRequest(value: unknown): ResetRequest {
  const fields = object(value, 'body')
  return { nodeId: integer(fields.nodeId, 'nodeId', 1), volumeId: hexId(fields.volumeId, 'volumeId') }
}

export function parseCheckpointResponse(value: unknown): CheckpointResponse {
  return { index: index(object(value, 'body').index, 'index') }
}

export function parseErrorJson(value: unknown): ErrorJson {
  const fields = object(value, 'body')
  return { code: string(fields.code, 'code'), message: string(fields.message, 'message') }
}

function startProgress(value: unknown, path: string): StartProgressJson {
  const fields = object(value, path)
  return {
    part: oneOf(fields.part, `${path}.part`, ['log', 'checkpoint', 'state']),
    entries: integer(fields.entries, `${path}.entries`),
    bytes: integer(fields.bytes, `${path}.bytes`),
    percent: integer(fields.percent, `${path}.percent`),
  }
}

const textOrNull = (value: unknown, path: string): string | null => (value === null ? null : string(value, path))

function rot(value: unknown, path: string): RotJson {
  const { found, last, open, doubtfulFrom } = object(value, path)
  return {
    found: integer(found, `${path}.found`),
    last: textOrNull(last, `${path}.last`),
    open: boolean(open, `${path}.open`),
    doubtfulFrom: textOrNull(doubtfulFrom, `${path}.doubtfulFrom`),
  }
}

function migration(value: unknown, path: string): MigrationJson {
  const fields = object(value, path)
  return {
    sentBytes: integer(fields.sentBytes, `${path}.sentBytes`),
    received: array(fields.received, `${path}.received`, (item, at) => {
      const { id, bytes } = object(item, at)
      return { id: integer(id, `${at}.id`, 1), bytes: integer(bytes, `${at}.bytes`) }
    }),
  }
}

export function parseNodeStatus(value: unknown): NodeStatus {
  const fields = object(value, 'status')
  const refusal = nullable(object)(fields.refusal, 'refusal')
  const reconfiguration = nullable(object)(fields.reconfiguration, 'reconfiguration')
  return {
    phase: oneOf(fields.phase, 'phase', ['waiting', 'recovering', 'member', 'learner', 'removed', 'refused']),
    version: string(fields.version, 'version'),
    ready: boolean(fields.ready, 'ready'),
    volumeId: nullable(hexId)(fields.volumeId, 'volumeId'),
    clusterId: nullable(hexId)(fields.clusterId, 'clusterId'),
    nodeId: nullable((id, path) => integer(id, path, 1))(fields.nodeId, 'nodeId'),
    address: string(fields.address, 'address'),
    timeline: integer(fields.timeline, 'timeline'),
    role: oneOf(fields.role, 'role', ['leader', 'follower', 'learner', 'none']),
    leaderId: nullable((id, path) => integer(id, path, 1))(fields.leaderId, 'leaderId'),
    configuration: nullable(configuration)(fields.configuration, 'configuration'),
    configurationComplete: boolean(fields.configurationComplete, 'configurationComplete'),
    decidedIndex: index(fields.decidedIndex, 'decidedIndex'),
    appliedIndex: index(fields.appliedIndex, 'appliedIndex'),
    acceptedIndex: index(fields.acceptedIndex, 'acceptedIndex'),
    caughtUp: boolean(fields.caughtUp, 'caughtUp'),
    reconfiguration: reconfiguration && {
      voters: array(reconfiguration.voters, 'reconfiguration.voters', (id, path) => integer(id, path, 1)),
      state: oneOf(reconfiguration.state, 'reconfiguration.state', ['catching-up', 'proposed']),
    },
    progress: array(fields.progress, 'progress', (item, path) => {
      const progress = object(item, path)
      return {
        id: integer(progress.id, `${path}.id`, 1),
        acceptedIndex: index(progress.acceptedIndex, `${path}.acceptedIndex`),
        connected: boolean(progress.connected, `${path}.connected`),
      }
    }),
    refusal: refusal && {
      code: string(refusal.code, 'refusal.code'),
      message: string(refusal.message, 'refusal.message'),
    },
    lastCheckpointIndex: index(fields.lastCheckpointIndex, 'lastCheckpointIndex'),
    ...(fields.readOnly === undefined ? {} : { readOnly: boolean(fields.readOnly, 'readOnly') }),
    ...(fields.rot === undefined ? {} : { rot: rot(fields.rot, 'rot') }),
    ...(fields.checkpointFailure === undefined
      ? {}
      : { checkpointFailure: textOrNull(fields.checkpointFailure, 'checkpointFailure') }),
    ...(fields.migration === undefined ? {} : { migration: migration(fields.migration, 'migration') }),
    ...(fields.starting === undefined ? {} : { starting: startProgress(fields.starting, 'starting') }),
  }
}
