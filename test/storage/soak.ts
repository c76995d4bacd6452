/**
 * `node test/storage/soak.ts [--kills 2000 | --minutes 30] [--seed 7]`: kill -9 of a process that writes to the real
 * disk, at random moments of its starts and its work, again and again on the same folder. What it acknowledged is
 * kept here, outside of it: after each start everything that was acknowledged is there, and nothing that was never
 * given. Segment size, archive, compression, key and the way of syncing change from life to life; the seed decides all of
 * it but the moment of death. Exit code 1, and the folder is kept, where something is wrong.
 *
 * (A killed process leaves its last writes to the kernel, which loses nothing: power cuts are the business of the
 * simulated disk.)
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { parseArgs } from 'node:util'
import { check } from '../../src/storage/fsck.ts'
import { KeyRing } from '../../src/storage/keys.ts'
import { RealDisk } from '../../src/storage/real-disk.ts'
import { type Found, IN_FLIGHT, KEYS, SoakModel, checkpointDigest, operations } from './soak-plan.ts'
import { random } from './simulated-disk.ts'
import type { Orders } from './writer.ts'

/** Of this many lives one dies in its start. */
const DIES_IN_START = 4
const LIFE_MILLISECONDS = 120
/** Every so often the volumes are verified as a whole, by `fsck`. */
const FSCK_EVERY = 25

type Writer = ChildProcessByStdio<Writable, Readable, null>

/** What a writer said before it died. */
interface Life {
  readonly found: Found | null
  readonly acknowledged: number
  readonly checkpoint: number
}

const spawnWriter = (): Writer =>
  spawn(process.execPath, [join(import.meta.dirname, 'writer.ts')], { stdio: ['pipe', 'pipe', 'inherit'] })

/** Lets a writer live for a while; `milliseconds` after its start was told, or from the orders on. */
function live(writer: Writer, orders: Orders, milliseconds: number, inStart: boolean): Promise<Life> {
  return new Promise((resolve, reject) => {
    let text = ''
    let armed = false
    const arm = (): void => {
      if (!armed) setTimeout(() => writer.kill('SIGKILL'), milliseconds)
      armed = true
    }
    writer.stdout.on('data', (bytes: Buffer) => {
      text += bytes.toString()
      arm()
    })
    writer.on('error', reject)
    writer.on('close', (code) => {
      if (code !== null) reject(new Error(`the writer ended by itself, with code ${code}`))
      // A line without its end was being written when the process died.
      const lines = text.split('\n').slice(0, -1)
      const last = (kind: string): string => lines.findLast((line) => line.startsWith(kind))?.slice(kind.length) ?? '0'
      const told = lines.find((line) => line.startsWith('found '))
      resolve({
        found: told === undefined ? null : (JSON.parse(told.slice(6)) as Found),
        acknowledged: Number(last('a ')),
        checkpoint: Number(last('c ')),
      })
    })
    writer.stdin.end(`${JSON.stringify(orders)}\n`)
    if (inStart) arm()
  })
}

export interface Summary {
  kills: number
  /** Of them before the start had come through. */
  inStart: number
  acknowledged: number
  checkpoints: number
}

export class Soak {
  readonly summary: Summary = { kills: 0, inStart: 0, acknowledged: 0, checkpoints: 0 }
  readonly #folder: string
  readonly #seed: number
  readonly #next: () => number
  readonly #model = new SoakModel()
  /** What the last life that got so far has given, and how much of it was acknowledged. */
  #before: { readonly life: number; readonly found: Found; readonly acknowledged: number } | null = null
  #checkpoint = 0
  #warm: Writer

  constructor(folder: string, seed: number) {
    this.#folder = folder
    this.#seed = seed
    this.#next = random(seed)
    this.#warm = spawnWriter()
  }

  /** One life and its death. Throws where a start gave back what it must not. */
  async kill(): Promise<void> {
    const life = ++this.summary.kills
    const writer = this.#warm
    this.#warm = spawnWriter()
    const inStart = this.#next() < 1 / DIES_IN_START
    const milliseconds = this.#next() * (inStart ? LIFE_MILLISECONDS / 3 : LIFE_MILLISECONDS)
    const orders = { folder: this.#folder, seed: this.#seed, life }
    const { found, acknowledged, checkpoint } = await live(writer, orders, milliseconds, inStart)
    if (found === null) this.summary.inStart++
    else {
      this.#verify(found)
      this.#before = { life, found, acknowledged }
      this.summary.acknowledged += acknowledged
    }
    if (checkpoint > this.#checkpoint) this.summary.checkpoints++
    this.#checkpoint = Math.max(this.#checkpoint, checkpoint)
    if (life % FSCK_EVERY === 0) await this.#fsck()
  }

  /** What a start found is what was acknowledged before it, and perhaps some of what was given behind it. */
  #verify(found: Found): void {
    if (found.checkpoint < this.#checkpoint) throw new Error(`checkpoint ${this.#checkpoint} was lost`)
    if (found.checkpoint > 0 && found.checkpointDigest !== checkpointDigest(found.checkpoint)) {
      throw new Error(`checkpoint ${found.checkpoint} is another one`)
    }
    this.#checkpoint = found.checkpoint
    const reasons: string[] = []
    const model = this.#model
    if (this.#before !== null) {
      const plan = operations(this.#seed, this.#before.life, this.#before.found)
      for (let count = 0; count < this.#before.acknowledged; count++) model.apply(plan.next().value)
      for (let more = 0; more <= IN_FLIGHT; more++) {
        const reason = model.differs(found)
        if (reason === null) return model.forgetBelow(found.first)
        reasons.push(`${more} more: ${reason}`)
        model.apply(plan.next().value)
      }
    } else if (model.differs(found) === null) return
    throw new Error(`what was found is none of what it may be: ${JSON.stringify(found)}\n${reasons.join('\n')}`)
  }

  async #fsck(): Promise<void> {
    const findings = await check(
      new RealDisk(),
      `${this.#folder}/wal`,
      `${this.#folder}/checkpoints`,
      new KeyRing(KEYS),
    )
    const bad = findings.filter(({ level }) => level !== 'good').map(({ text }) => text)
    if (bad.length > 0) throw new Error(`fsck: ${bad.join('; ')}`)
  }

  close(): void {
    this.#warm.kill('SIGKILL')
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { kills: { type: 'string' }, minutes: { type: 'string' }, seed: { type: 'string' } },
  })
  const seed = Number(values.seed ?? Date.now() % 100_000)
  const kills = Number(values.kills ?? (values.minutes === undefined ? 2000 : Infinity))
  const deadline = performance.now() + Number(values.minutes ?? Infinity) * 60_000
  const folder = await mkdtemp(join(tmpdir(), 'soak-'))
  const began = performance.now()
  const soak = new Soak(folder, seed)
  const { summary } = soak
  const interrupted = new AbortController()
  process.once('SIGINT', () => interrupted.abort())
  console.log(`seed ${seed}, ${Number.isFinite(kills) ? `${kills} kills` : `${values.minutes} minutes`}, ${folder}`)
  const show = (): string => {
    const minutes = (performance.now() - began) / 60_000
    return (
      `${summary.kills} kills (${(summary.kills / minutes).toFixed(0)} a minute, ${summary.inStart} in a start), ` +
      `${summary.acknowledged} operations and ${summary.checkpoints} checkpoints acknowledged`
    )
  }
  try {
    while (summary.kills < kills && performance.now() < deadline && !interrupted.signal.aborted) {
      await soak.kill()
      if (process.stdout.isTTY) process.stdout.write(`\r${show()}`)
      else if (summary.kills % 200 === 0) console.log(show())
    }
    console.log(`${process.stdout.isTTY ? '\r' : ''}${show()}: nothing was lost, nothing was made up`)
    await rm(folder, { recursive: true, force: true })
    return 0
  } catch (error) {
    console.error(`\nkill ${summary.kills} of seed ${seed}; ${folder} is as it was found:`)
    console.error(error instanceof Error ? error.message : error)
    return 1
  } finally {
    soak.close()
  }
}

if (import.meta.main) process.exitCode = await main()
