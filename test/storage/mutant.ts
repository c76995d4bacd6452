/** Runs all sweeps once; `mutations.test.ts` runs this file beside a storage with one safety line taken out. */
import { allSweeps } from './crash-points.ts'
import { checkpointSweep, flipSweep, lostSectorSweep, spliceSweep } from './sweeps.ts'

try {
  await spliceSweep()
  await checkpointSweep()
  await lostSectorSweep()
  await flipSweep(5)
  await allSweeps()
} catch (error) {
  process.stdout.write(`caught: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
}
process.stdout.write('survived\n')
