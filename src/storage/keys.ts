/**
 * Encryption at rest: keys by id from a folder, and the cipher of one file.
 *
 * A folder (a mounted Secret) has one file a key: its name is the id, its content 32 bytes, as they are or as
 * hexadecimal or base64 text. A key is never used itself: each segment and each checkpoint has a random salt, from
 * which, with the key, its own subkey is derived (HKDF-SHA-256). So what must not happen, one nonce twice under one
 * key, needs care within one file only: the nonce of a piece is its number there (offset of a frame, number of a
 * chunk), and a number is written once, or again with the same bytes.
 *
 *   HKDF(key, salt, 'lokikv <purpose>')  ->  32 bytes subkey, 8 bytes check (in the clear: tells a wrong key)
 *   nonce                                    8 bytes number, 4 bytes zeros
 *   sealed piece                             ciphertext as long as the plaintext, 16 bytes tag
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { ByteReader, ByteWriter } from '../bytes.ts'
import { LokiError } from '../errors.ts'

const ALGORITHM = 'aes-256-gcm'
const KEY_BYTES = 32
const SALT_BYTES = 16
const CHECK_BYTES = 8
export const TAG_BYTES = 16

/** Which key a file needs, and the salt of its subkey: in the clear in the header of the file. */
export interface KeyNeed {
  readonly keyId: string
  readonly salt: Buffer
  readonly check: Buffer
}

/** string key id, 16 bytes salt, 8 bytes check */
export function writeKeyNeed(writer: ByteWriter, need: KeyNeed): void {
  writer.string(need.keyId).raw(need.salt).raw(need.check)
}

export function readKeyNeed(reader: ByteReader): KeyNeed {
  const keyId = reader.string()
  return { keyId, salt: Buffer.from(reader.raw(SALT_BYTES)), check: Buffer.from(reader.raw(CHECK_BYTES)) }
}

/** What the pieces of a file are: a subkey never serves two kinds. */
export type Purpose = 'segment' | 'checkpoint'

export const isKeyId = (id: string): boolean => /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(id)

/** 32 bytes: as they are, or as hexadecimal or base64 text with or without a line end. Null for anything else. */
function parseKey(bytes: Buffer): Buffer | null {
  if (bytes.length === KEY_BYTES) return bytes
  const text = bytes.toString('latin1').trim()
  if (/^[0-9a-fA-F]{64}$/.test(text)) return Buffer.from(text, 'hex')
  const decoded = /^[A-Za-z0-9+/]{43}=$/.test(text) ? Buffer.from(text, 'base64') : null
  return decoded?.length === KEY_BYTES ? decoded : null
}

/** The keys of a node. Reads a key when it is first needed; the folder may have others that are no key at all. */
export class KeyRing {
  /** Id of the key that seals what is written from now on; null: it is written in the clear. */
  readonly current: string | null
  readonly #directory: string | null
  readonly #keys = new Map<string, Buffer>()

  /** `directory` null: there are no keys. Throws as `find` where the current key is not there. */
  constructor(directory: string | null, current: string | null = null) {
    this.#directory = directory
    this.current = current
    if (current !== null) this.find(current, 'the setting encryptionKeyId')
  }

  /** Throws `ENCRYPTION_KEY_MISSING`, `ENCRYPTION_KEY_INVALID`; `wantedBy` is for the message. */
  find(id: string, wantedBy: string): Buffer {
    const known = this.#keys.get(id)
    if (known !== undefined) return known
    const path = `${this.#directory}/${id}`
    if (this.#directory === null) {
      throw new LokiError('ENCRYPTION_KEY_MISSING', `${wantedBy} needs the key '${id}', and there is no folder of keys`)
    }
    if (!isKeyId(id))
      throw new LokiError('ENCRYPTION_KEY_INVALID', `'${id}', which ${wantedBy} needs, is no id of a key`)
    let bytes: Buffer
    try {
      bytes = readFileSync(path)
    } catch (error) {
      const message = `${wantedBy} needs the key '${id}', and ${path} cannot be read: ${(error as Error).message}`
      throw new LokiError('ENCRYPTION_KEY_MISSING', message, { cause: error })
    }
    const key = parseKey(bytes)
    if (key === null) {
      const message = `${path} has ${bytes.length} bytes, which are no key of ${KEY_BYTES} bytes; ${wantedBy} needs it`
      throw new LokiError('ENCRYPTION_KEY_INVALID', message)
    }
    this.#keys.set(id, key)
    return key
  }
}

export const NO_KEYS = new KeyRing(null)

function nonceOf(number: number): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeUInt32LE(number % 0x1_0000_0000, 0)
  nonce.writeUInt32LE(Math.floor(number / 0x1_0000_0000), 4)
  return nonce
}

/** Seals and opens the pieces of one file. */
export class FileCipher {
  readonly need: KeyNeed
  readonly #subkey: Buffer

  private constructor(need: KeyNeed, subkey: Buffer) {
    this.need = need
    this.#subkey = subkey
  }

  /** For a new file, with the current key and a salt of its own; null where there is no current key. */
  static create(keys: KeyRing, purpose: Purpose, path: string): FileCipher | null {
    const keyId = keys.current
    if (keyId === null) return null
    const salt = randomBytes(SALT_BYTES)
    const { subkey, check } = derive(keys.find(keyId, path), salt, purpose)
    return new FileCipher({ keyId, salt, check }, subkey)
  }

  /** For a file that is there. Throws `ENCRYPTION_KEY_MISSING`, `ENCRYPTION_KEY_INVALID`, `ENCRYPTION_KEY_WRONG`. */
  static open(keys: KeyRing, need: KeyNeed, purpose: Purpose, path: string): FileCipher {
    const { subkey, check } = derive(keys.find(need.keyId, path), need.salt, purpose)
    if (!check.equals(need.check)) {
      throw new LokiError('ENCRYPTION_KEY_WRONG', `${path} was written with another key than the '${need.keyId}' here`)
    }
    return new FileCipher(need, subkey)
  }

  /** Encrypts `bytes` in place; gives the tag. `number` is never used twice with different bytes. */
  seal(bytes: Buffer, number: number, associated: Uint8Array): Buffer {
    const cipher = createCipheriv(ALGORITHM, this.#subkey, nonceOf(number))
    cipher.setAAD(associated)
    cipher.update(bytes).copy(bytes)
    cipher.final()
    return cipher.getAuthTag()
  }

  /** The plaintext of a sealed piece, with memory of its own; null where the tag does not hold. */
  open(sealed: Buffer, number: number, associated: Uint8Array): Buffer | null {
    const size = sealed.length - TAG_BYTES
    if (size < 0) return null
    const decipher = createDecipheriv(ALGORITHM, this.#subkey, nonceOf(number))
    decipher.setAAD(associated)
    decipher.setAuthTag(sealed.subarray(size))
    const plain = decipher.update(sealed.subarray(0, size))
    try {
      decipher.final()
    } catch {
      return null
    }
    return plain
  }
}

function derive(key: Buffer, salt: Buffer, purpose: Purpose): { readonly subkey: Buffer; readonly check: Buffer } {
  const bytes = Buffer.from(hkdfSync('sha256', key, salt, `lokikv ${purpose}`, KEY_BYTES + CHECK_BYTES))
  return { subkey: bytes.subarray(0, KEY_BYTES), check: bytes.subarray(KEY_BYTES) }
}
