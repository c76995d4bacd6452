/**
 * `npm run bench -- keys`: a million keys of 16 bytes with values of 100 bytes in one node of ours, in three, and in
 * Redis with its append-only file: the memory of each process afterwards, and the time from the start of a killed
 * process to its first correct answer.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Peer, type PeerKind, lokikv, redis } from './peers.ts'
import { RespConnection } from './resp-client.ts'

const KEYS_A_COMMAND = 50
const COMMANDS_IN_FLIGHT = 32
const VALUE = Buffer.alloc(100, 'x')
/** Caches of the allocator and young garbage are given back by then, as far as they ever are. */
const SETTLE_MILLISECONDS = 3000
const PATIENCE_MILLISECONDS = 60_000

const keyOf = (at: number): string => `key:${String(at).padStart(12, '0')}`

/** What was seen of one system. */
export interface KeysReport {
  readonly peer: string
  /** Of the process that holds most. */
  readonly residentMebibytes: number
  /** From the start of the process, after kill -9, to the right value of a key. */
  readonly startMilliseconds: number
}

function addressOf(peer: Peer): [string, number] {
  const [host = '', port = ''] = peer.target.split(':')
  return [host, Number(port)]
}

async function fill(peer: Peer, keys: number): Promise<void> {
  const connection = await RespConnection.open(...addressOf(peer))
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < keys) {
      const command: (string | Buffer)[] = ['MSET']
      for (let count = 0; count < KEYS_A_COMMAND && next < keys; count++) command.push(keyOf(next++), VALUE)
      const reply = await connection.call(...command)
      if (reply !== 'OK') throw new Error(`${peer.name}: MSET answered ${JSON.stringify(reply)}`)
    }
  }
  await Promise.all(Array.from({ length: COMMANDS_IN_FLIGHT }, worker))
  connection.close()
}

/** Asks until the value of the last key is there, and right. */
async function firstAnswer(peer: Peer, keys: number): Promise<number> {
  const began = performance.now()
  while (performance.now() - began < PATIENCE_MILLISECONDS) {
    try {
      const connection = await RespConnection.open(...addressOf(peer))
      try {
        const reply = await connection.call('GET', keyOf(keys - 1))
        if (Buffer.isBuffer(reply) && reply.equals(VALUE)) return performance.now() - began
      } finally {
        connection.close()
      }
    } catch {
      // Not there yet, or not ready.
    }
    await sleep(5)
  }
  throw new Error(`${peer.name} does not answer ${PATIENCE_MILLISECONDS} ms after its start`)
}

async function measure(kind: PeerKind, keys: number): Promise<KeysReport | null> {
  const peer = await kind.start()
  if (peer === null) return null
  try {
    await fill(peer, keys)
    await sleep(SETTLE_MILLISECONDS)
    const residentMebibytes = Math.round(Math.max(...peer.residentBytes()) / 2 ** 20)
    await peer.restart()
    const startMilliseconds = Math.round(await firstAnswer(peer, keys))
    return { peer: peer.name, residentMebibytes, startMilliseconds }
  } finally {
    await peer.stop()
  }
}

export async function measureKeys(keys: number): Promise<KeysReport[]> {
  const reports: KeysReport[] = []
  for (const kind of [redis, lokikv(1), lokikv(3)]) {
    const report = await measure(kind, keys)
    if (report === null) console.log(`skipped: ${kind.name} is not on this machine`)
    else {
      reports.push(report)
      const { peer, residentMebibytes, startMilliseconds } = report
      console.log(
        `${peer}: ${residentMebibytes} MiB a process, first answer ${startMilliseconds} ms after kill -9 and start`,
      )
    }
  }
  return reports
}
