/** What `show` says of a node in a golden story (story.ts). */
import { statusOf } from '../../src/consensus/replica.ts'
import type { SimNode } from './node.ts'

/** `flight`: what the leader has sent and has no answer to. `migration`: what went and came to bring others up. */
export function showMore(node: SimNode, what: string): string {
  const { progress, migration } = statusOf(node.replica!)
  const flights = progress.map(({ id, inFlightBytes, accepted }) => `${id} at ${accepted} in flight ${inFlightBytes}`)
  if (what === 'flight') return `${node.id} ${flights.length > 0 ? flights.join(', ') : 'does not lead'}`
  const received = migration.received.map(({ id, bytes }) => `${bytes} of ${id}`)
  const waiting = `, ${node.replica!.fetch.bufferedBytes} wait`
  return `${node.id} sent ${migration.sentBytes}, got ${received.length > 0 ? received.join(', ') : 'nothing'}${waiting}`
}

export function show(node: SimNode): string {
  if (node.replica === null) return `${node.id} is down`
  const { phase, role, leader, decided, accepted, configuration, configurationComplete } = statusOf(node.replica)
  const voters = configuration.voters.map((one) => one.id).join(' ')
  const complete = configurationComplete ? ' complete' : ''
  return (
    `${node.id} ${phase} ${role}, leader ${leader}, decided ${decided}, accepted ${accepted}, ` +
    `configuration ${configuration.id} {${voters}}${complete}`
  )
}
