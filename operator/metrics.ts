/** Prometheus metrics of the operator, and the small HTTP server that shows them with its health. */
import http from 'node:http'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

export interface Metrics {
  readonly registry: Registry
  readonly reconciles: Counter<'result'>
  readonly reconcileSeconds: Histogram
  readonly actions: Counter<'kind' | 'result'>
  readonly held: Gauge<'cluster' | 'rule'>
  /** Rules by cluster whose gauge is not zero. */
  readonly heldRules: Map<string, readonly string[]>
  readonly watchRestarts: Counter<'kind'>
  readonly isLeader: Gauge
}

export function createMetrics(): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const registers = [registry]
  return {
    registry,
    reconciles: new Counter({
      name: 'lokikv_operator_reconciles_total',
      help: 'Turns of the operator, by result',
      labelNames: ['result'],
      registers,
    }),
    reconcileSeconds: new Histogram({
      name: 'lokikv_operator_reconcile_seconds',
      help: 'Length of a turn',
      buckets: [0.01, 0.03, 0.1, 0.3, 1, 3, 10],
      registers,
    }),
    actions: new Counter({
      name: 'lokikv_operator_actions_total',
      help: 'Acts, by kind and result',
      labelNames: ['kind', 'result'],
      registers,
    }),
    held: new Gauge({
      name: 'lokikv_operator_held',
      help: 'Acts that a rule holds back, by cluster and rule',
      labelNames: ['cluster', 'rule'],
      registers,
    }),
    heldRules: new Map(),
    watchRestarts: new Counter({
      name: 'lokikv_operator_watch_interruptions_total',
      help: 'Watches that had to be begun anew, by kind',
      labelNames: ['kind'],
      registers,
    }),
    isLeader: new Gauge({
      name: 'lokikv_operator_is_leader',
      help: '1 while this operator holds the lease',
      registers,
    }),
  }
}

/** Serves /metrics, /livez and /readyz; resolves with the server once it listens. Port 0: any free one. */
export function serveMetrics(metrics: Metrics, port: number, isReady: () => boolean): Promise<http.Server> {
  const server = http.createServer((request, response) => {
    void answer(metrics, isReady, request.url ?? '/', response)
  })
  server.requestTimeout = 10_000
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, () => resolve(server))
  })
}

async function answer(metrics: Metrics, isReady: () => boolean, path: string, response: http.ServerResponse) {
  if (path === '/metrics') {
    const text = await metrics.registry.metrics()
    response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(text)
  } else if (path === '/livez' || (path === '/readyz' && isReady())) {
    response.writeHead(200, { 'content-type': 'text/plain' }).end('ok\n')
  } else {
    response.writeHead(path === '/readyz' ? 503 : 404, { 'content-type': 'text/plain' }).end('no\n')
  }
}
