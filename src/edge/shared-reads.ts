/**
 * Sockets that read into one buffer for the whole process. By itself Node allocates 64 KiB for each read and takes what
 * came through its streams; both cost more than a command of a client does, and the collector has to find it all again.
 *
 * Guarantees: as any socket, but the bytes of a `data` event are valid only until its listeners return.
 */
import { Socket, type SocketConstructorOpts, connect } from 'node:net'

const buffer = Buffer.allocUnsafeSlow(65_536)
/** Its beginnings, by length, made once: short reads are the most, and are of few lengths. */
const beginnings: (Buffer | undefined)[] = Array.from({ length: 1024 })

function beginning(length: number): Buffer {
  if (length >= beginnings.length) return buffer.subarray(0, length)
  return (beginnings[length] ??= buffer.subarray(0, length))
}

/** For `net`: what is read is told as `data`. */
function onread(socket: () => Socket): SocketConstructorOpts['onread'] {
  return {
    buffer,
    callback: (length) => {
      socket().emit('data', beginning(length))
      return true
    },
  }
}

/** As `net.connect`. */
export function connectSharing(options: { readonly host: string; readonly port: number }): Socket {
  const socket: Socket = connect({ ...options, onread: onread(() => socket) })
  return socket
}

/**
 * Takes the place of a socket that a server with `pauseOnConnect` has accepted: a server has no such option for those
 * that it accepts, so the connection moves into a socket of our own. That is done with fields of Node that it does not
 * document; where they are not what they were, the socket is used as it came.
 */
export function acceptSharing(accepted: Socket, options: { readonly allowHalfOpen: boolean }): Socket {
  const holder = accepted as unknown as { _handle: SocketConstructorOpts['handle'] | null }
  const handle = holder._handle
  if (!handle) {
    accepted.resume()
    return accepted
  }
  const socket: Socket = new Socket({ handle, ...options, onread: onread(() => socket) })
  holder._handle = null
  // The server counts the one that it made.
  socket.once('close', () => accepted.destroy())
  return socket
}
