/**
 * What a command answers, independent of any wire protocol. PURE.
 *
 *   null                the null of RESP
 *   number              an integer
 *   string              a status such as OK
 *   Uint8Array          a bulk string
 *   array               an array of replies
 *   ErrorReply, MapReply, DoubleReply …   tagged objects
 */
export type Reply = null | number | bigint | string | Uint8Array | readonly Reply[] | TaggedReply

export type TaggedReply =
  /** `prefix` is the error class clients switch on (ERR, WRONGTYPE, …). */
  | { readonly kind: 'error'; readonly prefix: string; readonly message: string }
  | { readonly kind: 'map'; readonly pairs: readonly (readonly [Reply, Reply])[] }
  | { readonly kind: 'double'; readonly value: number }
  | { readonly kind: 'boolean'; readonly value: boolean }
