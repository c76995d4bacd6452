/**
 * `lokikv init`: genesis by hand, for nodes that run without the operator. It asks every node that is named for
 * its volume, makes one genesis of them and gives it to each. Idempotent while the list stays the same; where one of
 * them belongs to a cluster, that with another list, in another order or of another genesis is refused, and nothing is
 * changed.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import {
  ADMIN_PATHS,
  ENVIRONMENT,
  type GenesisRequest,
  type NodeStatus,
  PATHS,
  parseErrorJson,
  parseNodeStatus,
} from '../contract.ts'
import { LokiError } from '../errors.ts'

const USAGE = `usage: lokikv init [--token-file FILE] <admin host:port> [<admin host:port> …]

Makes one cluster of the nodes at these admin addresses: the first gets id 1, the next id 2, …
The token is read from --token-file, or else from the file that ${ENVIRONMENT.tokenFile} names.
`

async function request(address: string, path: string, token: string, body?: unknown): Promise<NodeStatus> {
  const response = await fetch(`http://${address}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(10_000),
  }).catch((error: Error) => {
    throw new LokiError(
      'NO_ANSWER',
      `${address}: ${error.cause instanceof Error ? error.cause.message : error.message}`,
    )
  })
  const json: unknown = await response.json()
  if (response.ok) return parseNodeStatus(json)
  throw new LokiError('BAD_REQUEST', `${address} answers: ${parseErrorJson(json).message}`)
}

/** Exit code: 0 done, 64 wrong usage. Throws coded errors. */
export async function initialise(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    options: { 'token-file': { type: 'string' }, help: { type: 'boolean' } },
    allowPositionals: true,
  })
  if (values.help || positionals.length === 0) {
    process.stdout.write(USAGE)
    return values.help ? 0 : 64
  }
  const token = readFileSync(values['token-file'] ?? process.env[ENVIRONMENT.tokenFile] ?? PATHS.token, 'utf8').trim()
  const statuses = await Promise.all(positionals.map((address) => request(address, ADMIN_PATHS.status, token)))
  const clusterId = statuses.find((status) => status.clusterId !== null)?.clusterId ?? randomBytes(16).toString('hex')
  const founders = statuses.map((status, position) => {
    const { volumeId, address, nodeId } = status
    if (volumeId === null) throw new LokiError('NO_IDENTITY', `${positionals[position]} has no volume yet`)
    const isOther = nodeId !== null && (nodeId !== position + 1 || status.clusterId !== clusterId)
    if (isOther) {
      const message = `${positionals[position]} is node ${nodeId} of cluster ${status.clusterId}`
      throw new LokiError('IDENTITY_CONFLICT', `${message}, and would be node ${position + 1} of ${clusterId}`)
    }
    return { id: position + 1, volumeId, address }
  })
  // Who has an identity is asked first: it may refuse, and nothing is changed then.
  const order = [...positionals.keys()].toSorted((a, b) => (statuses[a]!.nodeId ?? 1e9) - (statuses[b]!.nodeId ?? 1e9))
  for (const position of order) {
    const genesis: GenesisRequest = { clusterId, self: position + 1, founders }
    await request(positionals[position]!, ADMIN_PATHS.genesis, token, genesis)
    process.stdout.write(`${positionals[position]} is node ${position + 1} of cluster ${clusterId}\n`)
  }
  return 0
}
