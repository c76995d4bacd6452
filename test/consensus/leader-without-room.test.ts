/** A leader whose disk is full goes on for the sake of what makes room, and writes no more for it than a little. */
import { expect, test } from 'vitest'
import { acceptsProposals, step } from '../../src/consensus/replica.ts'
import type { Room } from '../../src/vocabulary.ts'
import { planOf } from '../sim/plan.ts'
import { Simulation } from '../sim/simulation.ts'

const PAYLOAD = new Uint8Array(4096)
const MOST_BYTES = 1024 * 1024

/** How many bytes a leader proposes while nobody accepts, when its disk has so much room. */
function proposed(room: Room): number {
  const calm = planOf(7)
  const network = { ...calm.network, lossChance: 0, doubleChance: 0, slowChance: 0 }
  const plan = { ...calm, nodes: 3, founders: 3, blipRate: 0, network, rules: {} } as typeof calm
  const simulation = new Simulation(plan)
  simulation.advance(1000)
  const [leader] = simulation.leaders
  const { replica } = leader!
  Object.assign(replica!.options, { maxUndecidedBytes: MOST_BYTES })
  step(replica!, { kind: 'room', now: replica!.now, room })
  let bytes = 0
  // What it says is lost: time stands still here.
  for (; acceptsProposals(replica!); bytes += PAYLOAD.length) {
    step(replica!, { kind: 'propose', now: replica!.now, payload: PAYLOAD })
  }
  return bytes
}

test('without room 16 KiB, otherwise the whole bound', () => {
  expect(proposed('enough')).toBeGreaterThan(MOST_BYTES - 2 * PAYLOAD.length)
  expect(proposed('little')).toBeGreaterThan(MOST_BYTES - 2 * PAYLOAD.length)
  const little = proposed('none')
  expect(little).toBeGreaterThan(0)
  expect(little).toBeLessThanOrEqual(16 * 1024 + PAYLOAD.length)
})
