/** Memory outside the heap: what is handed out is nobody else's, and what was given back is used again, cut up or not. */
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Slabs, UNIT_BYTES } from '../src/machine/slabs.ts'

const MIB = 1024 * 1024

/** Hands out and takes back; every stretch is filled with a number of its own, and must still be when it is given back. */
class Filled {
  readonly slabs = new Slabs()
  readonly live: { readonly place: number; readonly units: number; readonly tag: number }[] = []
  #tag = 0

  #bytes(place: number, units: number): Buffer {
    const start = this.slabs.offset(place)
    return this.slabs.bytes(place).subarray(start, start + units * UNIT_BYTES)
  }

  take(units: number): void {
    const place = this.slabs.take(units)
    const tag = (this.#tag = (this.#tag + 1) % 251)
    assert.equal(this.#bytes(place, units).length, units * UNIT_BYTES)
    this.#bytes(place, units).fill(tag)
    this.live.push({ place, units, tag })
  }

  give(choice: number): void {
    if (this.live.length === 0) return
    const [{ place, units, tag }] = this.live.splice(choice % this.live.length, 1) as [(typeof this.live)[number]]
    const bytes = this.#bytes(place, units)
    assert(bytes.equals(Buffer.alloc(bytes.length, tag)), 'somebody else wrote there')
    this.slabs.give(place, units)
  }
}

test('no stretch is handed out twice, whatever their lengths', () => {
  const units = fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 1, max: 130 }) },
    { weight: 3, arbitrary: fc.constantFrom(8, 64, 1024) },
    { weight: 1, arbitrary: fc.constantFrom(20_000, 65_536, 65_537, 70_000) },
  )
  const step = fc.record({ gives: fc.integer({ min: 0, max: 3 }), units, times: fc.integer({ min: 1, max: 40 }) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
      const filled = new Filled()
      for (const [at, { gives, units, times }] of steps.entries()) {
        for (let count = 0; count < times; count++) filled.take(units)
        for (let count = 0; count < gives * times; count++) filled.give(at * 7919 + count * 31)
      }
      while (filled.live.length > 0) filled.give(filled.live.length * 7)
      expect(filled.slabs.heldBytes).toBeLessThanOrEqual(MIB)
    }),
    { numRuns: 30 },
  )
})

test('lengths that nobody asks for again are cut up before more memory is taken', () => {
  const filled = new Filled()
  // As indices grow: all of one length, then all of the next, and the ones before are given back.
  for (let units = 32; units <= 80; units += 16) {
    const before = filled.live.length
    for (let count = 0; count < 1000; count++) filled.take(units)
    for (let count = 0; count < before; count++) filled.give(0)
  }
  const held = filled.slabs.heldBytes
  const free = held - 1000 * 80 * UNIT_BYTES
  expect(free).toBeGreaterThan(MIB)
  for (let bytes = 0; bytes < free - MIB / 2; bytes += 8 * UNIT_BYTES) filled.take(8)
  expect(filled.slabs.heldBytes).toBe(held)
  while (filled.live.length > 0) filled.give(0)
})
