/**
 * Compression in line, for the simulator: the threads of the pool have a time of their own, and a run must be a
 * function of its seed. Import it before anything that imports src/storage; it changes node:zlib for the process.
 */
import { syncBuiltinESMExports } from 'node:module'
import zlib from 'node:zlib'

type Done = (error: Error | null, bytes?: Buffer) => void

const inLine =
  (act: (bytes: Buffer, options: object) => Buffer) =>
  (bytes: Buffer, options: object, done: Done): void => {
    try {
      done(null, act(bytes, options))
    } catch (error) {
      done(error as Error)
    }
  }

Object.assign(zlib, {
  zstdCompress: inLine((bytes, options) => zlib.zstdCompressSync(bytes, options)),
  zstdDecompress: inLine((bytes, options) => zlib.zstdDecompressSync(bytes, options)),
})
syncBuiltinESMExports()
