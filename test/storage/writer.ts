/**
 * A process that writes without end and says what is durable, for `kill.test.ts` to kill. Every line on stdout is
 * `<acknowledged index> <acknowledged promise>`. Arguments: folder, segment bytes.
 */
import { writeSync } from 'node:fs'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { openStorage } from '../../src/storage/storage.ts'
import { logIndex } from '../../src/vocabulary.ts'
import * as sample from './samples.ts'

const [folder, segmentBytes] = process.argv.slice(2)
const storage = await openStorage(sample.options(new RealDisk(), folder!, { segmentBytes: Number(segmentBytes) }))
const { recovered } = storage
let last = recovered.entries.at(-1)?.index ?? recovered.first - 1
let { n } = recovered.state.promise
if (recovered.state.configuration === null) await sample.written(storage, sample.genesis(3))

let inFlight = 0
function give(): void {
  while (inFlight < 8) {
    inFlight++
    const kind = Math.random()
    const records = []
    if (kind < 0.1) records.push(sample.promised(++n))
    if (kind > 0.9) records.push(sample.acceptSync(++n, last, last, ` ballot ${n}`))
    const count = 1 + Math.floor(Math.random() * 5)
    records.push(sample.appended(last + 1, last + count, 'x'.repeat(Math.random() * 2000)))
    last += count
    const line = `${last} ${n}\n`
    storage.write(records, () => {
      inFlight--
      writeSync(1, line)
      setImmediate(give)
    })
  }
}
async function checkpoints(): Promise<void> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 15))
    const index = logIndex(Math.max(1, last - 40))
    const left = Array.from({ length: 20 }, (_, at) => Buffer.alloc(100_000, at))
    const head = { index, configuration: sample.configuration(1, 3), start: logIndex(0) }
    await storage.writeCheckpoint(
      head,
      () => left.shift() ?? null,
      () => Promise.resolve(),
    )
    await storage.truncateHead(index)
  }
}
if (last === 0) {
  await sample.written(storage, sample.appended(1, 1))
  last = 1
}
give()
await checkpoints()
