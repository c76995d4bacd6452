/** The text of INFO, section by section, from the node's facts. PURE. */
import type { Facts } from '../../../front.ts'

/** The version of Redis whose commands and texts these are: clients decide by it what they may send. */
export const REDIS_VERSION = '7.2.0'

type Fields = Readonly<Record<string, string | number>>

/** `wanted`: names of sections; none, `default`, `all` or `everything`: all of them. */
export function infoText(facts: Facts, wanted: readonly string[], clients: number, maxClients: number): string {
  const all = wanted.length === 0 || wanted.some((name) => ['default', 'all', 'everything'].includes(name))
  return Object.entries(sections(facts, clients, maxClients))
    .filter(([name]) => all || wanted.includes(name.toLowerCase()))
    .map(([name, fields]) => `# ${name}\r\n${lines(fields)}`)
    .join('\r\n')
}

const lines = (fields: Fields): string =>
  Object.entries(fields)
    .map(([name, value]) => `${name}:${value}\r\n`)
    .join('')

function sections(facts: Facts, clients: number, maxClients: number): Record<string, Fields> {
  return {
    Server: {
      redis_version: REDIS_VERSION,
      redis_mode: 'standalone',
      lokikv_version: facts.version,
      lokikv_node_id: facts.nodeId ?? '',
      lokikv_cluster_id: facts.clusterId ?? '',
      uptime_in_seconds: facts.uptimeSeconds,
      uptime_in_days: Math.floor(facts.uptimeSeconds / 86_400),
    },
    Clients: { connected_clients: clients, maxclients: maxClients, blocked_clients: 0 },
    Memory: {
      used_memory: facts.usedMemoryBytes,
      used_memory_dataset: facts.usedMemoryBytes,
      maxmemory_policy: 'noeviction',
    },
    Persistence: { loading: 0, aof_enabled: 1, aof_last_write_status: 'ok' },
    Stats: { total_commands_processed: facts.commandsProcessed },
    Replication: replication(facts),
    Cluster: { cluster_enabled: 1 },
    Keyspace: facts.keys === 0 ? {} : { db0: `keys=${facts.keys},expires=0,avg_ttl=0` },
  }
}

/** Every node takes every command, so to a client each is a master; who leads has fields of its own. */
function replication(facts: Facts): Fields {
  const replicas = facts.members.filter(({ role }) => role !== 'leader')
  return {
    role: 'master',
    connected_slaves: replicas.length,
    master_repl_offset: facts.decidedIndex,
    lokikv_role: facts.role,
    lokikv_leader_id: facts.leaderId ?? '',
    lokikv_configuration_id: facts.configurationId,
    lokikv_decided_index: facts.decidedIndex,
    lokikv_applied_index: facts.appliedIndex,
    lokikv_voters: facts.members.filter(({ role }) => role !== 'learner').length,
  }
}
