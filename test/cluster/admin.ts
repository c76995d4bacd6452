/**
 * A client of a node's admin port, as the operator is one: token, JSON, a time limit. Answers that are not 2xx are
 * thrown as `AdminError` with the code of the node.
 */
import {
  ADMIN_PATHS,
  type CheckpointResponse,
  type ConfigurationRequest,
  type GenesisRequest,
  type JoinRequest,
  type NodeStatus,
  type ResetRequest,
  type ScrubResponse,
  type TransferRequest,
  parseCheckpointResponse,
  parseErrorJson,
  parseMemberResponse,
  parseNodeStatus,
} from '../../src/contract.ts'

/** Long: a disk that others keep busy holds a node up for seconds. */
const PATIENCE_MILLISECONDS = 60_000

export class AdminError extends Error {
  override name = 'AdminError'
  readonly status: number
  readonly code: string
  constructor(status: number, code: string, message: string) {
    super(`${status} ${code}: ${message}`)
    this.status = status
    this.code = code
  }
}

export class Admin {
  readonly #base: string
  readonly #token: string

  constructor(port: number, token: string) {
    this.#base = `http://127.0.0.1:${port}`
    this.#token = token
  }

  async status(patienceMilliseconds = PATIENCE_MILLISECONDS): Promise<NodeStatus> {
    return parseNodeStatus(await this.request('GET', ADMIN_PATHS.status, undefined, this.#token, patienceMilliseconds))
  }

  async genesis(body: GenesisRequest): Promise<void> {
    await this.request('POST', ADMIN_PATHS.genesis, body)
  }

  async join(body: JoinRequest): Promise<void> {
    await this.request('POST', ADMIN_PATHS.join, body)
  }

  /** The node id that belongs to a volume id. */
  async allotId(volumeId: string): Promise<number> {
    return parseMemberResponse(await this.request('POST', ADMIN_PATHS.members, { volumeId })).id
  }

  async configure(body: ConfigurationRequest): Promise<void> {
    await this.request('PUT', ADMIN_PATHS.configuration, body)
  }

  async transfer(body: TransferRequest): Promise<void> {
    await this.request('POST', ADMIN_PATHS.transfer, body)
  }

  /** Moves the data of a removed node aside; its process ends, the next start finds empty volumes. */
  async reset(body: ResetRequest): Promise<void> {
    await this.request('POST', ADMIN_PATHS.reset, body)
  }

  async checkpoint(): Promise<CheckpointResponse> {
    return parseCheckpointResponse(await this.request('POST', ADMIN_PATHS.checkpoint))
  }

  /** Verifies what lies still on the disk. */
  async scrub(): Promise<ScrubResponse> {
    return (await this.request('POST', ADMIN_PATHS.scrub)) as ScrubResponse
  }

  /** Status code of a probe path, which needs no token. */
  async probe(path: string): Promise<number> {
    const response = await fetch(this.#base + path, { signal: AbortSignal.timeout(PATIENCE_MILLISECONDS) })
    await response.arrayBuffer()
    return response.status
  }

  async request(
    method: string,
    path: string,
    body?: unknown,
    token = this.#token,
    patienceMilliseconds = PATIENCE_MILLISECONDS,
  ): Promise<unknown> {
    const response = await fetch(this.#base + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(patienceMilliseconds),
    })
    const text = await response.text()
    if (response.ok) return text === '' ? null : (JSON.parse(text) as unknown)
    const error = parseErrorJson(JSON.parse(text))
    throw new AdminError(response.status, error.code, error.message)
  }
}
