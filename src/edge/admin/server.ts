/**
 * The admin port: probes and metrics for everyone, status and changes of membership for who has the cluster's
 * token. Paths and bodies are those of contract.ts; every answer that is not 2xx carries a code of errors.ts.
 * It is a thin skin over `AdminActions`: what an action means is decided by the node.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { Server, Socket } from 'node:net'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Registry } from 'prom-client'
import { LIMITS } from '../../config.ts'
import {
  ADMIN_PATHS,
  type CheckpointResponse,
  type ConfigurationRequest,
  type ErrorJson,
  type GenesisRequest,
  type JoinRequest,
  type MemberRequest,
  type MemberResponse,
  type NodeStatus,
  type ResetRequest,
  type ScrubResponse,
  type TransferRequest,
  parseConfigurationRequest,
  parseGenesisRequest,
  parseJoinRequest,
  parseMemberRequest,
  parseResetRequest,
  parseTransferRequest,
} from '../../contract.ts'
import { ERRORS, LokiError } from '../../errors.ts'
import { InvariantViolation } from '../../invariant.ts'

export interface AdminActions {
  status(): NodeStatus
  /** Started as far as it goes without others: replay is over, or the node waits or is refused. */
  started(): boolean
  /** Whether clients should be sent here. */
  readiness(): { readonly ready: boolean; readonly reason: string }
  genesis(request: GenesisRequest): Promise<void>
  join(request: JoinRequest): Promise<void>
  reset(request: ResetRequest): Promise<void>
  allotId(request: MemberRequest): Promise<MemberResponse>
  reconfigure(request: ConfigurationRequest): void
  withdraw(): void
  transfer(request: TransferRequest): void
  checkpoint(): Promise<CheckpointResponse>
  scrub(): Promise<ScrubResponse>
}

function tokenHook(token: string): (request: FastifyRequest) => Promise<void> {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  const expected = digest(`Bearer ${token}`)
  return (request) => {
    if (timingSafeEqual(digest(request.headers.authorization ?? ''), expected)) return Promise.resolve()
    return Promise.reject(new LokiError('UNAUTHORIZED', 'this path needs the token of the cluster'))
  }
}

/** What a startup probe that fails shows. */
function recovering({ starting }: NodeStatus): string {
  if (starting === undefined) return 'recovering'
  const { part, entries, bytes, percent } = starting
  return `recovering: ${part} ${percent} %, ${entries} entries, ${bytes} bytes`
}

function answerError(error: unknown, reply: FastifyReply): FastifyReply {
  // A bug is no answer: the process must end (main.ts), and not go on with a state that contradicts itself.
  if (error instanceof InvariantViolation) {
    setImmediate(() => {
      throw error
    })
  }
  if (error instanceof LokiError) {
    const body: ErrorJson = { code: error.code, message: error.message }
    return reply.code(ERRORS[error.code].http).send(body)
  }
  const status = (error as { statusCode?: number }).statusCode
  if (status !== undefined && status < 500) {
    return reply.code(status).send({ code: 'BAD_REQUEST', message: (error as Error).message } satisfies ErrorJson)
  }
  const body: ErrorJson = { code: 'INTERNAL', message: error instanceof Error ? error.message : 'unknown' }
  return reply.code(ERRORS.INTERNAL.http).send(body)
}

/** Anybody can connect, and must not keep the probes out, which take a moment only: the oldest connection gives way. */
function boundConnections(server: Server, most: number): void {
  const open = new Set<Socket>()
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
    if (open.size <= most) return
    const [oldest] = open
    open.delete(oldest!)
    oldest!.destroy()
  })
}

export function createAdmin(actions: AdminActions, token: string, metrics: Registry): FastifyInstance {
  const app = fastify({ logger: false, bodyLimit: LIMITS.adminBodyBytes, forceCloseConnections: true })
  boundConnections(app.server, LIMITS.adminConnections)
  app.setErrorHandler((error, _request, reply) => answerError(error, reply))
  app.setNotFoundHandler((request, reply) =>
    answerError(new LokiError('NOT_FOUND', `${request.method} ${request.url}`), reply),
  )

  app.get(ADMIN_PATHS.livez, () => 'ok\n')
  app.get(ADMIN_PATHS.startupz, (_request, reply) => {
    const started = actions.started()
    return reply.code(started ? 200 : 503).send(started ? 'ok\n' : `${recovering(actions.status())}\n`)
  })
  app.get(ADMIN_PATHS.readyz, (_request, reply) => {
    const { ready, reason } = actions.readiness()
    return reply.code(ready ? 200 : 503).send(`${ready ? 'ok' : reason}\n`)
  })
  app.get(ADMIN_PATHS.metrics, async (_request, reply) => reply.type(metrics.contentType).send(await metrics.metrics()))

  const guarded = { onRequest: tokenHook(token) }
  app.get(ADMIN_PATHS.status, guarded, () => actions.status())
  app.post(ADMIN_PATHS.genesis, guarded, async (request, reply) => {
    await actions.genesis(parseGenesisRequest(request.body))
    return reply.code(200).send(actions.status())
  })
  app.post(ADMIN_PATHS.join, guarded, async (request, reply) => {
    await actions.join(parseJoinRequest(request.body))
    return reply.code(200).send(actions.status())
  })
  app.post(ADMIN_PATHS.reset, guarded, async (request, reply) => {
    await actions.reset(parseResetRequest(request.body))
    return reply.code(202).send(actions.status())
  })
  app.post(ADMIN_PATHS.members, guarded, async (request) => actions.allotId(parseMemberRequest(request.body)))
  app.put(ADMIN_PATHS.configuration, guarded, (request, reply) => {
    actions.reconfigure(parseConfigurationRequest(request.body))
    return reply.code(202).send(actions.status())
  })
  app.delete(ADMIN_PATHS.configuration, guarded, (_request, reply) => {
    actions.withdraw()
    return reply.code(202).send(actions.status())
  })
  app.post(ADMIN_PATHS.transfer, guarded, (request, reply) => {
    actions.transfer(parseTransferRequest(request.body))
    return reply.code(202).send(actions.status())
  })
  app.post(ADMIN_PATHS.checkpoint, guarded, async () => actions.checkpoint())
  app.post(ADMIN_PATHS.scrub, guarded, async () => actions.scrub())
  return app
}
