/**
 * Does the simulator of whole nodes bite? A sample of its mutations (test/sim/mutations.ts), each of which it has to
 * notice within a few seeds. `node test/sim/mutations.ts` runs all of them, those of the core included.
 */
import { describe, expect, it } from 'vitest'
import { MUTATIONS, runMutation } from './sim/mutations.ts'

const SEEDS = 40

const SAMPLE = [
  'an ack before the sync',
  'a read is answered before its index is applied',
  'what is sent again is out of order',
  'a command that was applied is applied again',
  'sessions are lost at a checkpoint',
  'the log says done before it is',
]

describe('mutations that the simulator notices', () => {
  it.each(SAMPLE)('%s', (name) => {
    const mutation = MUTATIONS.find((one) => one.name === name)!
    expect(runMutation(mutation, SEEDS)).not.toBeNull()
  })

  it('unchanged it finds nothing', () => {
    const nothing = {
      name: 'nothing',
      simulator: 'shell',
      file: 'src/turn.ts',
      from: 'class Turn',
      to: 'class Turn',
    } as const
    expect(runMutation(nothing, 5)).toBeNull()
  })
})
