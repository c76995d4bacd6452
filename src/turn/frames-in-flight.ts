/**
 * What the turns have given to storage, one frame each, and the messages that wait for it. PURE.
 *
 * A message that depends on durability leaves when the frame of its turn and all before it are durable; storage
 * finishes frames in their order.
 */
import type { Position } from '../consensus/events.ts'
import type { Message } from '../consensus/messages.ts'
import type { LogRecord, NodeId } from '../vocabulary.ts'

interface Held {
  readonly to: NodeId
  readonly message: Message
}

export interface Frame {
  readonly records: readonly LogRecord[]
  readonly sends: Held[]
  /** Where the log was when the frame was handed over. */
  readonly position: Position
}

export class FramesInFlight {
  #records: LogRecord[] = []
  #held: Held[] = []
  /** Oldest first. */
  readonly #frames: Frame[] = []

  record(record: LogRecord): void {
    this.#records.push(record)
  }

  hold(to: NodeId, message: Message): void {
    // A Promise may carry much of the log. One of a smaller ballot is of no more use.
    if (message.kind === 'promise') this.#held = this.#held.filter((held) => held.message.kind !== 'promise')
    this.#held.push({ to, message })
  }

  /** The frame of this turn for storage, or null: then what was held waits for the newest one on its way, if there is one. */
  take(position: Position, say: (to: NodeId, message: Message) => void): Frame | null {
    const held = this.#held
    const records = this.#records
    this.#held = []
    if (records.length > 0) {
      this.#records = []
      const frame: Frame = { records, sends: held, position }
      this.#frames.push(frame)
      return frame
    }
    const newest = this.#frames.at(-1)
    if (newest) newest.sends.push(...held)
    else for (const { to, message } of held) say(to, message)
    return null
  }

  /** The oldest frame is durable: what waited for it leaves. */
  finish(frame: Frame, say: (to: NodeId, message: Message) => void): void {
    this.#frames.shift()
    for (const { to, message } of frame.sends) say(to, message)
  }
}
