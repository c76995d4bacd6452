/**
 * Checkpoints from peer to peer, chunk by chunk: serving ours, and fetching one when the log that this node
 * lacks is no longer in any log. Resumable (what storage already holds is not asked for again) and verified by
 * storage. It touches neither the core nor the log; the caller installs what was fetched.
 */
import { LokiError } from '../errors.ts'
import type { RelayMessage } from '../turn/relay-messages.ts'
import type { CheckpointHead, Storage } from '../storage/storage.ts'
import { type LogIndex, type NodeId, logIndex } from '../vocabulary.ts'

type Answer = Extract<RelayMessage, { kind: 'manifest' | 'chunk' }>

const ANSWER_MILLISECONDS = 3000
const CHUNKS_IN_FLIGHT = 4
/** A voter that has just promised takes no checkpoint, but soon. */
const ACCEPT_MILLISECONDS = 100
const ACCEPT_TRIES = 10
/** A chunk may be as large as the largest value; a network that is slower than this is too slow for it. */
const SLOWEST_BYTES_PER_MILLISECOND = 1024

export interface TransferPorts {
  readonly storage: Storage
  readonly send: (to: NodeId, message: RelayMessage) => void
  readonly log: (message: string, fields: Record<string, unknown>) => void
  /** Calls `act` after so long, unless what it returned is called before; by default a timer of the process. */
  readonly after?: (milliseconds: number, act: () => void) => () => void
}

const timer = (milliseconds: number, act: () => void): (() => void) => {
  const handle = setTimeout(act, milliseconds)
  return () => clearTimeout(handle)
}

export class CheckpointTransfer {
  readonly #ports: TransferPorts
  /** Who waits for which answer, by `peer/kind/index/chunk`. */
  readonly #waiting = new Map<string, (answer: Answer | null) => void>()
  /** Of chunks, since the process began. */
  sentBytes = 0
  readonly receivedBytes = new Map<NodeId, number>()

  constructor(ports: TransferPorts) {
    this.#ports = ports
  }

  /** Takes a message of a transfer. Answers what is asked; hands answers to `fetch`. */
  async receive(from: NodeId, message: RelayMessage): Promise<void> {
    const { storage, send } = this.#ports
    switch (message.kind) {
      case 'fetch-manifest': {
        const ours = storage.checkpoint
        const manifest = ours && ours.index >= message.index ? await storage.manifestBytes() : null
        const index = manifest && ours ? ours.index : logIndex(0)
        send(from, { kind: 'manifest', index, manifest: manifest ?? Buffer.alloc(0) })
        break
      }
      case 'fetch-chunk': {
        const bytes = await storage.readChunk(message.index, message.chunk)
        this.sentBytes += bytes?.length ?? 0
        send(from, { kind: 'chunk', index: message.index, chunk: message.chunk, bytes })
        break
      }
      case 'manifest':
        this.#waiting.get(`${from}/manifest`)?.(message)
        break
      case 'chunk':
        this.#waiting.get(`${from}/chunk/${message.index}/${message.chunk}`)?.(message)
        break
      default:
        break
    }
  }

  /**
   * Fetches a checkpoint of at least `index` from one of `peers`; it is durable and published when this
   * returns its index. Null: none of them has one, or none answered whole; ask again later. `accepts` is asked
   * when all is here, a few times, before it replaces anything. One that is here already is not fetched again: it was
   * published, and could not be taken at that moment.
   */
  async fetch(
    index: LogIndex,
    peers: readonly NodeId[],
    accepts: (head: CheckpointHead) => boolean,
  ): Promise<LogIndex | null> {
    const { checkpoint } = this.#ports.storage
    if (checkpoint !== null && checkpoint.index >= index) return checkpoint.index
    for (const peer of peers) {
      try {
        const found = await this.#fetchFrom(peer, index, accepts)
        if (found !== null) return found
      } catch (error) {
        // Of the world: what a peer sent, or a volume that is full. It is asked for again as long as it is needed.
        if (!(error instanceof LokiError) && (error as NodeJS.ErrnoException).code === undefined) throw error
        this.#ports.log('a checkpoint could not be fetched', { peer, reason: (error as Error).message })
      }
    }
    return null
  }

  async #fetchFrom(
    peer: NodeId,
    index: LogIndex,
    accepts: (head: CheckpointHead) => boolean,
  ): Promise<LogIndex | null> {
    const { storage } = this.#ports
    const manifest = await this.#ask(peer, { kind: 'fetch-manifest', index }, `${peer}/manifest`)
    if (manifest?.kind !== 'manifest' || manifest.index < index || manifest.index === 0) return null
    const receiver = await storage.receive(Buffer.from(manifest.manifest))
    const missing = receiver.missing()
    this.#ports.log('fetching a checkpoint', { peer, index: manifest.index, chunks: missing.length })
    const fetchChunks = async (): Promise<void> => {
      for (let chunk = missing.shift(); chunk !== undefined; chunk = missing.shift()) {
        const key = `${peer}/chunk/${manifest.index}/${chunk}`
        const bytes = receiver.info.chunks[chunk]!.bytes * CHUNKS_IN_FLIGHT
        const patience = ANSWER_MILLISECONDS + bytes / SLOWEST_BYTES_PER_MILLISECOND
        const answer = await this.#ask(peer, { kind: 'fetch-chunk', index: manifest.index, chunk }, key, patience)
        if (answer?.kind !== 'chunk' || answer.bytes === null) {
          throw new LokiError('NO_ANSWER', `chunk ${chunk} of the checkpoint at ${manifest.index} did not come`)
        }
        this.receivedBytes.set(peer, (this.receivedBytes.get(peer) ?? 0) + answer.bytes.length)
        await receiver.put(chunk, answer.bytes)
      }
    }
    const fetches = Array.from({ length: CHUNKS_IN_FLIGHT }, fetchChunks)
    try {
      await Promise.all(fetches)
    } finally {
      // Where one failed, the others end before another source is asked: it may have cut its checkpoint otherwise.
      missing.length = 0
      await Promise.allSettled(fetches)
    }
    for (let tries = 1; !accepts(receiver.info); tries++) {
      if (tries === ACCEPT_TRIES) return null
      await this.#pause(ACCEPT_MILLISECONDS)
    }
    await receiver.commit()
    return manifest.index
  }

  #pause(milliseconds: number): Promise<void> {
    const after = this.#ports.after ?? timer
    return new Promise((resolve) => void after(milliseconds, resolve))
  }

  /** No connection to this peer is left: it answers nothing any more. */
  lost(peer: NodeId): void {
    for (const [key, finish] of this.#waiting) if (key.startsWith(`${peer}/`)) finish(null)
  }

  #ask(peer: NodeId, message: RelayMessage, key: string, patience = ANSWER_MILLISECONDS): Promise<Answer | null> {
    return new Promise((resolve) => {
      const finish = (answer: Answer | null): void => {
        cancel()
        this.#waiting.delete(key)
        resolve(answer)
      }
      const cancel = (this.#ports.after ?? timer)(patience, () => finish(null))
      this.#waiting.set(key, finish)
      this.#ports.send(peer, message)
    })
  }
}
