/**
 * `kubectl logs`: the output of a container's process from its file, the last lines or all of it, followed while
 * it grows.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import type { Agent } from './agent.ts'
import { badRequest } from './failure.ts'
import { type KubeObject, at, list, text } from './objects.ts'
import type { Logs } from './rest.ts'

const POLL_MILLISECONDS = 150
const CHUNK_BYTES = 64 * 1024

/** Where the last `lines` lines of the file begin. */
export function tailOffset(file: number, lines: number): number {
  const { size } = fstatSync(file)
  const buffer = Buffer.alloc(CHUNK_BYTES)
  let found = 0
  for (let end = size; end > 0;) {
    const start = Math.max(0, end - CHUNK_BYTES)
    readSync(file, buffer, 0, end - start, start)
    for (let position = end - start - 1; position >= 0; position--) {
      // The line break at the very end closes the last line and begins no other.
      if (buffer[position] === 10 && start + position !== size - 1 && ++found === lines) return start + position + 1
    }
    end = start
  }
  return 0
}

export function podLogs(agent: Agent): Logs {
  return {
    stream(pod: KubeObject, query: URLSearchParams, response: ServerResponse): () => void {
      const container = agent.containerOf(pod)
      const wanted = query.get('container') ?? ''
      const name = text(at(pod, 'spec', 'containers', 0, 'name'))
      if (wanted !== '' && !list(at(pod, 'spec', 'containers')).some((each) => at(each, 'name') === wanted)) {
        throw badRequest(`container ${wanted} is not valid for pod ${pod.metadata.name}`)
      }
      const previous = query.get('previous') === 'true'
      const path = container?.logFile(previous ? 1 : 0) ?? ''
      if (!existsSync(path)) {
        const why = previous
          ? `previous terminated container "${name}" in pod "${pod.metadata.name}" not found`
          : `container "${name}" in pod "${pod.metadata.name}" is waiting to start: ContainerCreating`
        throw badRequest(why)
      }
      const follow = query.get('follow') === 'true' && !previous
      return send(
        path,
        query.get('tailLines'),
        query.get('limitBytes'),
        response,
        follow ? () => agent.containerOf(pod)?.logFile() === path : null,
      )
    },
  }
}

/** `goesOn`: whether more may come; null: do not follow. */
function send(
  path: string,
  tail: string | null,
  limit: string | null,
  response: ServerResponse,
  goesOn: (() => boolean) | null,
): () => void {
  const file = openSync(path, 'r')
  let offset = tail === null ? 0 : Number(tail) === 0 ? fstatSync(file).size : tailOffset(file, Number(tail))
  let left = limit === null ? Number.POSITIVE_INFINITY : Number(limit)
  let open = true
  const stop = (): void => {
    if (!open) return
    open = false
    closeSync(file)
    response.end()
  }
  response.on('close', stop)
  response.writeHead(200, { 'content-type': 'text/plain', 'cache-control': 'no-cache, private' })
  response.flushHeaders()
  const buffer = Buffer.alloc(CHUNK_BYTES)
  const turn = (): void => {
    if (!open) return
    const count = readSync(file, buffer, 0, Math.min(CHUNK_BYTES, left), offset)
    offset += count
    left -= count
    if (count > 0) {
      const more = response.write(Buffer.from(buffer.subarray(0, count)))
      if (more) setImmediate(turn)
      else response.once('drain', turn)
    } else if (left > 0 && goesOn?.() === true) setTimeout(turn, POLL_MILLISECONDS)
    else stop()
  }
  turn()
  return stop
}
