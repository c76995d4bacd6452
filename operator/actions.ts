/**
 * What the operator can do, one type an act. PURE: types, and a sentence for each.
 *
 * Every act names what it expects (a UID, a resource version, a configuration id), so that it does nothing when
 * the world has moved on; a second operator, a stale reading or a crash between two acts does no harm.
 */
import type { ConfigurationJson, MemberJson } from '../src/contract.ts'
import { unreachable } from './unreachable.ts'
import type { Genesis } from './manifests.ts'
import type { OwnerReference } from './resource.ts'

/** A pod as an act knows it. */
export interface Target {
  readonly pod: string
  readonly ordinal: number
  readonly uid: string
}

interface ObjectTarget {
  readonly name: string
  readonly uid: string
  readonly resourceVersion: string
}

export type Action =
  /** Writes the record of genesis; `adopted`: rebuilt from what the volumes say. */
  | { readonly kind: 'record-genesis'; readonly genesis: Genesis; readonly adopted: boolean }
  /** Gives a founder its identity. */
  | { readonly kind: 'seed'; readonly target: Target; readonly genesis: Genesis; readonly self: number }
  /** Has the leader allot an id to an empty volume, and makes the node a learner under it. */
  | {
      readonly kind: 'join'
      readonly target: Target
      readonly leader: Target
      readonly clusterId: string
      readonly volumeId: string
      readonly address: string
      readonly configuration: ConfigurationJson
    }
  /** Has a node that was removed move its data aside and begin anew. */
  | { readonly kind: 'reset'; readonly target: Target; readonly nodeId: number; readonly volumeId: string }
  | {
      readonly kind: 'reconfigure'
      readonly leader: Target
      readonly leaderId: number
      readonly expectedConfigurationId: number
      readonly voters: readonly MemberJson[]
      /** Pods that the new configuration needs and that have no identity yet. */
      readonly missing: readonly string[]
    }
  /** Takes back a change of membership that nobody wants any more and that has not been proposed. */
  | { readonly kind: 'withdraw'; readonly leader: Target }
  | {
      readonly kind: 'transfer'
      readonly leader: Target
      readonly to: Target
      readonly toId: number
      readonly expectedConfigurationId: number
    }
  /**
   * Evicts a pod that runs. One that is not ready is deleted: while others are not ready either the disruption
   * budget refuses its eviction for ever, although nothing is lost by it that serves.
   */
  | { readonly kind: 'restart'; readonly target: Target; readonly ready: boolean }
  /** Deletes a pod that takes no part, so that its successor is made from the present inputs. */
  | { readonly kind: 'replace'; readonly target: Target; readonly reason: string }
  | {
      readonly kind: 'set-replicas'
      readonly from: number
      readonly to: number
      readonly statefulSet: ObjectTarget
      readonly hibernate: boolean
    }
  | { readonly kind: 'delete-claim'; readonly claim: ObjectTarget; readonly ordinal: number }
  | { readonly kind: 'grow-claim'; readonly claim: ObjectTarget; readonly size: string }
  | {
      readonly kind: 'label-claim'
      readonly claim: ObjectTarget
      readonly labels: Readonly<Record<string, string>>
      readonly ownerReferences: readonly OwnerReference[]
    }
  | { readonly kind: 'label-pod'; readonly target: Target; readonly role: string | null }

export type ActionKind = Action['kind']

/**
 * Whether an act takes a node, or a node's vote, away from those that serve. At most one such act is planned
 * in a turn, and it is planned again from fresh observations right before it is done.
 */
export function isDisruptive(action: Action): boolean {
  switch (action.kind) {
    case 'reconfigure':
    case 'transfer':
    case 'restart':
    case 'replace':
    case 'delete-claim':
    case 'reset':
      return true
    case 'set-replicas':
      return action.to < action.from
    case 'record-genesis':
    case 'seed':
    case 'join':
    case 'withdraw':
    case 'grow-claim':
    case 'label-claim':
    case 'label-pod':
      return false
    default:
      return unreachable(action)
  }
}

/** What a person reads in `status.held`, in events and in the log. */
export function describe(action: Action): string {
  switch (action.kind) {
    case 'record-genesis':
      return action.adopted ? 'take up the data of the volumes' : 'begin the cluster'
    case 'seed':
      return `give ${action.target.pod} its identity`
    case 'join':
      return `join ${action.target.pod}`
    case 'reset':
      return `reset ${action.target.pod}`
    case 'reconfigure':
      return `reconfigure to ${action.voters.length} voters`
    case 'withdraw':
      return 'withdraw the change of membership'
    case 'transfer':
      return `transfer leadership to ${action.to.pod}`
    case 'restart':
      return `restart ${action.target.pod}`
    case 'replace':
      return `replace ${action.target.pod}`
    case 'set-replicas':
      return action.hibernate ? 'hibernate' : `set replicas to ${action.to}`
    case 'delete-claim':
      return `delete claim ${action.claim.name}`
    case 'grow-claim':
      return `grow claim ${action.claim.name}`
    case 'label-claim':
      return `label claim ${action.claim.name}`
    case 'label-pod':
      return `label ${action.target.pod}`
    default:
      return unreachable(action)
  }
}
