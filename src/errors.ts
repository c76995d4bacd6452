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
  INTERNAL: {
    http: 500,
    what: 'the node met something that it has no code for',
    todo: 'look into its log; report it with the message',
  },
  NOT_FOUND: {
    http: 404,
    what: 'there is no such path or folder',
    todo: 'compare it with docs/OPERATIONS.md, which names the admin paths and the folders',
  },
  PORT_UNAVAILABLE: {
    http: 503,
    what: 'the node cannot listen on one of its ports',
    todo: 'end the program that has the port, or give the node other ports (LOKIKV_ADDRESS_BOOK)',
  },

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

  NOT_STARTED: { http: 503, what: 'the node has not come so far yet', todo: 'try again in a moment' },
  NODE_RESET: {
    http: 409,
    what: 'a removed node moved its data aside and ends, to start anew with empty volumes',
    todo: 'nothing; it is started again and waits for an identity',
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
  NO_ANSWER: { http: 504, what: 'a peer did not answer in time', todo: 'nothing; the node asks again' },
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
  QUORUM_INVALID: {
    http: 409,
    what: 'the accept quorum of the settings does not suit so many voters',
    todo: 'set acceptQuorum to 0 or to what the message says; the configuration in force stays',
  },
  OVERLOADED: { http: 503, what: 'a queue is full', todo: 'try again later, or send less at a time' },
  CLIENT_TOO_SLOW: {
    http: 503,
    what: 'a client does not take its answers, and the node cannot keep more of them',
    todo: 'read the answers as they come, and ask for less at a time',
  },
  REPLY_TOO_LARGE: {
    http: 413,
    what: 'the reads of a transaction before this one have answered more than a reply may hold',
    todo: 'read outside of transactions, or less in each',
  },
  TRANSACTION_TOO_LARGE: {
    http: 413,
    what: 'there are too many commands between MULTI and EXEC, or keys of WATCH, or too many bytes of them',
    todo: 'make several transactions of it; UNWATCH what is not needed',
  },
  OUTCOME_UNKNOWN: {
    http: 500,
    what: 'the command may or may not have been applied',
    todo: 'read the key to find out; conditional writes make a repetition safe',
  },

  // Storage (src/storage)
  META_DAMAGED: {
    http: 500,
    what: 'no copy of the meta file of the write-ahead log can be read',
    todo: 'restore the volume from a backup, or give the node an empty volume: it joins again as a new member',
  },
  LOG_DAMAGED: {
    http: 500,
    what: 'the write-ahead log has damage that is not one file, or one part, that was lost: who this node is, or what is its log, cannot be told',
    todo: 'the file and the place are in the message; give the node empty volumes: it joins again as a new member and fetches the data from its peers; with three nodes nothing is lost',
  },
  LOG_DAMAGED_ALONE: {
    http: 500,
    what: 'the write-ahead log is damaged, and this node votes alone: nobody else has what is lost',
    todo: 'acknowledged writes may be among it: restore the volume from a backup; `lokikv fsck` says what is there; nothing was written',
  },
  CHECKPOINT_DAMAGED: {
    http: 500,
    what: 'no checkpoint can be read that the log could follow, and this node votes alone: nobody else has one',
    todo: 'restore the volume from a backup; nothing was written',
  },
  ROT_FOUND: {
    http: 500,
    what: 'bytes that were durable have changed on the disk; they were found before they were needed, and are not used',
    todo: 'nothing at once: a new checkpoint takes their place, or a peer sends them again; if it goes on, replace the disk',
  },
  CHUNK_DAMAGED: {
    http: 400,
    what: 'a part of a checkpoint did not arrive as it was sent',
    todo: 'it is asked for again; if this goes on, check the disk of the sender and the network',
  },
  TOOL_USAGE: {
    http: 400,
    what: 'an argument of a command is not understood',
    todo: 'see the command with `--help`',
  },
  ENCRYPTION_KEY_MISSING: {
    http: 409,
    what: 'data was encrypted, or is to be, with a key that is not here',
    todo: 'put the key into the folder of keys (LOKIKV_KEYS_DIRECTORY) as a file whose name is the id of the key, and start again; nothing was written',
  },
  ENCRYPTION_KEY_INVALID: {
    http: 409,
    what: 'a file in the folder of keys is no key',
    todo: 'a key is 32 random bytes, as they are or as hexadecimal or base64 text, and its id letters, digits, `.`, `_` and `-`; nothing was written',
  },
  ENCRYPTION_KEY_WRONG: {
    http: 409,
    what: 'the key of this id is not the one that the data was encrypted with',
    todo: 'bring the old key back under its id, and give a new key an id of its own; nothing was written',
  },
  FORMAT_TOO_NEW: {
    http: 409,
    what: 'the data was written by a newer version',
    todo: 'start that version or a later one; nothing was written',
  },
  LOG_WRITE_FAILED: {
    http: 500,
    what: 'the write-ahead log could not be written or synced; the process ends, because memory is ahead of disk',
    todo: 'see the system error in the message; the node starts again from what is durable',
  },
  CHECKPOINT_WRITE_FAILED: {
    http: 500,
    what: 'a checkpoint could not be written',
    todo: 'see the system error in the message; the log is kept until a checkpoint succeeds',
  },
  DISK_ERROR: {
    http: 500,
    what: 'the operating system cannot read or write a volume',
    todo: 'see the system error in the message: permissions, mounts and the health of the disk',
  },
  DISK_FULL: {
    http: 507,
    what: 'the disk is nearly full and the node takes no writes but deletes',
    todo: 'grow the volume or delete keys; the node recovers by itself when space returns',
  },

  // Machine and edges (src/machine, src/edge)

  // Operator (operator)

  // Local (local)
  LOCAL_RUNNING: {
    http: 409,
    what: 'another `npm start` uses this folder already',
    todo: 'use the one that runs (the message says how), or stop it with Ctrl-C in its terminal',
  },
  LOCAL_USAGE: {
    http: 400,
    what: 'an argument of `npm start` is not understood',
    todo: 'see `npm start -- --help`; arguments come after `--`',
  },
  LOCAL_MANIFEST: {
    http: 422,
    what: 'the manifest cannot be read, or the API refuses it',
    todo: 'correct what the message names and start again; nothing was changed',
  },
  LOCAL_PORT: {
    http: 409,
    what: 'the port that was asked for is taken by another program',
    todo: 'give another one with `--port`, or leave it away for any that is free',
  },
  LOCAL_FOLDER: {
    http: 503,
    what: 'the folder of `npm start` cannot be made, written or read',
    todo: 'see the system error in the message; give another one with `--folder`, or begin anew with `--fresh`',
  },
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

/** The text of whatever was thrown. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** What a person should read: the error, and what to do about it. */
export function explain(error: LokiError): string {
  return `${error.message}\n  what it means: ${ERRORS[error.code].what}\n  what to do: ${ERRORS[error.code].todo}`
}
