/**
 * One watch: the changes that one client asked for, as one JSON document a line, in order and without a gap.
 * A client that asks for changes which are forgotten gets an ERROR event with 410; one that reads too slowly is
 * cut off and starts anew.
 */
import type { ServerResponse } from 'node:http'
import { gone } from './failure.ts'
import type { Fields, KubeObject } from './objects.ts'
import type { Registry } from './registry.ts'
import type { Resource } from './resources.ts'
import type { Matches } from './selectors.ts'
import type { Change } from './store.ts'

export interface WatchOptions {
  readonly namespace: string
  readonly matches: Matches | null
  /** Changes after this revision; null: begin with what there is now. */
  readonly since: number | null
  /** Send what there is now, then a bookmark that says so, whatever `since` is. */
  readonly initialEvents: boolean
  readonly bookmarks: boolean
  readonly timeoutSeconds: number
  /** How an object is shown: as it is, or as a Table. `first` is true until something has been shown. */
  readonly shown: (object: KubeObject, first: boolean) => unknown
}

const BOOKMARK_INTERVAL_MILLISECONDS = 30_000
/** Unsent bytes at which a watch is ended. */
const BACKLOG_BYTES = 16 * 1024 * 1024

/** What went out of sight, as it last was in sight, with the revision of the change that took it away. */
const asOf = (previous: KubeObject, object: KubeObject): KubeObject => ({
  ...previous,
  metadata: { ...previous.metadata, resourceVersion: object.metadata.resourceVersion },
})

/** Runs until the client goes, its time is over, or `stop` is called. Returns `stop`. */
export function serveWatch(
  registry: Registry,
  resource: Resource,
  options: WatchOptions,
  response: ServerResponse,
): () => void {
  let first = true
  const send = (type: string, object: unknown): void => {
    if (response.writableLength > BACKLOG_BYTES) stop()
    else response.write(`${JSON.stringify({ type, object })}\n`)
  }
  const sendObject = (type: string, object: KubeObject): void => {
    const shown = options.shown(registry.show(resource, object), first)
    first = false
    send(type, shown)
  }
  const inScope = (object: KubeObject): boolean =>
    (options.namespace === '' || object.metadata.namespace === options.namespace) && (options.matches?.(object) ?? true)
  const tell = (change: Change): void => {
    if (change.resource !== resource.key) return
    const now = change.type !== 'DELETED' && inScope(change.object)
    const { previous } = change
    const before = previous !== null && inScope(previous)
    if (now) sendObject(before ? 'MODIFIED' : 'ADDED', change.object)
    else if (before) sendObject('DELETED', change.type === 'DELETED' ? change.object : asOf(previous, change.object))
  }
  const bookmark = (annotations: Fields | null): void =>
    send('BOOKMARK', {
      kind: resource.kind,
      apiVersion: resource.group === '' ? resource.version : `${resource.group}/${resource.version}`,
      metadata: {
        resourceVersion: String(registry.store.revision),
        creationTimestamp: null,
        ...(annotations === null ? {} : { annotations }),
      },
    })

  const unsubscribe = registry.store.subscribe(tell)
  const beat = setInterval(() => {
    if (options.bookmarks) bookmark(null)
  }, BOOKMARK_INTERVAL_MILLISECONDS)
  const end = setTimeout(() => stop(), options.timeoutSeconds * 1000)
  const stop = (): void => {
    unsubscribe()
    clearInterval(beat)
    clearTimeout(end)
    response.end()
  }
  response.on('close', stop)

  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' })
  response.flushHeaders()
  if (options.since === null || options.initialEvents) {
    for (const object of registry.list(resource, options.namespace)) if (inScope(object)) sendObject('ADDED', object)
    if (options.initialEvents && options.bookmarks) bookmark({ 'k8s.io/initial-events-end': 'true' })
  } else {
    const missed = registry.store.since(options.since)
    if (missed === null) {
      send('ERROR', gone(`too old resource version: ${options.since} (${registry.store.revision})`).status())
      stop()
    } else for (const change of missed) tell(change)
  }
  return stop
}
