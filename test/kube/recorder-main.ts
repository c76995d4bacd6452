/**
 * The recorder as a pod: clients that run inside the cluster, told by the environment whom to talk to, asked over
 * HTTP (through the API server's proxy) how it goes. Runs from a ConfigMap, on the image of the node, with nothing
 * but Node.js: it is no part of the image.
 *
 *   TARGETS   JSON: [{"name", "host", "port", "readyUrl"?}]
 *   OPTIONS   JSON: RecorderOptions
 *   GET /progress   {answered, failures}      GET /stop   ends the clients; the recording (Recording as JSON)
 */
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { Recorder, type RecorderOptions, type Target } from '../cluster/recorder.ts'

interface PodTarget {
  readonly name: string
  readonly host: string
  readonly port: number
  /** /readyz of the node: new connections are made only while it says yes. A Service needs none. */
  readonly readyUrl?: string
}

const PORT = 9000
const READINESS_MILLISECONDS = 100

/** Looks at readiness for as long as the process lives. */
function watched(target: PodTarget): Target {
  const { name, host, port, readyUrl } = target
  if (readyUrl === undefined) return { name, host, port }
  let isReady = false
  const watch = async (): Promise<never> => {
    for (;;) {
      const answer = await fetch(readyUrl, { signal: AbortSignal.timeout(1000) }).catch(() => null)
      isReady = answer?.status === 200
      await answer?.arrayBuffer()
      await sleep(READINESS_MILLISECONDS)
    }
  }
  void watch()
  return { name, host, port, isReady: () => isReady }
}

const targets = (JSON.parse(process.env['TARGETS'] ?? '[]') as PodTarget[]).map(watched)
const recorder = new Recorder(targets, JSON.parse(process.env['OPTIONS'] ?? '{}') as Partial<RecorderOptions>)

/** Ends the clients; a second question gets the same recording. */
let ending: Promise<string> | null = null
async function end(): Promise<string> {
  const recording = await recorder.stop()
  for (const target of targets) await recorder.readAll(target)
  // JSON has no Infinity: an unknown outcome travels as null.
  return JSON.stringify(recording)
}

const server = createServer((request, response) => {
  const answer = (body: string): void => void response.setHeader('content-type', 'application/json').end(body)
  if (request.url === '/stop') {
    ending ??= end()
    ending.then(answer, (error: unknown) => response.writeHead(500).end(String(error)))
  } else answer(JSON.stringify({ answered: recorder.answered, failures: recorder.failures }))
})
server.listen(PORT)
// The pod is ended when its test is over: nothing is left to do in good order.
process.on('SIGTERM', () => process.exit(0))
