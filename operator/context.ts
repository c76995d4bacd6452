/**
 * What one operator process works with. Everything in here can be lost at any time without harm: the clients,
 * the log, and memories that only save requests.
 */
import type { Logger } from 'pino'
import type { Applied } from './applied.ts'
import type { Kube } from './kube.ts'
import type { Metrics } from './metrics.ts'
import type { NodeClient } from './nodes.ts'

/** What a turn asks of the API server; a test may put a model in its place. */
export type KubeApi = Pick<Kube, 'get' | 'list' | 'create' | 'apply' | 'merge' | 'delete' | 'evict'>

export interface Context {
  readonly kube: KubeApi
  readonly nodes: NodeClient
  readonly log: Logger
  readonly metrics: Metrics
  /** Image of the operator itself: that of a new cluster whose manifest names none. */
  readonly image: string
  /** A file that takes the place of DNS and pod addresses, or null. */
  readonly addressBook: string | null
  readonly applied: Applied
  /** Tokens of clusters by UID of the LokiCluster, forgotten when a node refuses one. */
  readonly tokens: Map<string, string>
  /** When an act was last done, by key and description: not to be repeated or announced again within moments. */
  readonly recent: Map<string, number>
}
