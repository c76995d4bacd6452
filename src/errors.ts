/**
 * Every error that a person or a client can meet, in one table. `docs/ERRORS.md` has one heading a code, and
 * a test compares the two. Errors answer the world; bugs are `invariant`'s.
 *
 * A code is never reused and never changes its meaning. `http` is the status on the HTTP and admin ports.
 * `what` is the sentence a person sees first; `todo` is what they can do about it. PURE.
 */

interface ErrorRow {
  readonly http: number
  readonly what: string
  readonly todo: string
}

const rows = {
  // Frames and requests
  FRAME_MALFORMED: {
    http: 400,
    what: 'bytes that do not fit the format',
    todo: 'check that the other side speaks this protocol and version',
  },
  BAD_REQUEST: {
    http: 400,
    what: 'the request does not have the expected form',
    todo: 'see the message for the field',
  },
  UNAUTHORIZED: {
    http: 401,
    what: "the cluster's token is missing or wrong",
    todo: 'send it as `Authorization: Bearer …`; it is in the Secret of the cluster',
  },
  NOT_FOUND: { http: 404, what: 'there is no such path', todo: 'see docs/OPERATIONS.md for the admin paths' },

  // Identity
  NO_IDENTITY: {
    http: 409,
    what: 'the node has no identity yet and waits',
    todo: 'the operator, or `lokikv init`, gives it one',
  },
  IDENTITY_CONFLICT: {
    http: 409,
    what: 'the node already has another identity',
    todo: 'compare the ids in the message; give a new member an empty volume',
  },
  VOLUME_MISMATCH: {
    http: 409,
    what: 'the volumes do not carry the same stamp, or not the stamp that is expected',
    todo: 'mount the two volumes of one node together; nothing was written',
  },
  CONTROL_FILE_INVALID: {
    http: 409,
    what: 'the control file cannot be read or contradicts the volume',
    todo: 'correct the line in the message, or restore the file; the data is untouched',
  },
  CONFIGURATION_INVALID: {
    http: 422,
    what: 'a setting is unknown, ill-typed or out of its range',
    todo: 'correct the setting in the message',
  },

  CLUSTER_MISMATCH: {
    http: 409,
    what: 'a peer or a file belongs to another cluster',
    todo: 'check the address and the volumes; nothing was exchanged',
  },
  MEMBER_UNKNOWN: {
    http: 409,
    what: 'a peer is not known under its node id and volume id',
    todo: 'join it first; a node that lost its volume joins under a new id',
  },
  PROTOCOL_VERSION: {
    http: 409,
    what: 'two nodes have no version of the peer protocol in common',
    todo: 'upgrade the older one step by step, as docs/OPERATIONS.md says',
  },

  // Consensus
  NO_LEADER: { http: 503, what: 'no leader is known at the moment', todo: 'try again; a quorum must be reachable' },
  NOT_LEADER: { http: 409, what: 'this node does not lead', todo: 'ask the leader that the message names' },
  CONFIGURATION_CHANGED: {
    http: 409,
    what: 'the cluster is in another configuration than the request expects',
    todo: 'read the status again and decide anew',
  },
  RECONFIGURATION_RUNNING: {
    http: 409,
    what: 'another change of membership is under way',
    todo: 'wait until it is complete, or withdraw it',
  },
  OVERLOADED: { http: 503, what: 'a queue is full', todo: 'try again later, or send less at a time' },
  OUTCOME_UNKNOWN: {
    http: 500,
    what: 'the command may or may not have been applied',
    todo: 'read the key to find out; conditional writes make a repetition safe',
  },

  // Storage (src/storage)

  // Machine and edges (src/machine, src/edge)

  // Operator (operator)

  // Local (local)
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof rows

/** The table, for tests, docs and the HTTP edge. */
export const ERRORS: Readonly<Record<ErrorCode, ErrorRow>> = rows

/** An error that answers the world: a code of the table and what happened this time. */
export class LokiError extends Error {
  override name = 'LokiError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, detail: string, options?: ErrorOptions) {
    super(`${code}: ${detail}`, options)
    this.code = code
  }
}

/** What a person should read: the error, and what to do about it. */
export function explain(error: LokiError): string {
  return `${error.message}\n  what it means: ${ERRORS[error.code].what}\n  what to do: ${ERRORS[error.code].todo}`
}
