/**
 * CLUSTER and ROLE: the leader and its replicas in the words of Redis Cluster, one shard that holds every slot,
 * so that cluster-aware clients find the leader by themselves.
 */
import { type Arguments, type Reply, err } from '../../../machine/reply.ts'
import type { Facts } from '../../../front.ts'
import { bulk, unknownSubcommand } from './context.ts'

const SLOTS = 16_384

type Node = Facts['members'][number]

/** Leader first; where none is known, every voter waits in its order. */
function ordered(facts: Facts): Node[] {
  const rank = (node: Node): number => (node.role === 'leader' ? 0 : node.role === 'follower' ? 1 : 2)
  return [...facts.members].sort((a, b) => rank(a) - rank(b) || a.id - b.id)
}

/** 40 hexadecimal digits, as Redis has them: the cluster's id and the node's. */
const nameOf = (facts: Facts, id: number): string =>
  (facts.clusterId ?? '').padStart(32, '0') + id.toString(16).padStart(8, '0')

export function answerCluster(facts: Facts, args: Arguments): Reply {
  const sub = Buffer.from(args[1]!).toString('latin1').toLowerCase()
  switch (sub) {
    case 'slots':
      return facts.members.length === 0 ? [] : [[0, SLOTS - 1, ...ordered(facts).map((node) => endpoint(facts, node))]]
    case 'shards':
      return shards(facts)
    case 'nodes':
      return bulk(nodesText(facts))
    case 'info':
      return bulk(infoText(facts))
    case 'myid':
      return bulk(nameOf(facts, facts.nodeId ?? 0))
    case 'keyslot':
      if (args.length !== 3) return err("wrong number of arguments for 'cluster|keyslot' command")
      return keySlot(args[2]!)
    default:
      return unknownSubcommand('CLUSTER', args)
  }
}

const endpoint = (facts: Facts, node: Node): Reply => [
  bulk(node.host),
  node.clientPort,
  bulk(nameOf(facts, node.id)),
  { kind: 'map', pairs: [] },
]

function shards(facts: Facts): Reply {
  const nodes: Reply[] = ordered(facts).map((node) => ({
    kind: 'map',
    pairs: [
      [bulk('id'), bulk(nameOf(facts, node.id))],
      [bulk('port'), node.clientPort],
      [bulk('ip'), bulk(node.host)],
      [bulk('endpoint'), bulk(node.host)],
      [bulk('role'), bulk(node.role === 'leader' ? 'master' : 'replica')],
      [bulk('replication-offset'), facts.decidedIndex],
      [bulk('health'), bulk('online')],
    ],
  }))
  const pairs: [Reply, Reply][] = [
    [bulk('slots'), [0, SLOTS - 1]],
    [bulk('nodes'), nodes],
  ]
  return [{ kind: 'map', pairs }]
}

function nodesText(facts: Facts): string {
  const leader = facts.members.find(({ role }) => role === 'leader')
  return ordered(facts)
    .map((node) => {
      const self = node.id === facts.nodeId ? 'myself,' : ''
      const master = node.role === 'leader'
      const of = master ? '-' : leader === undefined ? '-' : nameOf(facts, leader.id)
      const slots = master ? ` 0-${SLOTS - 1}` : ''
      // The bus port is the one Redis would use; nothing listens there.
      const address = `${node.host}:${node.clientPort}@${node.clientPort + 10_000},${node.host}`
      const flags = `${self}${master ? 'master' : 'slave'}`
      return `${nameOf(facts, node.id)} ${address} ${flags} ${of} 0 0 ${facts.configurationId} connected${slots}\n`
    })
    .join('')
}

function infoText(facts: Facts): string {
  const assigned = facts.leaderId === null ? 0 : SLOTS
  return [
    `cluster_state:${facts.leaderId === null ? 'fail' : 'ok'}`,
    `cluster_slots_assigned:${assigned}`,
    `cluster_slots_ok:${assigned}`,
    'cluster_slots_pfail:0',
    'cluster_slots_fail:0',
    `cluster_known_nodes:${facts.members.length}`,
    'cluster_size:1',
    `cluster_current_epoch:${facts.configurationId}`,
    `cluster_my_epoch:${facts.configurationId}`,
    '',
  ].join('\r\n')
}

/** ROLE tells the truth about leadership, although every node takes every command. */
export function answerRole(facts: Facts): Reply {
  const leader = facts.members.find(({ role }) => role === 'leader')
  if (facts.role === 'leader') {
    const replicas = ordered(facts).filter(({ role }) => role !== 'leader')
    const offset = bulk(String(facts.decidedIndex))
    const described = replicas.map(({ host, clientPort }) => [bulk(host), bulk(String(clientPort)), offset])
    return [bulk('master'), facts.decidedIndex, described]
  }
  const state = leader === undefined ? 'connect' : 'connected'
  return [bulk('slave'), bulk(leader?.host ?? ''), leader?.clientPort ?? 0, bulk(state), facts.appliedIndex]
}

/** CRC-16/XMODEM of the key, or of what stands between its first braces, modulo 16384: as Redis Cluster. */
export function keySlot(key: Uint8Array): number {
  const open = key.indexOf(0x7b)
  const close = open < 0 ? -1 : key.indexOf(0x7d, open + 1)
  const hashed = close > open + 1 ? key.subarray(open + 1, close) : key
  let crc = 0
  for (const byte of hashed) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff
  }
  return crc % SLOTS
}
