/** Drives one machine as one session would: for tests. */
import { ByteWriter } from '../src/bytes.ts'
import { type Block, type SystemCommand, encodeCommand, encodeEntry } from '../src/machine/entry.ts'
import { Machine } from '../src/machine/machine.ts'
import type { Reply } from '../src/machine/reply.ts'
import { type LogIndex, logIndex } from '../src/vocabulary.ts'

export const OPTIONS = { maxMemoryBytes: 0 }

export interface Answer {
  readonly sequence: number
  readonly reply: unknown
  readonly duplicate: boolean
}

/** A command from words of one character a byte. */
export function command(...words: string[]): Uint8Array {
  const writer = new ByteWriter()
  encodeCommand(
    writer,
    '',
    words.map((word) => Buffer.from(word, 'latin1')),
  )
  return writer.finish()
}

/** A reply in plain JavaScript: bulk strings as strings, errors as their text. */
export function plain(reply: Reply): unknown {
  if (reply instanceof Uint8Array) return Buffer.from(reply).toString('latin1')
  if (Array.isArray(reply)) return (reply as Reply[]).map(plain)
  if (typeof reply === 'object' && reply !== null && 'kind' in reply) {
    if (reply.kind === 'error') return `${reply.prefix} ${reply.message}`
    if (reply.kind === 'null-array') return null
  }
  return reply
}

/** All chunks of a checkpoint of the state as it is. */
export function checkpointOf(machine: Machine): Buffer[] {
  const checkpoint = machine.beginCheckpoint()
  const chunks: Buffer[] = []
  for (let chunk = checkpoint.next(); chunk !== null; chunk = checkpoint.next()) chunks.push(Buffer.from(chunk))
  return chunks
}

export class Driver {
  machine = new Machine(OPTIONS)
  readonly session = { node: 1, incarnation: 1 }
  /** Sequence number of the next command. */
  next = 1
  time = 1_000_000

  constructor() {
    this.system({ kind: 'open-session', session: this.session })
  }

  get nextIndex(): LogIndex {
    return logIndex(this.machine.applied + 1)
  }

  entry(system: readonly SystemCommand[], blocks: readonly Block[]): Answer[] {
    const answers: Answer[] = []
    const payload = encodeEntry(this.time, system, blocks)
    this.machine.apply(
      { kind: 'commands', index: this.nextIndex, payload },
      {
        reply: (_session, sequence, reply, duplicate) => answers.push({ sequence, reply: plain(reply), duplicate }),
      },
    )
    return answers
  }

  system(...system: SystemCommand[]): void {
    this.entry(system, [])
  }

  /** An entry that carries nothing but the time. */
  advance(milliseconds: number): void {
    this.time += milliseconds
    this.system()
  }

  block(first: number, commands: readonly Uint8Array[], acknowledged = first - 1): Answer[] {
    return this.entry([], [{ session: this.session, acknowledged, first, commands }])
  }

  run(...words: string[]): unknown {
    return this.block(this.next++, [command(...words)])[0]!.reply
  }

  read(...words: string[]): unknown {
    return plain(this.machine.read(words.map((word) => Buffer.from(word, 'latin1'))))
  }

  /** As a restart: through a checkpoint. */
  restart(): void {
    this.machine = Machine.restore(OPTIONS, checkpointOf(this.machine))
  }
}
