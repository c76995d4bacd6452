/** The machine by example: entries in, replies out; sessions, time, ids, limits, checkpoints. */
import { describe, expect, it } from 'vitest'
import { ByteWriter } from '../src/bytes.ts'
import type { SystemCommand } from '../src/machine/entry.ts'
import { encodeCommand, encodeEntry } from '../src/machine/entry.ts'
import { Machine } from '../src/machine/machine.ts'
import type { Reply } from '../src/machine/reply.ts'
import { type Configuration, configurationId, logIndex, nodeId, volumeId } from '../src/vocabulary.ts'

const command = (...words: string[]): Uint8Array => {
  const writer = new ByteWriter()
  encodeCommand(
    writer,
    '',
    words.map((word) => Buffer.from(word, 'latin1')),
  )
  return writer.finish()
}

/** Drives one machine as one session would. */
class Driver {
  machine = new Machine({ maxMemoryBytes: 0 })
  session = { node: 1, incarnation: 1 }
  next = 1
  time = 1_000_000

  constructor() {
    this.system({ kind: 'open-session', session: this.session })
  }

  apply(system: SystemCommand[], first: number, commands: Uint8Array[], acknowledged = first - 1) {
    const replies: { sequence: number; reply: Reply; duplicate: boolean }[] = []
    const blocks = commands.length === 0 ? [] : [{ session: this.session, acknowledged, first, commands }]
    const payload = encodeEntry(this.time, system, blocks)
    this.machine.apply(
      { kind: 'commands', index: logIndex(this.machine.applied + 1), payload },
      { reply: (_session, sequence, reply, duplicate) => replies.push({ sequence, reply, duplicate }) },
    )
    return replies
  }

  system(...system: SystemCommand[]): void {
    this.apply(system, 1, [])
  }

  run(...words: string[]): unknown {
    const [answer] = this.apply([], this.next++, [command(...words)])
    return plain(answer!.reply)
  }

  restart(): void {
    const checkpoint = this.machine.beginCheckpoint()
    const chunks: Buffer[] = []
    for (let chunk = checkpoint.next(); chunk !== null; chunk = checkpoint.next()) chunks.push(chunk)
    const before = this.machine.hash()
    this.machine = Machine.restore({ maxMemoryBytes: 0 }, chunks)
    expect(this.machine.hash()).toBe(before)
  }
}

function plain(reply: Reply): unknown {
  if (reply instanceof Uint8Array) return Buffer.from(reply).toString('latin1')
  if (Array.isArray(reply)) return (reply as Reply[]).map(plain)
  if (typeof reply === 'object' && reply !== null && 'kind' in reply && reply.kind === 'error') {
    return `${reply.prefix} ${reply.message}`
  }
  return reply
}

const configuration = (id: number, ...voters: [number, string][]): Configuration => ({
  id: configurationId(id),
  voters: voters.map(([node, volume]) => ({ id: nodeId(node), volume: volumeId(volume), address: 'localhost:1' })),
  learners: [],
  preferredLeader: nodeId(0),
})

describe('a command', () => {
  it('is applied and answered', () => {
    const d = new Driver()
    expect(d.run('SET', 'k', 'v')).toBe('OK')
    expect(d.run('get', 'k')).toBe('v')
    expect(d.machine.keys).toBe(1)
    d.restart()
    expect(d.run('get', 'k')).toBe('v')
    expect(d.run('DEL', 'k', 'k', 'x')).toBe(1)
    expect(d.machine.usedMemoryBytes).toBe(0)
  })
})
export { configuration }
