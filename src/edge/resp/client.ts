/** A client of the Redis port: what it has said about itself, and what commands such as CLIENT and HELLO may know of it. */
import type { Socket } from 'node:net'
import type { Protocol } from './encoder.ts'
import type { Transaction } from './transaction.ts'

export class Client {
  readonly id: number
  readonly socket: Socket
  readonly transaction: Transaction
  /** Of the replies that are decided now; that of those that leave may still be the one before. */
  protocol: Protocol = 2
  name = ''
  libraryName = ''
  libraryVersion = ''
  readonlyMode = false
  lastCommand = ''
  /** Both in monotonic milliseconds. */
  readonly connectedAt = performance.now()
  lastActiveAt = this.connectedAt

  constructor(id: number, socket: Socket, transaction: Transaction) {
    this.id = id
    this.socket = socket
    this.transaction = transaction
  }

  get address(): string {
    return `${this.socket.remoteAddress ?? ''}:${this.socket.remotePort ?? 0}`
  }
}

/** All of a server. */
export interface Clients extends Iterable<Client> {
  readonly size: number
  readonly maxClients: number
}
