/**
 * The admin port of a node, as a client: JSON over HTTP with the cluster's token. Every request has a time limit
 * and every answer a size limit; answers are parsed by the contract, so a node that talks nonsense is a node
 * that does not answer.
 */
import { ADMIN_PATHS, parseErrorJson, parseMemberResponse, parseNodeStatus } from '../src/contract.ts'
import type {
  ConfigurationRequest,
  GenesisRequest,
  JoinRequest,
  MemberRequest,
  NodeStatus,
  ResetRequest,
  TransferRequest,
} from '../src/contract.ts'

const STATUS_TIMEOUT_MILLISECONDS = 1000
const ORDER_TIMEOUT_MILLISECONDS = 5000
const ANSWER_LIMIT_BYTES = 1024 * 1024

/** A node that answered otherwise than with 2xx. `code` is one of the table of errors, or NO_ANSWER. */
export class NodeError extends Error {
  override name = 'NodeError'
  readonly status: number
  readonly code: string

  constructor(status: number, code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.status = status
    this.code = code
  }
}

/** `host:port` of the admin port, and the token. */
export interface NodeAddress {
  readonly address: string
  readonly token: string
}

/** The orders that can be given to a node. */
export type NodeClient = typeof nodes

export const nodes = {
  status: async (node: NodeAddress): Promise<NodeStatus> =>
    parseNodeStatus(await ask(node, 'GET', ADMIN_PATHS.status, undefined, STATUS_TIMEOUT_MILLISECONDS)),

  genesis: async (node: NodeAddress, request: GenesisRequest): Promise<void> => {
    await ask(node, 'POST', ADMIN_PATHS.genesis, request)
  },

  join: async (node: NodeAddress, request: JoinRequest): Promise<void> => {
    await ask(node, 'POST', ADMIN_PATHS.join, request)
  },

  reset: async (node: NodeAddress, request: ResetRequest): Promise<void> => {
    await ask(node, 'POST', ADMIN_PATHS.reset, request)
  },

  /** The node id that belongs to a volume id from now on. */
  allot: async (leader: NodeAddress, request: MemberRequest): Promise<number> =>
    parseMemberResponse(await ask(leader, 'POST', ADMIN_PATHS.members, request)).id,

  configure: async (leader: NodeAddress, request: ConfigurationRequest): Promise<void> => {
    await ask(leader, 'PUT', ADMIN_PATHS.configuration, request)
  },

  withdraw: async (leader: NodeAddress): Promise<void> => {
    await ask(leader, 'DELETE', ADMIN_PATHS.configuration)
  },

  transfer: async (leader: NodeAddress, request: TransferRequest): Promise<void> => {
    await ask(leader, 'POST', ADMIN_PATHS.transfer, request)
  },
}

async function ask(
  node: NodeAddress,
  method: string,
  path: string,
  body?: unknown,
  timeoutMilliseconds = ORDER_TIMEOUT_MILLISECONDS,
): Promise<unknown> {
  let status = 0
  let text = ''
  try {
    const response = await fetch(`http://${node.address}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${node.token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMilliseconds),
    })
    status = response.status
    text = await readLimited(response)
  } catch (error) {
    throw new NodeError(status, 'NO_ANSWER', `${node.address} does not answer: ${reasonOf(error)}`, { cause: error })
  }
  const answer = parseOrNull(text)
  if (status >= 200 && status < 300) return answer
  throw refusalOf(node, status, answer)
}

function refusalOf(node: NodeAddress, status: number, answer: unknown): NodeError {
  try {
    const { code, message } = parseErrorJson(answer)
    return new NodeError(status, code, message)
  } catch {
    return new NodeError(status, 'NO_ANSWER', `${node.address} answers with HTTP status ${status}`)
  }
}

/** The cause says more than "fetch failed". */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error && error.cause.message !== '' ? error.cause.message : error.message
}

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return null
  }
}

async function readLimited(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length
    if (bytes > ANSWER_LIMIT_BYTES) throw new Error('the answer is too long')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
