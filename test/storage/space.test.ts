/** The watch over the free space: it looks in time, it does not flutter, and it never ends anything. */
import { expect, test } from 'vitest'
import type { Disk } from '../../src/storage/disk.ts'
import { SpaceWatch } from '../../src/storage/space.ts'

const MIB = 1024 * 1024

function watched(total: number) {
  const space = { free: total, total }
  const disk = { space: () => Promise.resolve(space) } as unknown as Disk
  return { space, watch: new SpaceWatch(disk, '/wal', MIB, 0, () => undefined) }
}
const aMoment = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('read-only below the reserve, writable again well above it', async () => {
  const { space, watch } = watched(100 * MIB)
  const states: boolean[] = []
  for (const free of [50, 2.1, 1.9, 2.1, 2.4, 2.6, 2.1]) {
    space.free = free * MIB
    await watch.check()
    states.push(watch.readOnly)
  }
  expect(states).toEqual([false, false, true, true, true, false, false])
})

test('a quick writer does not run through the reserve between two looks', async () => {
  const { space, watch } = watched(100 * MIB)
  await watch.check()
  let written = 0
  while (!watch.readOnly && space.free > 0) {
    written += MIB / 16
    space.free -= MIB / 16
    watch.wrote(written)
    await aMoment()
  }
  expect(watch.readOnly).toBe(true)
  expect(space.free).toBeGreaterThan(MIB)
})
