/**
 * Runs one sweep of the storage, by name, or all of them: `run.ts` starts this file beside a storage with one safety
 * line taken out. Prints `started`, then `caught: <sweep>: <reason>` or `survived`.
 */
import assert from 'node:assert/strict'
import { openStorage } from '../../src/storage/storage.ts'
import { HISTORIES, asideSweep, controlFileSweep, failedWriteSweep } from '../storage/crash-points.ts'
import { historySweep, killSweep, resetSweep, resumeSweep } from '../storage/crash-points.ts'
import { killedReceiver, simulated, writeSample } from '../storage/history.ts'
import { gapSweep, readBackSweep } from '../storage/judgement-sweeps.ts'
import { indexSweep, saltSweep, sealedSweep, wrongKeySweep } from '../storage/packing-sweeps.ts'
import { SimulatedDisk } from '../storage/simulated-disk.ts'
import { checkpointSweep, flipSweep, lostSectorSweep, misdirectSweep } from '../storage/sweeps.ts'
import { missingFileSweep, promiseSweep, spliceSweep } from '../storage/sweeps.ts'
import { logIndex } from '../../src/vocabulary.ts'

/** A chunk with a bit that was flipped on the way is refused when it comes, not when it is read. */
async function damagedChunk(): Promise<void> {
  const peer = await openStorage(simulated(new SimulatedDisk()))
  await writeSample(peer, 3)
  const receiver = await (await openStorage(simulated(new SimulatedDisk()))).receive((await peer.manifestBytes())!)
  const chunk = (await peer.readChunk(logIndex(3), 0))!
  for (let at = 0; at < chunk.length; at++) {
    const damaged = Buffer.from(chunk)
    damaged[at]! ^= 1
    await assert.rejects(receiver.put(0, damaged), /CHUNK_DAMAGED/)
  }
}

const POWER_CUT = { crash: 'kill, then a power cut', fail: 'a failure, then a power cut' } as const

const SWEEPS: Readonly<Record<string, () => Promise<unknown>>> = {
  splices: spliceSweep,
  'damaged checkpoints': checkpointSweep,
  'a damaged chunk of a peer': damagedChunk,
  'missing files': missingFileSweep,
  'misdirected writes': misdirectSweep,
  'lost sectors': lostSectorSweep,
  'damaged promises': promiseSweep,
  'bit flips': () => flipSweep(5),
  'what is sealed': sealedSweep,
  salts: saltSweep,
  'another key': wrongKeySweep,
  'flips in an index': indexSweep,
  'control file': controlFileSweep,
  reset: resetSweep,
  'checkpoints set aside': asideSweep,
  'a failed write': failedWriteSweep,
  'gaps and checkpoints': () => Promise.resolve(gapSweep()),
  'read back': readBackSweep,
  'a checkpoint on its way': resumeSweep,
  'a checkpoint whose sync failed, and a kill': async () => assert.equal(await killedReceiver(), 20),
  ...Object.fromEntries(
    (['crash', 'fail'] as const).flatMap((fault) =>
      Object.entries(HISTORIES).flatMap(([name, history]) => [
        [`${fault}: ${name}`, () => historySweep(history, fault)],
        [`${POWER_CUT[fault]}: ${name}`, () => killSweep(history, fault)],
      ]),
    ),
  ),
}

process.stdout.write('started\n')
const wanted = process.argv[2]
for (const [name, sweep] of Object.entries(SWEEPS)) {
  if (wanted !== undefined && name !== wanted) continue
  try {
    await sweep()
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0]! : String(error)
    process.stdout.write(`caught: ${name}: ${reason}\n`)
    process.exit(0)
  }
}
process.stdout.write('survived\n')
